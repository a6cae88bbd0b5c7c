//! The baseline learns, acts on what it was trained on, and its two forward passes agree.

use dt_core::config::Math;
use host_sim::rollout::Controller;
use tch::Device;

use super::*;
use crate::algo::{Algorithm, Player, Setup};
use crate::collect::noise::Noise;
use crate::data::sampler::{Sampler, Trajectories};
use crate::nn::parameters::host_values;
use crate::run::checkpoint::{Progress, Weights};

const K: usize = 3;

fn bc() -> Bc {
    Bc {
        context_len: K as u32,
        d_model: 20,
        ..Bc::default()
    }
}

fn run() -> Run {
    let mut recipe = Recipe::new(bc());
    recipe.train.batch_size = 16;
    recipe.train.warmup_updates = 10;
    recipe.train.learning_rate = 3e-3;
    recipe.train.dropout = 0.0;
    recipe.train.grad_clip = 0.0;
    Run::for_tests(recipe, [&[0.5, -0.5], &[1.0, 2.0]], [&[-2.0], &[6.0]])
}

/// Episodes of 1, 25 and 34 steps whose action is the first component of the state two steps before, 0 where there
/// is none.
fn trajectories() -> Trajectories {
    let episode_lens = vec![1, 25, 34];
    let wave = |row: usize, k: f32| (1.0 + row as f32 * k).sin();
    let mut actions = Vec::new();
    let mut row = 0;
    for &len in &episode_lens {
        for t in 0..len {
            let delayed = if t < 2 { 0.0 } else { wave(row + t - 2, 0.7) };
            actions.push(0.8 * delayed);
        }
        row += len;
    }
    Trajectories {
        state_dim: 2,
        act_dim: 1,
        kind: Actions::Continuous,
        pixels: None,
        states: (0..row)
            .flat_map(|row| [wave(row, 0.7), wave(row, 1.3)])
            .collect(),
        actions,
        returns_to_go: vec![0.0; row],
        episode_lens,
        ..Trajectories::default()
    }
}

fn read(tensor: &Tensor) -> Vec<f32> {
    host_values(&tensor.flatten(0, -1))
}

#[test]
fn it_learns_what_only_the_oldest_state_tells() {
    let mut learner = bc().learner(Setup {
        recipe: &run().recipe,
        train: trajectories(),
        validation: trajectories(),
        device: Device::Cpu,
    });
    (0..400).for_each(|update| learner.update(update));
    learner.take_averages();
    (400..500).for_each(|update| learner.update(update));
    let loss = learner.take_averages().loss;
    // The actions' variance is 0.3.
    assert!(loss < 0.01, "{loss}");
}

/// For every transition: what the sampler stacks is what a player that lives through the episode sees.
#[test]
fn training_and_acting_see_the_same_states() {
    let (run, data) = (run(), trajectories());
    let mut sampler = Sampler::new(data.clone(), bc().draw(&run.recipe), 0, Device::Cpu);
    let mut seen = std::collections::BTreeMap::new();
    for update in 0..60 {
        let Inputs {
            states, actions, ..
        } = sampler.batch(update).inputs;
        for (stacked, action) in read(&states).chunks(2 * K).zip(read(&actions)) {
            let newest: Vec<u32> = stacked[2 * K - 2..].iter().map(|s| s.to_bits()).collect();
            seen.insert(newest, (stacked.to_vec(), action));
        }
    }
    assert_eq!(seen.len(), 60, "a transition was never drawn");

    let states = std::cell::RefCell::new(Vec::new());
    let mut player = Player::new(
        &run,
        Supervised::memory(&bc()),
        Math::Polynomial,
        |history, _| {
            *states.borrow_mut() = history.states();
        },
    );
    let mut row = 0;
    for len in data.episode_lens {
        player.reset(0, 0.0).unwrap();
        for row in row..row + len {
            let state = &data.states[2 * row..2 * row + 2];
            let (mean, std) = (&run.info.state_mean, &run.info.state_std);
            let observation: Vec<f32> = (0..2).map(|i| state[i] * std[i] + mean[i]).collect();
            player.act(&observation).unwrap();
            let key: Vec<u32> = state.iter().map(|s| s.to_bits()).collect();
            let (stacked, action) = &seen[&key];
            assert_eq!(*action, data.actions[row]);
            for (got, expected) in states.borrow().iter().zip(stacked) {
                // To units of the environment and back.
                assert!((got - expected).abs() < 1e-6, "row {row}: {got} {expected}");
            }
        }
        row += len;
    }
}

#[test]
fn both_forward_passes_agree_and_actions_stay_in_their_range() {
    let run = run();
    // Not libtorch's generator, which tests in parallel share.
    let mut noise = Noise::new(4, *b"weights ");
    let mut weights = Weights::default();
    for Parameter { name, shape, .. } in Supervised::parameters(&bc(), run.dims()) {
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        // Keeps the variance from layer to layer (He et al. 2015).
        let std = match shape[..] {
            [_, fan_in] => (2.0 / fan_in as f32).sqrt(),
            _ => 0.1,
        };
        let values = (0..shape.iter().product()).map(|_| std * noise.normal());
        weights.insert(name, shape.clone(), values.collect());
    }
    let checkpoint = Checkpoint {
        progress: Progress::default(),
        weights,
        optimizer: None,
    };
    let policy = run.recipe.algorithm.policy(&run, &checkpoint).unwrap();
    let mut ours = policy.controller();
    let mut torch = policy.reference(Device::Cpu).unwrap();
    assert!(!policy.is_conditioned());
    assert_eq!(policy.runner(), "engine");
    let mut actions = Vec::new();
    ours.reset(0, 1.0).unwrap();
    torch.reset(0, -1.0).unwrap();
    for t in 0..50 {
        let observation = [0.3_f32, 1.9].map(|k| 3.0 * (k * t as f32).sin());
        let action = ours.act(&observation).unwrap()[0];
        let expected = torch.act(&observation).unwrap()[0];
        ours.feedback(&[action], 1.0).unwrap();
        torch.feedback(&[expected], 2.0).unwrap();
        assert!((action - expected).abs() < 2e-5, "{action} {expected}");
        assert!((-2.0..=6.0).contains(&action));
        actions.push(action);
    }
    let mean = actions.iter().sum::<f32>() / 50.0;
    let variance = actions.iter().map(|a| (a - mean).powi(2)).sum::<f32>() / 50.0;
    assert!(variance.sqrt() > 0.5, "the actions hardly vary: {variance}");
    // An episode begins without a past.
    let first = ours.act(&[1.0, 2.0]).unwrap()[0];
    ours.reset(0, 0.0).unwrap();
    let fresh = ours.act(&[1.0, 2.0]).unwrap()[0];
    ours.reset(0, 0.0).unwrap();
    assert_eq!(ours.act(&[1.0, 2.0]).unwrap()[0], fresh);
    assert_ne!(first, fresh);
}
