//! Golden vectors: recorded once, then any difference is found; and the constants that go with them.

use dt_core::config::{Attention, Config, Dtype};
use dt_core::golden::{self, SelfTestError};
use dt_core::policy::Policy;
use host_sim::policy_file::PolicyFile;
use tests::{Random, Sample, small_config};

/// `data/policy.rs`, as `dt-train export` writes it (its tests compare), in a controller's place.
mod exported {
    include!("../data/policy.rs");
}

#[test]
fn exported_constants_size_a_static_arena() {
    const { assert!(exported::ARENA_WORDS == exported::CONFIG.arena_words()) };
    let file = Sample::random(exported::CONFIG, 1).emit();
    let policy = Policy::new(&file.blob(), [0; exported::ARENA_WORDS]);
    assert_eq!(policy.unwrap().config(), &exported::CONFIG);
    let needed = exported::ARENA_WORDS;
    let error = Policy::new(&file.blob(), vec![0; needed - 1])
        .err()
        .unwrap();
    assert_eq!((error.needed, error.have), (needed, needed - 1));
}

#[test]
fn recorded_vectors_pass_and_any_other_weight_fails() {
    for (attention, dtype) in [
        (Attention::Streaming, Dtype::Int8),
        (Attention::Streaming, Dtype::F32),
        (Attention::Streaming, Dtype::Int4),
        (Attention::Window, Dtype::Int8),
        (Attention::Window, Dtype::F32),
    ] {
        let config = Config {
            attention,
            dtype,
            ..small_config()
        };
        let steps = 2 * config.context_len as usize + 3;
        let sample = Sample::random(config, 11);
        let golden = record(&sample, steps);
        let file = with_golden(&sample, &golden);
        assert_eq!(golden::check(&mut policy(&file), &file.blob()), Ok(steps));

        // More than a step of any grid.
        let mut other = sample.clone();
        let weight = &mut other.tensors.get_mut("layers.1.attn_qkv.weight").unwrap()[7];
        *weight += 0.3;
        let file = with_golden(&other, &golden);
        let error = golden::check(&mut policy(&file), &file.blob()).unwrap_err();
        assert!(
            matches!(error, SelfTestError::Mismatch { .. }),
            "{attention:?} {dtype:?}: {error}"
        );
    }
}

#[test]
fn a_policy_without_vectors_does_not_pass() {
    let file = Sample::random(small_config(), 12).emit();
    assert_eq!(
        golden::check(&mut policy(&file), &file.blob()),
        Err(SelfTestError::Empty)
    );
}

fn with_golden(sample: &Sample, golden: &[f32]) -> PolicyFile {
    let mut manifest = sample.manifest();
    manifest.golden_steps = u32::try_from(golden.len() / manifest.golden_record_len()).unwrap();
    sample.emit_as(&manifest, golden)
}

/// Records with random inputs, and expected actions by the policy itself.
fn record(sample: &Sample, steps: usize) -> Vec<f32> {
    let mut random = Random::new(13);
    let (state_dim, act_dim) = (
        sample.config.state_dim as usize,
        sample.config.act_dim as usize,
    );
    let mut records = Vec::new();
    for _ in 0..steps {
        records.extend(random.around(30.0, 10.0, 1));
        records.extend(random.around(0.0, 1.0, state_dim));
        records.extend(random.around(0.0, 1.0, act_dim));
        records.extend(vec![0.0; act_dim]);
    }
    let file = sample.emit();
    golden::record(&mut policy(&file), &file.blob(), &mut records).unwrap();
    records
}

fn policy(file: &PolicyFile) -> Policy<'_, Vec<u32>> {
    let blob = file.blob();
    Policy::new(&blob, vec![0; blob.manifest().config.arena_words()]).unwrap()
}
