//! The control loop: fixed rate, one policy step per tick, and a safe action whenever anything is wrong.
//!
//! # Glossary
//!
//! - **Tick**: the start of a control period, given by the board's timer.
//! - **Sense, act, actuate**: read the sensors into an *observation*; compute an *action* from it; hand the
//!   action to the actuators.
//! - **Applied action**: what the actuators really did, which may be less than the action. The policy is
//!   told this one.
//! - **Absorb**: tell the policy the applied action, right after actuating and ahead of the next tick. Where
//!   rewards are observed, the next reading brings that of this action.
//! - **Deadline**: time after the tick by which the action must be out. A late action is not used.
//! - **Stale**: a reading older than allowed; the robot may have moved on.
//! - **Safe action**: the action of the policy file that brings the robot to rest.
//! - **Fault**: a reason not to trust the next action. It *latches*: from the tick in which it is noticed the
//!   loop applies the safe action, until an explicit [`Request::Start`].
//! - **Watchdog**: hardware that stops the robot if the loop itself stops.

use dt_core::blob::{Blob, RewardMode};
use dt_core::guard::{Fault, Guard};
use dt_core::policy::{ActError, Policy};

use crate::board::{Board, PeriodTooLong, counts};

/// What the loop is attached to: sensors, actuators, an operator.
pub trait Robot {
    /// The operator's wish, asked for at every tick. `None`: go on.
    fn request(&mut self) -> Option<Request>;

    /// Reads the sensors into `observation` (state_dim, in the units the policy was trained with). `None`
    /// if there is no reading to give, which counts as a stale one.
    fn sense(&mut self, observation: &mut [f32]) -> Option<Reading>;

    /// Applies `action` (act_dim, within the policy file's limits), and leaves in it what was applied.
    fn actuate(&mut self, action: &mut [f32]);

    /// Is told of every tick, after the action is out: for logs and comparisons.
    fn record(&mut self, record: &Record<'_>);
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request {
    /// Start an episode; the only way to leave a fault behind.
    Start {
        /// Return to aim for, in the environment's units.
        target_return: f32,
    },
    /// Apply the safe action until the next start.
    Stop,
    /// Apply the safe action and leave the loop.
    Shutdown,
}

/// A set of sensor values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Time since it was taken.
    pub age_us: u32,
    /// Reward for the last applied action, where the robot can tell.
    pub reward: Option<f32>,
    /// Return still wanted, where a host keeps count of it ([`RewardMode::External`]) and sent a new value.
    pub return_to_go: Option<f32>,
}

/// Time limits of the loop. The control period is the policy file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the tick until the action must be out.
    pub deadline_us: u32,
    /// Oldest reading to act on.
    pub stale_us: u32,
    /// Longest time without feeding before the watchdog stops the robot.
    pub watchdog_us: u32,
}

impl Limits {
    /// Everything within one control period, the watchdog within two.
    pub const fn of_period(period_us: u32) -> Self {
        Self {
            deadline_us: period_us,
            stale_us: period_us,
            watchdog_us: period_us.saturating_mul(2),
        }
    }
}

/// One tick, as it went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// What the loop does.
    pub mode: Mode,
    /// What was sensed (state_dim); of no meaning unless running.
    pub observation: &'a [f32],
    /// What was applied (act_dim).
    pub action: &'a [f32],
    /// Board clock counts from the tick until the action was out.
    pub latency: u64,
    /// Board clock counts of the whole control step, with what was computed ahead.
    pub busy: u64,
}

/// What the loop does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Safe action, waiting for a start.
    Idle,
    /// Acting by the policy.
    Running,
    /// Safe action, for the given reason.
    Faulted(Fault),
}

/// The loop's state: policy, guard and the action that is out.
///
/// `STATE` and `ACT` are the robot's numbers of sensor values and actuators.
pub struct ControlLoop<'a, A, const STATE: usize, const ACT: usize> {
    policy: Policy<'a, A>,
    guard: Guard<'a>,
    safe_action: [f32; ACT],
    period_us: u32,
    limits: Limits,
    started: bool,
    observation: [f32; STATE],
    action: [f32; ACT],
}

/// The policy is for a robot with other dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct WrongDimensions {
    /// The policy's state_dim and act_dim.
    pub policy: (usize, usize),
    /// The robot's.
    pub robot: (usize, usize),
}

/// Runs until the robot asks for a shutdown.
///
/// # Errors
/// [`PeriodTooLong`] if the board cannot tick at the policy's control period; nothing has moved then.
pub fn run<B: Board, R: Robot, A: AsMut<[u32]>, const STATE: usize, const ACT: usize>(
    board: &mut B,
    robot: &mut R,
    control: &mut ControlLoop<'_, A, STATE, ACT>,
) -> Result<(), PeriodTooLong> {
    board.start_ticks(control.period_us)?;
    board.start_watchdog(control.limits.watchdog_us);
    while control.tick(board, robot) {}
    Ok(())
}

impl<'a, A: AsMut<[u32]>, const STATE: usize, const ACT: usize> ControlLoop<'a, A, STATE, ACT> {
    /// A loop at rest, waiting for [`Request::Start`].
    ///
    /// # Errors
    /// [`WrongDimensions`] if the policy does not fit the robot.
    pub fn new(
        blob: &Blob<'a>,
        policy: Policy<'a, A>,
        limits: Limits,
    ) -> Result<Self, WrongDimensions> {
        let config = &blob.manifest.config;
        let guard = Guard::new(blob);
        let safe_action = guard.safe_action().try_into();
        let (Ok(safe_action), true) = (safe_action, config.state_dim as usize == STATE) else {
            return Err(WrongDimensions {
                policy: (config.state_dim as usize, config.act_dim as usize),
                robot: (STATE, ACT),
            });
        };
        Ok(Self {
            policy,
            guard,
            safe_action,
            period_us: blob.manifest.control_period_us,
            limits,
            started: false,
            observation: [0.0; STATE],
            action: safe_action,
        })
    }

    /// What the loop does at the moment.
    pub fn mode(&self) -> Mode {
        match (self.started, self.guard.fault()) {
            (false, _) => Mode::Idle,
            (true, None) => Mode::Running,
            (true, Some(fault)) => Mode::Faulted(fault),
        }
    }

    /// One control period. Returns false after a shutdown.
    pub fn tick<B: Board, R: Robot>(&mut self, board: &mut B, robot: &mut R) -> bool {
        let missed = board.wait_for_tick();
        let request = robot.request();
        let start = board.now();
        match request {
            Some(Request::Start { target_return }) => self.start(target_return),
            Some(Request::Stop | Request::Shutdown) => self.started = false,
            None if missed > 0 => self.guard.latch(Fault::MissedDeadline),
            None => {}
        }

        if self.mode() == Mode::Running {
            self.sense_and_act(robot);
            if board.now() - start > counts(B::CLOCK_HZ, self.limits.deadline_us) {
                self.guard.latch(Fault::MissedDeadline);
            }
        }
        self.actuate(robot);
        let latency = board.now() - start;

        if self.mode() == Mode::Running {
            self.absorb_ahead();
            if self.mode() != Mode::Running {
                self.actuate(robot);
            }
        }
        board.feed_watchdog();
        robot.record(&Record {
            mode: self.mode(),
            observation: &self.observation,
            action: &self.action,
            latency,
            busy: board.now() - start,
        });
        request != Some(Request::Shutdown)
    }

    fn start(&mut self, target_return: f32) {
        self.started = true;
        // Where this fails, it has latched.
        let _ = self.guard.restart(&mut self.policy, target_return);
    }

    /// Leaves the policy's action in `self.action`, or a fault in the guard.
    fn sense_and_act<R: Robot>(&mut self, robot: &mut R) {
        let reading = match robot.sense(&mut self.observation) {
            Some(reading) if reading.age_us <= self.limits.stale_us => reading,
            Some(_) => return self.guard.latch(Fault::StaleSensor { group: 0 }),
            None => return self.guard.latch(Fault::NoReading),
        };
        if let Err(error) = self.catch_up(&reading) {
            return self.guard.latch(Fault::Act(error));
        }
        let command = self.guard.step(&mut self.policy, &self.observation);
        self.action.copy_from_slice(command.action);
    }

    /// Applies the policy's action, or the safe one unless running.
    fn actuate<R: Robot>(&mut self, robot: &mut R) {
        if self.mode() != Mode::Running {
            self.action = self.safe_action;
        }
        robot.actuate(&mut self.action);
    }

    /// Tells the policy what only the new reading knows about the last step.
    fn catch_up(&mut self, reading: &Reading) -> Result<(), ActError> {
        if self.policy.awaits_reward() {
            let reward = reading.reward.ok_or(ActError::MissingReward)?;
            self.policy.observe_reward(reward)?;
        }
        match (self.policy.reward_mode(), reading.return_to_go) {
            (RewardMode::External, Some(value)) => self.policy.set_return_to_go(value),
            _ => Ok(()),
        }
    }

    /// Does now what would otherwise delay the next action.
    fn absorb_ahead(&mut self) {
        let absorbed = self.policy.absorb(&self.action);
        if let Err(error) = absorbed.and_then(|()| self.policy.run_ahead()) {
            self.guard.latch(Fault::Act(error));
        }
    }
}

#[cfg(test)]
mod tests;
