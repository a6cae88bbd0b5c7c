//! `host-sim blackbox`: what a controller recorded, replayed with its policy file.

mod common;
mod workplace;

use std::path::Path;

use ::tests::life::{End, live, memory};
use ::tests::{Sample, episodes, small_config};
use dt_control::ResetCause;
use dt_core::blob::{Choice, RewardMode, Sampling};
use dt_core::config::{Attention, Config, Dtype};
use dt_device::blackbox::{SECONDS, TAIL, records_for};
use host_sim::blackbox::{BlackBox, Replayed, Verdict, replay, seconds};
use host_sim::policy_file::PolicyFile;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use workplace::Workplace;

const REWARDS: [RewardMode; 3] = [
    RewardMode::Observed,
    RewardMode::Constant,
    RewardMode::External,
];

fn policy(config: Config, reward: RewardMode) -> PolicyFile {
    episodes::policy(config, reward, 3)
}

fn replayed(bytes: &[u8], file: &PolicyFile) -> Vec<Replayed> {
    let log = BlackBox::new(Path::new("box"), bytes).unwrap();
    replay(&log, file).unwrap()
}

fn count(replayed: &[Replayed], verdict: Verdict) -> usize {
    replayed
        .iter()
        .filter(|step| step.verdict == verdict)
        .count()
}

/// Every kind of end, all in one ring.
const LIFE: [(u32, End); 8] = [
    (30, End::Stop),
    (25, End::StaleSensor),
    (1, End::NoReading),
    (40, End::Reset(ResetCause::Watchdog)),
    (33, End::LateAction),
    (20, End::MissedTick),
    (17, End::Reset(ResetCause::BrownOut)),
    (26, End::OutOfRange),
];

#[test]
fn every_step_of_whole_episodes_has_its_bits() {
    let steps: u32 = LIFE.iter().map(|(steps, _)| steps).sum();
    for attention in [Attention::Streaming, Attention::Window] {
        for dtype in [Dtype::F32, Dtype::Int8, Dtype::Int4] {
            for reward in REWARDS {
                let config = Config {
                    attention,
                    dtype,
                    ..small_config()
                };
                let file = policy(config, reward);
                let mut memory = memory(1000);
                live(&file, &mut memory, &LIFE);
                let replayed = replayed(&memory, &file);
                assert_eq!(replayed.len(), steps as usize);
                let equal = count(&replayed, Verdict::Equal);
                assert_eq!(equal, replayed.len(), "{config:?} {reward:?}");
            }
        }
    }
}

/// From the receptive field on, counted from the oldest record of an episode, every bit is there; what cannot be known is
/// not claimed.
#[test]
fn of_an_episode_without_its_beginning_the_end_is_decided() {
    for attention in [Attention::Streaming, Attention::Window] {
        let config = Config {
            attention,
            ..small_config()
        };
        let field = config.receptive_field() as usize;
        for reward in REWARDS {
            let file = policy(config, reward);
            for records in [field - 1, field, 50] {
                let tail = usize::from(TAIL);
                let mut memory = memory(records + tail);
                live(&file, &mut memory, &[(100, End::NoReading)]);
                let replayed = replayed(&memory, &file);
                assert_eq!(replayed.len(), records);
                for (i, step) in replayed.iter().enumerate() {
                    let expected = if i + 1 < field {
                        Verdict::Undecidable
                    } else {
                        Verdict::Equal
                    };
                    assert_eq!(step.verdict, expected, "{attention:?} {reward:?} {i}");
                }
            }
        }
    }
}

/// The room that `records_for` makes: every step of the last five seconds before the fault is decided.
#[test]
fn the_last_seconds_are_decided_in_a_ring_made_for_them() {
    for attention in [Attention::Streaming, Attention::Window] {
        let config = Config {
            attention,
            ..small_config()
        };
        let file = policy(config, RewardMode::Observed);
        let period_us = file.blob().manifest().control_period_us;
        let mut memory = memory(records_for(period_us, config.receptive_field()));
        live(&file, &mut memory, &[(300, End::NoReading)]);
        let equal = count(&replayed(&memory, &file), Verdict::Equal);
        let steps = SECONDS * 1_000_000 / period_us;
        assert!((steps..steps + 3).contains(&(equal as u32)), "{equal}");
    }
}

/// A flipped bit of an observation, a return-to-go or an action is found where it is, if that is decidable, and a lost
/// record costs what depends on it.
#[test]
fn what_is_not_what_the_policy_did_is_found() {
    let file = policy(small_config(), RewardMode::Observed);
    let field = small_config().receptive_field() as usize;
    let mut memory = memory(200);
    live(&file, &mut memory, &[(60, End::Stop)]);
    let record = 52 + 4 * (3 + 2);
    // The first is that of booting.
    let start = |step: usize| 64 + (step + 1) * record;
    for (offset, first) in [
        (24 + 3, 20),          // return-to-go
        (48 + 2, 20),          // observation
        (48 + 12, 20),         // the policy's action
        (48 + 12 + 4 + 2, 21), // what was applied
    ] {
        let mut altered = memory.clone();
        let place = &mut altered[start(20)..][..record];
        place[offset] ^= 0x10;
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&place[..record - 4]);
        place[record - 4..].copy_from_slice(&crc.to_le_bytes());
        let replayed = replayed(&altered, &file);
        let differing: Vec<usize> = (0..60)
            .filter(|&i| matches!(replayed[i].verdict, Verdict::Differs { .. }))
            .collect();
        assert_eq!(differing.first(), Some(&first), "offset {offset}");
        assert!(
            differing
                .iter()
                .all(|i| (first..first + field + 1).contains(i))
        );
    }
    let mut torn = memory.clone();
    torn[start(20)] ^= 1;
    let replayed = replayed(&torn, &file);
    assert_eq!(replayed.len(), 59);
    for (i, step) in replayed.iter().enumerate() {
        let unknown = (20..20 + field - 1).contains(&i);
        let expected = if unknown {
            Verdict::Undecidable
        } else {
            Verdict::Equal
        };
        assert_eq!(step.verdict, expected, "{i}");
    }
}

/// The lowest bit of a return-to-go is lost in quantizing, but it is not what the policy had.
#[test]
fn a_return_to_go_that_does_not_follow_is_found() {
    for reward in [RewardMode::Observed, RewardMode::Constant] {
        let file = policy(small_config(), reward);
        let mut memory = memory(200);
        live(&file, &mut memory, &[(60, End::Stop)]);
        let record = 52 + 4 * (3 + 2);
        alter(&mut memory[64 + 21 * record..][..record], 24);
        let replayed = replayed(&memory, &file);
        let differs = |step: &&Replayed| matches!(step.verdict, Verdict::Differs { .. });
        let first = replayed.iter().find(differs).map(|step| step.timestep);
        assert_eq!(first, Some(20), "{reward:?}");
        assert!(replayed.iter().filter(differs).count() <= 2);
    }
}

/// Where all between two steps of two episodes is lost, the timesteps may fit by chance; they are not one episode.
#[test]
fn steps_of_two_episodes_do_not_become_one() {
    let file = policy(small_config(), RewardMode::Constant);
    let field = small_config().receptive_field() as usize;
    let mut memory = memory(200);
    live(&file, &mut memory, &[(12, End::Stop), (40, End::Stop)]);
    // Boot, 12 steps, the tail, 12 steps: the next has timestep 12.
    let record = 52 + 4 * (3 + 2);
    for lost in 13..13 + usize::from(TAIL) + 12 {
        memory[64 + lost * record] ^= 1;
    }
    let replayed = replayed(&memory, &file);
    let timesteps: Vec<u32> = replayed.iter().map(|step| step.timestep).collect();
    assert_eq!(timesteps, Vec::from_iter(0..40));
    for (i, step) in replayed.iter().enumerate() {
        let unknown = (12..12 + field - 1).contains(&i);
        let expected = if unknown {
            Verdict::Undecidable
        } else {
            Verdict::Equal
        };
        assert_eq!(step.verdict, expected, "{i}");
    }
}

/// Changes a record so that its CRC is right.
fn alter(record: &mut [u8], offset: usize) {
    record[offset] ^= 1;
    let (content, crc) = record.split_last_chunk_mut::<4>().unwrap();
    *crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC)
        .checksum(content)
        .to_le_bytes();
}

#[test]
fn drawn_actions_are_drawn_again() {
    use dt_core::config::{Actions, Head};
    use host_sim::cartpole::SPEC;

    // The pendulum has no choices; its vectors serve a policy that has.
    let config = Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        ..small_config()
    };
    let mut sample: Sample = episodes::sample_in(&SPEC, config, RewardMode::Constant, 3);
    sample.config.state_dim = 3;
    sample = Sample {
        reward: RewardMode::Constant,
        choice: Choice::Sampled(Sampling {
            temperature: 5.0,
            top_k: 0,
            seed: 9,
        }),
        ..Sample::random(sample.config, 3)
    };
    let file = episodes::proven(&sample, "none", 3, |_| {});
    let mut memory = memory(60 + 16);
    live(
        &file,
        &mut memory,
        &[(20, End::Stop), (100, End::NoReading)],
    );
    let replayed = replayed(&memory, &file);
    let field = config.receptive_field() as usize;
    assert_eq!(count(&replayed, Verdict::Undecidable), field - 1);
    assert_eq!(count(&replayed, Verdict::Equal), 60 - (field - 1));
}

#[test]
fn time_is_that_of_the_clock() {
    let file = policy(small_config(), RewardMode::Observed);
    let mut memory = memory(200);
    live(&file, &mut memory, &[(20, End::MissedTick)]);
    let log = BlackBox::new(Path::new("box"), &memory).unwrap();
    let times = seconds(&log);
    // Boot, 20 steps, and a tick after two periods.
    assert_eq!(times.len(), 1 + 20 + 16);
    assert!((times[20] - times[1] - 19.0 * 0.05).abs() < 1e-9);
    assert!((times[21] - times[20] - 0.1).abs() < 1e-9, "one was missed");
}

fn workplace() -> Workplace {
    let w = Workplace::new();
    let file = policy(small_config(), RewardMode::Observed);
    let mut memory = memory(80);
    live(
        &file,
        &mut memory,
        &[(30, End::Stop), (100, End::StaleSensor)],
    );
    w.write("box.bin", &memory);
    w.write("p.dtb", file.bytes());
    w
}

#[test]
fn the_command_tells_and_writes() {
    let w = workplace();
    let output = "box.bin: 80 records, 64 steps of the policy, 3.950 s\n  \
        record 148: the reading of sensor group 0 is too old\n";
    w.run("blackbox box.bin")
        .success()
        .stdout(contains(output).and(contains("not replayed; give the policy file")));
    let field = small_config().receptive_field() as usize;
    let equal = 64 - (field - 1);
    w.run("blackbox box.bin --policy p.dtb --json out.json --png box.png")
        .success()
        .stdout(contains(format!(
            "replayed with p.dtb: {equal} steps equal to the bit, 0 differ, {} not decidable",
            field - 1
        )));
    let json: Value = serde_json::from_str(&w.read("out.json")).unwrap();
    assert_eq!(json["equal"], equal);
    assert_eq!(json["differing_bits"], 0);
    assert_eq!(json["replayed"].as_array().unwrap().len(), 64);
    assert_eq!(json["replayed"][0]["bits"], "undecidable");
    assert_eq!(json["replayed"][63]["bits"], "equal");
    assert_eq!(json["faults"][0]["sequence"], 148);
    let png = std::fs::read(w.path("box.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000);
    w.run("blackbox box.bin --json out.json")
        .code(1)
        .stderr(contains("out.json already exists"));
    w.run("blackbox box.bin --json -")
        .success()
        .stdout(predicates::str::starts_with("{"));
}

#[test]
fn what_cannot_be_replayed_is_refused_by_name() {
    let w = workplace();
    w.policy("other.dtb", "pendulum", 3, 1);
    w.run("blackbox box.bin --policy other.dtb")
        .code(1)
        .stderr(contains("the policy's CRC is ").and(contains("give the file that was on it")));
    w.run("blackbox p.dtb")
        .code(1)
        .stderr(contains("p.dtb: not a black box"));
    w.run("blackbox none.bin")
        .code(1)
        .stderr(contains("cannot read black box none.bin"));
    let bytes = std::fs::read(w.path("box.bin")).unwrap();
    w.write("short.bin", &bytes[..bytes.len() - 1]);
    w.run("blackbox short.bin")
        .code(1)
        .stderr(contains("short.bin: the black box ends after"));
    w.run("blackbox box.bin --png x --json x").code(2);
    // A bit of the last step's action.
    let log = BlackBox::new(Path::new("box"), &bytes).unwrap();
    let last = replay(&log, &PolicyFile::load(&w.path("p.dtb")).unwrap()).unwrap();
    let record = 52 + 4 * (3 + 2);
    let slot = (last.last().unwrap().sequence as usize - 1) % 80;
    let mut altered = bytes.clone();
    let place = &mut altered[64 + slot * record..][..record];
    alter(place, 60);
    w.write("altered.bin", &altered);
    w.run("blackbox altered.bin --policy p.dtb")
        .code(1)
        .stdout(contains("timestep 99: 1 differing bit(s)"))
        .stderr(contains(
            "1 of 64 steps do not have the bits of p.dtb: 1 differing bit(s)",
        ));
    // A ring that is too short for the policy to say anything.
    let file = PolicyFile::load(&w.path("p.dtb")).unwrap();
    let mut short = memory(16 + 2);
    live(&file, &mut short, &[(100, End::NoReading)]);
    w.write("shallow.bin", &short);
    w.run("blackbox shallow.bin --policy p.dtb")
        .code(1)
        .stderr(contains("none of 2 steps can be compared"));
    // One in which nothing has happened proves nothing.
    let mut idle = memory(80);
    live(&file, &mut idle, &[(0, End::Reset(ResetCause::PowerOn))]);
    w.write("idle.bin", &idle);
    w.run("blackbox idle.bin").success();
    w.run("blackbox idle.bin --policy p.dtb")
        .code(1)
        .stderr(contains("the black box holds no step"));
}

/// What `dt-train train --data` reads: each transition once, with the reward that the next reading brought.
#[cfg(feature = "hdf5")]
#[test]
fn the_log_is_training_data() {
    let w = workplace();
    let p = PolicyFile::load(&w.path("p.dtb")).unwrap();
    let mut memory = memory(200);
    live(&p, &mut memory, &[(30, End::Stop), (34, End::StaleSensor)]);
    w.write("two.bin", &memory);
    w.run("blackbox two.bin --policy p.dtb --out log.hdf5")
        .success()
        .stderr("log.hdf5: 62 transitions\n");
    let file = hdf5::File::open(w.path("log.hdf5")).unwrap();
    let floats = |name: &str| -> Vec<f32> { file.dataset(name).unwrap().read_raw().unwrap() };
    let flags = |name: &str| -> Vec<bool> { file.dataset(name).unwrap().read_raw().unwrap() };
    let bytes = std::fs::read(w.path("two.bin")).unwrap();
    let log = BlackBox::new(Path::new("box"), &bytes).unwrap();
    let (mut row, mut ends) = (0, Vec::new());
    for piece in log.pieces() {
        for pair in log.entries()[piece].windows(2) {
            let at = |name: &str, len: usize| floats(name)[row * len..][..len].to_vec();
            assert!(pair[0].observation().eq(at("observations", 3)));
            assert!(pair[1].observation().eq(at("next_observations", 3)));
            assert!(pair[0].applied().eq(at("actions", 1)));
            assert_eq!(pair[1].reward, Some(floats("rewards")[row]));
            row += 1;
        }
        ends.push(row - 1);
    }
    assert_eq!(row, 62);
    let timeouts = flags("timeouts");
    assert!((0..62).all(|row| timeouts[row] == ends.contains(&row)));
    assert!(!flags("terminals").contains(&true));
    let env: hdf5::types::VarLenUnicode = file.attr("env").unwrap().read_scalar().unwrap();
    assert_eq!(env.as_str(), "pendulum");

    // Where no reward came, the transition is left out, and nothing seems to follow on it.
    let mut gap = bytes.clone();
    let record = 52 + 4 * (3 + 2);
    let place = &mut gap[64 + 9 * record..][..record];
    alter(place, 12); // one of its bits says that there is a reward
    w.write("gap.bin", &gap);
    w.run("blackbox gap.bin --out gap.hdf5").success();
    let file = hdf5::File::open(w.path("gap.hdf5")).unwrap();
    let timeouts: Vec<bool> = file.dataset("timeouts").unwrap().read_raw().unwrap();
    let more = timeouts.iter().filter(|end| **end).count();
    assert_eq!((timeouts.len(), more), (61, ends.len() + 1));
    let gap = timeouts.iter().position(|end| *end).unwrap();
    assert!(gap < ends[0]);

    let file = policy(small_config(), RewardMode::Constant);
    let mut lone = ::tests::life::memory(80);
    live(&file, &mut lone, &[(1, End::Stop)]);
    w.write("lone.bin", &lone);
    w.run("blackbox lone.bin --out lone.hdf5")
        .code(1)
        .stderr(contains("the black box has 1 steps, but no reward came"));
    assert!(!w.path("lone.hdf5").exists());
}

/// Without the library it says how to get it.
#[cfg(not(feature = "hdf5"))]
#[test]
fn without_hdf5_it_says_so() {
    workplace()
        .run("blackbox box.bin --out log.hdf5")
        .code(2)
        .stderr(contains("build it with --features hdf5"));
}
