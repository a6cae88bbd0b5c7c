//! Stands for your board: a pendulum that hangs down at rest, simulated as Gymnasium's `Pendulum-v1`, for ten seconds.

use core::f32::consts::{PI, TAU};

// On a controller the examples talk through a debugger or emulator, which is what panics end in as well.
#[cfg(target_os = "none")]
use semihosting::{println, process};
#[cfg(not(target_os = "none"))]
use std::process;

/// What the examples ask of a board.
pub struct Robot {
    /// From upright, rad.
    angle: f32,
    /// rad/s.
    speed: f32,
    /// What the motor does, N·m.
    torque: f32,
    /// Of what was done in the last control period.
    reward: f32,
    total_reward: f32,
    ticks: u32,
}

impl Robot {
    pub fn new() -> Self {
        Self {
            angle: PI,
            speed: 0.0,
            torque: 0.0,
            reward: 0.0,
            total_reward: 0.0,
            ticks: 0,
        }
    }

    /// Sleeps until the timer's next tick, and proves to the watchdog that the loop is alive. Here 50 ms pass at once.
    pub fn wait_for_tick(&mut self) {
        if self.ticks == 200 {
            self.end();
        }
        self.ticks += 1;
        let upright = libm::roundf(self.angle / TAU) * TAU;
        let deviation = self.angle - upright;
        let effort = 0.1 * self.speed * self.speed + 0.001 * self.torque * self.torque;
        self.reward = -(deviation * deviation + effort);
        self.total_reward += self.reward;
        let acceleration = 15.0 * libm::sinf(self.angle) + 3.0 * self.torque;
        self.speed = limited(self.speed + 0.05 * acceleration, 8.0);
        self.angle += 0.05 * self.speed;
    }

    /// cos θ, sin θ and angular velocity, and the reward of the last action.
    pub fn sense(&mut self) -> ([f32; 3], f32) {
        let Self { angle, speed, .. } = *self;
        ([libm::cosf(angle), libm::sinf(angle), speed], self.reward)
    }

    /// Drives the motor, and tells what it really does: it has no more than 2 N·m.
    pub fn actuate(&mut self, action: &[f32]) -> [f32; 1] {
        self.torque = action.first().map_or(0.0, |&torque| limited(torque, 2.0));
        [self.torque]
    }

    /// No policy, so nobody but the board knows what is safe.
    pub fn refuse_to_move(&mut self, why: impl core::fmt::Display) -> ! {
        self.torque = 0.0;
        println!("not moving: {why}");
        process::exit(1)
    }

    /// A robot would go on. Hanging around gives a return of −1970.
    fn end(&self) -> ! {
        println!("return {}", self.total_reward);
        process::exit(i32::from(self.total_reward < -600.0))
    }
}

/// As `f32::clamp`, which panics where a limit is NaN.
fn limited(x: f32, limit: f32) -> f32 {
    if x > limit {
        limit
    } else if x < -limit {
        -limit
    } else {
        x
    }
}
