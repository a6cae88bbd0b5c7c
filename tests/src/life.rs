//! A controller's life with a simulated pendulum, faults and resets included, and the black box that is left of it.

use dt_control::{
    ControlLoop, FloatMode, Limits, Mode, Processor, Reading, Record, Request, ResetCause, Robot,
    Tick,
};
use dt_core::Policy;
use dt_core::guard::Fault;
use dt_device::blackbox::{BlackBox, Identity, memory_len};
use host_sim::Env;
use host_sim::pendulum::Pendulum;
use host_sim::policy_file::PolicyFile;

const STATE: usize = 3;
const ACT: usize = 1;
const CLOCK_HZ: u32 = 1_000_000;
/// What the motor really gives at most, less than the policy asks for.
const STRENGTH: f32 = 1.5;

/// How an episode ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a stop.
    Stop,
    /// By a tick that nobody served.
    MissedTick,
    /// By a sensor that is too old.
    StaleSensor,
    /// By sensors that say nothing.
    NoReading,
    /// By an observation that no pendulum can have.
    OutOfRange,
    /// By an action that is out too late: the policy has taken its step.
    LateAction,
    /// By a reset, from which the memory comes back as it was.
    Reset(ResetCause),
}

impl End {
    /// The fault that is latched then, before or after the reset.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Stop => None,
            Self::MissedTick | Self::LateAction => Some(Fault::MissedDeadline),
            Self::StaleSensor => Some(Fault::StaleSensor { group: 0 }),
            Self::NoReading => Some(Fault::NoReading),
            Self::OutOfRange => Some(Fault::OutOfRange { index: 2 }),
            Self::Reset(ResetCause::Watchdog) => Some(Fault::WatchdogReset),
            Self::Reset(ResetCause::BrownOut) => Some(Fault::BrownOut),
            Self::Reset(_) => None,
        }
    }
}

/// Room for as many records of the pendulum.
pub fn memory(records: usize) -> Vec<u8> {
    // As RAM comes up.
    vec![0xA5; memory_len(STATE, ACT, records)]
}

/// Lives through episodes, each of so many steps, aiming at −100 from seed 0, 1, …, and leaves the black box in `memory`.
/// The tick of a fault comes after the steps, but for a late action, which is the last of them.
///
/// # Panics
/// If the controller does something else than that.
pub fn live(file: &PolicyFile, memory: &mut [u8], episodes: &[(u32, End)]) {
    let mut rest = episodes;
    let mut cause = ResetCause::PowerOn;
    let mut seed = 0;
    while !rest.is_empty() {
        let resets = |(_, end): &(u32, End)| matches!(end, End::Reset(_));
        let len = rest.iter().position(resets).map_or(rest.len(), |at| at + 1);
        let (booted, later) = rest.split_at(len);
        boot(file, memory, booted, cause, seed);
        seed += len as u64;
        rest = later;
        if let Some((_, End::Reset(by))) = booted.last() {
            cause = *by;
            if rest.is_empty() {
                boot(file, memory, &[], cause, seed);
            }
        }
    }
}

/// From a reset to the next.
fn boot(
    file: &PolicyFile,
    memory: &mut [u8],
    episodes: &[(u32, End)],
    cause: ResetCause,
    first_seed: u64,
) {
    let blob = file.blob();
    let words = blob.manifest().config.arena_words();
    let policy = Policy::new(&blob, vec![0; words]).expect("enough memory");
    let limits = Limits::of_period(blob.manifest().control_period_us);
    let mut control =
        ControlLoop::<_, STATE, ACT>::new(&blob, policy, limits).expect("a proven policy");
    control.restarted(cause);
    let identity = Identity {
        state_dim: STATE as u32,
        action_len: ACT as u32,
        policy_crc: file.crc(),
        policy_len: file.bytes().len() as u32,
        period_us: control.period_us(),
        clock_hz: CLOCK_HZ,
        deadline_us: limits.deadline_us,
    };
    let mut world = World {
        now: 0,
        box_: BlackBox::open(memory, identity, cause).expect("room for a record"),
        plant: Pendulum::new(),
        seed: first_seed,
        mode: control.mode(),
        request: None,
        end: None,
        reward: None,
        return_to_go: 0.0,
    };
    let period = u64::from(control.period_us());
    let mut at = 0;
    let mut tick = |world: &mut World<'_>, request: Option<Request>, end: Option<End>| {
        let missed = u32::from(end == Some(End::MissedTick));
        at += period * u64::from(1 + missed);
        world.now = at + 50;
        (world.request, world.end) = (request, end);
        let tick = Tick { at, missed };
        let mut clock = Clock(world.now);
        if end == Some(End::LateAction) {
            clock.0 = at + period + 1;
        }
        assert!(control.tick(tick, &mut clock, world).is_continue());
        control.mode()
    };
    let first = tick(&mut world, None, None);
    let after = End::Reset(cause).fault();
    assert_eq!(first, after.map_or(Mode::Idle, Mode::Faulted));
    for &(steps, end) in episodes {
        world.plant.reset(world.seed);
        assert_eq!(tick(&mut world, Some(Request::Stop), None), Mode::Idle);
        let arm = Request::Arm { warm_up: 2 };
        let arming = Mode::Arming { left: 1 };
        assert_eq!(tick(&mut world, Some(arm), None), arming);
        assert_eq!(tick(&mut world, None, None), Mode::Armed);
        let target_return = -100.0;
        (world.reward, world.return_to_go) = (None, target_return);
        let mut request = Some(Request::Start { target_return });
        let late = u32::from(end == End::LateAction);
        for _ in 0..steps - late {
            assert_eq!(tick(&mut world, request.take(), None), Mode::Running);
        }
        let mode = match end {
            End::Reset(_) => Mode::Running,
            End::Stop => tick(&mut world, Some(Request::Stop), None),
            _ => tick(&mut world, None, Some(end)),
        };
        match (end, end.fault()) {
            (End::Reset(_), _) => {}
            (_, None) => assert_eq!(mode, Mode::Idle),
            (_, Some(fault)) => assert_eq!(mode, Mode::Faulted(fault)),
        }
        if !matches!(end, End::Reset(_)) {
            for _ in 0..40 {
                assert_eq!(tick(&mut world, None, None), mode);
            }
        }
        world.seed += 1;
    }
}

struct Clock(u64);

impl Processor for Clock {
    const CLOCK_HZ: u32 = CLOCK_HZ;

    fn now(&mut self) -> u64 {
        self.0 += 7;
        self.0
    }
    fn float_mode(&mut self) -> Result<(), FloatMode> {
        Ok(())
    }
}

struct World<'m> {
    now: u64,
    box_: BlackBox<'m>,
    plant: Pendulum,
    seed: u64,
    mode: Mode,
    request: Option<Request>,
    end: Option<End>,
    reward: Option<f32>,
    return_to_go: f32,
}

impl Robot for World<'_> {
    fn request(&mut self) -> Option<Request> {
        self.request
    }
    fn seed(&mut self) -> Option<u64> {
        Some(self.seed)
    }
    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
        if self.end == Some(End::NoReading) {
            return None;
        }
        self.plant.observation(observation);
        if self.end == Some(End::OutOfRange) {
            observation[2] = 9.5;
        }
        ages_us.fill(if self.end == Some(End::StaleSensor) {
            u32::MAX
        } else {
            10
        });
        Some(Reading {
            reward: self.reward,
            return_to_go: Some(self.return_to_go),
        })
    }
    fn actuate(&mut self, action: &mut [f32]) {
        if action[0].abs() > STRENGTH {
            action[0] = STRENGTH.copysign(action[0]);
        }
    }
    fn record(&mut self, record: &Record<'_>) {
        self.box_.record(record);
        self.mode = record.mode;
        if self.mode == Mode::Running {
            let reward = self.plant.step(record.action).reward as f32;
            self.reward = Some(reward);
            self.return_to_go -= reward;
        }
    }
}
