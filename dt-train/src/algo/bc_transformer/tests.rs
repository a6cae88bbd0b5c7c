//! It is told no return, whatever it is asked for.

use dt_core::blob::RewardMode;
use host_sim::rollout::Controller;
use tch::Device;

use super::*;
use crate::algo::{Algorithm, Setup};
use crate::data::sampler::Trajectories;
use crate::run::checkpoint::Progress;

fn run() -> Run {
    let algorithm = BcTransformer(Dt {
        d_model: 16,
        n_layer: 2,
        n_head: 2,
        context_len: 3,
        max_ep_len: 20,
        ..Dt::default()
    });
    let mut recipe = Recipe::new(algorithm);
    recipe.train.batch_size = 16;
    recipe.train.warmup_updates = 1;
    recipe.train.learning_rate = 1e-3;
    recipe.control.reward = RewardMode::Observed;
    Run::for_tests(recipe, [&[0.5, -0.5], &[1.0, 2.0]], [&[-2.0], &[6.0]])
}

fn trajectories() -> Trajectories {
    let wave = |t: usize, k: f32| (1.0 + t as f32 * k).sin();
    Trajectories {
        state_dim: 2,
        act_dim: 1,
        states: (0..40).flat_map(|t| [wave(t, 0.7), wave(t, 1.3)]).collect(),
        actions: (0..40).map(|t| 0.8 * wave(t, 0.7)).collect(),
        returns_to_go: (0..40).map(|t| wave(t, 0.3)).collect(),
        episode_lens: vec![20, 20],
        ..Trajectories::default()
    }
}

fn trained(run: &Run) -> Checkpoint {
    let mut learner = run.recipe.algorithm.learner(Setup {
        recipe: &run.recipe,
        train: trajectories(),
        validation: Trajectories::default(),
        device: Device::Cpu,
    });
    (0..20).for_each(|update| learner.update(update));
    learner.save(Progress::default())
}

#[test]
fn no_target_return_changes_a_bit_of_its_actions() {
    let run = run();
    let checkpoint = trained(&run);
    let weights = checkpoint.weights.get(EMBED_RETURN, &[16, 1]).unwrap();
    // Through weight decay, dropout and Adam.
    assert_eq!(weights, [0.0; 16]);
    let start = run.recipe.algorithm.parameters(run.dims());
    assert!(start.iter().any(|p| p.name == EMBED_RETURN));
    let policy = run.recipe.algorithm.policy(&run, &checkpoint).unwrap();
    assert!(!policy.is_conditioned());
    let actions = |mut controller: crate::algo::BoxedController<'_>, target| {
        controller.reset(0, target).unwrap();
        let actions = (0..10).map(|t| {
            let observation = [0.3_f32, 1.9].map(|k| (k * t as f32).sin());
            let action = controller.act(&observation).unwrap()[0];
            controller.feedback(&[action], 1.5).unwrap();
            action
        });
        actions.collect::<Vec<_>>()
    };
    let of = |target| actions(policy.controller(), target);
    let expected = of(0.0);
    assert_eq!(of(-700.0), expected);
    assert_eq!(of(1e6), expected);
    assert_ne!(expected[0], expected[1]);
    let reference = actions(policy.reference(Device::Cpu).unwrap(), 55.0);
    for (got, expected) in expected.iter().zip(reference) {
        assert!((got - expected).abs() < 1e-4, "{got} {expected}");
    }
}

#[test]
fn it_learns_the_same_whatever_the_data_earned() {
    let run = run();
    let first = trained(&run);
    let mut other = trajectories();
    other.returns_to_go.iter_mut().for_each(|r| *r = 3.0 - *r);
    let mut learner = run.recipe.algorithm.learner(Setup {
        recipe: &run.recipe,
        train: other,
        validation: Trajectories::default(),
        device: Device::Cpu,
    });
    (0..20).for_each(|update| learner.update(update));
    assert_eq!(learner.save(Progress::default()), first);
}

#[test]
fn its_keys_are_refused_under_its_own_name() {
    let check = |change: fn(&mut Dt)| {
        let mut algorithm = BcTransformer::default();
        change(&mut algorithm.0);
        let recipe = Recipe::new(algorithm.clone());
        Algorithm::check(&algorithm, &recipe).map_err(|refusal| refusal.key)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let refused = |key: &str| Err(key.to_owned());
    assert_eq!(
        check(|dt| dt.start_fraction = 2.0),
        refused("bc-transformer.start_fraction")
    );
    assert_eq!(check(|dt| dt.n_head = 5), refused("bc-transformer"));
    assert_eq!(
        check(|dt| dt.predict_return = -1.0),
        refused("bc-transformer.predict_return")
    );
}

/// The return is in its loss, but not in what it sees: losses of other returns differ, and the gradient with respect to what
/// would tell it of them is 0.
#[test]
fn it_can_predict_the_return_that_it_does_not_see() {
    let mut algorithm = BcTransformer::default();
    algorithm.0.predict_return = 1.0;
    algorithm.0.sequence_len = 10;
    assert!(Supervised::learns_from_rewards(&algorithm));
    let dims = Dims::vectors(2, 1);
    let list = Supervised::parameters(&algorithm, dims);
    let flat = crate::nn::parameters::draw(&list, 3, Device::Cpu);
    let loss = |shift: f64| {
        let draw = algorithm.draw(&Recipe::new(algorithm.clone()));
        let mut sampler = crate::data::sampler::Sampler::new(trajectories(), draw, 0, Device::Cpu);
        let mut batch = sampler.batch(0);
        batch.inputs.returns_to_go += shift;
        let network = Bound::trainable(&flat);
        algorithm.loss(dims, &network, &batch, Mode::Acting).value
    };
    let (first, other) = (loss(0.0), loss(2.0));
    assert!((first.double_value(&[]) - other.double_value(&[])).abs() > 0.1);
    let gradients = flat.split(&flat.gradient(&other));
    let place = list.iter().position(|p| p.name == EMBED_RETURN).unwrap();
    assert_eq!(gradients[place].abs().max().double_value(&[]), 0.0);
    // That of the token's bias is not.
    assert!(gradients[place + 1].abs().max().double_value(&[]) > 0.0);
}
