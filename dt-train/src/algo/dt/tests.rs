//! It learns, goes on as if it had never stopped, and acts alike in libtorch and in the engine.

use std::sync::Arc;

use dt_core::ActError;
use host_sim::rollout::Controller;
use tch::Device;

use super::*;
use crate::algo::{Algorithm, Averages, Learner, Setup};
use crate::config::ChoiceName;
use crate::data::sampler::{Sampler, Trajectories};
use crate::nn::parameters;
use crate::nn::transformer::tests::randomized;
use crate::run::checkpoint::{Progress, Weights};

/// Two episodes of a task where the best action is the state's first component.
fn trajectories() -> Trajectories {
    let wave = |i: usize, k: f32| (i as f32 * k).sin();
    let n = 60;
    Trajectories {
        state_dim: 2,
        act_dim: 1,
        kind: Actions::Continuous,
        pixels: None,
        states: (0..n).flat_map(|i| [wave(i, 0.7), wave(i, 1.3)]).collect(),
        actions: (0..n).map(|i| 0.8 * wave(i, 0.7)).collect(),
        returns_to_go: (0..n).map(|i| 1.0 - i as f32 / 60.0).collect(),
        episode_lens: vec![25, 35],
        ..Trajectories::default()
    }
}

fn learner(ema_decay: f64) -> Box<dyn Learner> {
    learner_of(Dt::default(), ema_decay)
}

/// Small, with all else as given.
fn small(dt: Dt) -> Dt {
    Dt {
        d_model: 16,
        n_layer: 2,
        n_head: 2,
        context_len: dt.context_len.min(4),
        max_ep_len: 40,
        ..dt
    }
}

fn learner_of(dt: Dt, ema_decay: f64) -> Box<dyn Learner> {
    learner_with(dt, ema_decay, &trajectories())
}

fn learner_with(dt: Dt, ema_decay: f64, data: &Trajectories) -> Box<dyn Learner> {
    let dt = small(dt);
    let mut recipe = Recipe::new(dt.clone());
    recipe.train.batch_size = 8;
    recipe.train.warmup_updates = 10;
    recipe.train.learning_rate = 3e-3;
    recipe.train.dropout = 0.0;
    recipe.train.ema_decay = ema_decay;
    dt.learner(Setup {
        recipe: &recipe,
        train: data.clone(),
        validation: data.clone(),
        device: Device::Cpu,
    })
}

#[test]
fn the_loss_falls_far_below_the_actions_variance() {
    let mut learner = learner(0.0);
    (0..150).for_each(|update| learner.update(update));
    learner.take_averages();
    (150..200).for_each(|update| learner.update(update));
    let Averages {
        loss, grad_norm, ..
    } = learner.take_averages();
    // The actions' variance is 0.32.
    assert!(loss < 0.02, "{loss}");
    assert!(grad_norm > 0.0 && grad_norm.is_finite());
}

/// What is seen next follows from what was: the heads learn it, beside the actions, and the loss is the sum as weighted.
#[test]
fn states_and_returns_are_learned_beside_the_actions() {
    let losses = |predict_state, predict_return, updates| {
        let dt = Dt {
            predict_state,
            predict_return,
            ..Dt::default()
        };
        let mut learner = learner_of(dt, 0.0);
        (0..updates).for_each(|update| learner.update(update));
        learner.validate().unwrap().held_out
    };
    // Untrained, every head is off by about the variance of what it predicts: states' is 0.5.
    let [alone, state, both] = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.5)].map(|(s, r)| losses(s, r, 0));
    assert!(state > alone + 0.3, "{alone}, {state}");
    assert!(both > 2.0 * state - alone, "{state}, {both}");
    let trained = losses(1.0, 1.0, 300);
    assert!(trained < 0.06, "{trained}");
}

fn reinformer(return_expectile: f64) -> Dt {
    Dt {
        predict_return: 1.0,
        return_expectile,
        ..Dt::default()
    }
}

/// Where nothing tells which return follows, the mean is halfway between all, and an expectile near 1 next to the largest.
#[test]
fn the_expectile_of_returns_is_near_the_largest() {
    let predicted = |tau| {
        let mut data = trajectories();
        data.states.fill(0.5);
        data.actions.fill(0.5);
        // Two episodes that cannot be told apart but by what they return.
        data.episode_lens = vec![30, 30];
        data.returns_to_go = (0..60).map(|i| if i < 30 { 0.0 } else { 1.0 }).collect();
        let dt = Dt {
            context_len: 1,
            sequence_len: 1,
            ..reinformer(tau)
        };
        let mut learner = learner_with(dt.clone(), 0.0, &data);
        (0..400).for_each(|update| learner.update(update));
        let checkpoint = learner.save(Progress::default());
        let dims = Dims::vectors(2, 1);
        let dt = small(dt);
        let parameters = Supervised::parameters(&dt, dims);
        let parameters = parameters::loaded(&parameters, &checkpoint.weights, Device::Cpu).unwrap();
        let inputs = Inputs {
            // What is told is not looked at.
            returns_to_go: Tensor::full([1, 1, 1], 9.0, (tch::Kind::Float, Device::Cpu)),
            states: Tensor::full([1, 1, 2], 0.5, (tch::Kind::Float, Device::Cpu)),
            actions: Tensor::zeros([1, 1, 1], (tch::Kind::Float, Device::Cpu)),
            timesteps: Tensor::zeros([1, 1], (tch::Kind::Int64, Device::Cpu)),
        };
        let possible = dt.foresee(dims, &Bound::frozen(&parameters), &inputs);
        possible.unwrap().double_value(&[0, 0, 0])
    };
    let [mean, largest] = [0.5, 0.99].map(predicted);
    // (1 − τ)·ê = τ·(1 − ê): the expectile of a coin is τ.
    assert!((mean - 0.5).abs() < 0.1, "{mean}");
    assert!((largest - 0.99).abs() < 0.05, "{largest}");
}

#[test]
fn expectiles_without_a_head_to_learn_them_are_refused() {
    let refused = |dt: Dt| {
        let refusal = Supervised::check(&dt, &Recipe::new(dt.clone())).err()?;
        Some((refusal.key.to_string(), refusal.message))
    };
    assert_eq!(refused(reinformer(0.99)), None);
    assert_eq!(refused(reinformer(0.5)), None);
    // One timestep is enough, as nothing is learned from the next.
    assert_eq!(
        refused(Dt {
            context_len: 1,
            sequence_len: 1,
            ..reinformer(0.9)
        }),
        None
    );
    let beyond = [1.0, 0.49, -0.9, f64::NAN].map(reinformer);
    for dt in beyond {
        let (key, message) = refused(dt).unwrap();
        assert_eq!(key, "dt.return_expectile");
        assert!(message.contains("0.99"), "{message}");
    }
    for dt in [
        Dt {
            predict_return: 0.0,
            ..reinformer(0.9)
        },
        Dt {
            predict_state: 1.0,
            ..reinformer(0.9)
        },
    ] {
        let (key, message) = refused(dt).unwrap();
        assert_eq!(key, "dt.return_expectile");
        assert!(message.contains("dt.predict_return=1"), "{message}");
    }
}

/// From the last timestep of a sequence nothing is learned: what comes next is not in it.
#[test]
fn heads_are_refused_where_there_is_no_next_timestep() {
    let dt = |context_len, sequence_len, burn_in| Dt {
        predict_return: 1.0,
        context_len,
        sequence_len,
        burn_in,
        ..Dt::default()
    };
    let refused = |dt: Dt| {
        let refusal = Supervised::check(&dt, &Recipe::new(dt.clone())).err()?;
        Some(refusal.key.to_string())
    };
    assert_eq!(refused(dt(4, 0, 0)), None);
    assert_eq!(refused(dt(4, 2, 0)), None);
    for dt in [dt(4, 1, 0), dt(4, 5, 4)] {
        assert_eq!(refused(dt).as_deref(), Some("dt.predict_state"));
    }
    let negative = Dt {
        predict_state: -1.0,
        ..Dt::default()
    };
    assert_eq!(refused(negative).as_deref(), Some("dt.predict_state"));
}

#[test]
fn validation_compares_like_with_like() {
    let mut learner = learner(0.9);
    (0..50).for_each(|update| learner.update(update));
    // The episodes held out are those trained on: the same weights on the same sequences.
    let losses = learner.validate().unwrap();
    assert_eq!(losses.fit, losses.held_out);
    assert!(losses.fit > 0.0);
    let trained = learner.save(Progress::default());
    (50..60).for_each(|update| learner.update(update));
    assert_ne!(learner.validate().unwrap(), losses);
    learner.restore(&trained).unwrap();
    assert_eq!(learner.validate().unwrap(), losses);
}

/// Where all of a sequence is told one timestep, validation tells it the one that training does: the losses are of one kind.
#[test]
fn validation_is_told_what_training_is() {
    let dims = Dims::vectors(2, 1);
    let losses = |dt: Dt| {
        let dt = small(Dt {
            sequence_len: 4,
            ..dt
        });
        let recipe = Recipe::new(dt.clone());
        let parameters = Supervised::parameters(&dt, dims);
        let network = parameters::draw(&parameters, recipe.train.seed, Device::Cpu);
        let draw = dt.validation_draw(&recipe);
        let batch = Sampler::new(trajectories(), draw, 0, Device::Cpu).batch(0);
        let loss = |mode| {
            let Loss { value, .. } = dt.loss(dims, &Bound::frozen(&network), &batch, mode);
            value.double_value(&[])
        };
        let [training, acting] = [Mode::Training { dropout: 0.0 }, Mode::Acting].map(loss);
        let validation = learner_of(dt, 0.0).validate().unwrap();
        [training, validation.held_out, acting]
    };
    let [training, validation, acting] = losses(Dt {
        attention: Attention::Window,
        embeddings: EmbeddingsName::Atari,
        timestep_init_std: 1.0,
        ..Dt::default()
    });
    assert_eq!(validation, training);
    assert!((acting - training).abs() > 1e-4, "{acting}, {training}");
    let [training, validation, acting] = losses(Dt::default());
    assert_eq!([validation, acting], [training; 2]);
}

#[test]
fn a_restored_learner_continues_bit_for_bit() {
    // Dropout draws from libtorch's one generator, which parallel tests share: tests/train/resume.rs
    // resumes with dropout, in processes of their own.
    for ema_decay in [0.0, 0.9] {
        let learner = || learner(ema_decay);
        let mut whole = learner();
        (0..5).for_each(|update| whole.update(update));
        let saved = whole.save(Progress {
            update: 5,
            best: None,
        });
        (5..12).for_each(|update| whole.update(update));
        let mut resumed = learner();
        resumed.update(0);
        resumed.restore(&saved).unwrap();
        (5..12).for_each(|update| resumed.update(update));
        let end = |learner: &dyn Learner| learner.save(Progress::default());
        assert_eq!(end(resumed.as_ref()), end(whole.as_ref()));
        assert_ne!(end(resumed.as_ref()).weights, saved.weights);
    }
}

#[test]
fn the_result_is_the_average_of_the_parameters() {
    // ln_f.bias, whose every step the recurrence must follow; the decay rate rises to 0.5.
    let bias = |values: &Weights| values.get("ln_f.bias", &[16]).unwrap().to_vec();
    let (mut plain, mut averaged) = (learner(0.0), learner(0.5));
    let mut expected = bias(&plain.save(Progress::default()).weights);
    for update in 0..20_u32 {
        plain.update(update.into());
        averaged.update(update.into());
        let decay = f64::min(0.5, f64::from(1 + update) / f64::from(10 + update)) as f32;
        let parameters = bias(&plain.save(Progress::default()).weights);
        for (average, parameter) in expected.iter_mut().zip(&parameters) {
            *average += (1.0 - decay) * (parameter - *average);
        }
        let result = bias(&averaged.save(Progress::default()).weights);
        for (result, expected) in result.iter().zip(&expected) {
            assert!((result - expected).abs() < 1e-7, "{result} {expected}");
        }
        assert_ne!(result, parameters);
    }
}

#[test]
fn checkpoints_of_other_networks_are_refused() {
    let mut learner = learner(0.9);
    let mut checkpoint = learner.save(Progress::default());
    checkpoint.optimizer.as_mut().unwrap().parameters = None;
    let error = learner.restore(&checkpoint).unwrap_err().to_string();
    assert!(
        error.contains("no tensor `optimizer.parameters`"),
        "{error}"
    );
    let mut learner = self::learner(0.0);
    checkpoint.optimizer = None;
    assert!(learner.restore(&checkpoint).is_err());
    checkpoint
        .weights
        .insert("ln_f.bias".to_owned(), vec![3], vec![0.0; 3]);
    let error = learner.restore(&checkpoint).unwrap_err().to_string();
    assert!(error.contains("`ln_f.bias` has shape [3]"), "{error}");
}

#[test]
fn automatic_sequences_cover_the_receptive_field() {
    let dt = Dt::default();
    assert_eq!((dt.receptive_field(), dt.sequence_len()), (58, 78));
    let window = Dt {
        attention: Attention::Window,
        ..Dt::default()
    };
    assert_eq!(window.sequence_len(), 20);
}

fn run(attention: Attention, activation: Activation, glu: bool) -> Run {
    run_of(Dt {
        attention,
        activation,
        glu,
        ..Dt::default()
    })
}

/// Small, with all else as given.
fn run_of(dt: Dt) -> Run {
    run_with_heads(dt, 2)
}

fn run_with_heads(dt: Dt, n_head: u32) -> Run {
    let mut recipe = Recipe::new(Dt {
        d_model: 16,
        n_layer: 3,
        n_head,
        context_len: 4,
        max_ep_len: 30,
        ..dt
    });
    recipe.data.return_scale = 10.0;
    Run::for_tests(
        recipe,
        [&[0.5, -0.5, 0.0], &[1.0, 2.0, 0.5]],
        [&[-2.0, 0.0], &[2.0, 5.0]],
    )
}

/// Engine and libtorch, fed the same observations and rewards for several receptive fields, beyond the timestep table.
fn largest_difference(
    attention: Attention,
    activation: Activation,
    glu: bool,
) -> Result<f32, ActError> {
    largest_difference_of(&run(attention, activation, glu))
}

fn largest_difference_of(run: &Run) -> Result<f32, ActError> {
    let network = run.network(Dtype::F32).unwrap();
    let checkpoint = Checkpoint {
        progress: Progress::default(),
        weights: parameters::weights(&randomized(&network)),
        optimizer: None,
    };
    let policy = run.recipe.algorithm.policy(run, &checkpoint).unwrap();
    let mut engine = policy.controller();
    let mut torch = policy.reference(Device::Cpu).unwrap();
    engine.reset(0, 7.0)?;
    torch.reset(0, 7.0)?;
    let mut largest = 0.0;
    let mut seen = Vec::new();
    for t in 0..60 {
        let wave = |k: f32| 2.0 * (k * t as f32 + k).sin();
        let observation = [wave(0.3), wave(0.7), wave(1.9)];
        let expected = torch.act(&observation)?.to_vec();
        let action = engine.act(&observation)?.to_vec();
        for (got, expected) in action.iter().zip(&expected) {
            let difference = (got - expected).abs();
            largest = if difference > largest {
                difference
            } else {
                largest
            };
        }
        let reward = wave(0.2);
        torch.feedback(&action, reward)?;
        engine.feedback(&action, reward)?;
        seen.push(action[0] / 2.0);
    }
    let mean = seen.iter().sum::<f32>() / 60.0;
    let variance = seen.iter().map(|a| (a - mean).powi(2)).sum::<f32>() / 60.0;
    assert!(
        variance.sqrt() >= 0.1,
        "the actions hardly vary: {}",
        variance.sqrt()
    );
    Ok(largest)
}

/// f32 sums in another order: a few ulp of values near 1, scaled by the action's half range.
const TOLERANCE: f32 = 2e-5;

/// Who asks for what it has predicted sees its own roundings again, in what it predicts next: with weights as large as these they grow.
const ECHO: f32 = 50.0;

#[test]
fn libtorch_and_the_streaming_engine_agree() {
    let difference = largest_difference(Attention::Streaming, Activation::GeluTanh, false).unwrap();
    assert!(difference <= TOLERANCE, "{difference}");
}

#[test]
fn libtorch_and_the_window_engine_agree() {
    let difference = largest_difference(Attention::Window, Activation::GeluTanh, false).unwrap();
    assert!(difference <= TOLERANCE, "{difference}");
}

/// Places in the window, and the time of its newest timestep for all of it, past the end of the table too.
#[test]
fn libtorch_and_the_engine_place_tokens_alike() {
    let run = run_of(Dt {
        attention: Attention::Window,
        embeddings: EmbeddingsName::Atari,
        ..Dt::default()
    });
    let difference = largest_difference_of(&run).unwrap();
    assert!(difference <= TOLERANCE, "{difference}");
}

/// A policy that asks itself asks for the same in libtorch: within the data's returns, which both meet.
#[test]
fn libtorch_and_the_engine_ask_themselves_alike() {
    for attention in [Attention::Streaming, Attention::Window] {
        for limits in [None, Some([-2.0, 3.0])] {
            let mut run = run_of(Dt {
                attention,
                ..reinformer(0.9)
            });
            run.info.return_range = limits;
            let difference = largest_difference_of(&run).unwrap();
            assert!(
                difference <= ECHO * TOLERANCE,
                "{attention:?} {limits:?}: {difference}"
            );
        }
    }
}

/// Filters in the same order and for the same tokens, over whole episodes, also where returns are asked for by the network itself.
#[test]
fn libtorch_and_the_engine_convolve_alike() {
    for attention in [Attention::Streaming, Attention::Window] {
        for dt in [Dt::default(), reinformer(0.9)] {
            let run = run_with_heads(
                Dt {
                    attention,
                    mixer: TokenMixer::Convolution,
                    ..dt
                },
                1,
            );
            let difference = largest_difference_of(&run).unwrap();
            assert!(
                difference <= ECHO * TOLERANCE,
                "{attention:?}: {difference}"
            );
        }
    }
}

/// A convolution reaches five tokens back in each layer, and no further; its sequences are as short.
#[test]
fn convolutions_reach_as_far_as_their_tokens() {
    let dt = |n_layer| Dt {
        mixer: TokenMixer::Convolution,
        n_layer,
        ..Dt::default()
    };
    // From a state: s R, a s R, a; then s R | a s R | a s R | a s.
    assert_eq!([1, 2, 3].map(|n| dt(n).receptive_field()), [3, 4, 6]);
    assert_eq!(dt(3).sequence_len(), 26);
    let heads = Dt { n_head: 2, ..dt(3) };
    let refused = Supervised::check(&heads, &Recipe::new(heads.clone())).unwrap_err();
    assert!(refused.message.contains("no heads"), "{refused:?}");
}

/// What libtorch trains is what is exported: the same functions, and the gates in the same half.
#[test]
fn libtorch_and_the_engine_agree_in_every_activation_and_head() {
    for (activation, glu) in [
        (Activation::Relu, true),
        (Activation::Gelu, false),
        (Activation::Gelu, true),
        (Activation::Silu, true),
        (Activation::Tanh, false),
    ] {
        let difference = largest_difference(Attention::Streaming, activation, glu).unwrap();
        assert!(
            difference <= TOLERANCE,
            "{activation:?}, {glu}: {difference}"
        );
    }
}

/// As [`largest_difference`], where actions are one of three choices; the return-to-go leaves its limits on both sides.
/// Returns how often each was chosen, and how often by one of the two alone.
fn choices(how: ChoiceName) -> ([usize; 3], usize) {
    let mut run = run(Attention::Streaming, Activation::Relu, false);
    run.recipe.algorithm = Arc::new(Dt {
        d_model: 16,
        n_head: 2,
        n_layer: 2,
        context_len: 4,
        max_ep_len: 40,
        head: Head::Linear,
        ..Dt::default()
    });
    run.recipe.control.choice = how;
    run.info = crate::run::RunInfo {
        act_dim: 3,
        choices: true,
        action_low: vec![0.0],
        action_high: vec![2.0],
        safe_action: vec![0.0],
        return_range: Some([4.0, 8.0]),
        ..run.info
    };
    let network = run.network(Dtype::F32).unwrap();
    assert_eq!(network.actions, Actions::Discrete);
    let checkpoint = Checkpoint {
        progress: Progress::default(),
        weights: parameters::weights(&randomized(&network)),
        optimizer: None,
    };
    let policy = run.recipe.algorithm.policy(&run, &checkpoint).unwrap();
    let mut engine = policy.controller();
    let mut torch = policy.reference(Device::Cpu).unwrap();
    let (mut counts, mut differences) = ([0; 3], 0);
    for seed in 0..5 {
        engine.reset(seed, 7.0).unwrap();
        torch.reset(seed, 7.0).unwrap();
        for t in 0..60 {
            let wave = |k: f32| 2.0 * (k * t as f32 + k + seed as f32).sin();
            let observation = [wave(0.3), wave(0.7), wave(1.9)];
            let expected = torch.act(&observation).unwrap().to_vec();
            let action = engine.act(&observation).unwrap().to_vec();
            differences += usize::from(action != expected);
            counts[action[0] as usize] += 1;
            let reward = 8.0 * wave(0.2);
            torch.feedback(&action, reward).unwrap();
            engine.feedback(&action, reward).unwrap();
        }
    }
    (counts, differences)
}

/// They may differ where rounding decides, which is seldom.
#[test]
fn libtorch_and_the_engine_choose_alike() {
    let mut all = Vec::new();
    for how in [ChoiceName::Greedy, ChoiceName::Sampled] {
        let (counts, differences) = choices(how);
        let varied = counts.iter().filter(|&&n| n > 50).count();
        assert!(varied >= 2, "{counts:?} hardly vary");
        assert!(
            differences <= 2,
            "{how:?}: {differences} of 300 choices differ"
        );
        all.push(counts);
    }
    assert_ne!(all[0], all[1]);
}
