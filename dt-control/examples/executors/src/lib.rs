//! What both examples control: the simulated pendulum of `dt-core`'s examples, behind `dt-control`'s trait.
#![no_std]

use dt_control::{Mode, Reading, Record, Request};

#[path = "../../../../dt-core/examples/robot.rs"]
mod robot;

use robot::Robot;

/// A robot that starts as soon as the loop is armed.
pub struct Pendulum {
    robot: Robot,
    mode: Mode,
}

impl Pendulum {
    /// At rest.
    pub fn new() -> Self {
        Self {
            robot: Robot::new(),
            mode: Mode::Idle,
        }
    }

    /// Ends, with the reason.
    pub fn refuse_to_move(&mut self, why: impl core::fmt::Display) -> ! {
        self.robot.refuse_to_move(why)
    }
}

impl Default for Pendulum {
    fn default() -> Self {
        Self::new()
    }
}

impl dt_control::Robot for Pendulum {
    fn request(&mut self) -> Option<Request> {
        match self.mode {
            Mode::Idle => Some(Request::Arm { warm_up: 3 }),
            Mode::Armed => Some(Request::Start {
                target_return: -150.0,
            }),
            _ => None,
        }
    }

    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
        // The simulated world stands still until the start.
        if matches!(self.mode, Mode::Armed | Mode::Running) {
            self.robot.wait_for_tick();
        }
        let (state, reward) = self.robot.sense();
        for (value, state) in observation.iter_mut().zip(state) {
            *value = state;
        }
        ages_us.fill(0); // A sensor that is sampled by itself says how long ago that was.
        Some(Reading {
            reward: Some(reward),
            return_to_go: None,
        })
    }

    fn actuate(&mut self, action: &mut [f32]) {
        let applied = self.robot.actuate(action);
        for (action, applied) in action.iter_mut().zip(applied) {
            *action = applied;
        }
    }

    /// A robot would go on with the safe action and tell somebody.
    fn record(&mut self, record: &Record<'_>) {
        self.mode = record.mode;
        if let Mode::Faulted(fault) = record.mode {
            self.robot.refuse_to_move(fault);
        }
    }
}
