//! MuJoCo environments from outside: rollouts, initial states, the example robot.
#![cfg(feature = "mujoco")]

mod common;
mod workplace;

use host_sim::Space;
use host_sim::env::{Env, StateError};
use predicates::str::contains;
use workplace::Workplace;

const CARTPOLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/cartpole/cartpole.toml"
);

#[test]
fn a_policy_runs_in_every_version() {
    let w = Workplace::new();
    w.policy("p.dtb", "hopper", 11, 3);
    for env in ["hopper", "hopper-v4", "hopper-v5"] {
        w.run(&format!(
            "rollout p.dtb --env {env} --target-return 3600 --episodes 4 --seed 5 --json {env}.json"
        ))
        .success()
        .stdout(contains(format!(
            "p.dtb in {env}: 4 episode(s), seeds 5 to 8"
        )))
        .stdout(contains("score"));
    }
    let [bare, v4, v5] =
        ["hopper", "hopper-v4", "hopper-v5"].map(|env| w.evaluation(&format!("{env}.json")));
    assert_eq!(bare.episodes, v5.episodes);
    let score = 100.0 * (bare.mean_return + 20.272305) / (3234.3 + 20.272305);
    assert_eq!(bare.normalized_score, Some(score));
    for (v4, v5) in v4.episodes.iter().zip(&v5.episodes) {
        assert!(
            v4.length == v5.length && v4.length < 1000,
            "a random policy falls"
        );
        // v4 also rewards the step that ends the episode.
        assert!((v4.total_reward - v5.total_reward - 1.0).abs() < 1e-9);
    }
    assert!(!w.path("MUJOCO_LOG.TXT").exists());
}

#[test]
fn threads_do_not_change_results() {
    let w = Workplace::new();
    w.policy("p.dtb", "walker2d", 17, 6);
    for threads in ["1", "2", "5"] {
        w.run(&format!(
            "rollout p.dtb --env walker2d --target-return 9 --episodes 11 --threads {threads} --json {threads}"
        ))
        .success();
    }
    assert_eq!(w.evaluation("1"), w.evaluation("2"));
    assert_eq!(w.evaluation("1"), w.evaluation("5"));
}

#[test]
fn an_instance_forgets_its_past() {
    for name in host_sim::registry::NAMES {
        let (mut used, mut fresh) = (host_sim::make(name).unwrap(), host_sim::make(name).unwrap());
        let action = match used.spec().action {
            Space::Discrete { .. } => vec![1.0],
            _ => vec![0.7; used.spec().act_dim()],
        };
        used.reset(1);
        for _ in 0..30 {
            used.step(&action);
        }
        used.reset(2);
        fresh.reset(2);
        for _ in 0..30 {
            assert_eq!(observed(used.as_ref()), observed(fresh.as_ref()), "{name}");
            assert_eq!(used.step(&action), fresh.step(&action), "{name}");
        }
    }
}

fn observed(env: &dyn Env) -> Vec<f64> {
    let mut observation = vec![0.0; env.spec().state_dim()];
    env.observation_f64(&mut observation);
    let mut rounded = vec![0.0; env.spec().state_dim()];
    env.observation(&mut rounded);
    let expected: Vec<f32> = observation.iter().map(|value| *value as f32).collect();
    assert_eq!(rounded, expected);
    observation
}

/// Mean and spread of the initial states, against the distributions in Gymnasium's source.
#[test]
fn initial_states_are_distributed_as_described() {
    let sample = |name: &str| -> Vec<Vec<f64>> {
        let mut env = host_sim::make(name).unwrap();
        (0..2000)
            .map(|seed| {
                env.reset(seed);
                observed(env.as_ref())
            })
            .collect()
    };
    let column =
        |rows: &[Vec<f64>], i: usize| -> Vec<f64> { rows.iter().map(|row| row[i]).collect() };
    let spread =
        |values: &[f64]| (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
    let largest = |values: &[f64]| values.iter().fold(0.0, |a: f64, b| a.max(b.abs()));

    let hopper = sample("hopper");
    // Height 1.25 ± 0.005; uniform, so the standard deviation is 0.005/√3.
    let height: Vec<f64> = column(&hopper, 0).iter().map(|z| z - 1.25).collect();
    assert!(largest(&height) <= 0.005 && (spread(&height) - 0.005 / 3f64.sqrt()).abs() < 1e-4);
    let speed = column(&hopper, 7);
    assert!(largest(&speed) <= 0.005 && (spread(&speed) - 0.005 / 3f64.sqrt()).abs() < 1e-4);

    let speed = column(&sample("halfcheetah"), 9);
    assert!(
        (spread(&speed) - 0.1).abs() < 0.005 && largest(&speed) > 0.25,
        "normal"
    );

    let reacher = sample("reacher");
    let target = reacher.iter().map(|row| row[4].hypot(row[5]));
    let inside = target.clone().filter(|r| *r < 0.1).count();
    assert!(
        target.clone().all(|r| r < 0.2) && (400..600).contains(&inside),
        "{inside}"
    );
    // The paper's target lies between 0.5 and 1 around the shoulder.
    let target = sample("reacher-dt")
        .into_iter()
        .map(|row| row[8].hypot(row[9]));
    let (low, high) = target.fold((9.0_f64, 0.0_f64), |(low, high), r| {
        (low.min(r), high.max(r))
    });
    assert!(
        (0.5..0.52).contains(&low) && (0.98..1.0).contains(&high),
        "{low} {high}"
    );
}

/// The pole of the example can be swung up: pushing with its swing pumps energy in.
#[test]
fn the_example_robot_works() {
    let mut env = host_sim::make(CARTPOLE).unwrap();
    let spec = env.spec();
    assert_eq!(
        (spec.id, spec.state_dim(), spec.act_dim()),
        ("cartpole", 5, 1)
    );
    assert_eq!(
        spec.action,
        Space::Box {
            low: &[-1.0],
            high: &[1.0]
        }
    );
    assert_eq!(
        (spec.control_period_us, spec.max_episode_steps),
        (20_000, 500)
    );
    assert_eq!(spec.observation_bounds().unwrap()[1][4], 20.0);
    env.reset(3);
    let (mut total, mut best) = (0.0, -1.0_f64);
    for t in 1..=500 {
        let x = observed(env.as_ref());
        let (cos, swing) = (x[1], x[4]);
        // Accelerating the cart against the swing lifts the pole; a spring keeps the cart near the middle.
        let push = -0.35 * (swing * cos).signum() - 0.4 * x[0] - 0.2 * x[3];
        let step = env.step(&[push as f32]);
        let x = observed(env.as_ref());
        let control = f64::from(-0.01_f32 * (push as f32 * push as f32));
        let healthy = if step.terminated { 0.0 } else { 0.5 };
        let height = -0.5 * x[1];
        assert_eq!(
            step.reward,
            healthy + height + -0.05 * (x[0] * x[0]) + control
        );
        assert_eq!(step.truncated, t == 500);
        total += step.reward;
        best = best.max(-x[1]);
        if step.terminated {
            break;
        }
    }
    assert!(
        best > 0.9,
        "the highest point is {best}, the return {total}"
    );
}

#[test]
fn states_of_the_wrong_size_are_refused() {
    let mut env = host_sim::make("hopper").unwrap();
    let error = env.set_state(&[0.0; 5], &[0.0; 6]).unwrap_err();
    assert!(matches!(
        error,
        StateError::WrongLength {
            field: "qpos",
            expected: 6,
            got: 5
        }
    ));
    let error = env
        .set_state(&[0.0; 6], &[0.0, f64::NAN, 0.0, 0.0, 0.0, 0.0])
        .unwrap_err();
    assert_eq!(
        error,
        StateError::NonFinite {
            field: "qvel",
            index: 1
        }
    );
}
