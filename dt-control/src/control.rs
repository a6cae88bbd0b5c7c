//! The loop's state, and one control period of it.

use core::ops::ControlFlow;

use dt_core::blob::{Blob, RewardMode};
use dt_core::golden::{self, SelfTestError};
use dt_core::guard::{Fault, Guard};
use dt_core::policy::{ActError, Policy};

use crate::board::{Processor, Tick, counts};
use crate::robot::{Reading, Record, Request, Robot};
use crate::timing::Timing;

/// Time limits of the loop, in µs. The control period is the policy file's.
///
/// `GROUPS` is the robot's number of sensor groups: sensors that are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits<const GROUPS: usize = 1> {
    /// From the tick until the action must be out.
    pub deadline_us: u32,
    /// Oldest reading to act on, of each group of sensors.
    pub stale_us: [u32; GROUPS],
    /// Longest silence of the host that sends the return-to-go ([`RewardMode::External`]); without one, of no
    /// meaning.
    pub silence_us: u32,
    /// Longest time without feeding before the watchdog stops the robot.
    pub watchdog_us: u32,
}

impl<const GROUPS: usize> Limits<GROUPS> {
    /// Everything within one control period, the watchdog within two, a host's word within ten.
    pub const fn of_period(period_us: u32) -> Self {
        Self {
            deadline_us: period_us,
            stale_us: [period_us; GROUPS],
            silence_us: period_us.saturating_mul(10),
            watchdog_us: period_us.saturating_mul(2),
        }
    }
}

/// What the loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// Safe action, waiting for a start.
    Idle,
    /// Acting by the policy.
    Running,
    /// Safe action, for the given reason.
    Faulted(Fault),
}

/// Why a policy was not put into a loop. It must not move anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SetupError {
    /// The policy is for a robot with other dimensions.
    WrongDimensions {
        /// The policy's state_dim and length of an action: act_dim, or 1 where it chooses.
        policy: (usize, usize),
        /// The robot's.
        robot: (usize, usize),
    },
    /// The golden vectors of the policy file did not come out to the bit.
    SelfTest(SelfTestError),
}

impl core::fmt::Display for SetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::WrongDimensions { policy, robot } => write!(
                f,
                "the policy has states of length {} and actions of length {}, the robot {} and {}",
                policy.0, policy.1, robot.0, robot.1
            ),
            Self::SelfTest(error) => write!(f, "self-test failed: {error}"),
        }
    }
}

impl core::error::Error for SetupError {}

/// The loop's state: policy, guard and the action that is out.
///
/// `STATE` and `ACT` are the robot's numbers of sensor values and actuators, `GROUPS` that of sensor groups.
/// There is none for a policy that has not passed its self-test.
#[derive(Debug)]
pub struct ControlLoop<'a, A, const STATE: usize, const ACT: usize, const GROUPS: usize = 1> {
    policy: Policy<'a, A>,
    guard: Guard<'a>,
    safe_action: [f32; ACT],
    period_us: u32,
    limits: Limits<GROUPS>,
    /// Of random numbers, where the robot gives none.
    seed: u64,
    started: bool,
    observation: [f32; STATE],
    reading: Reading,
    action: [f32; ACT],
    /// Tick of the start, or of the last return-to-go from the host since.
    heard: u64,
    timing: Timing,
}

impl<'a, A: AsMut<[u32]>, const STATE: usize, const ACT: usize, const GROUPS: usize>
    ControlLoop<'a, A, STATE, ACT, GROUPS>
{
    /// A loop at rest, waiting for [`Request::Start`]. Runs the self-test of `policy`, which must have been
    /// made from `blob`.
    ///
    /// # Errors
    /// [`SetupError`] if the policy does not fit the robot or fails its self-test.
    pub fn new(
        blob: &Blob<'a>,
        mut policy: Policy<'a, A>,
        limits: Limits<GROUPS>,
    ) -> Result<Self, SetupError> {
        let config = &blob.manifest().config;
        let guard = Guard::new(blob);
        let safe_action = guard.safe_action().try_into();
        let (Ok(safe_action), true) = (safe_action, config.state_dim as usize == STATE) else {
            return Err(SetupError::WrongDimensions {
                policy: (config.state_dim as usize, config.action_len() as usize),
                robot: (STATE, ACT),
            });
        };
        golden::check(&mut policy, blob).map_err(SetupError::SelfTest)?;
        Ok(Self {
            seed: policy.seed(),
            policy,
            guard,
            safe_action,
            period_us: blob.manifest().control_period_us,
            limits,
            started: false,
            observation: [0.0; STATE],
            reading: Reading::default(),
            action: safe_action,
            heard: 0,
            timing: Timing::default(),
        })
    }

    /// One control period, whose start is `tick`. Breaks after a shutdown.
    ///
    /// Waits for nothing: [`run`](crate::run()) and [`run_async`](crate::run_async()) wait for ticks, a timer
    /// interrupt may do the same. Feeding a watchdog afterwards is the caller's part.
    pub fn tick<P: Processor, R: Robot>(
        &mut self,
        tick: Tick,
        processor: &mut P,
        robot: &mut R,
    ) -> ControlFlow<()> {
        let deadline = counts(P::CLOCK_HZ, self.limits.deadline_us);
        let jitter = since(tick, processor);
        let request = robot.request();
        match request {
            Some(Request::Start { target_return }) => {
                self.start(target_return, robot.seed(), tick);
            }
            Some(Request::Stop | Request::Shutdown) => self.started = false,
            None if tick.missed > 0 => self.miss(tick.missed),
            None => {}
        }

        let acting = self.mode() == Mode::Running;
        if acting {
            self.sense_and_act(tick, processor, robot);
            if since(tick, processor) > deadline {
                self.guard.latch(Fault::MissedDeadline);
            }
        }
        self.actuate(robot);
        let latency = since(tick, processor);
        if self.mode() == Mode::Running && latency > deadline {
            self.guard.latch(Fault::MissedDeadline);
            self.actuate(robot);
        }

        if self.mode() == Mode::Running {
            self.absorb_ahead();
            if self.mode() != Mode::Running {
                self.actuate(robot);
            }
        }
        let busy = since(tick, processor);
        if acting {
            self.timing.jitter.add(jitter);
            self.timing.slack.add(deadline.saturating_sub(latency));
            self.timing.busy.add(busy);
            let late = u32::from(latency > deadline);
            self.timing.late_actions = self.timing.late_actions.saturating_add(late);
        }
        robot.record(&Record {
            mode: self.mode(),
            observation: &self.observation,
            reading: self.reading,
            action: &self.action,
            jitter,
            latency,
            busy,
        });
        match request {
            Some(Request::Shutdown) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    /// What the loop does at the moment.
    pub fn mode(&self) -> Mode {
        match (self.started, self.guard.fault()) {
            (false, _) => Mode::Idle,
            (true, None) => Mode::Running,
            (true, Some(fault)) => Mode::Faulted(fault),
        }
    }

    /// How punctual the loop was since it was made or [`reset_timing`](Self::reset_timing).
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Begins new statistics.
    pub fn reset_timing(&mut self) {
        self.timing = Timing::default();
    }

    /// Time between two ticks, in µs.
    pub fn period_us(&self) -> u32 {
        self.period_us
    }

    /// The time limits.
    pub fn limits(&self) -> &Limits<GROUPS> {
        &self.limits
    }

    /// Ends the loop and gives the policy back, whose arena may serve the next one.
    pub fn into_policy(self) -> Policy<'a, A> {
        self.policy
    }

    fn start(&mut self, target_return: f32, seed: Option<u64>, tick: Tick) {
        self.started = true;
        self.policy.set_seed(seed.unwrap_or(self.seed));
        self.heard = tick.at;
        // Where this fails, it has latched.
        let _ = self.guard.restart(&mut self.policy, target_return);
    }

    fn miss(&mut self, ticks: u32) {
        if self.mode() == Mode::Running {
            self.timing.missed_ticks = self.timing.missed_ticks.saturating_add(ticks);
        }
        self.guard.latch(Fault::MissedDeadline);
    }

    /// Leaves the policy's action in `self.action`, or a fault in the guard.
    fn sense_and_act<P: Processor, R: Robot>(
        &mut self,
        tick: Tick,
        processor: &mut P,
        robot: &mut R,
    ) {
        if processor.float_mode().is_err() {
            return self.guard.latch(Fault::FloatingPointMode);
        }
        if let Err(fault) = self.sense::<P, R>(tick, robot) {
            return self.guard.latch(fault);
        }
        let command = self.guard.step(&mut self.policy, &self.observation);
        for (action, commanded) in self.action.iter_mut().zip(command.action) {
            *action = *commanded;
        }
    }

    /// Leaves a fresh observation in `self.observation`, and tells the policy what came with it.
    fn sense<P: Processor, R: Robot>(&mut self, tick: Tick, robot: &mut R) -> Result<(), Fault> {
        // Neither what the robot forgets to write nor what it once wrote passes for a measurement.
        self.observation = [f32::NAN; STATE];
        let mut ages_us = [u32::MAX; GROUPS];
        let reading = robot.sense(&mut self.observation, &mut ages_us);
        self.reading = reading.ok_or(Fault::NoReading)?;
        let limits = &self.limits;
        let stale = |(age, oldest): (&u32, &u32)| age > oldest;
        if let Some(group) = ages_us.iter().zip(&limits.stale_us).position(stale) {
            return Err(Fault::StaleSensor { group });
        }
        if self.policy.awaits_reward() {
            let reward = self.reading.reward.ok_or(ActError::MissingReward);
            let observed = reward.and_then(|reward| self.policy.observe_reward(reward));
            observed.map_err(Fault::Act)?;
        }
        if self.policy.reward_mode() == RewardMode::External {
            if let Some(return_to_go) = self.reading.return_to_go {
                self.heard = tick.at;
                let set = self.policy.set_return_to_go(return_to_go);
                set.map_err(Fault::Act)?;
            } else if tick.at.saturating_sub(self.heard) > counts(P::CLOCK_HZ, limits.silence_us) {
                return Err(Fault::LostLink);
            }
        }
        Ok(())
    }

    /// Applies the policy's action, or the safe one unless running.
    fn actuate<R: Robot>(&mut self, robot: &mut R) {
        if self.mode() != Mode::Running {
            self.action = self.safe_action;
        }
        robot.actuate(&mut self.action);
    }

    /// Does now what would otherwise delay the next action.
    fn absorb_ahead(&mut self) {
        let absorbed = self.policy.absorb(&self.action);
        if let Err(error) = absorbed.and_then(|()| self.policy.run_ahead()) {
            self.guard.latch(Fault::Act(error));
        }
    }
}

/// Counts since a tick.
fn since<P: Processor>(tick: Tick, processor: &mut P) -> u64 {
    processor.now().saturating_sub(tick.at)
}
