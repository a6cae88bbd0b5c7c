//! Host against controller: the images under the emulator, to the bit.
//!
//! Everything goes through `cargo xtask firmware run`, as a user would.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use dt_core::blob::{Choice, RewardMode, Sampling};
use dt_core::config::{Actions, Activation, Config, Dtype, Head, Mixer, Order, Predictions};
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::Plan;
use host_sim::trace;
use serde_json::Value;
use tests::episodes::{self, Recording};
use tests::{Sample, small_config};

const PLAN: Plan = Plan {
    target_return: -200.0,
    episodes: 20,
    seed: 5,
    threads: 0,
};
const STEPS: u64 = 20 * 200;

/// As `--board` and the emulator know them: M4F, M7, M33, M55, and without DSP extension and floating-point unit M3, M0+ and RISC-V.
const BOARDS: [(&str, &str); 7] = [
    ("m4f", "mps2-an386"),
    ("m7", "mps2-an500"),
    ("m33", "mps2-an505"),
    ("m55", "mps3-an547"),
    ("m3", M3),
    ("m0plus", M3),
    ("riscv", "virt"),
];
const M3: &str = "mps2-an385";
const M4F: &str = BOARDS[0].0;

/// Flash in KiB: 1 MiB.
const LARGE: &str = "1024";

/// The images share cargo's build folder.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How an image ended.
struct Ended {
    success: bool,
    /// Its log.
    log: String,
    /// Its last line, if it got that far.
    figures: Option<Value>,
}

impl Ended {
    fn number(&self, field: &str) -> u64 {
        let figures = self
            .figures
            .as_ref()
            .unwrap_or_else(|| panic!("no figures:\n{}", self.log));
        figures[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no {field} in {figures}"))
    }
}

/// Builds an image with the given files in it and runs it to its end.
fn run(
    board: &str,
    bin: &str,
    policy: &PolicyFile,
    arena_words: usize,
    recording: &Recording,
) -> Ended {
    run_within(LARGE, board, bin, policy, arena_words, recording)
}

/// The same in another memory layout, by its flash in KiB.
fn run_within(
    flash: &str,
    board: &str,
    bin: &str,
    policy: &PolicyFile,
    arena_words: usize,
    recording: &Recording,
) -> Ended {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let (file, episodes) = (
        folder.path().join("policy.dtb"),
        folder.path().join("episodes.dtt"),
    );
    let constants =
        format!("/// Of a random policy.\npub const ARENA_WORDS: usize = {arena_words};\n");
    fs::write(&file, policy.bytes()).unwrap();
    fs::write(folder.path().join("policy.rs"), constants).unwrap();
    fs::write(&episodes, recording.bytes()).unwrap();

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["xtask", "firmware", "run", "--board", board, "--bin", bin])
        .args(["--flash", flash])
        .arg("--policy")
        .arg(&file)
        .arg("--recording")
        .arg(&episodes)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let figures = stdout.lines().next_back();
    Ended {
        success: output.status.success(),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
        figures: figures.map(|line| serde_json::from_str(line).unwrap()),
    }
}

fn random_policy(dtype: Dtype, reward: RewardMode) -> PolicyFile {
    episodes::policy(config(dtype), reward, 3)
}

fn config(dtype: Dtype) -> Config {
    let small = Config {
        dtype,
        max_ep_len: 200,
        ..small_config()
    };
    match dtype {
        // A whole group of columns and some more.
        Dtype::Int4 => Config {
            d_model: 40,
            d_ff: 76,
            ..small
        },
        Dtype::Int8 | Dtype::F32 => small,
    }
}

fn arena_words(policy: &PolicyFile) -> usize {
    policy.blob().manifest().config.arena_words()
}

fn flip(value: &mut f32, bits: u32) {
    *value = f32::from_bits(value.to_bits() ^ bits);
}

#[test]
fn not_a_bit_differs_between_host_and_controller() {
    for (dtype, reward) in [
        (Dtype::Int8, RewardMode::Observed),
        (Dtype::Int4, RewardMode::Observed),
        (Dtype::F32, RewardMode::Constant),
    ] {
        let policy = random_policy(dtype, reward);
        let (recording, episodes) = Recording::new(&policy, &PLAN);
        let total: f64 = episodes.iter().map(|episode| episode.total_reward).sum();
        let words = arena_words(&policy);
        for (board, machine) in BOARDS {
            let replay = run(board, "replay", &policy, words, &recording);
            assert_equal(&replay, machine, words);
            // The control loop is the same code on all; without a floating-point unit the plant takes minutes.
            if ["m4f", "m7"].contains(&board) {
                let closed_loop = run(board, "closed_loop", &policy, words, &recording);
                assert_equal(&closed_loop, machine, words);
                let mean_return = &closed_loop.figures.unwrap()["mean_return"];
                assert_eq!(mean_return.as_f64(), Some(total / f64::from(PLAN.episodes)));
            }
        }
    }
}

/// Perceptrons, with and without DSP extension, vectors and floating-point unit; on the M4F with the plant on the controller as
/// well, so that one other bit would be another episode. The image's self-test has their golden records.
#[test]
fn not_a_bit_of_a_perceptron_differs_between_host_and_controller() {
    let perceptron = |dtype, n_layer, context_len| Config {
        dtype,
        // A whole group of columns and some more.
        ..Config::mlp([3, 1], [n_layer, 40], context_len)
    };
    let everywhere: &[&str] = &["m4f", "m55", "m3", "riscv"];
    for (config, boards) in [
        (perceptron(Dtype::Int8, 3, 5), everywhere),
        (perceptron(Dtype::Int4, 3, 1), &["m4f", "m3"]),
        (perceptron(Dtype::F32, 2, 2), &["m4f"]),
    ] {
        let policy = episodes::policy(config, RewardMode::Constant, 3);
        let (recording, episodes) = Recording::new(&policy, &PLAN);
        let total: f64 = episodes.iter().map(|episode| episode.total_reward).sum();
        let words = arena_words(&policy);
        for (board, machine) in BOARDS.iter().filter(|(board, _)| boards.contains(board)) {
            let replay = run(board, "replay", &policy, words, &recording);
            assert_equal(&replay, machine, words);
            if *board == M4F {
                let closed_loop = run(board, "closed_loop", &policy, words, &recording);
                assert_equal(&closed_loop, machine, words);
                let mean_return = &closed_loop.figures.unwrap()["mean_return"];
                assert_eq!(mean_return.as_f64(), Some(total / f64::from(PLAN.episodes)));
            }
        }
    }
    // A controller on which one bit comes out otherwise does not move.
    let int8 = perceptron(Dtype::Int8, 3, 5);
    let spoiled = episodes::policy_with(int8, RewardMode::Constant, 3, |golden| {
        flip(golden.last_mut().unwrap(), 1);
    });
    let (recording, _) = Recording::new(&spoiled, &PLAN);
    let ended = run(M4F, "replay", &spoiled, arena_words(&spoiled), &recording);
    assert!(
        !ended.success && ended.log.contains("Mismatch"),
        "{}",
        ended.log
    );
}

/// Whole episodes of CartPole, in which the policy chooses: the largest logit, or drawn with the episode's seed. The plant is
/// on the controller as well, so that one other choice would be another episode.
#[test]
fn not_a_choice_differs_between_host_and_controller() {
    let config = Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        max_ep_len: 500,
        ..small_config()
    };
    let sampled = Choice::Sampled(Sampling {
        temperature: 0.5,
        top_k: 0,
        seed: 1,
    });
    let spec = host_sim::cartpole::SPEC;
    for choice in [Choice::Greedy, sampled] {
        let sample = Sample {
            choice,
            ..episodes::sample_in(&spec, config, RewardMode::Observed, 3)
        };
        let policy = episodes::proven(&sample, spec.id, 3, |_| {});
        let (recording, episodes) = Recording::new(&policy, &PLAN);
        let mut chosen = [0; 2];
        for record in recording.trace().iter().flat_map(|episode| episode.iter()) {
            chosen[record.action[0] as usize] += 1;
        }
        assert!(chosen[0] > 20 && chosen[1] > 20, "{choice:?}: {chosen:?}");
        let steps: u32 = episodes.iter().map(|episode| episode.length).sum();
        for bin in ["replay", "closed_loop"] {
            let ended = run(M4F, bin, &policy, arena_words(&policy), &recording);
            assert!(ended.success, "{}", ended.log);
            assert_eq!(ended.number("steps"), u64::from(steps));
            assert_eq!(ended.number("differing_bits"), 0);
        }
        // Other draws, as those of other seeds would be, are noticed; a greedy policy draws none.
        let reseeded = recording.reseeded(|seed| seed + 100);
        let ended = run(M4F, "replay", &policy, arena_words(&policy), &reseeded);
        assert_eq!(ended.success, choice == Choice::Greedy, "{}", ended.log);
    }
}

/// The papers' toys on the controller, seen by a policy whose 20 or 75 inputs are zeros and ones.
#[test]
fn not_a_choice_differs_in_the_toys_that_run_on_the_controller() {
    let sampled = Choice::Sampled(Sampling {
        temperature: 1.0,
        top_k: 0,
        seed: 1,
    });
    let plan = Plan {
        target_return: 0.0,
        episodes: 19,
        ..PLAN
    };
    for spec in [host_sim::graph::SPEC, host_sim::key_to_door::SPEC] {
        let config = Config {
            actions: Actions::Discrete,
            head: Head::Linear,
            max_ep_len: spec.max_episode_steps,
            ..small_config()
        };
        let sample = Sample {
            choice: sampled,
            ..episodes::sample_in(&spec, config, RewardMode::Observed, 3)
        };
        let policy = episodes::proven(&sample, spec.id, 3, |_| {});
        let (recording, episodes) = Recording::new(&policy, &plan);
        let steps: u32 = episodes.iter().map(|episode| episode.length).sum();
        let ended = run(
            M4F,
            "closed_loop",
            &policy,
            arena_words(&policy),
            &recording,
        );
        assert!(ended.success, "{}", ended.log);
        assert_eq!(ended.number("steps"), u64::from(steps));
        assert_eq!(ended.number("differing_bits"), 0);
        // The plant's own draws and places as well: another seed's episode is another.
        let reseeded = recording.reseeded(|seed| seed + 1);
        let ended = run(M4F, "closed_loop", &policy, arena_words(&policy), &reseeded);
        assert!(!ended.success, "{}", ended.log);
    }
}

/// Activations and gated linear units, with and without DSP extension, vectors and floating-point unit.
#[test]
fn not_a_bit_differs_with_any_activation_and_head() {
    let gated = |dtype, activation| Config {
        activation,
        glu: true,
        ..config(dtype)
    };
    let linear = Config {
        head: Head::Linear,
        ..gated(Dtype::Int8, Activation::Gelu)
    };
    let four_bits = Config {
        activation: Activation::Silu,
        ..config(Dtype::Int4)
    };
    let everywhere: &[&str] = &["m4f", "m33", "m55", "m3"];
    for (config, boards) in [
        (linear, everywhere),
        (four_bits, everywhere),
        (gated(Dtype::F32, Activation::Tanh), &["m4f"]),
    ] {
        let policy = episodes::policy(config, RewardMode::Observed, 3);
        let (recording, _) = Recording::new(&policy, &PLAN);
        let words = arena_words(&policy);
        for (board, machine) in BOARDS.iter().filter(|(board, _)| boards.contains(board)) {
            assert_equal(
                &run(board, "replay", &policy, words, &recording),
                machine,
                words,
            );
        }
    }
}

/// Heads that predict states and returns: what the host predicted is in the golden records, and a controller that predicts one bit
/// of it otherwise does not move.
#[test]
fn not_a_bit_differs_in_what_is_predicted() {
    let predicting = |dtype| Config {
        predictions: Predictions {
            state: true,
            return_to_go: true,
        },
        ..config(dtype)
    };
    let everywhere: &[&str] = &["m4f", "m33", "m55", "m3"];
    for (dtype, boards) in [
        (Dtype::Int8, everywhere),
        (Dtype::Int4, &["m4f"]),
        (Dtype::F32, &["m4f"]),
    ] {
        let policy = episodes::policy(predicting(dtype), RewardMode::Observed, 3);
        let (recording, _) = Recording::new(&policy, &PLAN);
        let words = arena_words(&policy);
        for (board, machine) in BOARDS.iter().filter(|(board, _)| boards.contains(board)) {
            let ended = run(board, "replay", &policy, words, &recording);
            assert_equal(&ended, machine, words);
        }
    }
    let asking = |dtype, reward| {
        let state_first = Config {
            predictions: Predictions {
                state: false,
                return_to_go: true,
            },
            order: Order::StateFirst,
            ..config(dtype)
        };
        episodes::policy(state_first, reward, 3)
    };
    // States first: of what they predict, and of what somebody else wants.
    for (dtype, reward) in [
        (Dtype::Int8, RewardMode::Predicted),
        (Dtype::Int8, RewardMode::Observed),
        (Dtype::F32, RewardMode::Predicted),
    ] {
        let policy = asking(dtype, reward);
        let (recording, _) = Recording::new(&policy, &PLAN);
        let words = arena_words(&policy);
        let ended = run(M4F, "replay", &policy, words, &recording);
        assert_equal(&ended, BOARDS[0].1, words);
    }
    // Without attention.
    for dtype in [Dtype::Int8, Dtype::Int4] {
        let convolved = Config {
            mixer: Mixer::Convolution,
            n_head: 1,
            ..config(dtype)
        };
        let policy = episodes::policy(convolved, RewardMode::Observed, 3);
        let (recording, _) = Recording::new(&policy, &PLAN);
        let words = arena_words(&policy);
        let ended = run(M4F, "replay", &policy, words, &recording);
        assert_equal(&ended, BOARDS[0].1, words);
    }
    let spoiled =
        episodes::policy_with(predicting(Dtype::Int8), RewardMode::Observed, 3, |golden| {
            // The return predicted at the last step.
            flip(golden.last_mut().unwrap(), 1);
        });
    let (recording, _) = Recording::new(&spoiled, &PLAN);
    let ended = run(M4F, "replay", &spoiled, arena_words(&spoiled), &recording);
    assert!(
        !ended.success && ended.log.contains("Prediction"),
        "{}",
        ended.log
    );
}

/// MuJoCo stays on the host: a whole episode of HalfCheetah, and policies in f32 whose memory no such controller has.
#[cfg(feature = "mujoco")]
#[test]
fn not_a_bit_differs_in_mujoco_episodes() {
    let config = |dtype, context_len| Config {
        dtype,
        context_len,
        max_ep_len: 1000,
        ..small_config()
    };
    for (env, config, flash, steps) in [
        ("halfcheetah", config(Dtype::Int8, 5), LARGE, 1000),
        ("reacher", config(Dtype::F32, 250), "4096", 2 * 50),
    ] {
        let plant = host_sim::make(env).unwrap();
        let reward = RewardMode::Observed;
        let policy = episodes::policy_in(&plant.spec(), config, reward, 3, |_| {});
        let plan = Plan {
            episodes: steps / plant.spec().max_episode_steps,
            ..PLAN
        };
        let (recording, _) = Recording::new(&policy, &plan);
        for bit in [0, 1] {
            let altered = recording.altered(|_, step, action| {
                if step + 1 == plant.spec().max_episode_steps as usize {
                    flip(action.last_mut().unwrap(), bit);
                }
            });
            let ended = run_within(
                flash,
                M4F,
                "replay",
                &policy,
                arena_words(&policy),
                &altered,
            );
            assert_eq!(ended.number("steps"), u64::from(steps), "{}", ended.log);
            assert_eq!(
                ended.number("differing_bits"),
                u64::from(bit * plan.episodes),
                "{}",
                ended.log
            );
            assert_eq!(ended.success, bit == 0, "{}", ended.log);
        }
    }
}

fn assert_equal(ended: &Ended, machine: &str, arena_words: usize) {
    assert!(ended.success, "{}", ended.log);
    assert_eq!(ended.number("steps"), STEPS);
    assert_eq!(ended.number("differing_bits"), 0);
    assert_eq!(ended.number("arena_bytes"), 4 * arena_words as u64);
    let cost = ["min", "per_step", "max"].map(|f| ended.number(&format!("instructions_{f}")));
    assert!(
        0 < cost[0] && cost[0] < cost[1] && cost[1] <= cost[2],
        "{cost:?}"
    );
    assert_eq!(ended.figures.as_ref().unwrap()["board"], machine);
}

#[test]
fn every_altered_bit_is_found() {
    let policy = random_policy(Dtype::Int8, RewardMode::Observed);
    let (recording, _) = Recording::new(&policy, &PLAN);
    // In the replay the last actions only, since the policy is told the recorded ones.
    let last = recording.altered(|episode, step, action| {
        if step == 199 && episode % 10 == 3 {
            flip(&mut action[0], 0b1011);
        }
    });
    let middle = recording.altered(|episode, step, action| {
        if step == 100 && episode == 19 {
            flip(&mut action[0], 1 << 31);
        }
    });
    for (bin, recording, bits) in [("replay", last, 6), ("closed_loop", middle, 1)] {
        let ended = run(M4F, bin, &policy, arena_words(&policy), &recording);
        assert!(!ended.success);
        assert_eq!(ended.number("differing_bits"), bits, "{}", ended.log);
        assert_eq!(ended.number("steps"), STEPS);
    }
}

/// Whatever is wrong with what an image carries, it says so and does nothing.
#[test]
fn a_controller_that_cannot_trust_its_policy_refuses_to_move() {
    let policy = random_policy(Dtype::Int8, RewardMode::Observed);
    let words = arena_words(&policy);
    let one = Plan {
        episodes: 1,
        ..PLAN
    };
    let (recording, _) = Recording::new(&policy, &one);

    let blob = policy.blob();
    let (record, config) = (blob.manifest().golden_record_len(), blob.manifest().config);
    let mistaken = episodes::policy_with(config, RewardMode::Observed, 3, |golden| {
        flip(&mut golden[13 * record - 1], 1); // the expected action of step 12
    });
    let other = random_policy(Dtype::F32, RewardMode::Observed);
    let wider = trace::Header {
        env: "pendulum",
        policy_crc: policy.crc(),
        state_dim: 4,
        act_dim: 1,
    };
    let wider = Recording::emit(&wider, []);
    let cases = [
        (
            &mistaken,
            words,
            &recording,
            "self-test failed: Mismatch { step: 12, index: 0,".to_owned(),
        ),
        (
            &policy,
            words - 1,
            &recording,
            format!("needed: {words}, have: {}", words - 1),
        ),
        (
            &other,
            arena_words(&other),
            &recording,
            "recorded with another policy".to_owned(),
        ),
        (
            &policy,
            words,
            &wider,
            "the policy has states of length 3 and actions of length 1, the recorded episodes 4 and 1".to_owned(),
        ),
    ];
    for (policy, words, recording, reason) in cases {
        let ended = run(M4F, "closed_loop", policy, words, recording);
        assert!(!ended.success && ended.figures.is_none());
        assert!(
            ended.log.contains(&reason),
            "{reason} is missing in:\n{}",
            ended.log
        );
        assert!(ended.log.contains("refusing to move"), "{}", ended.log);
    }
}

#[test]
fn overflowing_the_stack_faults() {
    let policy = random_policy(Dtype::Int8, RewardMode::Observed);
    let one = Plan {
        episodes: 1,
        ..PLAN
    };
    let (recording, _) = Recording::new(&policy, &one);
    for board in [M4F, "m0plus", "m33", "m55", "riscv"] {
        let words = arena_words(&policy);
        let ended = run(board, "stack_overflow", &policy, words, &recording);
        assert!(!ended.success);
        assert!(ended.log.contains("ERROR stack overflow"), "{}", ended.log);
    }
}
