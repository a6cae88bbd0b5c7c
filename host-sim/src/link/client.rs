//! Asking a device, and waiting for the answer.

use std::time::{Duration, Instant};

use dt_link::{
    Bytes, CHUNK, Direction, FrameError, Hello, MAX_WIRE, Mode, PolicyId, Receiver, Refused, Seal,
    Sender, Side, ToDevice, ToHost,
};

use super::{Connection, LinkError};

/// Until a question is asked again.
const RETRY: Duration = Duration::from_secs(2);

/// How long a device may take for an answer, and for the first one: it boots, and compares its policy with its golden
/// vectors, which on an emulated chip takes a while.
const PATIENCE: Duration = Duration::from_secs(30);
const BOOT: Duration = Duration::from_secs(120);

/// A device at the other end of a wire, in a session of this program.
pub struct Client {
    connection: Connection,
    sender: Sender,
    receiver: Receiver<ToHost<'static>>,
    /// Bytes received and not looked at yet: a part of `buffer`.
    pending: std::ops::Range<usize>,
    buffer: [u8; 1024],
    greeting: Greeting,
}

/// What a device says of itself: [`Hello`], owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeting {
    /// Name of the board.
    pub board: String,
    /// Version of its program.
    pub version: String,
    /// The policy that would run.
    pub policy: PolicyId,
    /// Environment that it was trained in.
    pub env: String,
    /// Length of an observation.
    pub state_dim: u16,
    /// Length of an action.
    pub act_dim: u16,
    /// Number of choices; 0 where actions are vectors.
    pub choices: u16,
    /// Control period, in µs.
    pub period_us: u32,
    /// From the tick until an action must be out, in µs.
    pub deadline_us: u32,
    /// Whether observations must bring the reward of the last action.
    pub wants_reward: bool,
    /// Whether observations should bring the return-to-go.
    pub wants_return_to_go: bool,
    /// Return that the policy was made for.
    pub target_return: f32,
    /// What it does.
    pub mode: Mode,
}

impl From<Hello<'_>> for Greeting {
    fn from(hello: Hello<'_>) -> Self {
        Self {
            board: hello.board.to_owned(),
            version: hello.version.to_owned(),
            policy: hello.policy,
            env: hello.env.to_owned(),
            state_dim: hello.state_dim,
            act_dim: hello.act_dim,
            choices: hello.choices,
            period_us: hello.period_us,
            deadline_us: hello.deadline_us,
            wants_reward: hello.wants_reward,
            wants_return_to_go: hello.wants_return_to_go,
            target_return: hello.target_return,
            mode: hello.mode,
        }
    }
}

/// What a message of the device is to the question asked.
pub enum Answer<T> {
    /// The answer.
    Is(T),
    /// Something else, of earlier or by the way.
    Other,
}

impl Client {
    /// Begins a session; the device stops whatever it does.
    ///
    /// # Errors
    /// [`LinkError`], if nobody answers or somebody of another version.
    pub fn new(connection: Connection) -> Result<Self, LinkError> {
        let hello = Greeting {
            board: String::new(),
            version: String::new(),
            policy: PolicyId::default(),
            env: String::new(),
            state_dim: 0,
            act_dim: 0,
            choices: 0,
            period_us: 0,
            deadline_us: 0,
            wants_reward: false,
            wants_return_to_go: false,
            target_return: 0.0,
            mode: Mode([0; 4]),
        };
        let mut client = Self {
            connection,
            sender: Sender::new(Direction::ToDevice),
            receiver: Receiver::new(Direction::ToHost),
            pending: 0..0,
            buffer: [0; 1024],
            greeting: hello,
        };
        // Whatever lies half-sent on the wire ends here.
        client.connection.send(&[0])?;
        // Two tries, since the first may by chance be the number of the device's last session.
        let first = session_number();
        client.greeting = client.begin(first, RETRY).or_else(|error| match error {
            LinkError::Silent { .. } => client.begin(first % 255 + 1, BOOT),
            error => Err(error),
        })?;
        Ok(client)
    }

    /// Begins another session at the same wire, as after a restart of the device.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn again(self) -> Result<Self, LinkError> {
        Self::new(self.connection)
    }

    fn begin(&mut self, session: u8, patience: Duration) -> Result<Greeting, LinkError> {
        self.sender.begin(session);
        self.receiver.begin(session);
        self.ask_within(
            "hello",
            &ToDevice::Hello,
            patience,
            |_, message| match message {
                ToHost::Hello(hello) => Answer::Is(Greeting::from(*hello)),
                _ => Answer::Other,
            },
        )
    }

    /// What the device said of itself when the session began.
    #[must_use]
    pub const fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> String {
        self.connection.place().to_string()
    }

    /// Sends a message that is answered later, or not at all; gives its number.
    ///
    /// # Errors
    /// [`LinkError`], if the wire fails.
    pub fn tell(&mut self, message: &ToDevice<'_>) -> Result<u16, LinkError> {
        let mut wire = [0; MAX_WIRE];
        let number = self.sender.next();
        let len = self.sender.encode(message, &mut wire);
        let len = len.map_err(|_| LinkError::TooLong {
            place: self.place(),
        })?;
        self.connection.send(&wire[..len])?;
        Ok(number)
    }

    /// Sends a message and waits for the message that `is_answer`, told the number of the question; asks again where none
    /// comes. A refusal of it is an error.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn ask<T>(
        &mut self,
        asked: &'static str,
        message: &ToDevice<'_>,
        is_answer: impl FnMut(u16, &ToHost<'_>) -> Answer<T>,
    ) -> Result<T, LinkError> {
        self.ask_within(asked, message, PATIENCE, is_answer)
    }

    fn ask_within<T>(
        &mut self,
        asked: &'static str,
        message: &ToDevice<'_>,
        patience: Duration,
        mut is_answer: impl FnMut(u16, &ToHost<'_>) -> Answer<T>,
    ) -> Result<T, LinkError> {
        let start = Instant::now();
        while start.elapsed() < patience {
            let number = self.tell(message)?;
            let deadline = Instant::now() + RETRY;
            if let Some(answer) = self.hear(asked, number, deadline, &mut is_answer)? {
                return Ok(answer);
            }
        }
        Err(LinkError::Silent {
            place: self.place(),
            asked,
            waited: start.elapsed(),
        })
    }

    /// Waits for the answer to frame `number`; `None` after the deadline.
    ///
    /// # Errors
    /// [`LinkError`], a refusal among them.
    pub fn hear<T>(
        &mut self,
        asked: &'static str,
        number: u16,
        deadline: Instant,
        mut is_answer: impl FnMut(u16, &ToHost<'_>) -> Answer<T>,
    ) -> Result<Option<T>, LinkError> {
        loop {
            while let Some(at) = self.pending.next() {
                match self.receiver.feed(self.buffer[at]) {
                    Some(Ok((_, ToHost::Refusal { to, why }))) if to == number => {
                        let place = self.place();
                        return Err(LinkError::Refused { place, asked, why });
                    }
                    Some(Ok((_, message))) => {
                        if let Answer::Is(answer) = is_answer(number, &message) {
                            return Ok(Some(answer));
                        }
                    }
                    Some(Err(Refused::Frame(FrameError::Version { version }))) => {
                        let place = self.place();
                        return Err(LinkError::Version { place, version });
                    }
                    Some(Err(_)) | None => {}
                }
            }
            let patience = deadline.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return Ok(None);
            }
            let len = self.connection.receive(&mut self.buffer, patience)?.len();
            self.pending = 0..len;
        }
    }

    /// Asks for something that is merely done.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn order(&mut self, asked: &'static str, message: &ToDevice<'_>) -> Result<(), LinkError> {
        self.ask(asked, message, |number, message| match message {
            ToHost::Done { to } if *to == number => Answer::Is(()),
            _ => Answer::Other,
        })
    }

    /// Restarts the device. Its answer may be lost on the way: silence is consent.
    ///
    /// # Errors
    /// [`LinkError`], if it refuses.
    pub fn restart(&mut self) -> Result<(), LinkError> {
        let number = self.tell(&ToDevice::Restart)?;
        let deadline = Instant::now() + RETRY;
        self.hear(
            "a restart",
            number,
            deadline,
            |number, message| match message {
                ToHost::Done { to } if *to == number => Answer::Is(()),
                _ => Answer::Other,
            },
        )?;
        Ok(())
    }

    /// Name and unit of a component; both empty where the policy does not say.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn component(&mut self, of: Side, index: u16) -> Result<(String, String), LinkError> {
        let message = ToDevice::Component { of, index };
        self.ask("a component's name", &message, |_, message| match message {
            ToHost::Component {
                of: side,
                index: at,
                name,
                unit,
            } if (*side, *at) == (of, index) => {
                Answer::Is(((*name).to_owned(), (*unit).to_owned()))
            }
            _ => Answer::Other,
        })
    }

    /// The whole black box; empty where the device has none. `progress` is told bytes read and in all.
    ///
    /// # Errors
    /// [`LinkError`], e.g. while an episode runs.
    pub fn black_box(
        &mut self,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<u8>, LinkError> {
        let mut bytes = Vec::new();
        loop {
            let at = bytes.len() as u32;
            let message = ToDevice::BlackBox { offset: at };
            let total = self.ask("the black box", &message, |_, message| match message {
                ToHost::BlackBox {
                    offset,
                    total,
                    data,
                } if *offset == at => {
                    bytes.extend_from_slice(data.0);
                    Answer::Is(*total as usize)
                }
                _ => Answer::Other,
            })?;
            progress(bytes.len(), total);
            if bytes.len() >= total || bytes.len() == at as usize {
                return Ok(bytes);
            }
        }
    }

    /// Writes a policy file into the slot that does not run; goes on where an earlier upload of the same file was cut.
    /// `progress` is told bytes written and in all.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn upload(
        &mut self,
        file: &[u8],
        policy: PolicyId,
        seal: Option<Seal<'_>>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), LinkError> {
        let is_next = |_, message: &ToHost<'_>| match message {
            ToHost::Upload { next } => Answer::Is(*next as usize),
            _ => Answer::Other,
        };
        let mut at = self.ask(
            "an upload",
            &ToDevice::UploadBegin { policy, seal },
            is_next,
        )?;
        // What was asked twice is answered twice: only progress is the answer to the newest question.
        while at < file.len() {
            let end = file.len().min(at + CHUNK);
            let message = ToDevice::UploadChunk {
                offset: at as u32,
                data: Bytes(&file[at..end]),
            };
            let next = self.ask(
                "a piece of the upload",
                &message,
                |_, message| match message {
                    ToHost::Upload { next } if *next as usize > at => Answer::Is(*next as usize),
                    _ => Answer::Other,
                },
            )?;
            at = next;
            progress(at, file.len());
        }
        self.order("the end of the upload", &ToDevice::UploadFinish)
    }
}

/// From 1 to 255, seldom the same twice.
fn session_number() -> u8 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |now| now.subsec_nanos());
    (nanos / 1000 % 255) as u8 + 1
}
