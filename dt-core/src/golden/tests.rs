use super::*;
use crate::config::Actions;
use crate::config::Config;
use crate::fixture::{Fixture, Random, applied, arena, bytes, config, configs};

fn with_golden(config: Config) -> Vec<u128> {
    let mut fixture = Fixture::new(config, 6);
    let records = 2 * config.context_len + 3;
    fixture.manifest.golden_steps = records;
    let mut random = Random::new(8);
    let len = records as usize * fixture.manifest.golden_record_len();
    fixture.golden = random.vector(len, 2.0);
    let action = 1 + config.state_dim as usize;
    for record in fixture.golden.chunks_exact_mut(len / records as usize) {
        record[action] = applied(&config, &mut random);
    }
    let file = fixture.emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut policy = Policy::new(&blob, arena(&config)).unwrap();
    record(&mut policy, &blob, &mut fixture.golden).unwrap();
    fixture.emit().unwrap()
}

#[test]
fn golden_vectors_come_out_to_the_bit_or_name_the_step() {
    for config in configs() {
        let file = with_golden(config);
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config)).unwrap();
        let steps = 2 * config.context_len as usize + 3;
        assert_eq!(check(&mut policy, &blob), Ok(steps));
        // Again, in the middle of an episode.
        assert_eq!(check(&mut policy, &blob), Ok(steps));

        // With another key, which stays the policy's.
        policy.set_seed(99);
        assert_eq!(check(&mut policy, &blob), Ok(steps));
        assert_eq!(policy.seed(), 99);

        let record = blob.manifest().golden_record_len();
        let error = |policy: &mut Policy<'_, Vec<u32>>, value: usize| {
            let mut off = blob.golden().to_vec();
            let expected = &mut off[4 * record + value];
            *expected = f32::from_bits(expected.to_bits() ^ 1);
            check(policy, &blob.with_golden(&off)).unwrap_err()
        };
        let action = 2 + config.state_dim as usize;
        let mismatch = error(&mut policy, action);
        assert!(
            matches!(
                mismatch,
                SelfTestError::Mismatch {
                    step: 4,
                    index: 0,
                    ..
                }
            ),
            "{mismatch}"
        );
        if config.actions == Actions::Discrete {
            for logit in 0..3 {
                let differs = error(&mut policy, action + 1 + logit);
                let SelfTestError::Logit { step: 4, index, .. } = differs else {
                    panic!("{differs}")
                };
                assert_eq!(index, logit);
            }
        }
        let predictions = action + 1 + config.logits_len() as usize;
        assert_eq!(record, predictions + config.predictions_len() as usize);
        for index in 0..config.predictions_len() as usize {
            let differs = error(&mut policy, predictions + index);
            let SelfTestError::Prediction {
                step: 4, index: of, ..
            } = differs
            else {
                panic!("{differs}")
            };
            assert_eq!(of, index);
        }
    }
    let file = Fixture::new(config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut policy = Policy::new(&blob, arena(&config())).unwrap();
    assert_eq!(check(&mut policy, &blob), Err(SelfTestError::Empty));
}

/// Runs `probe` with other bits in the SSE unit's control register.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the control register")]
fn in_mode(bits: u32, probe: fn() -> Result<(), Deviation>) -> Result<(), Deviation> {
    use core::arch::asm;
    let mut before = 0u32;
    // SAFETY: stores the register, and restores it before anything else computes with floats.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut before) };
    let changed = before | bits;
    // SAFETY: as above.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const changed) };
    let found = black_box(probe)();
    // SAFETY: as above.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const before) };
    found
}

#[test]
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn every_other_floating_point_mode_is_found() {
    assert_eq!(in_mode(0, check_arithmetic), Ok(()));
    for (bits, deviation) in [
        (1 << 15, Deviation::FlushesResults),
        (1 << 6, Deviation::FlushesInputs),
        (0b01 << 13, Deviation::Rounding),
        (0b10 << 13, Deviation::Rounding),
        (0b11 << 13, Deviation::Rounding),
    ] {
        assert_eq!(in_mode(bits, check_arithmetic), Err(deviation), "{bits:#x}");
    }
}
