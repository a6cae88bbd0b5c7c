use dt_control::{Reading, Step};
use dt_core::guard::Fault;

use super::*;

const IDENTITY: Identity = Identity {
    state_dim: 2,
    action_len: 1,
    policy_crc: 0xA1B2_C3D4,
    policy_len: 1000,
    period_us: 50_000,
    clock_hz: 25_000_000,
    deadline_us: 40_000,
};
const RECORD: usize = 52 + 4 * (2 + 2);
const FAULT: Mode = Mode::Faulted(Fault::StaleSensor { group: 1 });

/// Tick `i` of a life in which the policy takes a step, or none.
fn tick(open: &mut BlackBox<'_>, i: u32, timestep: Option<u32>, mode: Mode) {
    let value = i as f32;
    let action = [0.5 * value];
    open.record(&Record {
        at: u64::from(i) << 24,
        mode,
        refusal: None,
        missed: 0,
        step: timestep.map(|timestep| Step {
            timestep,
            target_return: -100.0,
            seed: 7,
            return_to_go: -50.0 - value,
            action: &action,
        }),
        observation: &[value, -value],
        reading: Reading {
            reward: Some(-value),
            return_to_go: None,
        },
        action: &[0.25 * value],
        jitter: 1,
        latency: 2,
        busy: u64::MAX,
    });
}

fn steps(open: &mut BlackBox<'_>, numbers: core::ops::Range<u32>) {
    for i in numbers {
        tick(open, i, Some(i), Mode::Running);
    }
}

fn open(memory: &mut [u8]) -> BlackBox<'_> {
    BlackBox::open(memory, IDENTITY, ResetCause::Watchdog).unwrap()
}

/// Sequence numbers and first observations, by time.
fn read(bytes: &[u8]) -> Vec<(u32, f32)> {
    let log = Log::parse(bytes).unwrap();
    let mut read: Vec<_> = log
        .iter()
        .map(|entry| (entry.sequence, entry.observation().next().unwrap()))
        .collect();
    read.sort_by_key(|entry| entry.0);
    read
}

fn memory(records: usize) -> Vec<u8> {
    vec![0xA5; memory_len(2, 1, records)]
}

/// The layout that the module's documentation gives.
#[test]
fn bytes_are_where_the_documentation_says() {
    let mut memory = memory(2);
    memory.extend([0xEE; RECORD - 1]); // No room for a third.
    let mut box_ = open(&mut memory);
    steps(&mut box_, 0..3);
    let bytes = box_.bytes();
    #[rustfmt::skip]
    let header = [
        b'D', b'T', b'B', b'L', b'K', b'B', b'O', b'X', 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
        0xD4, 0xC3, 0xB2, 0xA1, 0xE8, 3, 0, 0, 0x50, 0xC3, 0, 0, 0x40, 0x78, 0x7D, 1, 0x40, 0x9C, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[..60], header);
    assert_eq!(bytes[60..64], CRC.checksum(&header).to_le_bytes());
    // The third record, in the place of the first.
    #[rustfmt::skip]
    let record = [
        3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 4, 7, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0x50, 0xC2, 0, 0, 0, 0xC0, 0, 0, 0, 2, 1, 0, 0, 0, 2, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF,
        0, 0, 0, 0x40, 0, 0, 0, 0xC0, 0, 0, 0x80, 0x3F, 0, 0, 0, 0x3F,
    ];
    assert_eq!(bytes[64..][..64], record);
    assert_eq!(bytes[128..132], CRC.checksum(&record).to_le_bytes());
    assert_eq!(bytes[132..136], [2, 0, 0, 0]);
    assert_eq!(bytes[200..], [0; RECORD - 1]);
    assert_eq!(memory_len(2, 1, 2), 200);

    let log = Log::parse(bytes).unwrap();
    assert_eq!((log.identity(), log.capacity()), (&IDENTITY, 2));
    let entry = log.iter().next().unwrap();
    assert_eq!(
        (entry.sequence, entry.timestep, entry.seed),
        (3, Some(2), 7)
    );
    assert_eq!((entry.boot, entry.cause), (0, ResetCause::Watchdog));
    assert_eq!(entry.mode, Ok(Mode::Running));
    assert_eq!((entry.return_to_go, entry.reward), (-52.0, Some(-2.0)));
    assert_eq!((entry.told_return, entry.missed), (false, 0));
    let spans = (entry.at, entry.jitter, entry.latency, entry.busy);
    assert_eq!(spans, (0x200_0000, 1, 2, u32::MAX));
    assert!(entry.observation().eq([2.0, -2.0]));
    assert!(entry.commanded().eq([1.0]));
    assert!(entry.applied().eq([0.5]));
}

#[test]
fn the_last_records_are_kept() {
    let mut memory = memory(5);
    let mut box_ = open(&mut memory);
    assert_eq!(read(box_.bytes()), []);
    for end in 1..14 {
        steps(&mut box_, end - 1..end);
        let expected: Vec<_> = (end.saturating_sub(5)..end)
            .map(|i| (i + 1, i as f32))
            .collect();
        assert_eq!(read(box_.bytes()), expected);
    }
}

/// What led to a fault stays there however long nobody comes, until the next episode.
#[test]
fn it_freezes_after_the_end_and_thaws_with_the_next_episode() {
    let mut memory = memory(40);
    let mut box_ = open(&mut memory);
    let tail = u32::from(TAIL);
    tick(&mut box_, 0, None, Mode::Idle); // The first after a boot.
    assert!(box_.is_frozen());
    for i in 1..100 {
        tick(&mut box_, i, None, Mode::Idle);
    }
    steps(&mut box_, 100..103);
    assert!(!box_.is_frozen());
    for i in 103..300 {
        tick(&mut box_, i, None, FAULT);
        assert_eq!(box_.is_frozen(), i >= 102 + tail);
    }
    let expected: Vec<f32> = [0]
        .into_iter()
        .chain(100..103 + tail)
        .map(|i| i as f32)
        .collect();
    let observed = |bytes: &[u8]| read(bytes).iter().map(|entry| entry.1).collect::<Vec<_>>();
    assert_eq!(observed(box_.bytes()), expected);
    let modes: Vec<_> = Log::parse(box_.bytes())
        .unwrap()
        .iter()
        .map(|entry| entry.mode)
        .collect();
    assert_eq!(modes[3..5], [Ok(Mode::Running), Ok(FAULT)]);
    steps(&mut box_, 500..501);
    assert_eq!(observed(box_.bytes()).last(), Some(&500.0));
    assert!(!box_.is_frozen());
}

#[test]
fn it_outlives_a_warm_reset() {
    let mut memory = memory(8);
    steps(&mut open(&mut memory), 0..11);
    for boot in 1..4u8 {
        let mut box_ = BlackBox::open(&mut memory, IDENTITY, ResetCause::BrownOut).unwrap();
        let before = read(box_.bytes());
        assert_eq!(before.len(), 8);
        for _ in 0..9 {
            tick(&mut box_, 90, None, Mode::Faulted(Fault::BrownOut));
        }
        let log = Log::parse(box_.bytes()).unwrap();
        let newest = log.iter().max_by_key(|entry| entry.sequence).unwrap();
        assert_eq!((newest.boot, newest.cause), (boot, ResetCause::BrownOut));
        assert_eq!(
            (newest.timestep, newest.mode),
            (None, Ok(Mode::Faulted(Fault::BrownOut)))
        );
        assert_eq!(newest.sequence, 11 + u32::from(boot), "one record each");
        let after = read(box_.bytes());
        assert_eq!(after[..7], before[1..]);
    }
}

/// Memory that holds anything else is an empty box.
#[test]
fn garbage_is_an_empty_box() {
    let mut state = 1u32;
    for fill in 0..300 {
        let mut memory = memory(4);
        for byte in &mut memory {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = if fill < 100 {
                fill as u8
            } else {
                (state >> 24) as u8
            };
        }
        let box_ = open(&mut memory);
        assert_eq!(read(box_.bytes()), []);
    }
}

/// Of a box with one flipped bit, that record is lost and nothing else; none is believed that was not written.
#[test]
fn every_flipped_bit_costs_its_record_alone() {
    let mut memory = memory(4);
    steps(&mut open(&mut memory), 0..7);
    let whole = read(&memory);
    for bit in 0..8 * memory.len() {
        memory[bit / 8] ^= 1 << (bit % 8);
        let parsed = Log::parse(&memory);
        if bit < 64 {
            assert_eq!(parsed.err(), Some(LogError::NotABlackBox));
        } else if bit < 96 {
            assert!(matches!(parsed, Err(LogError::Version { .. })));
        } else if bit < 512 {
            assert_eq!(parsed.err(), Some(LogError::Header));
        } else {
            let place = (bit / 8 - 64) / RECORD;
            let lost = [5, 6, 7, 4][place];
            let rest: Vec<_> = whole
                .iter()
                .copied()
                .filter(|entry| entry.0 != lost)
                .collect();
            assert_eq!(read(&memory), rest, "bit {bit}");
            // The next controller goes on after what is left.
            let mut again = memory.clone();
            steps(&mut open(&mut again), 50..51);
            let newest = rest.last().unwrap().0 + 1;
            assert_eq!(read(&again).last(), Some(&(newest, 50.0)));
        }
        memory[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A record in a place that is not its own is what a fetch of a running box, or a mixed-up one, makes of it.
#[test]
fn a_record_in_anothers_place_is_not_believed() {
    let mut memory = memory(4);
    steps(&mut open(&mut memory), 0..4);
    let first = memory[64..][..RECORD].to_vec();
    memory[64 + 2 * RECORD..][..RECORD].copy_from_slice(&first);
    let sequences: Vec<u32> = read(&memory).iter().map(|entry| entry.0).collect();
    assert_eq!(sequences, [1, 2, 4]);
}

#[test]
fn another_policys_records_stay_until_this_one_takes_a_step() {
    let mut memory = memory(4);
    steps(&mut open(&mut memory), 0..4);
    let whole = read(&memory);
    let other = Identity {
        policy_crc: 9,
        ..IDENTITY
    };
    let mut box_ = BlackBox::open(&mut memory, other, ResetCause::Software).unwrap();
    for i in 0..99 {
        tick(&mut box_, i, None, Mode::Idle);
    }
    assert!(box_.is_frozen());
    assert_eq!(Log::parse(box_.bytes()).unwrap().identity(), &IDENTITY);
    assert_eq!(read(box_.bytes()), whole);
    steps(&mut box_, 7..8);
    assert_eq!(Log::parse(box_.bytes()).unwrap().identity(), &other);
    assert_eq!(read(box_.bytes()), [(1, 7.0)]);

    // Of one with other dimensions as well, though its records have other places.
    let other_len = Identity {
        state_dim: 3,
        ..IDENTITY
    };
    let same_len = Identity {
        state_dim: 0,
        action_len: 2,
        ..IDENTITY
    };
    for wider in [other_len, same_len] {
        let mut memory = memory.clone();
        let mut box_ = BlackBox::open(&mut memory, wider, ResetCause::Software).unwrap();
        tick(&mut box_, 0, None, Mode::Idle);
        assert_eq!(read(box_.bytes()), [(1, 7.0)]);
        steps(&mut box_, 8..9);
        let log = Log::parse(box_.bytes()).unwrap();
        assert_eq!((log.identity(), log.iter().count()), (&wider, 1));
    }
}

/// What does not come with a reading is not made up.
#[test]
fn rewards_and_returns_are_there_or_not() {
    let mut memory = memory(4);
    let mut box_ = open(&mut memory);
    for (i, (reward, return_to_go)) in [
        (None, None),
        (Some(2.0), None),
        (None, Some(5.0)),
        (Some(0.0), Some(5.0)),
    ]
    .into_iter()
    .enumerate()
    {
        box_.record(&Record {
            at: 0,
            mode: Mode::Running,
            refusal: None,
            missed: 300,
            step: Some(Step {
                timestep: i as u32,
                target_return: 0.0,
                seed: 1,
                return_to_go: 0.0,
                action: &[0.0],
            }),
            observation: &[0.0; 2],
            reading: Reading {
                reward,
                return_to_go,
            },
            action: &[0.0],
            jitter: 0,
            latency: 0,
            busy: 0,
        });
        let log = Log::parse(box_.bytes()).unwrap();
        let entry = log.iter().nth(i).unwrap();
        let told = (entry.reward, entry.told_return, entry.missed);
        assert_eq!(told, (reward, return_to_go.is_some(), 255));
    }
}

#[test]
fn room_is_counted() {
    let mut memory = vec![0; 64 + RECORD - 1];
    let error = BlackBox::open(&mut memory, IDENTITY, ResetCause::PowerOn).unwrap_err();
    assert_eq!((error.needed, error.have), (132, 131));
    assert!(error.to_string().contains("132 bytes"));
    // Hopper by the paper: 5 s of 8 ms, three layers of 19 steps before, and the tail.
    assert_eq!(records_for(8000, 58), 626 + 58 + 16);
    assert_eq!(memory_len(11, 3, records_for(8000, 58)), 64 + 700 * 120);
    let mut memory = [0; 132];
    steps(&mut open(&mut memory), 0..3);
    assert_eq!(read(&memory), [(3, 2.0)]);
}

#[test]
fn what_is_no_black_box_is_refused() {
    assert_eq!(Log::parse(b"DTPOLICY").err(), Some(LogError::NotABlackBox));
    let mut memory = memory(4);
    steps(&mut open(&mut memory), 0..4);
    for len in 0..memory.len() {
        let error = Log::parse(&memory[..len]).unwrap_err();
        match len {
            0..8 => assert_eq!(error, LogError::NotABlackBox),
            8..64 => assert!(matches!(error, LogError::TooShort { needed: 64, .. })),
            _ => assert_eq!(
                error,
                LogError::TooShort {
                    needed: memory.len(),
                    have: len
                }
            ),
        }
    }
}
