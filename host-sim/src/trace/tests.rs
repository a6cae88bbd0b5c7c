use proptest::prelude::*;

use super::*;
use crate::rollout::{Recorder, Transition};

/// Episodes as plain values: (seed, target_return, [(observation, action, reward)]).
type Episodes = Vec<(u64, f32, Vec<(Vec<f32>, Vec<f32>, f32)>)>;

fn written(env: &str, dims: (usize, usize), episodes: &Episodes) -> Vec<u8> {
    let tapes: Vec<Tape> = episodes
        .iter()
        .map(|(_, _, steps)| {
            let mut tape = Tape::default();
            for (observation, action, reward) in steps {
                tape.record(&Transition {
                    predicted_return: None,
                    observation,
                    action,
                    reward: (*reward).into(),
                    next_observation: observation,
                    terminated: false,
                    truncated: false,
                });
            }
            tape
        })
        .collect();
    let header = Header {
        env,
        policy_crc: 0x1234_5678,
        state_dim: dims.0,
        act_dim: dims.1,
    };
    let starts = episodes
        .iter()
        .zip(&tapes)
        .map(|(e, tape)| (e.0, e.1, tape));
    emit(&header, starts).unwrap()
}

/// A copy at a 4-byte boundary, and for `shift` > 0 deliberately off it.
fn aligned(bytes: &[u8], shift: usize) -> (Vec<u32>, Range<usize>) {
    let mut words = vec![0u32; (bytes.len() + shift).div_ceil(4)];
    let range = shift..shift + bytes.len();
    bytemuck::cast_slice_mut::<u32, u8>(&mut words)[range.clone()].copy_from_slice(bytes);
    (words, range)
}

fn parse<T>(bytes: &[u8], check: impl FnOnce(Result<Trace<'_>, TraceError>) -> T) -> T {
    let (words, range) = aligned(bytes, 0);
    check(Trace::parse(&bytemuck::cast_slice(&words)[range]))
}

fn read(trace: &Trace<'_>) -> Episodes {
    let steps = |episode: Recorded<'_>| {
        assert_eq!(episode.steps(), episode.iter().count());
        episode
            .iter()
            .map(|r| (r.observation.to_vec(), r.action.to_vec(), r.reward))
            .collect()
    };
    trace
        .iter()
        .map(|episode| (episode.seed, episode.target_return, steps(episode)))
        .collect()
}

fn example() -> Vec<u8> {
    let steps = vec![
        (vec![1.0, -0.0], vec![0.5], -1.5),
        (vec![0.25, 3.0], vec![-2.0], -0.0),
    ];
    written(
        "cart",
        (2, 1),
        &vec![(0x0102_0304_0506_0708, -150.0, steps)],
    )
}

#[test]
fn the_bytes_are_as_documented() {
    #[rustfmt::skip]
    let expected: &[u8] = &[
        b'D', b'T', b'T', b'R', b'A', b'C', b'E', b'S',
        1, 0, 0, 0,                  // version
        0x89, 0xb2, 0xf7, 0xfa,      // crc (as zlib.crc32 gives it)
        92, 0, 0, 0,                 // length
        0x78, 0x56, 0x34, 0x12,      // policy crc
        2, 0, 0, 0, 1, 0, 0, 0,      // state_dim, act_dim
        1, 0, 0, 0,                  // episodes
        4, 0, 0, 0,                  // name length
        b'c', b'a', b'r', b't',
        8, 7, 6, 5, 4, 3, 2, 1,      // seed
        0, 0, 0x16, 0xc3,            // target_return −150
        2, 0, 0, 0,                  // steps
        0, 0, 0x80, 0x3f, 0, 0, 0, 0x80, 0, 0, 0, 0x3f, 0, 0, 0xc0, 0xbf,
        0, 0, 0x80, 0x3e, 0, 0, 0x40, 0x40, 0, 0, 0, 0xc0, 0, 0, 0, 0x80,
    ];
    let bytes = example();
    assert_eq!(bytes, expected);
}

#[test]
fn every_flipped_bit_is_caught() {
    let bytes = example();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        parse(&damaged, |trace| assert!(trace.is_err(), "bit {bit}"));
    }
}

#[test]
fn every_truncation_is_caught_and_a_longer_buffer_is_not() {
    let mut bytes = example();
    for length in 0..bytes.len() {
        parse(&bytes[..length], |trace| {
            assert!(
                matches!(trace, Err(TraceError::Truncated { .. })),
                "{length}"
            );
        });
    }
    bytes.extend_from_slice(&[0xff; 7]);
    parse(&bytes, |trace| assert_eq!(trace.unwrap().episodes, 1));
}

#[test]
fn misalignment_is_refused() {
    let (words, range) = aligned(&example(), 2);
    let trace = Trace::parse(&bytemuck::cast_slice(&words)[range]);
    assert_eq!(trace.unwrap_err(), TraceError::Misaligned);
}

/// Sets one header word and repairs the CRC, so that only the field itself is wrong.
fn patched(index: usize, value: u32) -> TraceError {
    let mut bytes = example();
    bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    let reachable = 4 * word::LENGTH..bytes.len();
    if reachable.contains(&(4 * index)) && index != word::LENGTH {
        let crc = checksum(&bytes);
        bytes[4 * word::CRC..4 * word::LENGTH].copy_from_slice(&crc.to_le_bytes());
    }
    parse(&bytes, |trace| trace.unwrap_err())
}

#[test]
fn fields_that_make_no_sense_are_named() {
    use TraceError::Field;
    assert_eq!(patched(0, 0), TraceError::Magic);
    assert_eq!(patched(word::VERSION, 2), TraceError::Version(2));
    assert_eq!(patched(word::LENGTH, 36), Field("length"));
    assert_eq!(patched(word::LENGTH, 90), Field("length"));
    assert_eq!(patched(word::STATE_DIM, 0), Field("state_dim"));
    assert_eq!(patched(word::ACT_DIM, MAX_DIM + 1), Field("act_dim"));
    assert_eq!(patched(word::NAME_LEN, 3), Field("name padding"));
    assert_eq!(patched(word::NAME_LEN, 53), Field("name length"));
    assert_eq!(patched(word::NAME_LEN, u32::MAX), Field("name length"));
    assert_eq!(patched(word::NAME, 0xffff_ffff), Field("name"));
    assert_eq!(patched(word::EPISODES, 0), Field("number of episodes"));
    let too_many = Field("number of steps or episodes");
    assert_eq!(patched(word::EPISODES, 2), too_many);
    let steps = word::NAME + 1 + 3;
    assert_eq!(patched(steps, 3), too_many);
    assert_eq!(patched(steps, u32::MAX), too_many);
    assert_eq!(patched(steps, 1), Field("number of episodes"));
}

#[test]
fn what_the_format_cannot_hold_is_not_written() {
    let header = |env, state_dim, act_dim| Header {
        env,
        policy_crc: 0,
        state_dim,
        act_dim,
    };
    let mut tape = Tape::default();
    tape.record(&Transition {
        predicted_return: None,
        observation: &[0.0],
        action: &[0.0],
        reward: 0.0,
        next_observation: &[0.0],
        terminated: false,
        truncated: false,
    });
    let write = |header: Header<'_>, tapes: &[Tape]| {
        emit(&header, tapes.iter().map(|tape| (0, 0.0, tape))).map(|_| ())
    };
    assert_eq!(
        write(header("e", 1, 1), std::slice::from_ref(&tape)),
        Ok(())
    );
    let field = |field| Err(TraceError::Field(field));
    assert_eq!(
        write(header("e", 2, 1), &[tape]),
        field("number of values in a step")
    );
    assert_eq!(write(header("e", 0, 1), &[]), field("state_dim"));
    assert_eq!(write(header("e", 1, 1 << 17), &[]), field("act_dim"));
    assert_eq!(
        write(header(&"e".repeat(1 << 17), 1, 1), &[]),
        field("name length")
    );
}

prop_compose! {
    fn any_trace()(state_dim in 1usize..5, act_dim in 1usize..4)(
        env in "[a-z0-9é-]{0,9}",
        dims in Just((state_dim, act_dim)),
        episodes in prop::collection::vec(
            (any::<u64>(), any::<f32>(), prop::collection::vec(
                (
                    prop::collection::vec(any::<f32>(), state_dim),
                    prop::collection::vec(any::<f32>(), act_dim),
                    any::<f32>(),
                ),
                0..6,
            )),
            0..4,
        ),
    ) -> (String, (usize, usize), Episodes) {
        (env, dims, episodes)
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((env, dims, episodes) in any_trace()) {
        parse(&written(&env, dims, &episodes), |trace| {
            let trace = trace.unwrap();
            assert_eq!(trace.env, env);
            assert_eq!((trace.state_dim, trace.act_dim), dims);
            assert_eq!(trace.policy_crc, 0x1234_5678);
            assert_eq!(read(&trace), episodes);
        });
    }

    /// Reading must end without a panic whatever the bytes are. The CRC would hide everything
    /// behind it, so it is made right.
    #[test]
    fn reading_is_total(
        (env, dims, episodes) in any_trace(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = written(&env, dims, &episodes);
        for (place, value) in &edits {
            let place = place.index(bytes.len());
            bytes[place] = *value;
        }
        let length = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
        if (20..=bytes.len()).contains(&length) {
            let crc = checksum(&bytes[..length]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        bytes[..8].copy_from_slice(MAGIC);
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            parse(bytes, |trace| {
                if let Ok(trace) = trace {
                    assert_eq!(read(&trace).len(), trace.episodes);
                }
            });
        }
    }
}
