//! PLANT.md's example, byte by byte; streams of frames, whole and in pieces, with what is none in between.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::plant::{Doubles, FromPlant, Hello, Numbers, Space, ToPlant, VERSION};
use crate::stream::{MAX_STREAM_FRAME, Stream};
use crate::{Bytes, Direction, Values};

const PLANT_MD: &str = include_str!("../../PLANT.md");

fn stream<R: Read>(reader: R, direction: Direction) -> Stream<R, Vec<u8>> {
    Stream::new(reader, Vec::new(), direction)
}

/// What is on the wire of one message.
fn wire(direction: Direction, sequence: u16, message: &impl serde::Serialize) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut end = Stream::new(io::empty(), &mut wire, direction);
    end.answer(sequence, message).unwrap();
    wire
}

fn conversation() -> Vec<(String, Vec<u8>)> {
    let mut lines = Vec::new();
    let mut ask = |sequence, name: &str, message: &ToPlant<'_>| {
        lines.push((
            format!("> {name}"),
            wire(Direction::ToDevice, sequence, message),
        ));
    };
    ask(0, "Hello", &ToPlant::Hello { version: VERSION });
    ask(1, "Reset", &ToPlant::Reset { env: 0, seed: 300 });
    let push = ToPlant::Step {
        env: 0,
        action: Values::new(&[1.5]),
    };
    ask(2, "Step", &push);
    ask(3, "Render", &ToPlant::Render { env: 0 });
    let mut answers = Vec::new();
    let mut answer = |sequence, name: &str, message: &FromPlant<'_>| {
        answers.push((
            format!("< {name}"),
            wire(Direction::ToHost, sequence, message),
        ));
    };
    let (low, high) = ([-1.0, -1.0, -8.0], [1.0, 1.0, 8.0]);
    let hello = Hello {
        version: VERSION,
        name: "pendulum",
        envs: 4,
        observation: Space::Box {
            low: Values::new(&low),
            high: Values::new(&high),
        },
        action: Space::Box {
            low: Values::new(&[-2.0]),
            high: Values::new(&[2.0]),
        },
        max_episode_steps: 200,
        control_period_us: 50_000,
        score_range: None,
        observation_names: "cos\nsin\nvelocity",
        action_names: "torque",
    };
    answer(0, "Hello", &FromPlant::Hello(hello));
    let state = |observation, reward| FromPlant::State {
        env: 0,
        observation: Numbers::F32(Values::new(observation)),
        reward,
        terminated: false,
        truncated: false,
    };
    answer(1, "State", &state(&[-1.0, 0.0, 0.5], 0.0));
    answer(2, "State", &state(&[-1.0, -0.03125, 0.625], -9.75));
    answer(3, "Error", &FromPlant::Error { text: "no camera" });
    lines
        .into_iter()
        .zip(answers)
        .flat_map(|(q, a)| [q, a])
        .collect()
}

#[test]
fn the_document_has_these_bytes() {
    let mut expected = String::new();
    for (name, wire) in conversation() {
        expected += &format!("{name:<9}");
        for (i, byte) in wire.iter().enumerate() {
            if i > 0 && i % 32 == 0 {
                expected += &format!("\n{:9}", "");
            }
            expected += &format!(" {byte:02x}");
        }
        expected += "\n";
    }
    let (_, example) = PLANT_MD.split_once("## Example").unwrap();
    let block = example.split("```").nth(1).unwrap();
    let block = block.trim_start_matches('\n');
    assert!(block == expected, "PLANT.md should have:\n{expected}");
}

#[test]
fn the_other_end_reads_them_and_no_echo() {
    let lines = conversation();
    let of = |to: &str| -> Vec<u8> {
        let lines = lines.iter().filter(|(name, _)| name.starts_with(to));
        lines.flat_map(|(_, wire)| wire.clone()).collect()
    };
    let mut plant = stream(io::Cursor::new(of(">")), Direction::ToHost);
    for (number, name) in (0..).zip(["Hello", "Reset", "Step", "Render"]) {
        let frame = plant.receive(None).unwrap();
        assert_eq!(frame.header.sequence, number);
        let message = format!("{:?}", frame.decode::<ToPlant<'_>>().unwrap());
        assert!(message.starts_with(name), "{message}");
    }
    let end = plant.receive(None).unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    // Its own frames come back to it.
    let mut echo = stream(io::Cursor::new(of(">")), Direction::ToDevice);
    assert_eq!(
        echo.receive(None).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert!(!echo.babble().is_empty());
}

/// Gives its bytes in pieces of these lengths, one after the other, and would wait in between.
struct Pieces {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    waits: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.waits ^= true;
        if self.waits && !self.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = self.lengths.pop().unwrap_or(usize::MAX);
        let len = len.min(self.bytes.len()).min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.bytes.drain(..len)) {
            *to = from;
        }
        Ok(len)
    }
}

fn picture(rgb: &[u8]) -> FromPlant<'_> {
    FromPlant::Picture {
        env: 1,
        width: 84,
        height: 84,
        rgb: Bytes(rgb),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is between frames, and in whatever pieces they come, however long they are.
    #[test]
    fn frames_arrive_whole(
        first in vec(prop_oneof![Just(0), any::<u8>()], 0..70_000),
        second in vec(any::<f64>(), 0..40),
        babble in "[a-z\n]{0,300}",
        lengths in vec(1..5000_usize, 0..40),
    ) {
        let state = FromPlant::State {
            env: 7, observation: Numbers::F64(Doubles::new(&second)), reward: 0.1, terminated: true, truncated: false,
        };
        let mut bytes = wire(Direction::ToHost, 5, &picture(&first));
        bytes.extend(babble.bytes());
        bytes.extend(wire(Direction::ToHost, 6, &state));
        let reader = Pieces { bytes, lengths, waits: false };
        let mut host = stream(reader, Direction::ToDevice);
        for (sequence, expected) in [(5, picture(&first)), (6, state)] {
            loop {
                match host.receive(None) {
                    Ok(frame) => {
                        prop_assert_eq!(frame.header.sequence, sequence);
                        prop_assert_eq!(frame.decode::<FromPlant<'_>>().unwrap(), expected);
                        break;
                    }
                    Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        }
        prop_assert_eq!(host.babble(), babble.trim());
    }

    /// Any bytes at all: no panic, and nothing is taken for a frame whose CRC is not right.
    #[test]
    fn noise_is_no_frame(bytes in vec(prop_oneof![Just(0), any::<u8>()], 0..3000)) {
        let mut host = stream(io::Cursor::new(bytes), Direction::ToDevice);
        prop_assert_eq!(host.receive(None).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn one_flipped_bit_loses_a_frame_and_no_other() {
    let (pixels, next) = ([1; 300], wire(Direction::ToHost, 1, &picture(&[2; 9])));
    let sound = wire(Direction::ToHost, 0, &picture(&pixels));
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes.extend(&next);
        let mut host = stream(io::Cursor::new(bytes), Direction::ToDevice);
        // One before the frame or after it is no part of it.
        let edge = [0, sound.len() - 1].contains(&(bit / 8));
        let taken = host.receive(None).unwrap().header.sequence;
        assert!(taken == 1 || edge, "bit {bit}");
    }
}

/// Something that says more and more and never a frame, until somebody has had enough.
struct Endless {
    left: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(buffer.len());
        self.left = left.ok_or(io::ErrorKind::WouldBlock)?;
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

#[test]
fn endless_babble_fills_no_memory() {
    let left = MAX_STREAM_FRAME + MAX_STREAM_FRAME / 2;
    let mut host = stream(Endless { left }, Direction::ToDevice);
    let error = host.receive(None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(host.held() < MAX_STREAM_FRAME, "{}", host.held());
    assert!((1..=1000).contains(&host.babble().len()));
}

#[test]
fn endless_babble_ends_at_the_deadline() {
    let left = usize::MAX;
    let mut host = stream(Endless { left }, Direction::ToDevice);
    let deadline = Instant::now() + Duration::from_millis(20);
    let error = host.receive(Some(deadline)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
