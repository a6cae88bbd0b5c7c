//! The wire to one process, and its last words.

use std::collections::VecDeque;
use std::env;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ChildStderr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dt_link::Direction;
use dt_link::plant::{FromPlant, ToPlant};
use dt_link::stream::Stream;

use super::group::Group;

/// Until an answer must have come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much longer the first one may take, for which interpreter and simulator have to start.
const START: u32 = 4;

/// Lines of its stderr that are kept.
const LAST_LINES: usize = 12;
/// Bytes that are kept of each.
const LINE: usize = 1024;

/// How long the stderr of what has died may take to arrive.
const FAREWELL: Duration = Duration::from_millis(500);

/// The environment variable that replaces [`PATIENCE`], in seconds.
const TIMEOUT: &str = "DT_PLANT_TIMEOUT";

/// What bytes go through.
#[derive(Debug)]
pub enum Socket {
    /// Stdin and stdout of a process.
    Unix(UnixStream),
    /// Somebody elsewhere.
    Tcp(TcpStream),
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }

    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(patience)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(patience)),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buffer),
            Self::Tcp(stream) => stream.write(buffer),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a question was not answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The plant says so; it lives.
    Refused(String),
    /// The plant is dead, or as good as that.
    Dead(String),
}

/// A process that speaks the protocol; ends with this value.
#[derive(Debug)]
pub struct Wire {
    stream: Stream<Socket, Socket>,
    group: Option<Group>,
    words: Words,
    patience: Duration,
    has_started: bool,
}

impl Wire {
    /// Over a socket, to a process or to somebody elsewhere, whose answers have to come in `patience`.
    pub fn new(socket: Socket, mut group: Option<Group>, patience: Duration) -> io::Result<Self> {
        let stderr = group.as_mut().and_then(|group| group.first().stderr.take());
        let words = stderr.map_or_else(Words::default, Words::listen);
        let stream = Stream::new(socket.try_clone()?, socket, Direction::ToDevice);
        Ok(Self {
            stream,
            group,
            words,
            patience,
            has_started: false,
        })
    }

    /// Asks, and has the answer taken; whatever goes wrong on the way is the end of the plant, but for its own refusal. What
    /// `take` does not like, too: a plant that answers something else will not do better at the next question.
    pub fn ask<T>(
        &mut self,
        question: &ToPlant<'_>,
        take: impl FnOnce(FromPlant<'_>) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let problem = match self.exchange(question, take) {
            Ok(answer) => {
                self.has_started = true;
                return Ok(answer);
            }
            Err(Failure::Refused(text)) => return Err(Failure::Refused(text)),
            Err(Failure::Dead(problem)) => problem,
        };
        Err(Failure::Dead(self.bury(problem)))
    }

    fn exchange<T>(
        &mut self,
        question: &ToPlant<'_>,
        take: impl FnOnce(FromPlant<'_>) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let asked = kind(question);
        let lost = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "".to_owned(),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => "the plant is gone".into(),
            _ => error.to_string(),
        };
        let number = match self.stream.send(question) {
            Ok(number) => number,
            Err(error) => {
                // What it has written before it went is there to be read.
                let _ = self.stream.reader().set_patience(FAREWELL);
                let _ = self.stream.receive(Some(Instant::now() + FAREWELL));
                return Err(Failure::Dead(lost(error)));
            }
        };
        let patience = match self.has_started {
            true => self.patience,
            false => self.patience.saturating_mul(START),
        };
        let silent = || {
            let hint = "DT_PLANT_TIMEOUT=SECONDS gives it more time";
            let seconds = patience.as_secs_f64();
            Failure::Dead(format!("no answer to {asked} in {seconds} s; {hint}"))
        };
        let set = self.stream.reader().set_patience(patience);
        set.map_err(lost).map_err(Failure::Dead)?;
        let frame = self.stream.receive(Some(Instant::now() + patience));
        let frame = frame.map_err(|error| match lost(error) {
            nothing if nothing.is_empty() => silent(),
            problem => Failure::Dead(problem),
        })?;
        if frame.header.sequence != number {
            let other = frame.header.sequence;
            return Err(Failure::Dead(format!(
                "frame {other} came in answer to frame {number}: every question has one answer, with its number"
            )));
        }
        match frame.decode::<FromPlant<'_>>() {
            Ok(FromPlant::Error { text }) => Err(Failure::Refused(text.into())),
            Ok(answer) => take(answer).map_err(Failure::Dead),
            Err(_) => Err(Failure::Dead(other_version(frame.message).unwrap_or(
                format!("the answer to {asked} is none of the plant protocol's messages"),
            ))),
        }
    }

    /// Ends it, and says why with its last words.
    fn bury(&mut self, problem: String) -> String {
        let mut obituary = problem;
        if let Some(group) = &mut self.group {
            // What has died by itself has a status to tell. That its stderr is closed does not mean that: it may never have had
            // one, and waiting for it would be for ever.
            let until = Instant::now() + FAREWELL;
            self.words.wait_for_the_end(until);
            if let Some(status) = group.end(until) {
                obituary += &format!(" ({status})");
            }
        }
        let words = self.words.text();
        if !words.is_empty() {
            obituary += &format!("; its last words:\n{words}");
        }
        let babble = self.stream.babble();
        if !babble.is_empty() {
            obituary += &format!(
                "; what it wrote to stdout and is no frame of the protocol (print to stderr instead): {babble:?}"
            );
        }
        obituary
    }
}

impl Wire {
    /// Lets the plant know that nothing more is asked.
    pub fn hang_up(&mut self) {
        let _ = self.stream.reader().shutdown();
    }
}

impl Drop for Wire {
    /// Time to end by itself, then an end.
    fn drop(&mut self) {
        self.hang_up();
        if let Some(mut group) = self.group.take() {
            group.end(Instant::now() + FAREWELL);
        }
    }
}

/// Until an answer must have come.
///
/// # Errors
/// [`TIMEOUT`] says what is no time.
pub fn patience() -> Result<Duration, String> {
    match env::var_os(TIMEOUT) {
        None => Ok(PATIENCE),
        Some(seconds) => parse_patience(&seconds.to_string_lossy()),
    }
}

fn parse_patience(seconds: &str) -> Result<Duration, String> {
    let parsed = seconds.trim().parse().ok();
    let patience = parsed.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    patience
        .filter(|patience| !patience.is_zero())
        .ok_or_else(|| {
            format!("{TIMEOUT}={seconds} is no number of seconds above 0; write e.g. {TIMEOUT}=60")
        })
}

/// A greeting of another version, whose other fields may be others.
fn other_version(message: &[u8]) -> Option<String> {
    use dt_link::plant::VERSION;
    // The number of the message is one byte, the version a varint of two at most.
    match *message {
        [0, version @ 0..=127, ..] if u16::from(version) != VERSION => Some(format!(
            "the plant speaks version {version} of the protocol, this program version {VERSION}"
        )),
        _ => None,
    }
}

const fn kind(question: &ToPlant<'_>) -> &'static str {
    match question {
        ToPlant::Hello { .. } => "Hello",
        ToPlant::Reset { .. } => "Reset",
        ToPlant::Step { .. } => "Step",
        ToPlant::Render { .. } => "Render",
        ToPlant::SetState { .. } => "SetState",
    }
}

/// The last lines of a process's stderr.
#[derive(Debug, Default)]
struct Words(Arc<Mutex<Lines>>);

impl Words {
    fn listen(mut stderr: ChildStderr) -> Self {
        let words = Self::default();
        let shared = words.0.clone();
        thread::spawn(move || {
            let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
            let mut buffer = [0; 4096];
            loop {
                match stderr.read(&mut buffer) {
                    Ok(len @ 1..) => lock().hear(&buffer[..len]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                }
            }
            lock().end();
        });
        words
    }

    /// Waits until stderr has been closed, but not for ever.
    fn wait_for_the_end(&self, until: Instant) {
        let ended = || self.0.lock().unwrap_or_else(PoisonError::into_inner).ended;
        while !ended() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn text(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = words.kept.iter().map(|line| line.trim_end()).collect();
        lines.join("\n")
    }
}

/// Lines as a terminal shows them: after a carriage return they begin anew, as progress bars do.
#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    line: Vec<u8>,
    returned: bool,
    ended: bool,
}

impl Lines {
    fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.keep(),
                b'\r' => self.returned = true,
                _ => {
                    if std::mem::take(&mut self.returned) {
                        self.line.clear();
                    }
                    if self.line.len() < LINE {
                        self.line.push(byte);
                    }
                }
            }
        }
    }

    fn keep(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        self.returned = false;
        self.kept.push_back(line);
        if self.kept.len() > LAST_LINES {
            self.kept.pop_front();
        }
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.keep();
        }
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_a_terminal_shows_them_and_bounded() {
        let heard = |pieces: &[&[u8]]| {
            let mut lines = Lines::default();
            for piece in pieces {
                lines.hear(piece);
            }
            lines.end();
            lines.kept
        };
        assert_eq!(
            heard(&[b"one\r", b"\ntwo\n\nfour"]),
            ["one", "two", "", "four"]
        );
        assert_eq!(heard(&[b"1 %\r20 %\r", b"100 %\r", b""]), ["100 %"]);
        assert_eq!(heard(&[]), [""; 0]);
        let long = heard(&[&[b'x'; 5000], &[b'x'; 5000], b"\nend\n"]);
        assert_eq!(long, ["x".repeat(LINE), "end".into()]);
        let many = heard(&[&b"x\n".repeat(99), b"y"]);
        assert_eq!((many.len(), &*many[LAST_LINES - 1]), (LAST_LINES, "y"));
        // However long nothing ends a line.
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.hear(&b"50 %\r".repeat(100));
            lines.hear(&[b'-'; 500]);
        }
        assert!(lines.kept.is_empty() && lines.line.capacity() <= 2 * LINE);
    }

    #[test]
    fn a_time_is_a_number_above_0() {
        assert_eq!(parse_patience(" 0.5 "), Ok(Duration::from_millis(500)));
        for wrong in ["abc", "", "0", "-1", "NaN", "inf", "1e99", "30s"] {
            let refusal = parse_patience(wrong).unwrap_err();
            let says = format!("DT_PLANT_TIMEOUT={wrong} is no number of seconds above 0");
            assert!(refusal.starts_with(&says), "{refusal}");
        }
    }
}
