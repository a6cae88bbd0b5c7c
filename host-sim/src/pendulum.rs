//! Gymnasium's `Pendulum-v1`: swing a rod up and hold it there with a weak motor.
//!
//! θ is the angle from upright (rad, counter-clockwise, unwrapped), θ̇ its rate (rad/s). With
//! g = 10, m = 1, l = 1, dt = 0.05 s and torque u clipped to ±2:
//!
//! ```text
//! reward = −(norm(θ)² + 0.1·θ̇² + 0.001·u²)          of the state before the step
//! θ̇ ← clip(θ̇ + (15·sin θ + 3·u)·dt, ±8)
//! θ  ← θ + θ̇·dt
//! observation = [cos θ, sin θ, θ̇]
//! ```
//!
//! State and arithmetic are f64, except that `3·u` and `0.001·u²` are f32 as NumPy 2 computes
//! them from an f32 action. Every operation is exactly rounded or comes from [`Trig`], so two
//! targets with the same `Trig` agree to the bit. With the platform's, so do they with Gymnasium.

use core::f64::consts::{PI, TAU};
use core::marker::PhantomData;

use crate::env::{Env, EnvSpec, StateError, Step, check_state};
use crate::random::Random;
use crate::space::Space;
#[cfg(feature = "std")]
pub use crate::trig::StdTrig;
pub use crate::trig::{LibmTrig, Trig};

/// What `Pendulum` is called and looks like.
///
/// Scores: the mean returns over 200 episodes of a random agent and of SAC, as published with Pendulum's offline data
/// sets, in the place of D4RL's random and expert agents.
pub const SPEC: EnvSpec<'static> = EnvSpec {
    id: "pendulum",
    observation: Space::Box {
        low: &[-1.0, -1.0, -MAX_SPEED as f32],
        high: &[1.0, 1.0, MAX_SPEED as f32],
    },
    action: Space::Box {
        low: &[-MAX_TORQUE],
        high: &[MAX_TORQUE],
    },
    max_episode_steps: 200,
    control_period_us: 50_000,
    score_range: Some((-1228.31, -138.44)),
};

/// The motor's strength, N·m.
pub const MAX_TORQUE: f32 = 2.0;
/// rad/s.
const MAX_SPEED: f64 = 8.0;
/// s.
const DT: f64 = 0.05;

/// The plant. Hangs motionless at θ = π until [`Env::reset`] or [`Env::set_state`].
#[derive(Clone, Debug)]
pub struct Pendulum<T = LibmTrig> {
    /// rad, not wrapped.
    theta: f64,
    /// rad/s.
    theta_dot: f64,
    steps: u32,
    trig: PhantomData<T>,
}

impl<T: Trig> Pendulum<T> {
    /// A pendulum hanging motionless.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            theta: PI,
            theta_dot: 0.0,
            steps: 0,
            trig: PhantomData,
        }
    }

    /// θ (rad, not wrapped; 0 is upright) and θ̇ (rad/s).
    #[must_use]
    pub const fn state(&self) -> (f64, f64) {
        (self.theta, self.theta_dot)
    }

    fn start(&mut self, theta: f64, theta_dot: f64) {
        self.theta = theta;
        self.theta_dot = theta_dot;
        self.steps = 0;
    }
}

impl<T: Trig> Default for Pendulum<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Trig> Env for Pendulum<T> {
    fn spec(&self) -> EnvSpec<'_> {
        SPEC
    }

    /// θ uniform in ±π and θ̇ in ±1, as Gymnasium; but drawn from ChaCha8 keyed with the seed
    /// (Gymnasium: PCG64), so a seed names another episode there.
    fn reset(&mut self, seed: u64) {
        let mut random = Random::new(seed);
        let theta = random.uniform(PI);
        let theta_dot = random.uniform(1.0);
        self.start(theta, theta_dot);
    }

    fn step(&mut self, action: &[f32]) -> Step {
        let torque = clip_torque(action[0]);
        let angle = normalize_angle(self.theta);
        let control_cost = 0.001 * T::square_f32(torque);
        let cost = T::square(angle) + 0.1 * T::square(self.theta_dot) + f64::from(control_cost);

        let acceleration = 15.0 * T::sin(self.theta) + f64::from(3.0 * torque);
        self.theta_dot = (self.theta_dot + acceleration * DT).clamp(-MAX_SPEED, MAX_SPEED);
        self.theta += self.theta_dot * DT;
        self.steps = self.steps.saturating_add(1);
        Step {
            reward: -cost,
            terminated: false,
            truncated: self.steps >= SPEC.max_episode_steps,
        }
    }

    fn observation(&self, out: &mut [f32]) {
        let observation = [T::cos(self.theta), T::sin(self.theta), self.theta_dot];
        out.copy_from_slice(&observation.map(|value| value as f32));
    }

    /// Gymnasium's observation of this plant is f32: these are its values.
    fn observation_f64(&self, out: &mut [f64]) {
        let mut observation = [0.0; SPEC.state_dim()];
        self.observation(&mut observation);
        out.copy_from_slice(&observation.map(f64::from));
    }

    fn set_state(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), StateError> {
        check_state("qpos", qpos, 1)?;
        check_state("qvel", qvel, 1)?;
        self.start(qpos[0], qvel[0]);
        Ok(())
    }
}

/// Into [−π, π), with Python's floored modulo. The remainder is exact on every target.
fn normalize_angle(theta: f64) -> f64 {
    let remainder = (theta + PI) % TAU;
    let floored = if remainder < 0.0 {
        remainder + TAU
    } else {
        remainder
    };
    floored - PI
}

/// NaN stays NaN, as in NumPy, so that it is noticed.
#[expect(clippy::manual_clamp, reason = "f32::clamp is banned workspace-wide")]
fn clip_torque(torque: f32) -> f32 {
    if torque > MAX_TORQUE {
        MAX_TORQUE
    } else if torque < -MAX_TORQUE {
        -MAX_TORQUE
    } else {
        torque
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hanging() -> Pendulum {
        Pendulum::new()
    }

    #[test]
    fn angles_wrap_to_the_half_open_circle_around_upright() {
        assert_eq!(normalize_angle(0.0), 0.0);
        assert_eq!(normalize_angle(PI), -PI);
        assert_eq!(normalize_angle(-PI), -PI);
        assert!((normalize_angle(100.0 * TAU + 0.5) - 0.5).abs() < 1e-12);
        assert!((normalize_angle(-100.0 * TAU - 0.5) + 0.5).abs() < 1e-12);
    }

    #[test]
    fn cost_is_that_of_the_state_before_the_step() {
        let mut env = hanging();
        env.set_state(&[0.0], &[0.0]).unwrap();
        assert_eq!(env.step(&[0.0]).reward, 0.0);
        env.set_state(&[1.0], &[-2.0]).unwrap();
        let control = f64::from(0.001_f32 * 2.25);
        assert_eq!(env.step(&[1.5]).reward, -(1.0 + 0.1 * 4.0 + control));
    }

    #[test]
    fn torque_and_speed_saturate() {
        let (mut hard, mut full) = (hanging(), hanging());
        assert_eq!(hard.step(&[1e9]), full.step(&[2.0]));
        assert_eq!(hard.state(), full.state());
        hard.set_state(&[1.5], &[7.9]).unwrap();
        hard.step(&[2.0]);
        assert_eq!(hard.state().1, MAX_SPEED);
    }

    #[test]
    fn truncates_at_two_hundred_steps_and_stays_truncated() {
        let mut env = hanging();
        env.reset(3);
        for step in 1..=205 {
            assert_eq!(env.step(&[0.0]).truncated, step >= 200, "step {step}");
        }
        env.reset(3);
        assert!(!env.step(&[0.0]).truncated);
    }

    #[test]
    fn seeds_name_initial_states() {
        let mut env = hanging();
        let mut states = [(0.0, 0.0); 1000];
        for (seed, state) in (0..).zip(&mut states) {
            env.reset(seed);
            *state = env.state();
            assert!(state.0.abs() <= PI && state.1.abs() <= 1.0);
        }
        env.reset(7);
        assert_eq!(env.state(), states[7]);
        assert_ne!(states[7], states[8]);
        let mean = states.iter().map(|state| state.0).sum::<f64>() / 1000.0;
        assert!(mean.abs() < 0.25, "mean angle {mean}");
    }

    #[test]
    fn a_non_finite_torque_shows_in_the_reward() {
        let mut env = hanging();
        assert!(env.step(&[f32::NAN]).reward.is_nan());
    }

    #[test]
    fn refused_states_leave_the_plant_alone() {
        let mut env = hanging();
        let before = env.state();
        assert_eq!(
            env.set_state(&[0.0, 0.0], &[0.0]),
            Err(StateError::WrongLength {
                field: "qpos",
                expected: 1,
                got: 2
            })
        );
        assert_eq!(
            env.set_state(&[0.0], &[f64::INFINITY]),
            Err(StateError::NonFinite {
                field: "qvel",
                index: 0
            })
        );
        assert_eq!(env.state(), before);
    }
}
