//! LINK.md's example, byte by byte: both ends write what it says, and read it.

use super::{frame, hear, host};
use crate::*;

const LINK_MD: &str = include_str!("../../LINK.md");

const POLICY: PolicyId = PolicyId {
    crc: 0xC0DE_F00D,
    len: 35_280,
};
const IDLE: Mode = Mode([2, 0, 0, 0]);
const ARMED: Mode = Mode([4, 0, 0, 0]);
const RUNNING: Mode = Mode([5, 0, 0, 0]);
const SILENT: Mode = Mode([6, 7, 0, 0]);

/// What is on the wire, and what is said by it, line by line.
fn conversation() -> Vec<(String, Vec<u8>)> {
    let mut host = host(7);
    let mut device = Sender::new(Direction::ToHost);
    device.begin(7);
    let observation = |values| ToDevice::Observation {
        step: 0,
        age_us: 150,
        reward: None,
        return_to_go: None,
        values,
    };
    let action = |mode, values| ToHost::Action {
        step: 0,
        mode,
        latency_us: 76,
        slack_us: 49_924,
        values,
    };
    let hanging = [-1.0, 0.0, 0.0];
    let (torque, safe) = ([1.25], [0.0]);
    let mut lines = Vec::new();
    let mut say = |to: char, name: &str, wire: Vec<u8>| lines.push((format!("{to} {name}"), wire));
    say('>', "Hello", frame(&mut host, &ToDevice::Hello));
    let hello = ToHost::Hello(Hello {
        board: "pico",
        version: "0.1.0",
        policy: POLICY,
        env: "pendulum",
        state_dim: 3,
        act_dim: 1,
        choices: 0,
        period_us: 50_000,
        deadline_us: 50_000,
        stale_us: 100_000,
        silence_us: 500_000,
        wants_reward: true,
        wants_return_to_go: false,
        target_return: -150.0,
        mode: IDLE,
        cause: Cause::PowerOn,
    });
    say('<', "Hello", frame(&mut device, &hello));
    let arm = ToDevice::Arm {
        policy: POLICY,
        state_dim: 3,
        act_dim: 1,
        warm_up: 1,
        pace: Pace::Lockstep,
    };
    say('>', "Arm", frame(&mut host, &arm));
    say('<', "Done", frame(&mut device, &ToHost::Done { to: 1 }));
    let hanging = Values::new(&hanging);
    say('>', "Observation", frame(&mut host, &observation(hanging)));
    say(
        '<',
        "Action",
        frame(&mut device, &action(ARMED, Values::new(&safe))),
    );
    let start = ToDevice::Start {
        target_return: -150.0,
        seed: Some(300),
    };
    say('>', "Start", frame(&mut host, &start));
    say('>', "Observation", frame(&mut host, &observation(hanging)));
    say('<', "Done", frame(&mut device, &ToHost::Done { to: 3 }));
    say(
        '<',
        "Action",
        frame(&mut device, &action(RUNNING, Values::new(&torque))),
    );
    say(
        '<',
        "Action",
        frame(&mut device, &action(SILENT, Values::new(&safe))),
    );
    let why = Refusal::Faulted(SILENT);
    say('>', "Start", frame(&mut host, &start));
    say(
        '<',
        "Refusal",
        frame(&mut device, &ToHost::Refusal { to: 5, why }),
    );
    lines
}

#[test]
fn the_document_has_these_bytes() {
    let mut expected = String::new();
    for (name, wire) in conversation() {
        expected += &format!("{name:<14}");
        for (i, byte) in wire.iter().enumerate() {
            if i > 0 && i % 32 == 0 {
                expected += &format!("\n{:14}", "");
            }
            expected += &format!(" {byte:02x}");
        }
        expected += "\n";
    }
    let (_, example) = LINK_MD.split_once("## Example").unwrap();
    let block = example
        .split("```")
        .nth(1)
        .unwrap()
        .trim_start_matches('\n');
    assert!(block == expected, "LINK.md should have:\n{expected}");
}

#[test]
fn the_other_end_reads_them() {
    let mut device = Receiver::<ToDevice<'static>>::new(Direction::ToDevice);
    let mut host = Receiver::<ToHost<'static>>::new(Direction::ToHost);
    host.begin(7);
    for (line, wire) in conversation() {
        let (to, name) = line.split_once(' ').unwrap();
        let heard = match to {
            ">" => hear(&mut device, &wire),
            _ => hear(&mut host, &wire),
        };
        let [Ok((_, message))] = &heard[..] else {
            panic!("{line}: {heard:?}");
        };
        assert!(message.starts_with(name), "{line}: {message}");
    }
}
