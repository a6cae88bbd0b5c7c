//! Policies in closed loop, through the public API.

mod common;

use common::{config, random_policy};
use dt_core::blob::RewardMode;
use dt_core::config::{Actions, Config, Head};
use host_sim::Controller;
use host_sim::policy_file::{EnvMismatch, PolicyFile, PolicyFileError};
use host_sim::rollout::{Episode, Plan, Recorder, rollout};
use host_sim::trace::{self, Tape, Trace};
use host_sim::{make, maker};

fn pendulum_policy(reward: RewardMode) -> PolicyFile {
    random_policy(config(3, 1), "pendulum", reward)
}

fn run<R: Recorder + Default + Send>(
    policy: &PolicyFile,
    target_return: f32,
    threads: usize,
) -> Vec<(Episode, R)> {
    let plan = Plan {
        target_return,
        episodes: 9,
        seed: 100,
        threads,
    };
    rollout(
        &plan,
        maker("pendulum").unwrap(),
        policy.controllers(),
        |_| {},
    )
    .unwrap()
}

#[test]
fn results_and_recordings_do_not_depend_on_threads() {
    let policy = pendulum_policy(RewardMode::Observed);
    let one: Vec<(Episode, Tape)> = run(&policy, -150.0, 1);
    assert_eq!(one, run(&policy, -150.0, 2));
    assert_eq!(one, run(&policy, -150.0, 5));
    assert_ne!(one, run(&policy, -1500.0, 2), "the target has an effect");
}

/// A recording holds what the policy saw and did: running it again gives the same bits.
#[test]
fn a_recording_can_be_replayed_step_by_step() {
    let policy = pendulum_policy(RewardMode::Observed);
    let episodes: Vec<(Episode, Tape)> = run(&policy, -150.0, 2);
    let header = trace::Header {
        env: "pendulum",
        policy_crc: policy.crc(),
        state_dim: 3,
        act_dim: 1,
    };
    let starts = episodes
        .iter()
        .map(|(done, tape)| (done.seed, -150.0, tape));
    let bytes = trace::emit(&header, starts).unwrap();
    let mut words = vec![0u32; bytes.len() / 4];
    bytemuck::cast_slice_mut::<u32, u8>(&mut words).copy_from_slice(&bytes);
    let trace = Trace::parse(bytemuck::cast_slice(&words)).unwrap();
    assert_eq!(trace.policy_crc.to_le_bytes(), policy.bytes()[12..16]);

    let blob = policy.blob();
    let arena = vec![0; blob.manifest().config.arena_words()];
    let mut engine = dt_core::Policy::new(&blob, arena).unwrap();
    let mut env = make("pendulum").unwrap();
    let mut distinct = std::collections::HashSet::new();
    for (recorded, (done, _)) in trace.iter().zip(&episodes) {
        assert_eq!((recorded.seed, recorded.steps()), (done.seed, 200));
        env.reset(recorded.seed);
        engine.reset(recorded.target_return).unwrap();
        let mut total_reward = 0.0;
        for step in recorded.iter() {
            let mut observation = [0.0; 3];
            env.observation(&mut observation);
            assert_eq!(bits(&observation), bits(step.observation));
            let action = engine.act(step.observation).unwrap();
            assert_eq!(bits(action), bits(step.action));
            distinct.insert(action[0].to_bits());
            let reward = env.step(step.action).reward;
            assert_eq!((reward as f32).to_bits(), step.reward.to_bits());
            engine.absorb(step.action).unwrap();
            engine.observe_reward(step.reward).unwrap();
            total_reward += reward;
        }
        assert_eq!(total_reward, done.total_reward);
    }
    assert!(distinct.len() > 100, "the policy reacts to what it sees");
}

/// What a policy draws in an episode follows from the episode's seed, not from the episodes before it.
#[test]
fn an_episode_draws_with_its_seed() {
    let config = Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        ..config(4, 2)
    };
    let policy = random_policy(config, "cartpole", RewardMode::Observed);
    let run = |episodes, seed, threads| -> Vec<(Episode, Tape)> {
        let plan = Plan {
            target_return: 100.0,
            episodes,
            seed,
            threads,
        };
        let make_env = maker("cartpole").unwrap();
        rollout(&plan, make_env, policy.controllers(), |_| {}).unwrap()
    };
    let all = run(9, 100, 1);
    assert_eq!(all, run(9, 100, 3));
    assert_eq!(all[5..], run(4, 105, 1));

    // One state, and nothing but the seed to tell episodes apart.
    let chosen = |seed| -> Vec<f32> {
        let mut controller = policy.controllers()();
        controller.reset(seed, 100.0).unwrap();
        let act = |_| {
            let action = controller.act(&[0.0; 4]).unwrap().to_vec();
            controller.feedback(&[0.0], 1.0).unwrap();
            action[0]
        };
        (0..50).map(act).collect()
    };
    assert_eq!(chosen(1), chosen(1));
    assert_ne!(chosen(1), chosen(2));
}

/// With an external return-to-go the rollout keeps the count that the policy would have kept.
#[test]
fn external_bookkeeping_equals_the_policys_own() {
    let returns = |mode| -> Vec<f64> {
        let episodes = run::<()>(&pendulum_policy(mode), -150.0, 2);
        episodes
            .iter()
            .map(|(done, ())| done.total_reward)
            .collect()
    };
    let observed = returns(RewardMode::Observed);
    assert_eq!(observed, returns(RewardMode::External));
    assert_ne!(observed, returns(RewardMode::Constant));
}

#[test]
fn policies_for_something_else_are_refused() {
    let env = make("pendulum").unwrap();
    let fit = |policy: &PolicyFile| policy.check_env(&env.spec());
    let policy = |state_dim, act_dim, env| {
        random_policy(config(state_dim, act_dim), env, RewardMode::Observed)
    };
    assert_eq!(fit(&policy(3, 1, "pendulum")), Ok(()));
    assert_eq!(fit(&policy(3, 1, "")), Ok(()));
    assert_eq!(
        fit(&policy(3, 1, "hopper-v4")).unwrap_err().to_string(),
        "the policy was trained for environment `hopper-v4`, not `pendulum`"
    );
    assert_eq!(
        fit(&policy(4, 1, "")).unwrap_err().to_string(),
        "the policy has state_dim 4, but environment `pendulum` has state_dim 3"
    );
    assert!(matches!(
        fit(&policy(3, 2, "")),
        Err(EnvMismatch::Dimension {
            field: "act_dim",
            ..
        })
    ));
}

#[test]
fn a_damaged_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.dtb");
    let mut bytes = pendulum_policy(RewardMode::Observed).bytes().to_vec();
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(PolicyFile::load(&path).unwrap().bytes(), bytes);
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = PolicyFile::load(&path).unwrap_err();
    assert!(matches!(error, PolicyFileError::Blob { .. }));
    assert!(error.to_string().contains("policy.dtb: "), "{error}");
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
