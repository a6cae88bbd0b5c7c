//! Writes small policies with random weights, for the tests of the Python package and of the emulated Pico.
//!
//! Usage: `policies FOLDER`; `cargo xtask python` runs this. Of each kind there is one that acts on the pendulum, and one
//! for each of two MuJoCo robots, one of each kind that needs a feature of `dt-core`, one that draws its choices on CartPole, and three quick ones; every file has golden vectors.

use std::path::PathBuf;

use dt_core::blob::{Choice, RewardMode, Sampling};
use dt_core::config::{
    Actions, Attention, Config, Dtype, Embeddings, Head, Mixer, Order, Predictions,
};
use host_sim::policy_file::PolicyFile;
use tests::{Sample, episodes, small_config, small_perceptron};

fn main() {
    let folder: PathBuf = std::env::args_os()
        .nth(1)
        .expect("usage: policies FOLDER")
        .into();
    let streaming = Config {
        dtype: Dtype::Int8,
        attention: Attention::Streaming,
        ..small_config()
    };
    let window = Config {
        dtype: Dtype::F32,
        attention: Attention::Window,
        ..streaming
    };
    let int4 = Config {
        dtype: Dtype::Int4,
        ..streaming
    };
    let convolved = Config {
        mixer: Mixer::Convolution,
        n_head: 1,
        ..streaming
    };
    let state_first = Config {
        order: Order::StateFirst,
        predictions: Predictions {
            state: false,
            return_to_go: true,
        },
        ..streaming
    };
    let placed = Config {
        attention: Attention::Window,
        embeddings: Embeddings::ATARI,
        ..streaming
    };
    let policies = [
        ("pendulum", "pendulum", streaming, RewardMode::Observed),
        ("constant", "pendulum", streaming, RewardMode::Constant),
        ("external", "pendulum", streaming, RewardMode::External),
        ("window", "pendulum", window, RewardMode::Observed),
        ("int4", "pendulum", int4, RewardMode::Observed),
        ("hopper", "hopper", streaming, RewardMode::Observed),
        (
            "halfcheetah",
            "halfcheetah",
            streaming,
            RewardMode::Observed,
        ),
        (
            "perceptron",
            "pendulum",
            small_perceptron(),
            RewardMode::Observed,
        ),
        ("convolved", "pendulum", convolved, RewardMode::Observed),
        (
            "state_first",
            "pendulum",
            state_first,
            RewardMode::Predicted,
        ),
        ("placed", "pendulum", placed, RewardMode::Observed),
    ];
    let write = |name: &str, file: &PolicyFile| {
        let path = folder.join(name).with_extension("dtb");
        std::fs::write(&path, file.bytes()).expect("a folder to write to");
    };
    for (seed, (name, env, config, reward)) in (0..).zip(policies) {
        let env = host_sim::make(env).expect("an environment");
        let file = episodes::policy_in(&env.spec(), config, reward, seed, |_| {});
        write(name, &file);
    }
    let choosing = Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        ..streaming
    };
    let spec = host_sim::cartpole::SPEC;
    let sample = Sample {
        choice: Choice::Sampled(Sampling {
            temperature: 1.0,
            top_k: 0,
            seed: 1,
        }),
        ..episodes::sample_in(&spec, choosing, RewardMode::Observed, 3)
    };
    write("choices", &episodes::proven(&sample, spec.id, 3, |_| {}));

    // As quick as can be, for one robot: an emulated Pico tries one after the other.
    let quick = Config {
        state_dim: 2,
        act_dim: 1,
        d_model: 4,
        n_layer: 1,
        n_head: 1,
        d_ff: 4,
        context_len: 2,
        max_ep_len: 0,
        ..streaming
    };
    for seed in 0..3 {
        let sample = Sample::random(quick, seed);
        let file = episodes::proven(&sample, "nowhere", seed, |_| {});
        write(&format!("quick{seed}"), &file);
    }
}
