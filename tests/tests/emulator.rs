//! The engine against the NumPy emulator of the numerics contract: not one bit may differ.
//!
//! The emulator (`reference/dt_numpy.py`) was written from `dt-core/BLOB.md`, not from the engine.

use std::io::Write;
use std::process::Stdio;

use dt_core::blob::{BeyondLimits, Choice, ReturnLimits, RewardMode, Sampling};
use dt_core::config::{
    Actions, Activation, Attention, Config, Convolution, Dtype, Embeddings, Encoder, Head,
    ImageEncoder, MAX_CONVOLUTIONS, Math, Mixer, Order, Predictions,
};
use dt_core::policy::Policy;
use dt_core::unstable::ops;
use serde_json::{Value, json};
use tests::{Random, Sample, python, small_config, small_perceptron, smallest_spread};

const STEPS: usize = 200;

#[test]
fn int8_streaming() {
    assert_emulated(small_config(), RewardMode::Observed, 1);
}

#[test]
fn int8_streaming_with_odd_sizes() {
    let config = Config {
        // Neither whole words of columns nor whole pairs of rows.
        state_dim: 5,
        act_dim: 3,
        d_model: 20,
        n_layer: 3,
        n_head: 1,
        d_ff: 36,
        context_len: 8,
        max_ep_len: 0,
        activation: Activation::GeluTanh,
        head: Head::Linear,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Constant, 2);
}

#[test]
fn int8_window() {
    let config = Config {
        attention: Attention::Window,
        n_head: 4,
        ..small_config()
    };
    assert_emulated(config, RewardMode::External, 3);
}

#[test]
fn int4_streaming() {
    let config = Config {
        dtype: Dtype::Int4,
        // A whole group of columns and some more.
        d_model: 40,
        d_ff: 76,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Observed, 8);
}

#[test]
fn int4_window() {
    let config = Config {
        dtype: Dtype::Int4,
        attention: Attention::Window,
        n_head: 4,
        activation: Activation::GeluTanh,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Constant, 9);
}

#[test]
fn f32_streaming() {
    let config = Config {
        dtype: Dtype::F32,
        d_model: 20,
        n_head: 1,
        activation: Activation::GeluTanh,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Observed, 4);
}

#[test]
fn f32_window() {
    let config = Config {
        dtype: Dtype::F32,
        attention: Attention::Window,
        head: Head::Linear,
        max_ep_len: 0,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Constant, 5);
}

/// The episode begins above the limits and ends below them.
#[test]
fn int8_with_a_clamped_return_to_go() {
    for beyond in [BeyondLimits::Clamp, BeyondLimits::Fault] {
        let limits = ReturnLimits {
            low: 0.0,
            high: 35.0,
            beyond,
        };
        assert_emulated_over(
            STEPS,
            Some(limits),
            small_config(),
            RewardMode::Observed,
            13,
        );
    }
}

#[test]
fn int8_folded() {
    let config = Config {
        mixer: Mixer::Folded,
        n_head: 1,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Observed, 10);
}

#[test]
fn int8_folded_window_with_odd_sizes() {
    let config = Config {
        mixer: Mixer::Folded,
        attention: Attention::Window,
        state_dim: 5,
        act_dim: 3,
        d_model: 20,
        n_layer: 3,
        n_head: 1,
        d_ff: 36,
        context_len: 8,
        max_ep_len: 0,
        activation: Activation::GeluTanh,
        math: Math::Libm,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Constant, 11);
}

#[test]
fn int4_folded() {
    let config = Config {
        mixer: Mixer::Folded,
        n_head: 1,
        dtype: Dtype::Int4,
        d_model: 40,
        d_ff: 76,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Observed, 12);
}

#[test]
fn f32_folded() {
    let config = Config {
        mixer: Mixer::Folded,
        n_head: 1,
        dtype: Dtype::F32,
        activation: Activation::GeluTanh,
        ..small_config()
    };
    assert_emulated(config, RewardMode::External, 13);
}

#[test]
fn int8_with_libm() {
    let config = Config {
        math: Math::Libm,
        activation: Activation::GeluTanh,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Observed, 14);
}

#[test]
fn int8_with_micromath() {
    let config = Config {
        math: Math::Micromath,
        activation: Activation::GeluTanh,
        ..small_config()
    };
    assert_emulated(config, RewardMode::Observed, 7);
}

/// The first of the largest logits.
#[test]
fn int8_greedy_choices() {
    assert_emulated(choosing(), RewardMode::Observed, 20);
}

/// Drawn, with each source of exp, few and all to choose from; with seeds of more than 32 bits.
#[test]
fn sampled_choices() {
    for (math, top_k, seed) in [
        (Math::Polynomial, 0, 1 << 40),
        (Math::Polynomial, 3, 5),
        (Math::Libm, 4, u64::MAX),
        (Math::Micromath, 0, 7),
    ] {
        let config = Config { math, ..choosing() };
        let sample = Sample {
            choice: Choice::Sampled(Sampling {
                temperature: 0.7,
                top_k,
                seed,
            }),
            ..Sample::random(config, 21)
        };
        assert_sample_emulated(STEPS, &sample, 21);
    }
}

#[test]
fn int4_window_sampled_choices() {
    let config = Config {
        dtype: Dtype::Int4,
        attention: Attention::Window,
        n_head: 4,
        ..choosing()
    };
    let sample = Sample {
        reward: RewardMode::Constant,
        choice: Choice::Sampled(Sampling {
            temperature: 1.5,
            top_k: 0,
            seed: 3,
        }),
        ..Sample::random(config, 22)
    };
    assert_sample_emulated(STEPS, &sample, 22);
}

fn choosing() -> Config {
    Config {
        actions: Actions::Discrete,
        act_dim: 5,
        head: Head::Linear,
        ..small_config()
    }
}

/// Next states, returns-to-go and both, in every dtype; streaming, window, folded; where actions are chosen, and behind a gated
/// linear unit, which is not theirs. A window of one timestep predicts nothing.
#[test]
fn predicted_states_and_returns() {
    let [both, state, critic] =
        [(true, true), (true, false), (false, true)].map(|(state, critic)| Predictions {
            state,
            return_to_go: critic,
        });
    let window = |config| Config {
        attention: Attention::Window,
        n_head: 4,
        ..config
    };
    let dtype = |dtype| Config {
        dtype,
        ..small_config()
    };
    let folded = Config {
        mixer: Mixer::Folded,
        n_head: 1,
        ..small_config()
    };
    let gated = Config {
        glu: true,
        ..small_config()
    };
    let short = |config| Config {
        context_len: 1,
        ..config
    };
    for (turn, (predictions, config)) in [
        (both, small_config()),
        (state, small_config()),
        (critic, small_config()),
        (both, window(small_config())),
        (critic, window(dtype(Dtype::F32))),
        (both, dtype(Dtype::F32)),
        (both, dtype(Dtype::Int4)),
        (state, window(dtype(Dtype::Int4))),
        (both, folded),
        (both, gated),
        (both, choosing()),
        (both, short(small_config())),
        (both, window(short(small_config()))),
    ]
    .into_iter()
    .enumerate()
    {
        let config = Config {
            predictions,
            ..config
        };
        let reward = [RewardMode::Observed, RewardMode::Constant][turn % 2];
        assert_emulated_over(60, None, config, reward, 40 + turn as u64);
    }
}

/// States first, in every dtype, streaming, window and folded, where actions are chosen and states are images; asking for what
/// is predicted, within limits and without, and for what somebody else wants.
#[test]
fn returns_that_states_predict() {
    let [int8, int4, f32] = [Dtype::Int8, Dtype::Int4, Dtype::F32].map(|dtype| Config {
        dtype,
        predictions: Predictions {
            state: false,
            return_to_go: true,
        },
        order: Order::StateFirst,
        ..small_config()
    });
    let window = |config| Config {
        attention: Attention::Window,
        n_head: 4,
        ..config
    };
    let choosing = Config {
        predictions: int8.predictions,
        order: int8.order,
        ..choosing()
    };
    let folded = Config {
        mixer: Mixer::Folded,
        n_head: 1,
        ..int8
    };
    let short = Config {
        context_len: 1,
        ..int8
    };
    let limits = |beyond| ReturnLimits {
        low: -5.0,
        high: 9.0,
        beyond,
    };
    let (clamp, fault) = (limits(BeyondLimits::Clamp), limits(BeyondLimits::Fault));
    use RewardMode::*;
    for (seed, (config, reward, limits)) in (240..).zip([
        (int8, Predicted, None),
        (int8, Predicted, Some(clamp)),
        (int8, Predicted, Some(fault)),
        (int8, Observed, None),
        (int8, External, None),
        (int4, Predicted, None),
        (f32, Predicted, None),
        (folded, Predicted, Some(clamp)),
        (choosing, Predicted, None),
        (short, Predicted, None),
        (window(int8), Predicted, Some(clamp)),
        (window(int4), Predicted, None),
        (window(f32), Constant, None),
        (window(short), Predicted, None),
    ]) {
        assert_emulated_over(60, limits, config, reward, seed);
    }
    let image = ImageEncoder {
        height: 5,
        width: 5,
        channels: 2,
        convolutions: [
            Convolution {
                filters: 4,
                kernel: 3,
                stride: 1,
            },
            Convolution::NONE,
            Convolution::NONE,
        ],
    };
    for (seed, config) in (260..).zip([int8, window(int8)]) {
        let config = Config {
            state_dim: image.pixels(),
            encoder: Encoder::Image(image),
            ..config
        };
        assert_emulated_over(60, None, config, Predicted, seed);
    }
}

/// Convolutions over tokens, in every dtype, streaming and window, with what is predicted and asked for besides.
#[test]
fn tokens_that_are_convolved() {
    let [int8, int4, f32] = [Dtype::Int8, Dtype::Int4, Dtype::F32].map(|dtype| Config {
        dtype,
        mixer: Mixer::Convolution,
        n_head: 1,
        ..small_config()
    });
    let window = |config| Config {
        attention: Attention::Window,
        ..config
    };
    let gated = Config { glu: true, ..int8 };
    let short = Config {
        context_len: 1,
        ..int8
    };
    let predicting = Config {
        predictions: Predictions {
            state: true,
            return_to_go: true,
        },
        ..int8
    };
    let state_first = Config {
        predictions: Predictions {
            state: false,
            return_to_go: true,
        },
        order: Order::StateFirst,
        ..int8
    };
    use RewardMode::*;
    for (seed, (config, reward)) in (280..).zip([
        (int8, Observed),
        (int4, External),
        (f32, Constant),
        (gated, Observed),
        (short, Observed),
        (predicting, Observed),
        (state_first, Predicted),
        (window(int8), Observed),
        (window(f32), Observed),
        (window(short), Observed),
        (window(state_first), Predicted),
    ]) {
        assert_emulated_over(60, None, config, reward, seed);
    }
}

/// Perceptrons in every dtype, of one state and of several, with one hidden layer and more, every activation and mathematics; of
/// odd sizes, and more columns than a part of the int4 kernel has.
#[test]
fn perceptrons() {
    let plain = small_perceptron();
    let odd = Config {
        state_dim: 5,
        act_dim: 3,
        d_ff: 36,
        ..plain
    };
    for (turn, config) in [
        plain,
        odd,
        Config {
            context_len: 1,
            ..odd
        },
        Config {
            n_layer: 1,
            context_len: 1,
            ..plain
        },
        Config {
            dtype: Dtype::Int4,
            ..plain
        },
        Config {
            dtype: Dtype::Int4,
            state_dim: 5,
            d_ff: 1100,
            n_layer: 2,
            context_len: 20,
            ..plain
        },
        Config {
            dtype: Dtype::F32,
            ..odd
        },
        Config {
            dtype: Dtype::F32,
            n_layer: 1,
            context_len: 1,
            head: Head::Linear,
            ..plain
        },
    ]
    .into_iter()
    .enumerate()
    {
        let reward = [RewardMode::Constant, RewardMode::Observed][turn % 2];
        assert_emulated(config, reward, 170 + turn as u64);
    }
    let maths = [Math::Polynomial, Math::Libm, Math::Micromath];
    for (turn, activation) in ACTIVATIONS.into_iter().enumerate() {
        let config = Config {
            activation,
            math: maths[turn % 3],
            dtype: [Dtype::Int8, Dtype::Int4, Dtype::F32][turn / 2],
            ..plain
        };
        assert_emulated(config, RewardMode::Constant, 80 + turn as u64);
    }
}

/// Perceptrons that choose, the largest logit and drawn.
#[test]
fn choosing_perceptrons() {
    for (dtype, k, choice) in [
        (Dtype::Int8, 5, Choice::Greedy),
        (
            Dtype::Int8,
            1,
            Choice::Sampled(Sampling {
                temperature: 0.7,
                top_k: 3,
                seed: 9,
            }),
        ),
        (Dtype::F32, 2, Choice::Greedy),
    ] {
        let config = Config {
            dtype,
            actions: Actions::Discrete,
            act_dim: 5,
            head: Head::Linear,
            context_len: k,
            ..small_perceptron()
        };
        let sample = Sample {
            choice,
            ..Sample::random(config, 90)
        };
        assert_sample_emulated(STEPS, &sample, 90);
    }
}

#[test]
fn int8_with_every_activation_and_head() {
    every_activation_and_head(Dtype::Int8);
}

#[test]
fn int4_with_every_activation_and_head() {
    every_activation_and_head(Dtype::Int4);
}

#[test]
fn f32_with_every_activation_and_head() {
    every_activation_and_head(Dtype::F32);
}

/// Every activation with every mathematics, with and without a gated linear unit, in turn streaming, window and folded.
fn every_activation_and_head(dtype: Dtype) {
    const FEWER_STEPS: usize = 30;
    let mut turn = dtype as usize;
    for math in [Math::Polynomial, Math::Libm, Math::Micromath] {
        for activation in ACTIVATIONS {
            let (attention, mixer, n_head) = [
                (Attention::Streaming, Mixer::Attention, 2),
                (Attention::Window, Mixer::Folded, 1),
                (Attention::Streaming, Mixer::Folded, 1),
                (Attention::Window, Mixer::Attention, 4),
            ][turn % 4];
            let config = Config {
                dtype,
                math,
                activation,
                attention,
                mixer,
                n_head,
                // Which of these go together changes from turn to turn.
                glu: turn % 3 != 1,
                head: [Head::Tanh, Head::Linear][turn % 2],
                ..small_config()
            };
            let seed = 100 + turn as u64;
            assert_emulated_over(FEWER_STEPS, None, config, RewardMode::Observed, seed);
            turn += 1;
        }
    }
}

/// Gates all but shut and wide open, values far outside where activations bend; and so narrow an MLP and so short a context that
/// nothing needs more room than the gated linear unit does.
#[test]
fn steep_gates_and_a_narrow_mlp() {
    for (dtype, activation) in [
        (Dtype::Int8, Activation::Silu),
        (Dtype::F32, Activation::Gelu),
    ] {
        let config = Config {
            dtype,
            activation,
            glu: true,
            d_ff: 4,
            context_len: 1,
            ..small_config()
        };
        let mut sample = Sample::random(config, 31);
        for name in ["glu.weight", "layers.0.mlp_fc.weight"] {
            let weights = sample.tensors.get_mut(name).unwrap();
            weights.iter_mut().for_each(|weight| *weight *= 60.0);
        }
        assert_sample_emulated(STEPS, &sample, 31);
    }
}

/// Convolutions whose columns are no whole words, whose squares overlap or leave the last pixels out; one, two, three and none.
#[test]
fn images() {
    let odd = image([9, 11, 3], &[[8, 3, 2], [4, 2, 1], [12, 2, 2]]);
    let two = image([7, 10, 1], &[[4, 1, 1], [16, 3, 2]]);
    let one = image([8, 8, 2], &[[12, 4, 3]]);
    let none = image([5, 5, 3], &[]);
    let (streaming, window) = (Attention::Streaming, Attention::Window);
    for (seed, (encoder, dtype, attention, tanh)) in (40..).zip([
        (odd, Dtype::Int8, streaming, false),
        (odd, Dtype::F32, window, true),
        (two, Dtype::Int4, window, true),
        (one, Dtype::Int8, window, true),
        (one, Dtype::F32, streaming, false),
        (none, Dtype::Int8, streaming, true),
    ]) {
        let config = Config {
            state_dim: encoder.pixels(),
            encoder: Encoder::Image(encoder),
            embeddings: Embeddings {
                tanh,
                ..Embeddings::GYM
            },
            attention,
            dtype,
            d_model: 40,
            ..small_config()
        };
        assert_emulated_over(60, None, config, RewardMode::Observed, seed);
    }
}

/// The image encoder and the transformer of the paper's network for Atari (Chen et al. 2021), as it streams.
#[test]
fn images_of_the_published_size() {
    let encoder = image([84, 84, 4], &[[32, 8, 4], [64, 4, 2], [64, 3, 1]]);
    assert_eq!(encoder.flat(), 3136);
    let config = Config {
        state_dim: encoder.pixels(),
        act_dim: 4,
        d_model: 128,
        n_layer: 6,
        n_head: 8,
        d_ff: 512,
        context_len: 30,
        encoder: Encoder::Image(encoder),
        embeddings: Embeddings {
            tanh: true,
            ..Embeddings::GYM
        },
        activation: Activation::Gelu,
        head: Head::Linear,
        ..small_config()
    };
    assert_emulated_over(12, None, config, RewardMode::Observed, 51);
}

/// Places in the window, one time for all of it, no norm: of vectors, of images, folded, where states come first, and whatever of it
/// streams.
#[test]
fn embeddings_of_the_published_atari_network() {
    let pixels = image([7, 10, 2], &[[8, 3, 2]]);
    let seeing = Config {
        state_dim: pixels.pixels(),
        encoder: Encoder::Image(pixels),
        actions: Actions::Discrete,
        head: Head::Linear,
        act_dim: 4,
        ..small_config()
    };
    let folded = Config {
        mixer: Mixer::Folded,
        n_head: 1,
        ..small_config()
    };
    let state_first = Config {
        order: Order::StateFirst,
        predictions: Predictions {
            state: false,
            return_to_go: true,
        },
        ..small_config()
    };
    let placed = [small_config(), seeing, folded, state_first].into_iter();
    let placed = placed.flat_map(|config| {
        [Dtype::F32, Dtype::Int8, Dtype::Int4].map(|dtype| Config {
            dtype,
            d_model: 40,
            attention: Attention::Window,
            embeddings: Embeddings::ATARI,
            ..config
        })
    });
    let streaming = [Dtype::F32, Dtype::Int8, Dtype::Int4].map(|dtype| Config {
        dtype,
        d_model: 40,
        embeddings: Embeddings {
            norm: false,
            ..Embeddings::GYM
        },
        ..small_config()
    });
    for (seed, config) in (70..).zip(placed.chain(streaming)) {
        assert_emulated_over(60, None, config, RewardMode::Observed, seed);
    }
}

/// Each convolution: filters, kernel, stride.
fn image([height, width, channels]: [u32; 3], convolutions: &[[u32; 3]]) -> ImageEncoder {
    let mut placed = [Convolution::NONE; MAX_CONVOLUTIONS];
    for (place, &[filters, kernel, stride]) in placed.iter_mut().zip(convolutions) {
        *place = Convolution {
            filters,
            kernel,
            stride,
        };
    }
    ImageEncoder {
        height,
        width,
        channels,
        convolutions: placed,
    }
}

const ACTIVATIONS: [Activation; 5] = [
    Activation::Relu,
    Activation::GeluTanh,
    Activation::Gelu,
    Activation::Silu,
    Activation::Tanh,
];

#[test]
fn exp_tanh_and_activations() {
    let mut random = Random::new(6);
    let mut inputs: Vec<f32> = Vec::new();
    for std in [0.1, 1.0, 10.0, 60.0] {
        inputs.extend(random.around(0.0, std, 50_000));
    }
    inputs.extend([
        0.0,
        -0.0,
        1.0,
        -1.0,
        10.0,
        f32::MIN,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN_POSITIVE,
        -1e-40,
    ]);
    // Where exp overflows.
    inputs.extend(random.around(88.5, 1.0, 10_000));
    inputs.extend(random.around(-88.5, 1.0, 10_000));
    for (math, name) in [
        (Math::Libm, "libm"),
        (Math::Micromath, "micromath"),
        (Math::Polynomial, "polynomial"),
    ] {
        let output = emulate(&["math", name], bytemuck::cast_slice(&inputs));
        let emulated: Vec<f32> = bytemuck::pod_collect_to_vec(&output);
        let mut emulated = emulated.chunks(inputs.len());
        let mut compare = |function: &str, ours: Vec<f32>| {
            let theirs = emulated.next().unwrap();
            for ((x, ours), theirs) in inputs.iter().zip(ours).zip(theirs) {
                // NaN's payload is nobody's promise.
                let same = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
                assert!(
                    same,
                    "{name}: {function}({x}) is {ours:e}, emulated {theirs:e}"
                );
            }
        };
        compare("exp", inputs.iter().map(|&x| ops::exp(math, x)).collect());
        compare("tanh", inputs.iter().map(|&x| ops::tanh(math, x)).collect());
        for activation in ACTIVATIONS {
            let mut outputs = inputs.clone();
            ops::activate(activation, math, &mut outputs);
            compare(&format!("{activation:?}"), outputs);
        }
        assert!(emulated.next().is_none());
    }
}

/// Drives a policy for [`STEPS`] steps with observations that depend on its actions, lets the
/// emulator replay them, and compares action bits.
fn assert_emulated(config: Config, reward: RewardMode, seed: u64) {
    assert_emulated_over(STEPS, None, config, reward, seed);
}

/// The same for so many steps and with limits of the return-to-go.
fn assert_emulated_over(
    steps: usize,
    return_limits: Option<ReturnLimits>,
    config: Config,
    reward: RewardMode,
    seed: u64,
) {
    let sample = Sample {
        reward,
        return_limits,
        ..Sample::random(config, seed)
    };
    assert_sample_emulated(steps, &sample, seed);
}

fn assert_sample_emulated(steps: usize, sample: &Sample, seed: u64) {
    let (config, reward) = (sample.config, sample.reward);
    let file = sample.emit();
    let blob = file.blob();
    let mut policy = Policy::new(&blob, vec![0u32; config.arena_words()]).unwrap();
    policy.reset(blob.manifest().target_return).unwrap();

    // Indices lie around no zero.
    let middle = match config.actions {
        Actions::Continuous => 0.0,
        Actions::Discrete => 0.5 * (config.act_dim - 1) as f32,
    };
    let mut random = Random::new(seed);
    let mut observation = random.observation(&config);
    let (mut actions, mut predictions) = (Vec::new(), Vec::new());
    let mut input = String::new();
    for step in 0..steps {
        let mut line = json!({ "observation": exact(&observation) });
        if reward == RewardMode::External && step % 3 == 0 {
            let return_to_go = 40.0 - 0.3 * step as f32;
            policy.set_return_to_go(return_to_go).unwrap();
            line["return_to_go"] = f64::from(return_to_go).into();
        }
        let action = policy.act(&observation).unwrap().to_vec();
        let logits = policy.logits().unwrap_or_default().to_vec();
        let mut predicted = vec![0.0; config.predictions_len() as usize];
        if let Some(known) = policy.predicted() {
            let critic = known.return_to_go.as_slice();
            predicted = [known.observation, critic].concat();
        }
        // Now and then the actuator does something else.
        let applied = if step % 7 == 6 {
            sample.action[2].clone()
        } else {
            action.clone()
        };
        let seen = match config.image() {
            None => observation[0],
            Some(_) => observation[0] / 255.0,
        };
        let earned = (reward == RewardMode::Observed).then_some(0.2 * seen + 0.3);
        policy.absorb(&applied).unwrap();
        if let Some(earned) = earned {
            policy.observe_reward(earned).unwrap();
        }
        line["applied"] = exact(&applied);
        line["reward"] = earned.map_or(Value::Null, |r| f64::from(r).into());
        input += &format!("{line}\n");

        if config.image().is_some() {
            observation = random.observation(&config);
            // The first pixel tells what was done.
            let told = 100.0 + 50.0 * (applied[0] - middle);
            observation[0] = match told {
                told if told < 0.0 => 0.0,
                told if told > 255.0 => 255.0,
                told => told.round(),
            };
            actions.push([action, logits].concat());
            predictions.push(predicted);
            continue;
        }
        let noise = random.around(0.0, 0.7, observation.len());
        for (i, (x, noise)) in observation.iter_mut().zip(noise).enumerate() {
            *x = 0.6 * *x + 0.4 * (applied[i % applied.len()] - middle) + noise;
        }
        actions.push([action, logits].concat());
        predictions.push(predicted);
    }
    // In few steps there is less to see.
    let enough = if steps < STEPS { 0.1 } else { 0.3 };
    assert!(
        smallest_spread(&actions) >= enough,
        "the policy hardly moves: {}",
        smallest_spread(&actions)
    );
    if config.predicts() {
        let spread = smallest_spread(&predictions);
        assert!(spread >= enough, "the predictions hardly move: {spread}");
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.dtb");
    std::fs::write(&path, file.bytes()).unwrap();
    let output = emulate(&["run", path.to_str().unwrap()], input.as_bytes());
    let output = String::from_utf8(output).unwrap();
    let emulated: Vec<Value> = output
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(emulated.len(), steps);
    let differing: u32 = actions
        .iter()
        .zip(&predictions)
        .zip(&emulated)
        .flat_map(|((action, predicted), line)| {
            let bits = line["bits"].as_array().unwrap();
            assert_eq!(action.len() + predicted.len(), bits.len());
            action.iter().chain(predicted).zip(bits)
        })
        .map(|(a, bits)| (u64::from(a.to_bits()) ^ bits.as_u64().unwrap()).count_ones())
        .sum();
    println!("{config:?}: {differing} differing action bits over {steps} steps");
    assert_eq!(differing, 0);
}

fn exact(values: &[f32]) -> Value {
    values.iter().copied().map(f64::from).collect()
}

fn emulate(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = python("dt_numpy.py")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "the emulator failed");
    output.stdout
}
