//! The loop's state, and one control period of it.

use core::ops::ControlFlow;

use dt_core::blob::{Blob, RewardMode};
use dt_core::golden::{self, SelfTestError};
use dt_core::guard::{Fault, Guard};
use dt_core::policy::{ActError, Policy};

use crate::board::{Processor, ResetCause, Tick, counts};
use crate::mode::{Mode, Refusal};
use crate::robot::{Reading, Record, Request, Robot, Step};
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
    /// What ticks that nobody served mean.
    pub missed: Missed,
}

/// What it means to the loop that ticks have passed unserved, when it serves the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Missed {
    /// A fault.
    #[default]
    Fault,
    /// A fault if there are more than these. Otherwise the applied action was held so much longer, and the step goes on:
    /// *what a held action lasts is one timestep, however many periods that took*. The policy is told the action once, when
    /// it is applied, and the reward once, for all of that time, with the reading that ends it; its timestep and context
    /// do not know of the gap. So no reading is invented where there was none, no tick does the work of two, and the
    /// policy gives the bits that it gives to the same readings without a gap.
    Hold {
        /// Unserved ticks in a row.
        at_most: u32,
    },
}

impl Missed {
    fn tolerates(self, ticks: u32) -> bool {
        match self {
            Self::Fault => ticks == 0,
            Self::Hold { at_most } => ticks <= at_most,
        }
    }
}

impl<const GROUPS: usize> Limits<GROUPS> {
    /// Everything within one control period, the watchdog within two, a host's word within ten, no tick missed.
    pub const fn of_period(period_us: u32) -> Self {
        Self {
            deadline_us: period_us,
            stale_us: [period_us; GROUPS],
            silence_us: period_us.saturating_mul(10),
            watchdog_us: period_us.saturating_mul(2),
            missed: Missed::Fault,
        }
    }
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
    max_change: [f32; STATE],
    /// Of random numbers, where the robot gives none.
    seed: u64,
    /// Whether there has been a tick.
    ticked: bool,
    state: State,
    target_return: f32,
    observation: [f32; STATE],
    /// The last good one, if the tick before this one had one.
    before: Option<[f32; STATE]>,
    reading: Reading,
    /// The policy's action, and at which timestep and with which return-to-go it took it in this tick.
    commanded: [f32; ACT],
    stepped: Option<(u32, f32)>,
    action: [f32; ACT],
    /// Tick of the start, or of the last return-to-go from the host since.
    heard: u64,
    timing: Timing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Arming {
        left: u16,
    },
    Armed,
    /// An episode, until a stop; the guard knows whether something is wrong with it.
    Started,
}

impl<'a, A: AsMut<[u32]>, const STATE: usize, const ACT: usize, const GROUPS: usize>
    ControlLoop<'a, A, STATE, ACT, GROUPS>
{
    /// A loop at rest, waiting for [`Request::Arm`]. Runs the self-test of `policy`, which must have been
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
            max_change: [f32::INFINITY; STATE],
            ticked: false,
            state: State::Idle,
            target_return: 0.0,
            observation: [f32::NAN; STATE],
            before: None,
            reading: Reading::default(),
            commanded: safe_action,
            stepped: None,
            action: safe_action,
            heard: 0,
            timing: Timing::default(),
        })
    }

    /// Limits how far each component of the observation may move within one control period, in its own units; in
    /// `f32::INFINITY`, as all are without this, an angle may wrap and a switch flip. A reading after missed ticks has
    /// the time of all of them.
    #[must_use]
    pub fn with_max_change(mut self, max_change: [f32; STATE]) -> Self {
        self.max_change = max_change;
        self
    }

    /// To be told, before the first tick, why the controller has come out of reset: after its watchdog or a brown-out the
    /// loop begins with that fault latched, so that somebody has to acknowledge it. Later it is old news, and nothing
    /// happens. [`run`](crate::run()) does this.
    pub fn restarted(&mut self, cause: ResetCause) {
        let fault = match cause {
            ResetCause::Watchdog => Fault::WatchdogReset,
            ResetCause::BrownOut => Fault::BrownOut,
            _ => return,
        };
        if self.ticked {
            return;
        }
        self.state = State::Started;
        self.guard.latch(fault);
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
        self.observation = [f32::NAN; STATE];
        self.reading = Reading::default();
        self.stepped = None;
        self.ticked = true;

        let request = robot.request();
        let mut refusal = None;
        if tick.missed > 0 {
            refusal = self.miss(tick.missed);
        }
        if let Some(request) = request {
            refusal = refusal.or(self.obey(request, tick, robot).err());
        }

        let acting = self.mode() == Mode::Running;
        match self.state {
            State::Started if acting => {
                self.sense_and_act(tick, processor, robot);
                if since(tick, processor) > deadline {
                    self.guard.latch(Fault::MissedDeadline);
                }
            }
            State::Arming { .. } | State::Armed => {
                if let Err(fault) = self.warm_up(tick, processor, robot, deadline) {
                    refusal = self.halt(fault);
                }
            }
            State::Started | State::Idle => self.before = None,
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
            self.timing
                .add_slack(deadline.saturating_sub(latency), deadline);
            self.timing.busy.add(busy);
            let late = u32::from(latency > deadline);
            self.timing.late_actions = self.timing.late_actions.saturating_add(late);
        }
        robot.record(&Record {
            at: tick.at,
            mode: self.mode(),
            refusal,
            missed: tick.missed,
            step: self.stepped.map(|(timestep, return_to_go)| Step {
                timestep,
                target_return: self.target_return,
                seed: self.policy.seed(),
                return_to_go,
                action: &self.commanded,
            }),
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
        match (self.state, self.guard.fault()) {
            (State::Idle, _) => Mode::Idle,
            (State::Arming { left }, _) => Mode::Arming { left },
            (State::Armed, _) => Mode::Armed,
            (State::Started, None) => Mode::Running,
            (State::Started, Some(fault)) => Mode::Faulted(fault),
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

    fn obey<R: Robot>(
        &mut self,
        request: Request,
        tick: Tick,
        robot: &mut R,
    ) -> Result<(), Refusal> {
        match (request, self.mode()) {
            (Request::Stop | Request::Shutdown, _) => self.state = State::Idle,
            (Request::Halt(fault), _) => return self.halt(fault).map_or(Ok(()), Err),
            (_, Mode::Running) => return Err(Refusal::Running),
            (_, Mode::Faulted(fault)) => return Err(Refusal::Faulted(fault)),
            (Request::Arm { warm_up }, _) => {
                // What is checked in this tick counts.
                self.state = State::Arming { left: warm_up };
            }
            (Request::Start { target_return }, Mode::Armed) => {
                return self.start(target_return, tick, robot);
            }
            (Request::Start { .. }, Mode::Arming { left }) => {
                return Err(Refusal::WarmingUp { left });
            }
            (Request::Start { .. }, _) => return Err(Refusal::NotArmed),
        }
        Ok(())
    }

    fn start<R: Robot>(
        &mut self,
        target_return: f32,
        tick: Tick,
        robot: &mut R,
    ) -> Result<(), Refusal> {
        self.guard
            .restart(&mut self.policy, target_return)
            .map_err(|_| Refusal::TargetReturn)?;
        self.policy.set_seed(robot.seed().unwrap_or(self.seed));
        self.target_return = target_return;
        self.heard = tick.at;
        self.state = State::Started;
        Ok(())
    }

    /// Ticks have passed unserved.
    fn miss(&mut self, ticks: u32) -> Option<Refusal> {
        if self.mode() == Mode::Running {
            self.timing.missed_ticks = self.timing.missed_ticks.saturating_add(ticks);
        }
        if self.limits.missed.tolerates(ticks) {
            None
        } else {
            self.halt(Fault::MissedDeadline)
        }
    }

    /// Something is wrong: a fault while running, and not armed any more where it would become one.
    fn halt(&mut self, fault: Fault) -> Option<Refusal> {
        match self.state {
            State::Idle => None,
            State::Started => {
                self.guard.latch(fault);
                None
            }
            State::Arming { .. } | State::Armed => {
                self.state = State::Idle;
                self.before = None;
                Some(Refusal::Disarmed(fault))
            }
        }
    }

    /// Leaves the policy's action in `self.action`, or a fault in the guard.
    fn sense_and_act<P: Processor, R: Robot>(
        &mut self,
        tick: Tick,
        processor: &mut P,
        robot: &mut R,
    ) {
        let sensed = self.sense(tick, processor, robot);
        if let Err(fault) = sensed.and_then(|()| self.tell::<P>(tick)) {
            return self.guard.latch(fault);
        }
        let (timestep, return_to_go) = (self.policy.timestep(), self.policy.return_to_go());
        let command = self.guard.step(&mut self.policy, &self.observation);
        for (action, commanded) in self.action.iter_mut().zip(command.action) {
            *action = *commanded;
        }
        if command.fault.is_none() {
            self.commanded = self.action;
            self.stepped = Some((timestep, return_to_go));
        }
    }

    /// Checks a reading, of which `left` were still needed.
    fn warm_up<P: Processor, R: Robot>(
        &mut self,
        tick: Tick,
        processor: &mut P,
        robot: &mut R,
        deadline: u64,
    ) -> Result<(), Fault> {
        self.sense(tick, processor, robot)?;
        if since(tick, processor) > deadline {
            return Err(Fault::MissedDeadline);
        }
        if let State::Arming { left } = self.state {
            self.state = match left.saturating_sub(1) {
                0 => State::Armed,
                left => State::Arming { left },
            };
        }
        Ok(())
    }

    /// Leaves a fresh and plausible observation in `self.observation`.
    fn sense<P: Processor, R: Robot>(
        &mut self,
        tick: Tick,
        processor: &mut P,
        robot: &mut R,
    ) -> Result<(), Fault> {
        if processor.float_mode().is_err() {
            return Err(Fault::FloatingPointMode);
        }
        // Neither what the robot forgets to write nor what it once wrote passes for a measurement: the observation is
        // NaN until then.
        let mut ages_us = [u32::MAX; GROUPS];
        let reading = robot.sense(&mut self.observation, &mut ages_us);
        self.reading = reading.ok_or(Fault::NoReading)?;
        let stale = |(age, oldest): (&u32, &u32)| age > oldest;
        let mut ages = ages_us.iter().zip(&self.limits.stale_us);
        if let Some(group) = ages.position(stale) {
            return Err(Fault::StaleSensor { group });
        }
        self.guard.plausible(&self.observation)?;
        if let Some(before) = &self.before {
            let periods = tick.missed.saturating_add(1) as f32;
            let changes = before.iter().zip(&self.observation).map(|(b, o)| o - b);
            let mut changes = changes.zip(&self.max_change);
            // Whatever is not within a limit that is no number.
            let within = |change: f32, most: f32| change <= most && -change <= most;
            if let Some(index) = changes.position(|(change, most)| !within(change, most * periods))
            {
                return Err(Fault::TooFast { index });
            }
        }
        self.before = Some(self.observation);
        Ok(())
    }

    /// Tells the policy what came with the observation.
    fn tell<P: Processor>(&mut self, tick: Tick) -> Result<(), Fault> {
        if self.policy.awaits_reward() {
            let reward = self.reading.reward.ok_or(ActError::MissingReward);
            let observed = reward.and_then(|reward| self.policy.observe_reward(reward));
            observed.map_err(Fault::Act)?;
        }
        if self.policy.reward_mode() == RewardMode::External {
            let silence = counts(P::CLOCK_HZ, self.limits.silence_us);
            if let Some(return_to_go) = self.reading.return_to_go {
                self.heard = tick.at;
                let set = self.policy.set_return_to_go(return_to_go);
                set.map_err(Fault::Act)?;
            } else if tick.at.saturating_sub(self.heard) > silence {
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
