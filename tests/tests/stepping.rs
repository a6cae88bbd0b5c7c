//! However a policy is stepped, it computes the same bits; and a file gives back what went into it.

use dt_core::blob::{Choice, RewardMode, Sampling};
use dt_core::config::{
    Actions, Activation, Attention, Config, Convolution, Dtype, Embeddings, Encoder, Head,
    ImageEncoder, MAX_CONVOLUTIONS, Math, Mixer, Network, Order, Positions, Predictions,
};
use dt_core::policy::{Policy, Predicted};
use dt_core::unstable::int4;
use proptest::prelude::*;
use tests::{Episode, Random, Sample, small_config, smallest_spread};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Tokens computed early (`run_ahead`), together or one by one, or inside the next `act`: the ring,
    /// wrapped several times, holds the same.
    #[test]
    fn split_and_fused_steps_give_the_same_bits(config in configs(), reward in rewards(), seed: u64) {
        let reward = match reward {
            RewardMode::Constant if config.is_state_first() => RewardMode::Predicted,
            reward => reward,
        };
        let steps = 5 * (config.context_len as usize + 1);
        let choice = Choice::Sampled(Sampling { temperature: 0.5, top_k: 3, seed });
        let choice = if config.actions == Actions::Discrete { choice } else { Choice::Greedy };
        let sample = Sample { reward, choice, ..Sample::random(config, seed) };
        let file = sample.emit();
        let blob = file.blob();
        let mut fused = Policy::new(&blob, vec![0u32; config.arena_words()]).unwrap();
        let mut split = Policy::new(&blob, vec![0u32; config.arena_words()]).unwrap();
        fused.reset(30.0).unwrap();
        split.reset(30.0).unwrap();
        let mut random = Random::new(seed);
        for step in 0..steps {
            let observation = random.observation(&config);
            if reward == RewardMode::External {
                let return_to_go = random.around(30.0, 10.0, 1)[0];
                fused.set_return_to_go(return_to_go).unwrap();
                split.set_return_to_go(return_to_go).unwrap();
            }
            let action = fused.act(&observation).unwrap().to_vec();
            prop_assert_eq!(bits(&action), bits(split.act(&observation).unwrap()), "step {}", step);
            prop_assert_eq!(fused.logits().map(bits), split.logits().map(bits), "step {}", step);
            let predicted = [&mut fused, &mut split].map(|policy| policy.predicted().map(predicted_bits));
            prop_assert_eq!(&predicted[0], &predicted[1], "step {}", step);
            let known = step > 0 || config.is_state_first();
            prop_assert_eq!(predicted[0].is_some(), known && config.predicts());
            fused.absorb(&action).unwrap();
            split.absorb_commanded().unwrap();
            let mut ran = random.chance(0.5);
            if ran {
                split.run_ahead().unwrap();
            }
            if reward == RewardMode::Observed {
                let earned = random.around(0.5, 1.0, 1)[0];
                fused.observe_reward(earned).unwrap();
                split.observe_reward(earned).unwrap();
            }
            if random.chance(0.5) {
                split.run_ahead().unwrap();
                ran = true;
            }
            prop_assert!(fused.predicted().is_none(), "the action absorbed last has not run");
            let after_actions = config.predicts() && !config.is_state_first();
            let ahead = ran && after_actions && config.attention == Attention::Streaming;
            prop_assert_eq!(split.predicted().is_some(), ahead);
        }
    }

    /// Whoever asks for predictions gets the same actions.
    #[test]
    fn predictions_change_no_action(config in configs(), seed: u64) {
        let sample = Sample::random(config, seed);
        prop_assume!(!config.is_state_first());
        let bare = Config { predictions: Predictions::NONE, ..config };
        let bare = Sample { config: bare, ..sample.clone() };
        let episode = Episode::random(&config, 3 * config.context_len as usize, &mut Random::new(seed));
        let with = episode.run(&sample.emit(), 0);
        let without = episode.run(&bare.emit(), 0);
        prop_assert_eq!(with.concat().len(), without.concat().len());
        prop_assert_eq!(bits(&with.concat()), bits(&without.concat()));
    }

    /// A streaming engine that has wrapped its ring many times equals one that started just early
    /// enough to see the receptive field, at any absolute timestep.
    #[test]
    fn nothing_beyond_the_receptive_field_matters(config in configs(), seed: u64) {
        let config = Config { attention: Attention::Streaming, embeddings: streaming(config.embeddings), ..config };
        let field = match config.is_convolved() {
            false => config.n_layer * (config.context_len - 1) + 1,
            // Five tokens a layer, from the second of a timestep.
            true => (5 * config.n_layer + 1) / 3 + 1,
        } as usize;
        let episode = Episode::random(&config, field + 3 * config.context_len as usize, &mut Random::new(seed));
        let file = Sample::random(config, seed).emit();
        let long = episode.run(&file, 0);
        for start in 1..=episode.states.len() - field {
            let recent = episode.run(&file, start);
            prop_assert_eq!(bits(&long[start + field - 1]), bits(&recent[field - 1]), "from {}", start);
        }
    }

    /// With one layer the ring must give what recomputing the last K timesteps from nothing gives.
    #[test]
    fn one_layer_streaming_equals_window(config in configs(), seed: u64) {
        // A convolution sees three timesteps, whatever K is.
        let context_len = if config.is_convolved() { config.context_len.max(3) } else { config.context_len };
        let embeddings = streaming(config.embeddings);
        let config = Config { n_layer: 1, attention: Attention::Streaming, context_len, embeddings, ..config };
        let episode = Episode::random(&config, 5 * (config.context_len as usize + 1), &mut Random::new(seed));
        let sample = Sample::random(config, seed);
        let window = Sample { config: Config { attention: Attention::Window, ..config }, ..sample.clone() };
        let streamed = episode.run(&sample.emit(), 0);
        let recomputed = episode.run(&window.emit(), 0);
        for (step, (a, b)) in streamed.iter().zip(&recomputed).enumerate() {
            prop_assert_eq!(bits(a), bits(b), "step {}", step);
        }
    }

    /// What is emitted is what parses: f32 to the bit, int8 to half a grid step, int4 to what its quantizer loses at most.
    #[test]
    fn a_file_gives_back_what_went_into_it(config in configs(), seed: u64) {
        let sample = Sample::random(config, seed);
        let file = sample.emit();
        let blob = file.blob();
        prop_assert_eq!(*blob.manifest(), sample.manifest());
        prop_assert_eq!(blob.vectors().state_mean, &sample.state[0][..]);
        prop_assert_eq!(blob.vectors().safe_action, &sample.action[2][..]);
        for (name, linear) in blob.model().linears() {
            let original = &sample.tensors[&format!("{name}.weight")];
            for (row, weights) in original.chunks(linear.cols()).enumerate() {
                let largest = weights.iter().fold(0f32, |m, w| if w.abs() > m { w.abs() } else { m });
                let dtype = if name.layer.is_some() { config.dtype } else { config.dtype.outside_blocks() };
                let group_len = std::cmp::min(weights.len(), int4::GROUP_COLS);
                let half_step = match dtype {
                    Dtype::F32 => 0.0,
                    Dtype::Int8 => largest / 127.0 * 0.500_01,
                    // A group's squared error is at most that of multiplier 15, whose half step is 7.5 of 112.
                    Dtype::Int4 => largest * 7.501 / 112.0 * (group_len as f32).sqrt(),
                };
                for (col, weight) in weights.iter().enumerate() {
                    let stored = linear.weight(row, col).unwrap();
                    prop_assert!((stored - weight).abs() <= half_step, "{} {} {}", name, row, col);
                }
            }
            prop_assert_eq!(linear.weight(linear.rows(), 0), None);
            prop_assert_eq!(linear.weight(0, linear.cols()), None);
        }
    }
}

/// The comparisons above mean something only if the policies move.
#[test]
fn random_samples_move() {
    for seed in 0..20 {
        let config = small_config();
        let episode = Episode::random(&config, 100, &mut Random::new(seed));
        let actions = episode.run(&Sample::random(config, seed).emit(), 0);
        assert!(
            smallest_spread(&actions) >= 0.3,
            "seed {seed}: {}",
            smallest_spread(&actions)
        );
    }
}

fn predicted_bits(predicted: Predicted<'_>) -> (Vec<u32>, Option<u32>) {
    (
        bits(predicted.observation),
        predicted.return_to_go.map(f32::to_bits),
    )
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn rewards() -> impl Strategy<Value = RewardMode> {
    prop_oneof![
        Just(RewardMode::Observed),
        Just(RewardMode::Constant),
        Just(RewardMode::External)
    ]
}

/// Small networks of every kind.
fn configs() -> impl Strategy<Value = Config> {
    let dims = (1..=6u32, 1..=4u32, 1..=3u32, 1..=3u32, 1..=9u32, 1..=7u32);
    let max_ep_len = prop_oneof![Just(0), 1..60u32];
    let choices = (
        0..3usize,
        any::<bool>(),
        0..5usize,
        any::<bool>(),
        0..3usize,
        0..3usize,
        any::<bool>(),
        any::<bool>(),
        0..5usize,
    );
    let images = prop_oneof![2 => Just(None), 1 => images().prop_map(Some)];
    let embeddings = (any::<bool>(), any::<bool>(), any::<bool>());
    let kinds = (dims, 1..=2u32, max_ep_len, choices, images, embeddings);
    kinds.prop_map(
        |(dims, head_words, max_ep_len, choices, image, embeddings)| {
            let (state_dim, act_dim, n_layer, n_head, ff_words, context_len) = dims;
            let (dtype, window, activation, tanh, math, mixer, discrete, glu, heads) = choices;
            let mixer = match (mixer, n_head) {
                (1, 1) => Mixer::Folded,
                (2, 1) => Mixer::Convolution,
                _ => Mixer::Attention,
            };
            Config {
                state_dim: image.as_ref().map_or(state_dim, ImageEncoder::pixels),
                act_dim,
                d_model: 4 * head_words * n_head,
                n_layer,
                n_head,
                d_ff: 4 * ff_words,
                context_len,
                max_ep_len,
                dtype: [Dtype::F32, Dtype::Int8, Dtype::Int4][dtype],
                attention: if window {
                    Attention::Window
                } else {
                    Attention::Streaming
                },
                activation: [
                    Activation::Relu,
                    Activation::GeluTanh,
                    Activation::Gelu,
                    Activation::Silu,
                    Activation::Tanh,
                ][activation],
                head: if tanh { Head::Tanh } else { Head::Linear },
                mixer,
                math: [Math::Libm, Math::Micromath, Math::Polynomial][math],
                layer_norm_eps: 1e-5,
                glu,
                actions: if discrete && !tanh {
                    Actions::Discrete
                } else {
                    Actions::Continuous
                },
                predictions: Predictions {
                    state: heads & 1 > 0 && image.is_none(),
                    return_to_go: heads & 6 > 0,
                },
                order: match heads {
                    4 => Order::StateFirst,
                    _ => Order::ReturnFirst,
                },
                encoder: image.map_or(Encoder::Linear, Encoder::Image),
                embeddings: Embeddings {
                    tanh: embeddings.0,
                    norm: embeddings.1,
                    positions: match embeddings.2 && window && mixer != Mixer::Convolution {
                        true => Positions::Window,
                        false => Positions::Timestep,
                    },
                },
                network: Network::Transformer,
            }
        },
    )
}

/// What of them streams: all but places in the window.
fn streaming(embeddings: Embeddings) -> Embeddings {
    Embeddings {
        positions: Positions::Timestep,
        ..embeddings
    }
}

/// Small images with up to three convolutions, as many as fit.
fn images() -> impl Strategy<Value = ImageEncoder> {
    let convolution = (1..=2u32, 1..=3u32, 1..=2u32);
    let shape = (1..=9u32, 1..=9u32, 1..=4u32);
    (shape, prop::collection::vec(convolution, 0..=3)).prop_map(|(shape, wanted)| {
        let (height, width, channels) = shape;
        let mut image = ImageEncoder {
            height,
            width,
            channels,
            convolutions: [Convolution::NONE; MAX_CONVOLUTIONS],
        };
        for (place, (words, kernel, stride)) in wanted.into_iter().enumerate() {
            let [height, width, _] = image.last();
            image.convolutions[place] = Convolution {
                filters: 4 * words,
                kernel: kernel.min(height).min(width),
                stride,
            };
        }
        image
    })
}
