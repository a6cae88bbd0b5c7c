//! host-sim's pendulum against Gymnasium's, episode by episode.
//!
//! `data/pendulum.safetensors` holds episodes of Gymnasium 1.4.0's Pendulum-v1, made by
//! `reference/pendulum.py` (its docstring says how): swing-ups, saturated and subnormal torques,
//! many turns, speeds beyond the limit, and the edges of the angle's range.

use host_sim::env::Env;
use host_sim::pendulum::{LibmTrig, Pendulum, StdTrig, Trig};
use host_sim::replay::replay;
use tests::plant::{Case, Episodes};

static DATA: &[u8] = include_bytes!("../data/pendulum.safetensors");

/// One episode of the reference: T actions, T + 1 observations and states.
struct Reference {
    case: String,
    actions: Vec<f32>,
    observations: Vec<[f32; 3]>,
    rewards: Vec<f64>,
    /// θ and θ̇.
    states: Vec<[f64; 2]>,
    truncated: Vec<bool>,
}

fn references() -> Vec<Reference> {
    let file = Episodes::new(DATA);
    let reference = |case: &Case<'_>| Reference {
        case: case.name.to_owned(),
        actions: case.f32s::<1>("actions").into_iter().flatten().collect(),
        observations: case.f32s("observations"),
        rewards: case.numbers("rewards"),
        states: case.f64s("states"),
        truncated: case.flags("truncated"),
    };
    file.cases().iter().map(reference).collect()
}

fn at<T: Trig>([theta, theta_dot]: [f64; 2]) -> Pendulum<T> {
    let mut env = Pendulum::new();
    env.set_state(&[theta], &[theta_dot]).unwrap();
    env
}

fn bits(observation: &[f32]) -> Vec<u32> {
    observation.iter().map(|value| value.to_bits()).collect()
}

fn observed(env: &impl Env) -> [f32; 3] {
    let mut observation = [0.0; 3];
    env.observation(&mut observation);
    observation
}

/// Nothing is corrected in between: after 205 steps the state is still the same to the bit, and so were all rewards.
#[test]
fn whole_episodes_are_gymnasiums_to_the_bit() {
    let references = references();
    assert_eq!(references.len(), 15);
    for reference in references {
        let case = &reference.case;
        assert_eq!(reference.actions.len(), 205);
        let mut env = at::<StdTrig>(reference.states[0]);
        assert_eq!(
            bits(&observed(&env)),
            bits(&reference.observations[0]),
            "{case}"
        );
        for (t, action) in reference.actions.iter().enumerate() {
            let step = env.step(&[*action]);
            let expected = bits(&reference.observations[t + 1]);
            assert_eq!(bits(&observed(&env)), expected, "{case}, step {t}");
            let state = [env.state().0, env.state().1];
            assert_eq!(state, reference.states[t + 1], "{case}, step {t}");
            assert_eq!(
                step.reward.to_bits(),
                reference.rewards[t].to_bits(),
                "{case}, step {t}"
            );
            assert_eq!(step.truncated, reference.truncated[t], "{case}, step {t}");
            assert!(!step.terminated);
        }
    }
}

/// With libm's sines, as rollouts and the controller have them, single steps stay within rounding
/// of Gymnasium's; over an episode the difference may grow, as it does between C libraries.
#[test]
fn single_steps_with_libm_differ_by_rounding_only() {
    for reference in references() {
        let case = &reference.case;
        for (t, action) in reference.actions.iter().enumerate() {
            let mut env = at::<LibmTrig>(reference.states[t]);
            let step = env.step(&[*action]);
            // To 1e-9 as long as f64 resolves that: a cost of 10⁷ has an ulp of 2e-9.
            let expected = reference.rewards[t];
            let error = (step.reward - expected).abs();
            assert!(
                error <= 1e-9 + 2.0 * f64::EPSILON * expected.abs(),
                "{case}, step {t}: reward off by {error:e}"
            );
            // 15·sin θ·dt carries the sine's last bit into the speed, then the angle.
            let (theta, theta_dot) = env.state();
            let [expected_theta, expected_theta_dot] = reference.states[t + 1];
            let scale = expected_theta.abs() + expected_theta_dot.abs() + 1.0;
            let error = (theta - expected_theta).abs() + (theta_dot - expected_theta_dot).abs();
            assert!(
                error <= 4.0 * f64::EPSILON * scale,
                "{case}, step {t}: state off by {error:e}"
            );
        }
    }
}

/// `host-sim replay` prints the same: numbers survive as text.
#[test]
fn replay_prints_gymnasiums_numbers() {
    for reference in references() {
        let case = &reference.case;
        let [theta, theta_dot] = reference.states[0];
        let mut input = format!(
            "{}\n",
            serde_json::json!({"qpos": [theta], "qvel": [theta_dot]})
        );
        for action in &reference.actions {
            input += &format!("{}\n", serde_json::json!({"action": [action]}));
        }
        let mut env = host_sim::make_reference("pendulum").unwrap();
        let mut output = Vec::new();
        replay(env.as_mut(), input.as_bytes(), &mut output).unwrap();
        let output = String::from_utf8(output).unwrap();
        assert_eq!(output.lines().count(), reference.actions.len());
        for (t, line) in output.lines().enumerate() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let observation: Vec<f64> =
                serde_json::from_value(line["observation"].clone()).unwrap();
            let expected = reference.observations[t + 1].map(f64::from);
            assert_eq!(observation, expected, "{case}, step {t}");
            assert_eq!(
                line["reward"].as_f64(),
                Some(reference.rewards[t]),
                "{case}, step {t}"
            );
            assert_eq!(
                line["truncated"], reference.truncated[t],
                "{case}, step {t}"
            );
        }
    }
}
