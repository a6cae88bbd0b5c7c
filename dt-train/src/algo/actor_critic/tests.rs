//! What every rival is tested by: losses that NumPy computes by the papers' formulas, a task that imitation fails at, and
//! checkpoints that lose nothing.

use super::*;
use crate::algo::awr::Awr;
use crate::algo::cql::Cql;
use crate::algo::iql::Iql;
use crate::algo::td3bc::Td3Bc;
use crate::data::prepare::one_hot;
use crate::nn::parameters::host_values;

/// Values f(k) of number k, as `tests/reference/rivals.py` has them.
pub fn wave(shape: &[i64], frequency: f64, phase: f64, scale: f64) -> Tensor {
    let n: i64 = shape.iter().product();
    let values: Vec<f32> = (0..n)
        .map(|k| (scale * (frequency * k as f64 + phase).sin()) as f32)
        .collect();
    Tensor::from_slice(&values).view(shape)
}

/// The batch of `tests/reference/rivals.py`: five transitions with states of three and actions of two numbers.
pub fn batch() -> Transition {
    let states = wave(&[5, 3], 0.9, 0.0, 1.0);
    let actions = wave(&[5, 2], 1.3, 1.0, 0.8);
    Transition {
        state_actions: Tensor::cat(&[&states, &actions], 1),
        states,
        actions,
        next_states: wave(&[5, 3], 1.1, 2.0, 1.0),
        rewards: wave(&[5], 1.0, 3.0, 1.0),
        continues: Tensor::from_slice(&[1.0f32, 1.0, 0.0, 1.0, 1.0]),
        returns: wave(&[5], 1.7, 4.0, 2.0),
        end_weights: wave(&[5], 0.4, 1.0, 1.0).square(),
        ends: wave(&[5, 3], 0.6, 5.0, 1.0),
    }
}

/// The networks of `tests/reference/rivals.py`.
pub fn networks<A: ActorCritic>(algorithm: &A) -> Vec<Part> {
    networks_of(algorithm, Dims::vectors(3, 2))
}

/// The same for other actions.
pub fn networks_of<A: ActorCritic>(algorithm: &A, dims: Dims) -> Vec<Part> {
    let recipe = Train::default();
    let networks = algorithm.networks(dims);
    let list = |network: &Network| match network {
        Network::Learned(list) => (list.clone(), Some(&recipe)),
        Network::Following(i) => match &networks[*i] {
            Network::Learned(list) => (list.clone(), None),
            Network::Following(_) => unreachable!("a target is no target's"),
        },
    };
    let parts = networks.iter().enumerate().map(|(place, network)| {
        let (list, recipe) = list(network);
        let mut first = 0;
        let values = Flat::new(parameters::layout(&list), Device::Cpu, |_, view| {
            let n = view.numel() as i64;
            let phase = 0.7 * first as f64 + place as f64;
            view.copy_(&wave(&[n], 0.7, phase, 0.4).view(view.size().as_slice()));
            first += n;
        });
        Part::new(values, recipe)
    });
    parts.collect()
}

/// The losses of an update, by network.
pub fn losses<A: ActorCritic>(algorithm: &A) -> Vec<f64> {
    let mut networks = networks(algorithm);
    let step = Step {
        update: 1,
        actor_rate: 0.0,
        critic_rate: 0.0,
        dropout: 0.0,
    };
    algorithm.update(&mut networks, &batch(), &step);
    let sums = networks.iter().map(|part| part.loss_sum.double_value(&[]));
    sums.collect()
}

/// Networks as small as those of `tests/reference/rivals.py`.
macro_rules! tiny {
    ($algorithm:ident) => {
        $algorithm {
            d_model: 4,
            n_layer: 2,
            ..$algorithm::default()
        }
    };
}
pub(in crate::algo) use tiny;

pub fn assert_near(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let tolerance = 2e-6 * (1.0 + expected.abs());
        assert!((got - expected).abs() < tolerance, "{got} {expected}");
    }
}

/// Episodes of two steps. The first, uniform action is where the second step finds itself; how near that is to 0.5 is the
/// second step's reward, whatever is done then. So what the first action is worth shows only in what comes after it, and its
/// mean, which imitation learns, is 0.
fn two_steps() -> Trajectories {
    let mut data = Trajectories {
        state_dim: 2,
        act_dim: 1,
        ..Trajectories::default()
    };
    for i in 0..1000_u32 {
        let place = (i * 617 % 1000) as f32 / 500.0 - 1.0;
        let other = (i * 389 % 1000) as f32 / 500.0 - 1.0;
        data.states.extend([0.0, 1.0, place, 0.0]);
        data.actions.extend([place, other]);
        data.rewards.extend([0.0, -(place - 0.5).abs()]);
        data.returns_to_go.extend([-(place - 0.5).abs(); 2]);
        data.episode_lens.push(2);
        data.ends.push(End::Terminal);
    }
    data
}

fn learning<A: ActorCritic>(algorithm: &A, set: impl Fn(&mut Train)) -> Learning<A>
where
    Judged<A>: DeserializeOwned,
{
    learning_from(algorithm, &two_steps(), set)
}

fn learning_from<A: ActorCritic>(
    algorithm: &A,
    data: &Trajectories,
    set: impl Fn(&mut Train),
) -> Learning<A>
where
    Judged<A>: DeserializeOwned,
{
    tch::set_num_threads(1);
    let mut recipe = Recipe::new(Judged(algorithm.clone()));
    recipe.train.batch_size = 64;
    recipe.train.learning_rate = 3e-3;
    set(&mut recipe.train);
    Judged(algorithm.clone()).check(&recipe).unwrap();
    let setup = Setup {
        recipe: &recipe,
        train: data.clone(),
        validation: data.clone(),
        device: Device::Cpu,
    };
    Learning::new(algorithm.clone(), setup)
}

/// What it does first.
fn first_action<A: ActorCritic>(learning: &Learning<A>) -> f32 {
    let common = learning.algorithm.common();
    let first = Tensor::from_slice(&[0.0f32, 1.0]).view([1, 2]);
    let network = learning.parts[0].bound();
    host_values(&common.act(&network, &first, Mode::Acting))[0]
}

fn finds_the_best_first_action<A: ActorCritic>(algorithm: &A, updates: u64)
where
    Judged<A>: DeserializeOwned,
{
    let mut learning = learning(algorithm, |_| {});
    (0..updates).for_each(|update| learning.update(update));
    let action = first_action(&learning);
    assert!((action - 0.5).abs() < 0.15, "{}: {action}", A::NAME);
    let Averages { loss, .. } = learning.take_averages();
    assert!(loss.is_finite());
    // It is further from the data's actions than their mean, by the way.
    let error = learning.validate().unwrap();
    assert!(error.held_out > 0.34, "{}: {error:?}", A::NAME);
}

/// The same network, data and optimizer, without what judges: the mean of all first actions.
#[test]
fn imitation_fails_at_the_task() {
    let recipe = {
        let mut recipe = Recipe::new(Bc::default());
        recipe.train.warmup_updates = 0;
        recipe.train.dropout = 0.0;
        recipe.train.learning_rate = 3e-3;
        recipe
    };
    let common = Common {
        d_model: 32,
        ..Td3Bc::default().common()
    };
    let bc = common.actor(Actions::Continuous);
    let mut learner = Algorithm::learner(
        &bc,
        Setup {
            recipe: &recipe,
            train: two_steps(),
            validation: Trajectories::default(),
            device: Device::Cpu,
        },
    );
    (0..300).for_each(|update| learner.update(update));
    let checkpoint = learner.save(Progress::default());
    let list = Supervised::parameters(&bc, Dims::vectors(2, 1));
    let flat = parameters::loaded(&list, &checkpoint.weights, Device::Cpu).unwrap();
    let first = Tensor::from_slice(&[0.0f32, 1.0]).view([1, 2]);
    let action = common.act(&Bound::frozen(&flat), &first, Mode::Acting);
    let action = host_values(&action)[0];
    assert!(action.abs() < 0.2, "{action}");
}

#[test]
fn td3bc_finds_what_imitation_does_not() {
    let algorithm = Td3Bc {
        d_model: 32,
        critic_learning_rate: 3e-3,
        tau: 0.02,
        alpha: 10.0,
        ..Td3Bc::default()
    };
    finds_the_best_first_action(&algorithm, 1000);
}

#[test]
fn iql_finds_what_imitation_does_not() {
    let algorithm = Iql {
        d_model: 32,
        critic_learning_rate: 3e-3,
        tau: 0.02,
        beta: 10.0,
        normalize_rewards: false,
        ..Iql::default()
    };
    finds_the_best_first_action(&algorithm, 1000);
}

#[test]
fn awr_finds_what_imitation_does_not() {
    let algorithm = Awr {
        d_model: 32,
        critic_learning_rate: 3e-3,
        temperature: 0.2,
        ..Awr::default()
    };
    finds_the_best_first_action(&algorithm, 600);
}

#[test]
fn cql_finds_what_imitation_does_not() {
    let algorithm = Cql {
        d_model: 32,
        n_layer: 2,
        critic_learning_rate: 3e-3,
        tau: 0.02,
        alpha: 0.1,
        n_actions: 4,
        ..Cql::default()
    };
    finds_the_best_first_action(&algorithm, 1000);
}

/// The same task with choices: the first leads to place −1, 0, 0.5 or 1, the second does nothing. Imitation likes all alike.
#[test]
fn cql_finds_the_best_first_choice() {
    let algorithm = Cql {
        d_model: 32,
        n_layer: 2,
        critic_learning_rate: 3e-3,
        tau: 0.02,
        alpha: 0.1,
        ..Cql::default()
    };
    let mut data = Trajectories {
        state_dim: 2,
        act_dim: 4,
        kind: Actions::Discrete,
        ..Trajectories::default()
    };
    for i in 0..400 {
        let [first, second] = [i % 4, i / 4 % 4];
        let place = [-1.0, 0.0, 0.5, 1.0][first];
        data.states.extend([0.0, 1.0, place, 0.0]);
        data.actions
            .extend(one_hot(&[first as u32, second as u32], 4));
        data.rewards.extend([0.0, -(place - 0.5).abs()]);
        data.episode_lens.push(2);
        data.ends.push(End::Terminal);
    }
    let mut learning = learning_from(&algorithm, &data, |_| {});
    let start = learning.validate().unwrap();
    (0..600).for_each(|update| learning.update(update));
    let network = learning.parts[0].bound();
    let first = Tensor::from_slice(&[0.0f32, 1.0]).view([1, 2]);
    let worth = algorithm.common().logits(&network, &first, Mode::Acting);
    let worth = host_values(&worth);
    assert!(worth.iter().all(|other| *other <= worth[2]), "{worth:?}");
    // Half a unit better than its neighbours, but for what doubt takes away from all.
    assert!(
        worth[2] - worth[1] > 0.2 && worth[2] - worth[3] > 0.2,
        "{worth:?}"
    );
    drop(network);
    let end = learning.validate().unwrap();
    assert!(end.held_out > start.held_out, "{start:?} {end:?}");
    let accuracy = end.accuracy.unwrap();
    assert!(
        (0.15..0.35).contains(&accuracy),
        "one choice of four: {accuracy}"
    );
}

/// Stopped after an odd number of updates, so that a delayed actor is one behind; with dropout and every noise there is.
fn resumes_to_the_bit<A: ActorCritic>(algorithm: &A)
where
    Judged<A>: DeserializeOwned,
{
    let start = || {
        learning(algorithm, |train| {
            train.dropout = 0.1;
            train.weight_decay = 1e-3;
        })
    };
    let mut whole = start();
    (0..5).for_each(|update| whole.update(update));
    let progress = |update| Progress { update, best: None };
    let middle = whole.save(progress(5));
    (5..11).for_each(|update| whole.update(update));
    let expected = whole.save(progress(11));
    assert_ne!(expected.weights, middle.weights);

    let mut resumed = start();
    resumed.restore(&middle).unwrap();
    assert_eq!(resumed.save(progress(5)), middle);
    (5..11).for_each(|update| resumed.update(update));
    assert_eq!(resumed.save(progress(11)), expected, "{}", A::NAME);

    // Weights alone, as --init-from has them, are another start.
    let mut other = start();
    other.start_from(&middle.weights).unwrap();
    assert_eq!(other.save(progress(0)).weights, middle.weights);
    (5..11).for_each(|update| other.update(update));
    assert_ne!(other.save(progress(11)), expected);
    let without = Checkpoint {
        optimizer: None,
        ..middle
    };
    assert!(start().restore(&without).is_err());
}

#[test]
fn checkpoints_hold_all_that_updates_follow_from() {
    resumes_to_the_bit(&tiny!(Td3Bc));
    resumes_to_the_bit(&tiny!(Iql));
    resumes_to_the_bit(&tiny!(Awr));
    resumes_to_the_bit(&tiny!(Cql));
}

#[test]
fn choices_and_data_without_a_next_state_are_refused_by_name() {
    let algorithm = Judged(Iql::default());
    let choices = Dims {
        actions: Actions::Discrete,
        ..Dims::vectors(3, 2)
    };
    algorithm.fits(Dims::vectors(3, 2)).unwrap();
    let error = algorithm.fits(choices).unwrap_err().to_string();
    assert!(
        error.contains("`iql`") && error.contains("--algo dt, bc or cql"),
        "{error}"
    );

    let mut data = two_steps();
    algorithm.accepts(&data).unwrap();
    data.ends.fill(End::Cut(None));
    algorithm.accepts(&data).unwrap();
    data.episode_lens = vec![1; 1000];
    let error = algorithm.accepts(&data).unwrap_err().to_string();
    assert!(
        error.contains("`iql` learns from what came after"),
        "{error}"
    );
    data.ends[7] = End::Terminal;
    algorithm.accepts(&data).unwrap();
}

#[test]
fn an_average_of_parameters_is_refused() {
    let algorithm = Judged(Awr::default());
    let mut recipe = Recipe::new(algorithm.clone());
    algorithm.check(&recipe).unwrap();
    recipe.train.ema_decay = 0.9;
    assert_eq!(algorithm.check(&recipe).unwrap_err().key, "train.ema_decay");
}
