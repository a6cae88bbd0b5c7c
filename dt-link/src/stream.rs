//! Frames of any length over streams of bytes: pipes, sockets. For ends that have an allocator and a system (feature
//! `std`).

use std::io::{self, Read, Write};
use std::string::String;
use std::time::Instant;
use std::vec;
use std::vec::Vec;

use serde::Serialize;

use crate::frame::{Direction, Frame, HEADER, Header, encode_long};

/// Longest frame that a stream takes, on the wire: more than a picture of 4,096 × 4,096 pixels. What is longer is dropped, so that
/// an end that babbles for ever fills no memory.
pub const MAX_STREAM_FRAME: usize = 64 << 20;

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// One end of a stream. Sends and receives frames, each with a zero before and a zero after it.
#[derive(Debug)]
pub struct Stream<R, W> {
    reader: R,
    writer: W,
    direction: Direction,
    sequence: u16,
    /// The last frame sent, as it was on the wire.
    sent: Vec<u8>,
    /// Bytes received and not looked at yet, but for the first ones, which have no zero.
    received: Vec<u8>,
    /// How many these are.
    searched: usize,
    /// The last frame, decoded.
    decoded: Vec<u8>,
    /// The last bytes that were no frame.
    babble: Vec<u8>,
}

/// Bytes of what was no frame that are kept.
const MAX_BABBLE: usize = 400;

impl<R: Read, W: Write> Stream<R, W> {
    /// An end whose frames go to `direction`.
    pub fn new(reader: R, writer: W, direction: Direction) -> Self {
        Self {
            reader,
            writer,
            direction,
            sequence: 0,
            sent: vec![0; 1 << 10],
            received: Vec::new(),
            searched: 0,
            decoded: Vec::new(),
            babble: Vec::new(),
        }
    }

    /// What it reads from.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Sends a message, and gives its sequence number. Numbers are counted from 0.
    ///
    /// # Errors
    /// The stream's; a message that is too long is invalid input.
    pub fn send<M: Serialize>(&mut self, message: &M) -> io::Result<u16> {
        let number = self.sequence;
        self.answer(number, message)?;
        self.sequence = number.wrapping_add(1);
        Ok(number)
    }

    /// Sends a message with the number of the question that it answers.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn answer<M: Serialize>(&mut self, sequence: u16, message: &M) -> io::Result<()> {
        let header = Header {
            direction: self.direction,
            session: 0,
            sequence,
        };
        let len = loop {
            let (_, wire) = self.sent.split_at_mut(1);
            match encode_long(header, message, wire) {
                Ok(len) => break len,
                Err(_) if self.sent.len() < MAX_STREAM_FRAME => {
                    self.sent.resize(2 * self.sent.len(), 0);
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
            }
        };
        let frame = self.sent.get(..=len).unwrap_or_default();
        self.writer.write_all(frame)?;
        self.writer.flush()
    }

    /// The next sound frame of the other direction; what is none is dropped and kept as [`babble`](Self::babble).
    ///
    /// # Errors
    /// The stream's. Those of a read that would wait (`WouldBlock`, `TimedOut`) lose nothing: it can be called again. The end
    /// of the stream is `UnexpectedEof`. `TimedOut` also if there is none by `deadline`, which is looked at
    /// after each read: the reader's own time-out is what ends a read.
    pub fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Frame<'_>> {
        let (header, len) = loop {
            let Some(end) = self.find_zero() else {
                self.read(deadline)?;
                continue;
            };
            self.decoded.clear();
            let wire = self.received.get(..end).unwrap_or_default();
            self.decoded.extend_from_slice(wire);
            match Frame::unpack(&mut self.decoded) {
                Ok(frame) if frame.header.direction != self.direction => {
                    self.received.drain(..=end);
                    break (frame.header, frame.message.len());
                }
                // Two zeros in a row.
                _ if end == 0 => drop(self.received.drain(..1)),
                _ => self.drop_babble(end + 1),
            }
        };
        let message = self.decoded.get(HEADER..HEADER + len).unwrap_or_default();
        Ok(Frame { header, message })
    }

    /// Where the next zero is; `None`: not received yet.
    fn find_zero(&mut self) -> Option<usize> {
        let unsearched = self.received.get(self.searched..)?;
        if let Some(at) = unsearched.iter().position(|&byte| byte == 0) {
            let end = self.searched + at;
            self.searched = 0;
            return Some(end);
        }
        self.searched = self.received.len();
        if self.searched > MAX_STREAM_FRAME {
            self.drop_babble(self.searched);
        }
        None
    }

    fn read(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let before = self.received.len();
        self.received.resize(before + PIECE, 0);
        let room = self.received.get_mut(before..).unwrap_or_default();
        let read = self.reader.read(room);
        self.received
            .truncate(before + read.as_ref().map_or(0, |len| *len));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn drop_babble(&mut self, len: usize) {
        self.searched = 0;
        // Of a long one only the end.
        let kept = len.saturating_sub(MAX_BABBLE);
        self.received.drain(..kept);
        self.babble.extend(self.received.drain(..len - kept));
        let excess = self.babble.len().saturating_sub(MAX_BABBLE);
        self.babble.drain(..excess);
    }

    /// Bytes that are held until they become a frame.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.received.len()
    }

    /// The last bytes that were no frame, as text; and those of a frame that is not complete.
    pub fn babble(&self) -> String {
        let rest = self.received.get(..MAX_BABBLE);
        let rest = rest.unwrap_or(&self.received);
        let bytes = [self.babble.as_slice(), rest].concat();
        let text = String::from_utf8_lossy(&bytes);
        text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
            .into()
    }
}
