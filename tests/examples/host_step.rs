//! Times control steps of a recorded network on this machine, as an int8 and an int4 streaming policy.
//!
//! Usage: `host_step FILE STEPS`, with a file of `reference/dt_torch.py`'s format in which the
//! sequence `streaming` was computed with banded attention and `window` by recomputing the last K
//! steps. Prints the median and the quickest time of a fused step in microseconds, and how far the
//! actions of the policies timed, and of the same weights in f32 with a window, are from torch's.
//! `benches/host_step.py` runs this, in turns with the others it compares; built with `DT_KERNELS=avx2`,
//! it is one of those.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use dt_core::Policy;
use dt_core::config::{Attention, Config, Dtype};
use host_sim::policy_file::PolicyFile;
use tests::Sample;
use tests::recorded::{Recorded, Sequence};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(Ok(steps))) = (arguments.next(), arguments.next().map(|n| n.parse()))
    else {
        panic!("usage: host_step FILE STEPS");
    };
    let recorded = Recorded::load(Path::new(&file));
    let policy = |dtype, attention| {
        let config = Config {
            dtype,
            attention,
            ..recorded.sample.config
        };
        let tensors = recorded.sample.tensors.clone();
        Sample::new(config, tensors).emit()
    };
    let [streaming, window] =
        ["streaming", "window"].map(|name| recorded.sequences(name).remove(0));

    let timed = |dtype| {
        let file = policy(dtype, Attention::Streaming);
        // Also warms up.
        let difference = largest_difference(&streaming, &file);
        let (median, quickest) = step_times(&file, &streaming, steps);
        serde_json::json!({
            "median_us": median,
            "quickest_us": quickest,
            "difference": difference,
        })
    };
    let of_window = largest_difference(&window, &policy(Dtype::F32, Attention::Window));
    let result = serde_json::json!({
        "int8": timed(Dtype::Int8),
        "int4": timed(Dtype::Int4),
        "f32_window_difference": of_window,
    });
    println!("{result}");
}

/// Microseconds that `act`, `absorb` and `observe_reward` take once the ring is full: median and quickest.
fn step_times(file: &PolicyFile, sequence: &Sequence, steps: usize) -> (f64, f64) {
    let blob = file.blob();
    let config = blob.manifest().config;
    let mut policy = Policy::new(&blob, vec![0; config.arena_words()]).expect("room enough");
    policy.reset(1.0).expect("a finite target");
    let full = config.context_len as usize;
    let mut applied = vec![0.0; config.act_dim as usize];
    let times = sequence.states.iter().cycle().take(full + steps);
    let mut times: Vec<f64> = times
        .map(|state| {
            let start = Instant::now();
            applied.copy_from_slice(policy.act(black_box(state)).expect("a finite action"));
            policy.absorb(black_box(&applied)).expect("in turn");
            policy.observe_reward(1e-3).expect("in turn");
            start.elapsed().as_secs_f64() * 1e6
        })
        .skip(full)
        .collect();
    times.sort_by(f64::total_cmp);
    (times[steps / 2], times[0])
}

/// Between the engine's actions and torch's, in normalized units.
fn largest_difference(sequence: &Sequence, file: &PolicyFile) -> f32 {
    let actions = sequence
        .run(file)
        .into_iter()
        .flat_map(|(action, _)| action);
    let expected = sequence.expected.iter().flatten();
    let differences = actions.zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |most, d| if d > most { d } else { most })
}
