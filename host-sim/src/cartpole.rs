//! Gymnasium's `CartPole-v1`: push a cart left or right so that the pole on it stays up.
//!
//! x is the cart's place on its track (m), θ the pole's angle from upright (rad, clockwise), ẋ and θ̇ their rates. With
//! g = 9.8, a cart of 1 kg, a pole of 0.1 kg and half length l = 0.5 m, dt = 0.02 s and the force F = ±10 N, to the
//! right for choice 1 (Barto, Sutton & Anderson 1983; equations as corrected by Florian 2007):
//!
//! ```text
//! t  = (F + 0.05·θ̇²·sin θ) / 1.1
//! θ̈  = (9.8·sin θ − cos θ·t) / (0.5·(4/3 − 0.1·cos²θ/1.1))
//! ẍ  = t − 0.05·θ̈·cos θ / 1.1
//! x ← x + ẋ·dt,  ẋ ← ẋ + ẍ·dt,  θ ← θ + θ̇·dt,  θ̇ ← θ̇ + θ̈·dt         all of the state before the step
//! terminated: |x| > 2.4 or |θ| > 12°
//! reward: 1, also for the step that ends the episode; 0 for later steps that are out of bounds
//! observation = [x, ẋ, θ, θ̇]
//! ```
//!
//! All of it is f64 in Gymnasium's order, sines from [`Trig`]: with the platform's, the bits are Gymnasium's; with
//! `libm`'s, they are the same on every target.

use core::f64::consts::PI;
use core::marker::PhantomData;

use crate::env::{Env, EnvSpec, StateError, Step, check_state};
use crate::random::Random;
use crate::space::Space;
use crate::trig::{LibmTrig, Trig};

/// What `CartPole` is called and looks like. Nobody publishes returns to score it by.
pub const SPEC: EnvSpec<'static> = EnvSpec {
    id: "cartpole",
    observation: Space::Box {
        low: &[-HIGH[0], -HIGH[1], -HIGH[2], -HIGH[3]],
        high: &HIGH,
    },
    action: Space::Discrete { n: 2 },
    max_episode_steps: 500,
    control_period_us: 20_000,
    score_range: None,
};

/// Twice the thresholds, so that the observation that ends an episode lies within.
const HIGH: [f32; 4] = [
    (2.0 * MAX_X) as f32,
    f32::INFINITY,
    (2.0 * MAX_THETA) as f32,
    f32::INFINITY,
];
/// m.
const MAX_X: f64 = 2.4;
/// 12° in rad, in Gymnasium's order of operations.
const MAX_THETA: f64 = 12.0 * 2.0 * PI / 360.0;

/// m/s².
const GRAVITY: f64 = 9.8;
/// kg.
const POLE_MASS: f64 = 0.1;
/// Cart and pole, kg.
const TOTAL_MASS: f64 = POLE_MASS + 1.0;
/// Of the pole, m.
const HALF_LENGTH: f64 = 0.5;
/// kg·m.
const POLE_MASS_LENGTH: f64 = POLE_MASS * HALF_LENGTH;
/// N.
const FORCE: f64 = 10.0;
/// s.
const DT: f64 = 0.02;

/// Cart and pole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// The cart's place, m.
    pub x: f64,
    /// m/s.
    pub x_dot: f64,
    /// The pole's angle from upright, rad, not wrapped.
    pub theta: f64,
    /// rad/s.
    pub theta_dot: f64,
}

/// The plant. Stands upright in the middle of its track until [`Env::reset`] or [`Env::set_state`].
#[derive(Clone, Debug)]
pub struct CartPole<T = LibmTrig> {
    state: State,
    steps: u32,
    /// A step of this episode has ended out of bounds.
    fallen: bool,
    trig: PhantomData<T>,
}

impl<T: Trig> CartPole<T> {
    /// A pole upright and at rest, on a cart in the middle.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State {
                x: 0.0,
                x_dot: 0.0,
                theta: 0.0,
                theta_dot: 0.0,
            },
            steps: 0,
            fallen: false,
            trig: PhantomData,
        }
    }

    /// Where cart and pole are.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    fn start(&mut self, state: State) {
        self.state = state;
        self.steps = 0;
        self.fallen = false;
    }
}

impl<T: Trig> Default for CartPole<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Trig> Env for CartPole<T> {
    fn spec(&self) -> EnvSpec<'_> {
        SPEC
    }

    /// x, ẋ, θ and θ̇ uniform in ±0.05, as Gymnasium; but drawn from ChaCha8 keyed with the seed (Gymnasium: PCG64), so
    /// a seed names another episode there.
    fn reset(&mut self, seed: u64) {
        let mut random = Random::new(seed);
        let [x, x_dot, theta, theta_dot] = core::array::from_fn(|_| random.uniform(0.05));
        self.start(State {
            x,
            x_dot,
            theta,
            theta_dot,
        });
    }

    /// `action` is the index 0 (left) or 1 (right); what is neither pushes with NaN, so that it is noticed.
    fn step(&mut self, action: &[f32]) -> Step {
        let force = match action[0] {
            0.0 => -FORCE,
            1.0 => FORCE,
            _ => f64::NAN,
        };
        let State {
            x,
            x_dot,
            theta,
            theta_dot,
        } = self.state;
        let (sin, cos) = (T::sin(theta), T::cos(theta));
        let push = (force + POLE_MASS_LENGTH * (theta_dot * theta_dot) * sin) / TOTAL_MASS;
        let turn = (GRAVITY * sin - cos * push)
            / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
        let acceleration = push - POLE_MASS_LENGTH * turn * cos / TOTAL_MASS;
        self.state = State {
            x: x + DT * x_dot,
            x_dot: x_dot + DT * acceleration,
            theta: theta + DT * theta_dot,
            theta_dot: theta_dot + DT * turn,
        };
        self.steps = self.steps.saturating_add(1);
        let terminated = self.state.x.abs() > MAX_X || self.state.theta.abs() > MAX_THETA;
        let reward = if terminated && self.fallen { 0.0 } else { 1.0 };
        self.fallen |= terminated;
        Step {
            reward,
            terminated,
            truncated: self.steps >= SPEC.max_episode_steps,
        }
    }

    fn observation(&self, out: &mut [f32]) {
        let State {
            x,
            x_dot,
            theta,
            theta_dot,
        } = self.state;
        out.copy_from_slice(&[x, x_dot, theta, theta_dot].map(|value| value as f32));
    }

    /// Gymnasium's observation of this plant is f32: these are its values.
    fn observation_f64(&self, out: &mut [f64]) {
        let mut observation = [0.0; SPEC.state_dim()];
        self.observation(&mut observation);
        out.copy_from_slice(&observation.map(f64::from));
    }

    /// `qpos` is [x, θ], `qvel` [ẋ, θ̇].
    fn set_state(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), StateError> {
        check_state("qpos", qpos, 2)?;
        check_state("qvel", qvel, 2)?;
        self.start(State {
            x: qpos[0],
            x_dot: qvel[0],
            theta: qpos[1],
            theta_dot: qvel[1],
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upright() -> CartPole {
        CartPole::new()
    }

    #[test]
    fn choices_push_to_either_side_alike() {
        let (mut left, mut right) = (upright(), upright());
        for _ in 0..2 {
            left.step(&[0.0]);
            right.step(&[1.0]);
        }
        let (left, right) = (left.state(), right.state());
        assert!(right.x > 0.0 && right.theta < 0.0, "{right:?}");
        assert_eq!(
            [left.x, left.x_dot, left.theta, left.theta_dot],
            [right.x, right.x_dot, right.theta, right.theta_dot].map(|value| -value)
        );
    }

    #[test]
    fn a_fall_ends_the_episode_and_what_lies_beyond_it_earns_nothing() {
        let mut env = upright();
        env.set_state(&[0.0, 0.2], &[0.0, 1.0]).unwrap();
        let rewards_and_ends = [1.0; 3].map(|choice| {
            let step = env.step(&[choice]);
            (step.reward, step.terminated)
        });
        assert_eq!(
            rewards_and_ends,
            [(1.0, true), (0.0, true), (0.0, true)],
            "θ is {}",
            env.state().theta
        );
        // The next episode is another.
        env.reset(1);
        assert_eq!(
            (env.step(&[1.0]).reward, env.step(&[1.0]).terminated),
            (1.0, false)
        );
    }

    /// The end itself is within bounds.
    #[test]
    fn the_track_ends_beyond_its_last_place() {
        for (x, ends) in [(MAX_X, false), (MAX_X.next_up(), true)] {
            for x in [x, -x] {
                let mut env = upright();
                env.set_state(&[x, 0.0], &[0.0, 0.0]).unwrap();
                assert_eq!(env.step(&[0.0]).terminated, ends, "{x}");
            }
        }
        for (theta, ends) in [(MAX_THETA, false), (MAX_THETA.next_up(), true)] {
            for theta in [theta, -theta] {
                let mut env = upright();
                env.set_state(&[0.0, theta], &[0.0, 0.0]).unwrap();
                assert_eq!(env.step(&[0.0]).terminated, ends, "{theta}");
            }
        }
    }

    #[test]
    fn truncates_at_five_hundred_steps_and_stays_truncated() {
        let mut env = upright();
        env.reset(3);
        for step in 1..=505 {
            assert_eq!(env.step(&[0.0]).truncated, step >= 500, "step {step}");
        }
        env.reset(3);
        assert!(!env.step(&[0.0]).truncated);
    }

    #[test]
    fn seeds_name_initial_states_within_their_bounds() {
        let mut env = upright();
        let mut sums = [0.0; 4];
        for seed in 0..1000 {
            env.reset(seed);
            let State {
                x,
                x_dot,
                theta,
                theta_dot,
            } = env.state();
            for (sum, value) in sums.iter_mut().zip([x, x_dot, theta, theta_dot]) {
                assert!(value.abs() <= 0.05, "{value}");
                *sum += value.abs() / 1000.0;
            }
        }
        // The mean of |U(±0.05)|, to four standard errors.
        for mean in sums {
            assert!((mean - 0.025).abs() < 0.002, "{sums:?}");
        }
        env.reset(7);
        let seventh = env.state();
        env.reset(8);
        assert_ne!(env.state(), seventh);
        env.reset(7);
        assert_eq!(env.state(), seventh);
    }

    #[test]
    fn an_action_that_is_no_choice_shows_in_the_state() {
        for action in [2.0, -1.0, 0.5, f32::NAN] {
            let mut env = upright();
            env.step(&[action]);
            assert!(env.state().x_dot.is_nan(), "{action}");
        }
    }

    #[test]
    fn refused_states_leave_the_plant_alone() {
        let mut env = upright();
        let before = env.state();
        assert_eq!(
            env.set_state(&[0.0], &[0.0, 0.0]),
            Err(StateError::WrongLength {
                field: "qpos",
                expected: 2,
                got: 1
            })
        );
        assert_eq!(
            env.set_state(&[0.0, 0.0], &[0.0, f64::NAN]),
            Err(StateError::NonFinite {
                field: "qvel",
                index: 1
            })
        );
        assert_eq!(env.state(), before);
    }
}
