//! Sessions: each frame once, and in order.
//!
//! A session begins with [`ToDevice::Hello`], whose header has a session number that the last
//! session did not have; all frames of both ends carry it from then on. Each end numbers its own frames. A frame is
//! taken if its number lies in the half of all numbers after that of the last one taken: what comes twice or late is
//! refused, what is missing is counted. What an end refuses it never acts on.

use core::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::frame::{Decoder, Direction, FrameError, Header, TooLong, encode};
use crate::message::{ToDevice, ToHost};

/// What a [`Receiver`] receives: [`ToDevice`] or [`ToHost`], with any lifetime.
pub trait Message {
    /// With the frame's lifetime.
    type Borrowed<'f>: Deserialize<'f>;

    /// Whether the message begins a session.
    fn begins(message: &Self::Borrowed<'_>) -> bool;
}

impl Message for ToDevice<'static> {
    type Borrowed<'f> = ToDevice<'f>;

    fn begins(message: &ToDevice<'_>) -> bool {
        matches!(message, ToDevice::Hello)
    }
}

impl Message for ToHost<'static> {
    type Borrowed<'f> = ToHost<'f>;

    /// The host knows: it began the session.
    fn begins(_: &ToHost<'_>) -> bool {
        false
    }
}

/// Numbers the frames of one end.
#[derive(Clone, Debug)]
pub struct Sender {
    direction: Direction,
    session: u8,
    sequence: u16,
}

impl Sender {
    /// One that is yet to [`begin`](Self::begin).
    pub const fn new(direction: Direction) -> Self {
        Self {
            direction,
            session: 0,
            sequence: 0,
        }
    }

    /// Begins a session: the next frame has number 0.
    pub fn begin(&mut self, session: u8) {
        (self.session, self.sequence) = (session, 0);
    }

    /// Number of the next frame.
    pub const fn next(&self) -> u16 {
        self.sequence
    }

    /// Writes the next frame to `wire` and gives its length; [`MAX_WIRE`](crate::MAX_WIRE) bytes are always enough.
    ///
    /// # Errors
    /// [`TooLong`]; the number goes to the next message then.
    pub fn encode<M: Serialize>(&mut self, message: &M, wire: &mut [u8]) -> Result<usize, TooLong> {
        let header = Header {
            direction: self.direction,
            session: self.session,
            sequence: self.sequence,
        };
        let len = encode(header, message, wire)?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(len)
    }
}

/// Why something that came was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refused {
    /// It is no frame of this protocol.
    Frame(FrameError),
    /// The frame is sound and in order, but holds no message that this end knows; its number can be answered.
    Message(Header),
    /// It goes in the other direction: an echo.
    Echo,
    /// It is of another session, or of none.
    Session,
    /// It came before, or after a later one.
    Order,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Message(_) => FrameError::Message.fmt(f),
            Self::Echo => f.write_str("a frame that goes the other way"),
            Self::Session => f.write_str("a frame of another session"),
            Self::Order => f.write_str("a frame that came twice or late"),
        }
    }
}

impl core::error::Error for Refused {}

/// What happened to the frames of a [`Receiver`]. No count goes beyond the largest number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counts {
    /// Taken.
    pub taken: u32,
    /// Refused since they were damaged, cut, too long or not of this protocol.
    pub damaged: u32,
    /// Refused since they came twice, late, from another session or from this end itself.
    pub out_of_order: u32,
    /// Missing between those taken.
    pub lost: u32,
}

impl Counts {
    /// Refused for any reason.
    pub const fn refused(&self) -> u32 {
        self.damaged.saturating_add(self.out_of_order)
    }
}

/// Takes each message of the other end once and in order.
#[derive(Debug)]
pub struct Receiver<M> {
    decoder: Decoder,
    direction: Direction,
    /// The session, and the number of the last frame taken.
    session: Option<(u8, Option<u16>)>,
    counts: Counts,
    message: PhantomData<M>,
}

impl<M: Message> Receiver<M> {
    /// One for frames of that direction, in no session.
    pub fn new(direction: Direction) -> Self {
        Self {
            decoder: Decoder::default(),
            direction,
            session: None,
            counts: Counts::default(),
            message: PhantomData,
        }
    }

    /// Expects frames of this session, whatever the number of the first: for the end that begins it.
    pub fn begin(&mut self, session: u8) {
        self.session = Some((session, None));
    }

    /// The session's number, if there is one.
    pub fn session(&self) -> Option<u8> {
        self.session.map(|(session, _)| session)
    }

    /// What happened so far.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes one byte; gives the message that it completes, or what was refused. Never panics and needs no reset:
    /// after whatever came, the next whole frame is read.
    pub fn feed(&mut self, byte: u8) -> Option<Result<(Header, M::Borrowed<'_>), Refused>> {
        let Self {
            decoder,
            direction,
            session,
            counts,
            ..
        } = self;
        let frame = decoder.feed(byte)?;
        let taken = frame.map_err(Refused::Frame).and_then(|frame| {
            if frame.header.direction != *direction {
                return Err(Refused::Echo);
            }
            let message = frame.decode::<M::Borrowed<'_>>();
            let begins = message.as_ref().is_ok_and(M::begins);
            take(session, frame.header, begins, &mut counts.lost)?;
            match message {
                Ok(message) => Ok((frame.header, message)),
                Err(_) => Err(Refused::Message(frame.header)),
            }
        });
        let count = match taken {
            Ok(_) => &mut counts.taken,
            Err(Refused::Frame(_) | Refused::Message(_)) => &mut counts.damaged,
            Err(_) => &mut counts.out_of_order,
        };
        *count = count.saturating_add(1);
        Some(taken)
    }
}

/// Whether a frame is next in the session, or `begins` another one.
fn take(
    session: &mut Option<(u8, Option<u16>)>,
    header: Header,
    begins: bool,
    lost: &mut u32,
) -> Result<(), Refused> {
    match session {
        Some((current, last)) if *current == header.session => {
            if let Some(last) = *last {
                // 1: the next one.
                let ahead = header.sequence.wrapping_sub(last);
                if ahead == 0 || ahead > u16::MAX / 2 {
                    return Err(Refused::Order);
                }
                *lost = lost.saturating_add(u32::from(ahead) - 1);
            }
            *last = Some(header.sequence);
        }
        _ if begins => *session = Some((header.session, Some(header.sequence))),
        _ => return Err(Refused::Session),
    }
    Ok(())
}
