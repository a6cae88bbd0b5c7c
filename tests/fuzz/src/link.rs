//! Bytes of any origin on the link's wire.

use std::collections::VecDeque;

use dt_control::{Board, FloatMode, PeriodTooLong, Processor, ResetCause, Tick, Watchdog};
use dt_device::board::Port;
use dt_device::session::{Device, Next, Wire};
use dt_link::{
    Direction, FrameError, MAX_WIRE, Message, Receiver, Refused, Sender, ToDevice, ToHost, VERSION,
};
use serde::Serialize;

/// Puts `input` on the wire to a device, and to receivers of both directions.
///
/// Mutation alone never gets past the CRC. So the input is a script: a byte says how many of the next ones go onto the wire,
/// and whether as they are, or as a message in a frame that is otherwise sound.
///
/// # Panics
/// If a receiver takes what is no message, or a message that it would not write itself; if the device does not answer.
pub fn run(input: &[u8]) {
    let mut script = input;
    let mut wire = Vec::new();
    let mut sequence = 0_u16;
    while let Some((&first, rest)) = script.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(first & 0x3F)));
        script = rest;
        match first >> 6 {
            0 => wire.extend_from_slice(piece),
            direction => {
                let direction = if direction == 1 { 0 } else { 0x80 };
                let [low, high] = sequence.to_le_bytes();
                let content = [&[VERSION | direction, 1, low, high], piece].concat();
                wire.extend(framed(&content));
                sequence = sequence.wrapping_add(1);
            }
        }
    }
    hear::<ToDevice<'static>>(Direction::ToDevice, &wire);
    hear::<ToHost<'static>>(Direction::ToHost, &wire);
    serve(&wire);
}

fn framed(content: &[u8]) -> Vec<u8> {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(content);
    let mut wire = cobs_of(&[content, &crc.to_le_bytes()].concat());
    wire.push(0);
    wire
}

/// COBS as its inventors define it (Cheshire and Baker 1999).
fn cobs_of(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for block in content.split(|byte| *byte == 0) {
        let mut rest = block;
        while rest.len() >= 254 {
            wire.push(0xFF);
            wire.extend_from_slice(&rest[..254]);
            rest = &rest[254..];
        }
        wire.push(rest.len() as u8 + 1);
        wire.extend_from_slice(rest);
    }
    wire
}

fn hear<M: Message>(direction: Direction, wire: &[u8])
where
    for<'f> M::Borrowed<'f>: Serialize + std::fmt::Debug,
{
    let mut receiver = Receiver::<M>::new(direction);
    receiver.begin(1);
    let (mut last, mut taken) = (None, 0);
    for byte in wire {
        match receiver.feed(*byte) {
            None => {}
            Some(Ok((header, message))) => {
                assert_eq!(header.direction, direction);
                let ahead = |last: u16| header.sequence.wrapping_sub(last);
                assert!(
                    last.is_none_or(|last| (1..0x8000).contains(&ahead(last)))
                        || header.session != 1
                );
                last = Some(header.sequence);
                taken += 1;
                // What it means is what it writes.
                let mut again = [0; MAX_WIRE];
                let mut sender = Sender::new(direction);
                sender.begin(1);
                let len = sender
                    .encode(&message, &mut again)
                    .expect("it came in a frame");
                let mut other = Receiver::<M>::new(direction);
                other.begin(1);
                let copies = again[..len].iter().filter_map(|byte| {
                    let copy = other.feed(*byte)?;
                    Some(copy.map(|(_, copy)| format!("{copy:?}")))
                });
                assert_eq!(copies.collect::<Vec<_>>(), [Ok(format!("{message:?}"))]);
            }
            Some(Err(Refused::Frame(FrameError::Message))) => {
                unreachable!("that is Refused::Message")
            }
            Some(Err(refused)) => drop(refused.to_string()),
        }
    }
    assert_eq!(receiver.counts().taken, taken);
}

struct Idle;

impl Processor for Idle {
    const CLOCK_HZ: u32 = 1_000_000;

    fn now(&mut self) -> u64 {
        0
    }
    fn float_mode(&mut self) -> Result<(), FloatMode> {
        Ok(())
    }
}

impl Board for Idle {
    fn start_ticks(&mut self, _: u32) -> Result<(), PeriodTooLong> {
        Ok(())
    }
    fn start_watchdog(&mut self, _: u32) {}
    fn feed_watchdog(&mut self) {}
    fn stop_watchdog(&mut self) -> Watchdog {
        Watchdog::Stopped
    }
}

struct Queue(VecDeque<u8>, Vec<u8>);

impl Port for Queue {
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let len = buffer.len().min(self.0.len());
        for (target, byte) in buffer.iter_mut().zip(self.0.drain(..len)) {
            *target = byte;
        }
        len
    }
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.1.extend_from_slice(bytes);
        bytes.len()
    }
    fn is_drained(&mut self) -> bool {
        true
    }
}

/// A device without a policy takes it all, and then still answers a greeting.
fn serve(wire: &[u8]) {
    let about = Wire {
        board: "fuzzed",
        version: "",
        silence_us: 1,
        cause: ResetCause::Unknown,
    };
    let mut device = Device::<Vec<u32>, (), (), 3, 1>::new(about, None, (), ());
    let mut port = Queue(wire.iter().copied().collect(), Vec::new());
    let mut step = |port: &mut Queue| {
        let tick = Tick { at: 0, missed: 0 };
        device.step(&mut Idle, port, &mut (), Some(tick)) == Next::Restart
    };
    while !port.0.is_empty() {
        if step(&mut port) {
            return;
        }
    }
    port.0.push_back(0);
    port.1.clear();
    let mut host = Sender::new(Direction::ToDevice);
    host.begin(77);
    let mut hello = [0; MAX_WIRE];
    let len = host
        .encode(&ToDevice::Hello, &mut hello)
        .expect("a short message");
    port.0.extend(&hello[..len]);
    while !port.0.is_empty() {
        if step(&mut port) {
            return;
        }
    }
    assert!(port.1.windows(6).any(|text| text == b"fuzzed"));
}
