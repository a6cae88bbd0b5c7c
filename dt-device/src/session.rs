//! The device: a control loop whose sensors, actuators and operator are at the other end of a wire.
//!
//! A board's main boots a policy ([`Loaded::boot`]), makes a [`Device`] of it and calls [`serve`]. Each [step](Device::step)
//! serves the tick first, if there is one, and then some of the bytes that have arrived. Nothing in it waits.
//!
//! # What keeps a machine still
//!
//! - Arming is refused unless the policy is the one that the host means, by its CRC and length, of the dimensions that the
//!   host has, and has passed its self-test; then it takes fresh readings that the guard finds plausible.
//! - Only observations tell that the host is alive. While an episode runs, none for longer than
//!   [`Wire::silence_us`] latches the safe action ([`Fault::LostLink`]); one that is too old does too, as the
//!   loop's limits say.
//! - A greeting ([`ToDevice::Hello`]) or a stop is served at once, in a control tick of its own.

use core::ops::Range;

use dt_control::{
    Board, ControlLoop, Limits, Mode, PeriodTooLong, Processor, Reading, Record, Request,
    ResetCause, Robot, SetupError, Tick, counts,
};
use dt_core::blob::{Blob, BlobError, Manifest, RewardMode};
use dt_core::config::Actions;
use dt_core::engine::ArenaTooSmall;
use dt_core::guard::Fault;
use dt_core::policy::Policy;
use dt_link::{
    Bytes, CHUNK, Cause, Counts, Direction, FrameError, Header, Hello, MAX_VALUES, MAX_WIRE, Pace,
    PolicyId, Receiver, Refusal, Refused, Sender, Side, ToDevice, ToHost, UploadRefusal, Values,
};

use crate::blackbox::Identity;
use crate::board::{History, Indicator, Port, Sleep, Updates};

/// Ticks that a policy has to act for, in a row and without a fault, until it has proved itself
/// ([`Updates::proved`]).
pub const TRIAL: u32 = 100;

/// Bytes taken from the wire in one step, so that a flood of them delays no tick for long.
const GULP: usize = 64;

/// What the device is, apart from its policy.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// Name of the board.
    pub board: &'static str,
    /// Version of its program.
    pub version: &'static str,
    /// Longest time without an observation while an episode runs, or is about to, in µs.
    pub silence_us: u32,
    /// Why the controller has come out of reset ([`Board::reset_cause`]). After its watchdog or a brown-out the device begins
    /// with that fault latched.
    pub cause: ResetCause,
}

/// The policy that a device runs, and the loop around it.
pub struct Loaded<'a, A, const STATE: usize, const ACT: usize> {
    control: ControlLoop<'a, A, STATE, ACT>,
    manifest: Manifest<'a>,
    policy: PolicyId,
}

/// Limits for a robot at the other end of a wire: its clock is not the board's, so a reading may be two periods old.
pub const fn limits(period_us: u32) -> Limits {
    let mut limits = Limits::of_period(period_us);
    limits.stale_us = [period_us.saturating_mul(2)];
    limits
}

/// Why there is no policy to run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Unusable {
    /// It is no policy file.
    Blob(BlobError),
    /// It needs more memory than the program has for it.
    Arena(ArenaTooSmall),
    /// It does not fit the robot, or fails its self-test.
    Setup(SetupError),
}

impl core::fmt::Display for Unusable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Blob(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
            Self::Setup(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Unusable {}

impl<'a, A: AsMut<[u32]>, const STATE: usize, const ACT: usize> Loaded<'a, A, STATE, ACT> {
    /// Parses the policy in place, runs its self-test and puts the loop around it, with limits of its control period.
    ///
    /// # Errors
    /// [`Unusable`] says why it must not move anything.
    pub fn boot(
        file: &'a [u8],
        arena: A,
        limits: impl FnOnce(u32) -> Limits,
    ) -> Result<Self, Unusable> {
        let blob = Blob::parse(file).map_err(Unusable::Blob)?;
        let policy = Policy::new(&blob, arena).map_err(Unusable::Arena)?;
        let limits = limits(blob.manifest().control_period_us);
        let control = ControlLoop::new(&blob, policy, limits).map_err(Unusable::Setup)?;
        Ok(Self::new(control, &blob, file))
    }

    /// `control` was made of `blob`, which was parsed of `file`.
    pub fn new(control: ControlLoop<'a, A, STATE, ACT>, blob: &Blob<'a>, file: &[u8]) -> Self {
        Self {
            control,
            manifest: *blob.manifest(),
            policy: policy_id(blob, file),
        }
    }
}

impl<A: AsMut<[u32]>, const STATE: usize, const ACT: usize> Loaded<'_, A, STATE, ACT> {
    /// What a black box is to remember it by, on a processor of this clock.
    pub fn identity<P: Processor>(&self) -> Identity {
        let config = &self.manifest.config;
        Identity {
            state_dim: config.state_dim,
            action_len: config.action_len(),
            policy_crc: self.policy.crc,
            policy_len: self.policy.len,
            period_us: self.control.period_us(),
            clock_hz: P::CLOCK_HZ,
            deadline_us: self.control.limits().deadline_us,
        }
    }
}

/// What names a policy: the CRC field of its file (BLOB.md) and its length.
pub fn policy_id(blob: &Blob<'_>, file: &[u8]) -> PolicyId {
    let crc = file.get(12..).and_then(<[u8]>::first_chunk);
    PolicyId {
        crc: u32::from_le_bytes(crc.copied().unwrap_or_default()),
        len: u32::try_from(blob.file_len()).unwrap_or(u32::MAX),
    }
}

/// What main has to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the host may have asked for a restart"]
pub enum Next {
    /// The next step.
    Step,
    /// Restart the controller: the host asked for it, and has its answer.
    Restart,
}

/// Serves the device for as long as nobody asks for a restart: for that the caller has to care.
///
/// # Errors
/// [`PeriodTooLong`] if the board cannot tick at the policy's control period; nothing has moved then.
pub fn serve<A, U, H, const STATE: usize, const ACT: usize>(
    board: &mut impl Sleep,
    port: &mut impl Port,
    lamp: &mut impl Indicator,
    device: &mut Device<'_, A, U, H, STATE, ACT>,
) -> Result<(), PeriodTooLong>
where
    A: AsMut<[u32]>,
    U: Updates,
    H: History,
{
    board.start_ticks(device.period_us())?;
    board.start_watchdog(device.watchdog_us());
    let mut tick = None;
    while device.step(board, port, lamp, tick) == Next::Step {
        tick = board.sleep();
    }
    Ok(())
}

/// A control loop at a wire.
pub struct Device<'a, A, U, H, const STATE: usize, const ACT: usize> {
    receiver: Receiver<ToDevice<'static>>,
    served: Served<'a, A, U, H, STATE, ACT>,
}

/// All but the receiver, whose messages are borrowed while they are served.
struct Served<'a, A, U, H, const STATE: usize, const ACT: usize> {
    wire: Wire,
    loaded: Option<Loaded<'a, A, STATE, ACT>>,
    robot: Remote<H, STATE, ACT>,
    updates: U,
    output: Output,
    pace: Pace,
    /// Asked for, and to begin with the next observation.
    arming: Option<u16>,
    /// Distinct observations since arming, and how many it takes.
    fresh: u16,
    warm_up: u16,
    /// Number of the frame whose start is still to be served.
    starting: Option<u16>,
    /// Number of the next observation in lock step.
    next_step: u32,
    /// When the last observation came.
    heard: u64,
    /// Ticks in a row in which the policy acted; `None` once it has proved itself.
    trial: Option<u32>,
    /// A restart was asked for: so many ticks are still to pass once the answer is on its way.
    restarting: Option<u8>,
    /// An end of another version has been told of this one.
    version_told: bool,
}

impl<'a, A, U, H, const STATE: usize, const ACT: usize> Device<'a, A, U, H, STATE, ACT>
where
    A: AsMut<[u32]>,
    U: Updates,
    H: History,
{
    /// A device at rest. Without a policy it only talks, and takes another one.
    pub fn new(
        wire: Wire,
        mut loaded: Option<Loaded<'a, A, STATE, ACT>>,
        updates: U,
        history: H,
    ) -> Self {
        const {
            assert!(
                STATE <= MAX_VALUES && ACT <= MAX_VALUES,
                "observations and actions of this robot do not fit a message of the link"
            );
        }
        if let Some(loaded) = &mut loaded {
            loaded.control.restarted(wire.cause);
        }
        Self {
            receiver: Receiver::new(Direction::ToDevice),
            served: Served {
                wire,
                loaded,
                robot: Remote::new(history),
                updates,
                output: Output::new(),
                pace: Pace::Timer,
                arming: None,
                fresh: 0,
                warm_up: 0,
                starting: None,
                next_step: 0,
                heard: 0,
                trial: Some(0),
                restarting: None,
                version_told: false,
            },
        }
    }

    /// Control period, in µs; without a policy a tenth of a second.
    pub fn period_us(&self) -> u32 {
        let loaded = self.served.loaded.as_ref();
        loaded.map_or(100_000, |loaded| loaded.control.period_us())
    }

    /// Longest time without feeding before the watchdog stops the robot, in µs; without a policy a second.
    pub fn watchdog_us(&self) -> u32 {
        let loaded = self.served.loaded.as_ref();
        loaded.map_or(1_000_000, |loaded| loaded.control.limits().watchdog_us)
    }

    /// What it does.
    pub fn mode(&self) -> Mode {
        mode(&self.served.loaded)
    }

    /// Serves the tick, if there is one, then bytes that have arrived, and sends what there is to send.
    pub fn step<B: Board>(
        &mut self,
        board: &mut B,
        port: &mut impl Port,
        lamp: &mut impl Indicator,
        tick: Option<Tick>,
    ) -> Next {
        let Self { receiver, served } = self;
        if let Some(tick) = tick {
            served.timer_tick(board, tick);
            lamp.show(served.mode());
            board.feed_watchdog();
        }
        served.output.send(port);
        if served.may_restart(port, tick.is_some()) {
            return Next::Restart;
        }
        // With room for two answers, which is what one message makes of them at most.
        if served.output.has_room() && served.restarting.is_none() {
            let mut bytes = [0; GULP];
            let len = port.receive(&mut bytes);
            for byte in bytes.iter().take(len) {
                if served.restarting.is_some() {
                    break;
                }
                let counts = *receiver.counts();
                match receiver.feed(*byte) {
                    None => {}
                    Some(Ok((header, message))) => {
                        served.serve(board, header, message, counts);
                        served.output.send(port);
                    }
                    Some(Err(Refused::Message(header))) => {
                        served.refused(header.sequence, Refusal::Unknown)
                    }
                    Some(Err(Refused::Frame(FrameError::Version { .. }))) => served.tell_version(),
                    Some(Err(_)) => {}
                }
            }
        }
        Next::Step
    }
}

impl<'a, A, U, H, const STATE: usize, const ACT: usize> Served<'a, A, U, H, STATE, ACT>
where
    A: AsMut<[u32]>,
    U: Updates,
    H: History,
{
    fn mode(&self) -> Mode {
        mode(&self.loaded)
    }

    /// Whether the answer to a restart has left: the port's queue by its own word, the hardware's by the time of two ticks.
    fn may_restart(&mut self, port: &mut impl Port, is_tick: bool) -> bool {
        let Some(ticks) = &mut self.restarting else {
            return false;
        };
        if is_tick && self.output.is_empty() && port.is_drained() {
            *ticks = ticks.saturating_sub(1);
        }
        *ticks == 0
    }

    /// Any frame will do: its first byte says it. Once, so that two devices do not talk for ever.
    fn tell_version(&mut self) {
        if !self.version_told {
            self.version_told = true;
            self.refused(0, Refusal::Unknown);
        }
    }

    /// The board's timer: a control tick, or in lock step a look at the clock.
    fn timer_tick<B: Board>(&mut self, board: &mut B, tick: Tick) {
        let silent = tick.at.saturating_sub(self.heard) > counts(B::CLOCK_HZ, self.wire.silence_us);
        let moving = matches!(
            self.mode(),
            Mode::Arming { .. } | Mode::Armed | Mode::Running
        );
        if silent && moving {
            self.robot.request = Some(Request::Halt(Fault::LostLink));
            self.tick(board, tick);
        } else if self.pace == Pace::Timer {
            self.tick(board, tick);
        }
    }

    /// One control period, and what the host is told of it.
    fn tick<B: Board>(&mut self, board: &mut B, tick: Tick) {
        let Some(loaded) = &mut self.loaded else {
            return;
        };
        let before = loaded.control.mode();
        let start = match self.robot.request {
            Some(Request::Start { .. }) => self.starting.take(),
            _ => None,
        };
        self.robot.now = board.now();
        self.robot.clock_hz = B::CLOCK_HZ;
        // A loop that nobody asked to shut down goes on.
        let _ = loaded.control.tick(tick, board, &mut self.robot);
        let mode = loaded.control.mode();
        if let Some(to) = start {
            match self.robot.refusal.take() {
                None => self.done(to),
                Some(why) => self.refused(to, refusal(why)),
            }
        }
        if let Some(why) = self.robot.refusal.take() {
            self.refused(self.robot.sequence, refusal(why));
        }
        if self.pace == Pace::Lockstep || mode != Mode::Idle || before != Mode::Idle {
            self.answer(B::CLOCK_HZ, mode);
        }
        self.try_policy(mode);
    }

    /// A tick of its own for a request that cannot wait.
    fn tick_now<B: Board>(&mut self, board: &mut B, request: Request) {
        self.robot.request = Some(request);
        self.starting = None;
        let at = board.now();
        self.tick(board, Tick { at, missed: 0 });
    }

    fn serve<B: Board>(
        &mut self,
        board: &mut B,
        header: Header,
        message: ToDevice<'_>,
        counts: Counts,
    ) {
        let to = header.sequence;
        let done = match message {
            ToDevice::Hello => {
                // A fault is left for a stop to acknowledge.
                if self.is_moving() {
                    self.tick_now(board, Request::Stop);
                }
                self.arming = None;
                self.starting = None;
                self.robot.request = None;
                self.robot.forget();
                self.version_told = false;
                // The answer to that was for the last session.
                self.output.sender.begin(header.session);
                self.output.clear();
                self.pace = Pace::Timer;
                return self.hello();
            }
            ToDevice::Component { of, index } => return self.component(of, index),
            ToDevice::Status => return self.status(counts),
            ToDevice::Arm {
                policy,
                state_dim,
                act_dim,
                warm_up,
                pace,
            } => match self.may_arm(policy, state_dim, act_dim) {
                Ok(()) => {
                    // Whatever has been armed before.
                    if self.is_moving() {
                        self.tick_now(board, Request::Stop);
                    }
                    self.arm(warm_up, pace);
                    Ok(())
                }
                Err(why) => Err(why),
            },
            ToDevice::Start {
                target_return,
                seed,
            } => match self.may_start() {
                Ok(()) => {
                    // The answer comes with the tick.
                    self.robot.request = Some(Request::Start { target_return });
                    self.robot.seed = seed;
                    self.starting = Some(to);
                    self.next_step = 0;
                    return;
                }
                Err(why) => Err(why),
            },
            ToDevice::Stop => {
                self.arming = None;
                self.tick_now(board, Request::Stop);
                Ok(())
            }
            ToDevice::Observation {
                step,
                age_us,
                reward,
                return_to_go,
                values,
            } => {
                let at = board.now();
                let reading = Reading {
                    reward,
                    return_to_go,
                };
                match self.observe(to, at, step, age_us, reading, values) {
                    Ok(fresh) => {
                        if self.pace == Pace::Lockstep {
                            match fresh {
                                true => self.tick(board, Tick { at, missed: 0 }),
                                false => self.answer(B::CLOCK_HZ, self.mode()),
                            }
                        }
                        return;
                    }
                    Err(why) => Err(why),
                }
            }
            ToDevice::UploadBegin { policy, seal } => {
                let begun = self.upload(|updates| updates.begin(policy, seal));
                return self.uploaded(to, begun);
            }
            ToDevice::UploadChunk { offset, data } => {
                let written = self.upload(|updates| updates.write(offset, data.0));
                return self.uploaded(to, written);
            }
            ToDevice::UploadFinish => self.upload(Updates::finish),
            ToDevice::BlackBox { offset } => match self.at_rest() {
                Ok(()) => return self.black_box(offset),
                Err(why) => Err(why),
            },
            ToDevice::Restart => self.at_rest().map(|()| self.restarting = Some(2)),
        };
        match done {
            Ok(()) => self.done(to),
            Err(why) => self.refused(to, why),
        }
    }

    fn may_arm(&self, policy: PolicyId, state_dim: u16, act_dim: u16) -> Result<(), Refusal> {
        let Some(loaded) = &self.loaded else {
            return Err(Refusal::SelfTest);
        };
        if policy != loaded.policy {
            return Err(Refusal::OtherPolicy { has: loaded.policy });
        }
        if (state_dim, act_dim) != (short(STATE), short(ACT)) {
            return Err(Refusal::Dimensions {
                state_dim: short(STATE),
                act_dim: short(ACT),
            });
        }
        match loaded.control.mode() {
            Mode::Running => Err(Refusal::Running),
            Mode::Faulted(fault) => Err(Refusal::Faulted(mode_bytes(Mode::Faulted(fault)))),
            _ => Ok(()),
        }
    }

    /// The loop arms with the first observation from now on: before it, the board's timer would find none.
    fn arm(&mut self, warm_up: u16, pace: Pace) {
        self.warm_up = if warm_up == 0 { 1 } else { warm_up };
        self.arming = Some(self.warm_up);
        self.robot.request = None;
        self.robot.forget();
        self.starting = None;
        self.pace = pace;
        (self.fresh, self.next_step) = (0, 0);
    }

    /// Whether an episode may start: what the loop would say, and that the readings it liked were as many observations.
    fn may_start(&self) -> Result<(), Refusal> {
        let left = self.warm_up.saturating_sub(self.fresh);
        match self.mode() {
            Mode::Arming { left } => Err(Refusal::WarmingUp { left }),
            Mode::Armed if left > 0 => Err(Refusal::WarmingUp { left }),
            Mode::Armed => Ok(()),
            Mode::Running => Err(Refusal::Running),
            Mode::Faulted(fault) => Err(Refusal::Faulted(mode_bytes(Mode::Faulted(fault)))),
            Mode::Boot | Mode::SelfTest | Mode::Idle => match (self.arming, self.robot.request) {
                (Some(left), _) | (_, Some(Request::Arm { warm_up: left })) => {
                    Err(Refusal::WarmingUp { left })
                }
                _ => Err(Refusal::NotArmed),
            },
        }
    }

    /// Keeps an observation as the newest reading; `false` if in lock step it is the one answered last.
    fn observe(
        &mut self,
        to: u16,
        at: u64,
        step: u32,
        age_us: u32,
        reading: Reading,
        values: Values<'_>,
    ) -> Result<bool, Refusal> {
        if self.pace == Pace::Lockstep && step != self.next_step {
            let expected = self.next_step;
            return match step.checked_add(1) == Some(expected) {
                true => {
                    self.heard = at;
                    Ok(false)
                }
                false => Err(Refusal::Step { expected }),
            };
        }
        self.robot.take(to, at, step, age_us, reading, values)?;
        if let Some(warm_up) = self.arming.take() {
            self.robot.request = Some(Request::Arm { warm_up });
        }
        self.heard = at;
        self.fresh = self.fresh.saturating_add(1);
        self.next_step = step.wrapping_add(1);
        Ok(true)
    }

    /// Something moves, or is about to.
    fn is_moving(&self) -> bool {
        match self.mode() {
            Mode::Arming { .. } | Mode::Armed | Mode::Running => true,
            Mode::Boot | Mode::SelfTest | Mode::Idle | Mode::Faulted(_) => false,
        }
    }

    fn at_rest(&self) -> Result<(), Refusal> {
        match self.is_moving() {
            true => Err(Refusal::Running),
            false => Ok(()),
        }
    }

    fn upload<T>(
        &mut self,
        call: impl FnOnce(&mut U) -> Result<T, UploadRefusal>,
    ) -> Result<T, Refusal> {
        self.at_rest()?;
        if !self.updates.supported() {
            return Err(Refusal::Unsupported);
        }
        call(&mut self.updates).map_err(Refusal::Upload)
    }

    fn uploaded(&mut self, to: u16, next: Result<u32, Refusal>) {
        match next {
            Ok(next) => self.output.push(&ToHost::Upload { next }),
            Err(why) => self.refused(to, why),
        }
    }

    fn black_box(&mut self, offset: u32) {
        let Self { robot, output, .. } = self;
        let bytes = robot.history.bytes();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        output.push(&ToHost::BlackBox {
            offset,
            total: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            data: Bytes(rest.get(..CHUNK).unwrap_or(rest)),
        });
    }

    fn hello(&mut self) {
        let Self {
            wire,
            loaded,
            output,
            ..
        } = self;
        let mode = mode_bytes(mode(loaded));
        let mut hello = Hello {
            board: clip(wire.board),
            version: clip(wire.version),
            policy: PolicyId::default(),
            env: "",
            state_dim: short(STATE),
            act_dim: short(ACT),
            choices: 0,
            period_us: 0,
            deadline_us: 0,
            stale_us: 0,
            silence_us: wire.silence_us,
            wants_reward: false,
            wants_return_to_go: false,
            target_return: 0.0,
            mode,
            cause: match wire.cause {
                ResetCause::PowerOn => Cause::PowerOn,
                ResetCause::Pin => Cause::Pin,
                ResetCause::Software => Cause::Software,
                ResetCause::Watchdog => Cause::Watchdog,
                ResetCause::BrownOut => Cause::BrownOut,
                _ => Cause::Unknown,
            },
        };
        if let Some(Loaded {
            control,
            manifest,
            policy,
        }) = loaded
        {
            let limits = control.limits();
            hello.policy = *policy;
            hello.env = clip(manifest.env);
            hello.choices = match manifest.config.actions {
                Actions::Continuous => 0,
                Actions::Discrete => short(manifest.config.act_dim as usize),
            };
            hello.period_us = control.period_us();
            hello.deadline_us = limits.deadline_us;
            let [stale_us] = limits.stale_us;
            hello.stale_us = stale_us;
            hello.wants_reward = manifest.reward == RewardMode::Observed;
            hello.wants_return_to_go = manifest.reward == RewardMode::External;
            hello.target_return = manifest.target_return;
        }
        output.push(&ToHost::Hello(hello));
    }

    fn component(&mut self, of: Side, index: u16) {
        let Self { loaded, output, .. } = self;
        let components = loaded.as_ref().map(|loaded| match of {
            Side::Observation => loaded.manifest.observation,
            Side::Action => loaded.manifest.action,
        });
        let component = components.and_then(|components| components.iter().nth(index.into()));
        let (name, unit) = component.unwrap_or_default();
        output.push(&ToHost::Component {
            of,
            index,
            name: clip(name),
            unit: clip(unit),
        });
    }

    fn status(&mut self, counts: Counts) {
        let Self { loaded, output, .. } = self;
        let timing = loaded.as_ref().map(|loaded| *loaded.control.timing());
        let timing = timing.unwrap_or_default();
        output.push(&ToHost::Status {
            mode: mode_bytes(mode(loaded)),
            refused: counts.refused(),
            lost: counts.lost,
            late: timing.late_actions,
            missed: timing.missed_ticks,
        });
    }

    /// What was applied last.
    fn answer(&mut self, clock_hz: u32, mode: Mode) {
        let Self {
            robot,
            output,
            loaded,
            ..
        } = self;
        let limits = loaded.as_ref().map(|loaded| *loaded.control.limits());
        let deadline_us = limits.map_or(0, |limits| limits.deadline_us);
        let latency_us = micros(robot.latency, clock_hz);
        output.push(&ToHost::Action {
            step: robot.sensed,
            mode: mode_bytes(mode),
            latency_us,
            slack_us: deadline_us.saturating_sub(latency_us),
            values: Values::new(&robot.action),
        });
    }

    fn try_policy(&mut self, mode: Mode) {
        let Some(ticks) = self.trial else {
            return;
        };
        self.trial = match mode {
            Mode::Running if ticks + 1 >= TRIAL => {
                self.updates.proved();
                None
            }
            Mode::Running => Some(ticks + 1),
            Mode::Faulted(_) => Some(0),
            _ => Some(ticks),
        };
    }

    fn done(&mut self, to: u16) {
        self.output.push(&ToHost::Done { to });
    }

    fn refused(&mut self, to: u16, why: Refusal) {
        self.output.push(&ToHost::Refusal { to, why });
    }
}

/// Sensors, actuators and operator at the other end of the wire.
struct Remote<H, const STATE: usize, const ACT: usize> {
    history: H,
    request: Option<Request>,
    seed: Option<u64>,
    /// The newest observation, when it came, and how old it was then; `None` before the first.
    newest: Option<Newest<STATE>>,
    /// Time of the tick, in counts of a clock of this rate.
    now: u64,
    clock_hz: u32,
    /// Number of the frame with the newest observation.
    sequence: u16,
    /// Of the observation that was sensed last.
    sensed: u32,
    action: [f32; ACT],
    latency: u64,
    refusal: Option<dt_control::Refusal>,
}

struct Newest<const STATE: usize> {
    values: [f32; STATE],
    at: u64,
    age_us: u32,
    step: u32,
    /// Rewards that came since the last reading, added.
    reward: Option<f32>,
    return_to_go: Option<f32>,
    /// No tick has taken it yet.
    unread: bool,
}

impl<H, const STATE: usize, const ACT: usize> Remote<H, STATE, ACT> {
    fn new(history: H) -> Self {
        Self {
            history,
            request: None,
            seed: None,
            newest: None,
            now: 0,
            clock_hz: 1,
            sequence: 0,
            sensed: 0,
            action: [0.0; ACT],
            latency: 0,
            refusal: None,
        }
    }

    /// No observation from before counts.
    fn forget(&mut self) {
        self.newest = None;
    }

    fn take(
        &mut self,
        sequence: u16,
        at: u64,
        step: u32,
        age_us: u32,
        reading: Reading,
        values: Values<'_>,
    ) -> Result<(), Refusal> {
        let mut newest = Newest {
            values: [0.0; STATE],
            at,
            age_us,
            step,
            reward: reading.reward,
            return_to_go: reading.return_to_go,
            unread: true,
        };
        values.copy_to(&mut newest.values)?;
        if let Some(earlier) = self.newest.as_ref().filter(|newest| newest.unread) {
            // Two observations between two ticks: what the first one brought is not lost.
            let rewards = earlier.reward.zip(reading.reward);
            newest.reward = rewards.map(|(earlier, reward)| earlier + reward);
            newest.return_to_go = reading.return_to_go.or(earlier.return_to_go);
        }
        self.newest = Some(newest);
        self.sequence = sequence;
        Ok(())
    }
}

impl<H: History, const STATE: usize, const ACT: usize> Robot for Remote<H, STATE, ACT> {
    fn request(&mut self) -> Option<Request> {
        self.request.take()
    }

    fn seed(&mut self) -> Option<u64> {
        self.seed.take()
    }

    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
        let newest = self.newest.as_mut()?;
        for (target, value) in observation.iter_mut().zip(newest.values) {
            *target = value;
        }
        let waited = micros(self.now.saturating_sub(newest.at), self.clock_hz);
        ages_us.fill(newest.age_us.saturating_add(waited));
        self.sensed = newest.step;
        let reading = Reading {
            reward: newest.reward,
            return_to_go: newest.return_to_go.take(),
        };
        // Nothing is earned until more is heard; that this is soon enough is what the age is for.
        newest.reward = Some(0.0);
        newest.unread = false;
        Some(reading)
    }

    fn actuate(&mut self, action: &mut [f32]) {
        for (target, value) in self.action.iter_mut().zip(action) {
            *target = *value;
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        self.latency = record.latency;
        self.refusal = record.refusal;
        self.history.record(record);
    }
}

/// Frames on their way to the host.
struct Output {
    sender: Sender,
    bytes: [u8; QUEUE],
    /// What is still to be sent.
    range: Range<usize>,
}

/// Room for two of the longest frames.
const QUEUE: usize = 2 * MAX_WIRE;

impl Output {
    fn new() -> Self {
        Self {
            sender: Sender::new(Direction::ToHost),
            bytes: [0; QUEUE],
            range: 0..0,
        }
    }

    fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    fn has_room(&self) -> bool {
        self.range.len() <= QUEUE - MAX_WIRE
    }

    /// What is underway belongs to a session that is over. Its first byte may be out, so a zero ends that frame.
    fn clear(&mut self) {
        self.range = 0..0;
        if let Some(first) = self.bytes.first_mut() {
            *first = 0;
            self.range = 0..1;
        }
    }

    /// Without room the message is lost, as on the wire: the host asks again.
    fn push(&mut self, message: &ToHost<'_>) {
        // `copy_within` would panic, for all that the compiler knows.
        for (to, from) in self.range.clone().enumerate() {
            let byte = self.bytes.get(from).copied().unwrap_or_default();
            if let Some(target) = self.bytes.get_mut(to) {
                *target = byte;
            }
        }
        self.range = 0..self.range.len();
        let room = self.bytes.get_mut(self.range.end..).unwrap_or_default();
        if let Ok(len) = self.sender.encode(message, room) {
            self.range.end += len;
        }
    }

    fn send(&mut self, port: &mut impl Port) {
        while let Some(bytes) = self
            .bytes
            .get(self.range.clone())
            .filter(|bytes| !bytes.is_empty())
        {
            let len = port.send(bytes);
            if len == 0 {
                return;
            }
            self.range.start += if len < bytes.len() { len } else { bytes.len() };
        }
    }
}

fn mode<A: AsMut<[u32]>, const STATE: usize, const ACT: usize>(
    loaded: &Option<Loaded<'_, A, STATE, ACT>>,
) -> Mode {
    match loaded {
        Some(loaded) => loaded.control.mode(),
        None => Mode::Faulted(Fault::SelfTest),
    }
}

fn mode_bytes(mode: Mode) -> dt_link::Mode {
    dt_link::Mode(mode.to_bytes())
}

/// The loop's refusal in the link's words.
fn refusal(why: dt_control::Refusal) -> Refusal {
    let fault = |fault| mode_bytes(Mode::Faulted(fault));
    match why {
        dt_control::Refusal::NotArmed => Refusal::NotArmed,
        dt_control::Refusal::WarmingUp { left } => Refusal::WarmingUp { left },
        dt_control::Refusal::Running => Refusal::Running,
        dt_control::Refusal::Faulted(why) => Refusal::Faulted(fault(why)),
        dt_control::Refusal::TargetReturn => Refusal::TargetReturn,
        dt_control::Refusal::Disarmed(why) => Refusal::Disarmed(fault(why)),
        _ => Refusal::Unknown,
    }
}

/// Counts of a clock in µs, rounded down.
fn micros(counts: u64, clock_hz: u32) -> u32 {
    let scaled = counts.saturating_mul(1_000_000);
    let micros = scaled.checked_div(clock_hz.into()).unwrap_or(u64::MAX);
    u32::try_from(micros).unwrap_or(u32::MAX)
}

fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// As much of a text as fits a message with others.
fn clip(text: &str) -> &str {
    const LONGEST: usize = 96;
    if text.len() <= LONGEST {
        return text;
    }
    let beginnings = (0..=LONGEST).rev().map(|len| text.get(..len));
    beginnings.flatten().next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
