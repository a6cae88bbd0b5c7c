//! host-sim's cart and pole against Gymnasium's, episode by episode.
//!
//! `data/cartpole.safetensors` holds episodes of Gymnasium 1.4.0's CartPole-v1, made by `reference/cartpole.py` (its
//! docstring says how): a balanced pole, falls, starts on and beyond the thresholds and the way back, a pole that turns
//! over, huge and subnormal states.

use host_sim::cartpole::{CartPole, State};
use host_sim::env::Env;
use host_sim::replay::replay;
use host_sim::trig::{LibmTrig, StdTrig, Trig};
use tests::plant::{Case, Episodes};

static DATA: &[u8] = include_bytes!("../data/cartpole.safetensors");

/// One episode of the reference: T choices, T + 1 observations and states.
struct Reference {
    case: String,
    actions: Vec<u8>,
    observations: Vec<[f32; 4]>,
    rewards: Vec<f64>,
    /// x, ẋ, θ and θ̇.
    states: Vec<[f64; 4]>,
    terminated: Vec<bool>,
    truncated: Vec<bool>,
}

fn references() -> Vec<Reference> {
    let file = Episodes::new(DATA);
    let reference = |case: &Case<'_>| Reference {
        case: case.name.to_owned(),
        actions: case.bytes("actions").to_vec(),
        observations: case.f32s("observations"),
        rewards: case.numbers("rewards"),
        states: case.f64s("states"),
        terminated: case.flags("terminated"),
        truncated: case.flags("truncated"),
    };
    file.cases().iter().map(reference).collect()
}

fn at<T: Trig>([x, x_dot, theta, theta_dot]: [f64; 4]) -> CartPole<T> {
    let mut env = CartPole::new();
    env.set_state(&[x, theta], &[x_dot, theta_dot]).unwrap();
    env
}

fn state(env: &CartPole<impl Trig>) -> [f64; 4] {
    let State {
        x,
        x_dot,
        theta,
        theta_dot,
    } = env.state();
    [x, x_dot, theta, theta_dot]
}

fn bits(state: [f64; 4]) -> [u64; 4] {
    state.map(f64::to_bits)
}

fn observed(env: &impl Env) -> [u32; 4] {
    let mut observation = [0.0; 4];
    env.observation(&mut observation);
    observation.map(f32::to_bits)
}

/// Nothing is corrected in between: after 505 steps the state is still the same to the bit.
#[test]
fn whole_episodes_are_gymnasiums_to_the_bit() {
    let references = references();
    assert_eq!(references.len(), 15);
    for reference in &references {
        let case = &reference.case;
        let mut env = at::<StdTrig>(reference.states[0]);
        assert_eq!(
            observed(&env),
            reference.observations[0].map(f32::to_bits),
            "{case}"
        );
        for (t, &action) in reference.actions.iter().enumerate() {
            let step = env.step(&[action.into()]);
            let at = format!("{case}, step {t}");
            assert_eq!(bits(state(&env)), bits(reference.states[t + 1]), "{at}");
            let expected = reference.observations[t + 1].map(f32::to_bits);
            assert_eq!(observed(&env), expected, "{at}");
            assert_eq!(step.reward, reference.rewards[t], "{at}");
            assert_eq!(step.terminated, reference.terminated[t], "{at}");
            assert_eq!(step.truncated, reference.truncated[t], "{at}");
        }
    }
    // What is compared has all that can happen in it.
    let any = |of: fn(&Reference) -> bool| references.iter().any(of);
    assert!(any(|r| r.truncated.contains(&true)) && any(|r| r.rewards.contains(&0.0)));
    assert!(any(|r| {
        let ends = r.terminated.windows(2);
        ends.into_iter().any(|pair| pair == [true, false])
    }));
}

/// With libm's sines, as rollouts and the controller have them, single steps stay within rounding of Gymnasium's.
#[test]
fn single_steps_with_libm_differ_by_rounding_only() {
    for reference in references() {
        for (t, &action) in reference.actions.iter().enumerate() {
            let before = reference.states[t];
            let mut env = at::<LibmTrig>(before);
            env.step(&[action.into()]);
            // θ̈ and ẍ carry the sine's last bit, times what is added to the force, into the rates.
            let size: f64 =
                30.0 + before[3] * before[3] + before.iter().map(|x| x.abs()).sum::<f64>();
            for (got, expected) in state(&env).into_iter().zip(reference.states[t + 1]) {
                let error = (got - expected).abs();
                let case = &reference.case;
                assert!(
                    error <= f64::EPSILON * size,
                    "{case}, step {t}: off by {error:e} of {size:e}"
                );
            }
        }
    }
}

/// `host-sim replay` prints the same: numbers survive as text.
#[test]
fn replay_prints_gymnasiums_numbers() {
    for reference in references() {
        let case = &reference.case;
        let [x, x_dot, theta, theta_dot] = reference.states[0];
        let mut input = format!(
            "{}\n",
            serde_json::json!({"qpos": [x, theta], "qvel": [x_dot, theta_dot]})
        );
        for action in &reference.actions {
            input += &format!("{}\n", serde_json::json!({"action": action}));
        }
        let mut env = host_sim::make_reference("cartpole").unwrap();
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
            assert_eq!(line["reward"].as_f64(), Some(reference.rewards[t]));
            assert_eq!(line["terminated"], reference.terminated[t]);
            assert_eq!(line["truncated"], reference.truncated[t]);
        }
    }
}
