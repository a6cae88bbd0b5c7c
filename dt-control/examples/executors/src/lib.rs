//! What both examples control: the simulated pendulum of `dt-core`'s examples, behind `dt-control`'s trait.
#![no_std]

use dt_control::{Mode, Reading, Record, Request};

#[path = "../../../../dt-core/examples/robot.rs"]
mod robot;

use robot::Robot;

/// A robot that starts at once.
pub struct Pendulum {
    robot: Robot,
    starting: bool,
}

impl Pendulum {
    /// At rest.
    pub fn new() -> Self {
        Self {
            robot: Robot::new(),
            starting: true,
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
        let start = Request::Start {
            target_return: -150.0,
        };
        core::mem::take(&mut self.starting).then_some(start)
    }

    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
        self.robot.wait_for_tick();
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
        if let Mode::Faulted(fault) = record.mode {
            self.robot.refuse_to_move(fault);
        }
    }
}
