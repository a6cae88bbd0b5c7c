//! What the control loop is attached to: sensors, actuators, an operator.

use dt_core::guard::Fault;

use crate::mode::{Mode, Refusal};

/// A robot. None of its functions may wait for long: all but [`record`](Robot::record) count towards the
/// deadline.
pub trait Robot {
    /// The operator's wish, asked for at every tick. `None`: go on.
    fn request(&mut self) -> Option<Request>;

    /// Key of the random numbers of the episode that [`Request::Start`] begins, asked for when that is accepted: with the same key and
    /// the same observations a policy that draws its actions ([`Choice::Sampled`](dt_core::blob::Choice::Sampled)) draws the
    /// same ones. `None`, unless a robot says something else: the key in the policy file, in every episode.
    fn seed(&mut self) -> Option<u64> {
        None
    }

    /// Reads the sensors into `observation` (state_dim, in the units the policy was trained with), and into
    /// `ages_us` how long ago each group of sensors was read (the loop's `GROUPS`, in µs). `None` if there is
    /// no reading to give, which is a fault.
    ///
    /// What is not written is a fault as well: the observation comes filled with NaN, the ages with the
    /// largest value.
    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading>;

    /// Applies `action` (act_dim, or the index of a choice; within the policy file's limits), and leaves in it what was applied.
    fn actuate(&mut self, action: &mut [f32]);

    /// Is told of every tick, after all else is done: for logs and comparisons.
    fn record(&mut self, record: &Record<'_>);
}

/// What an operator can ask for; see the diagram of [`Mode`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Request {
    /// Get ready to start: check the readings of this and the next ticks, `warm_up` in a row and at least one.
    Arm {
        /// How many.
        warm_up: u16,
    },
    /// Start an episode. Accepted only while [`Mode::Armed`].
    Start {
        /// Return to aim for, in the environment's units.
        target_return: f32,
    },
    /// Apply the safe action until the next start, which needs arming; the only way to leave a fault behind.
    Stop,
    /// A reason of the robot's own, or of who speaks for it, not to trust the next action: latches while running, and
    /// disarms.
    Halt(Fault),
    /// Apply the safe action and leave the loop.
    Shutdown,
}

/// What comes with a set of sensor values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reading {
    /// Reward for the last applied action, where the robot can tell; needed with
    /// [`RewardMode::Observed`](dt_core::blob::RewardMode::Observed).
    pub reward: Option<f32>,
    /// Return still wanted, where a host keeps count of it
    /// ([`RewardMode::External`](dt_core::blob::RewardMode::External)) and sent a new value.
    pub return_to_go: Option<f32>,
}

/// One tick, as it went. Times are counts of the processor's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// When the tick was due.
    pub at: u64,
    /// What the loop does.
    pub mode: Mode,
    /// Why it did not do what was asked for in this tick, or is no longer armed.
    pub refusal: Option<Refusal>,
    /// Ticks that passed unserved before this one.
    pub missed: u32,
    /// The policy's step, if it took one in this tick.
    pub step: Option<Step<'a>>,
    /// What was sensed (state_dim); NaN unless something was.
    pub observation: &'a [f32],
    /// What came with it; of no meaning unless something was sensed.
    pub reading: Reading,
    /// What was applied (act_dim, or the index of a choice).
    pub action: &'a [f32],
    /// From the tick until the loop began.
    pub jitter: u64,
    /// From the tick until the action was out.
    pub latency: u64,
    /// From the tick until all was done, with what was computed ahead.
    pub busy: u64,
}

/// A step of the policy: with the observation, all that it takes to repeat it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'a> {
    /// Steps of the episode before this one.
    pub timestep: u32,
    /// What the episode aims at, in the environment's units.
    pub target_return: f32,
    /// Key of its random numbers.
    pub seed: u64,
    /// What was still wanted, in the environment's units.
    pub return_to_go: f32,
    /// The policy's action (act_dim, or the index of a choice). What was applied may be less, or in the tick of a fault
    /// the safe action.
    pub action: &'a [f32],
}
