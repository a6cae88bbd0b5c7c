//! The device on a wire and a board whose time passes only where a test says so.

use std::cell::Cell;
use std::collections::VecDeque;

use ::tests::{episodes, small_config};
use dt_control::{FloatMode, Processor, Watchdog};
use dt_core::config::{Config, Dtype};
use dt_link::Seal;
use host_sim::Controller;
use host_sim::policy_file::PolicyFile;

use super::*;

const STATE: usize = 3;
const ACT: usize = 1;
const PERIOD_US: u32 = 50_000;
const SILENCE_US: u32 = 4 * PERIOD_US;
const TARGET: f32 = -150.0;
const SEED: u64 = 11;

/// What the device says, owned.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Hello(PolicyId, Mode),
    Component(Side, u16, String, String),
    Status(Mode, u32),
    Done(u16),
    Refusal(u16, Refusal),
    Action(u32, Mode, Vec<f32>),
    Upload(u32),
    BlackBox(u32, u32, Vec<u8>),
}

impl From<ToHost<'_>> for Heard {
    fn from(message: ToHost<'_>) -> Self {
        let mode = |mode: dt_link::Mode| Mode::from_bytes(mode.0).unwrap();
        match message {
            ToHost::Hello(hello) => Self::Hello(hello.policy, mode(hello.mode)),
            ToHost::Component {
                of,
                index,
                name,
                unit,
            } => Self::Component(of, index, name.into(), unit.into()),
            ToHost::Status {
                mode: now, refused, ..
            } => Self::Status(mode(now), refused),
            ToHost::Done { to } => Self::Done(to),
            ToHost::Refusal { to, why } => Self::Refusal(to, why),
            ToHost::Action {
                step,
                mode: now,
                values,
                ..
            } => Self::Action(step, mode(now), values.iter().collect()),
            ToHost::Upload { next } => Self::Upload(next),
            ToHost::BlackBox {
                offset,
                total,
                data,
            } => Self::BlackBox(offset, total, data.0.to_vec()),
        }
    }
}

/// A board whose clock a test moves; every look at it takes `look_us` besides.
struct Bench {
    now: Cell<u64>,
    look_us: u64,
    fed: u32,
}

impl Processor for Bench {
    const CLOCK_HZ: u32 = 1_000_000;

    fn now(&mut self) -> u64 {
        self.now.replace(self.now.get() + self.look_us)
    }
    fn float_mode(&mut self) -> Result<(), FloatMode> {
        Ok(())
    }
}

impl Board for Bench {
    fn start_ticks(&mut self, _: u32) -> Result<(), PeriodTooLong> {
        Ok(())
    }
    fn start_watchdog(&mut self, _: u32) {}
    fn feed_watchdog(&mut self) {
        self.fed += 1;
    }
    fn stop_watchdog(&mut self) -> Watchdog {
        Watchdog::Armed
    }
}

/// Two queues of bytes; the one to the host takes `room` bytes per call.
struct Queues {
    to_device: VecDeque<u8>,
    to_host: Vec<u8>,
    room: usize,
    /// The queue keeps what it has taken.
    undrained: bool,
}

impl Port for Queues {
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let len = buffer.len().min(self.to_device.len());
        for (target, byte) in buffer.iter_mut().zip(self.to_device.drain(..len)) {
            *target = byte;
        }
        len
    }
    fn send(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room);
        self.to_host.extend_from_slice(&bytes[..len]);
        len
    }
    fn is_drained(&mut self) -> bool {
        !self.undrained
    }
}

/// A lamp that remembers, a slot and a box that count.
#[derive(Default)]
struct Lamp(Option<Mode>);

impl Indicator for Lamp {
    fn show(&mut self, mode: Mode) {
        self.0 = Some(mode);
    }
}

#[derive(Default)]
struct Slot {
    written: Vec<u8>,
    finished: bool,
    proved: u32,
}

impl Updates for &mut Slot {
    fn begin(&mut self, policy: PolicyId, _: Option<Seal<'_>>) -> Result<u32, UploadRefusal> {
        match policy.len {
            0..=2000 => Ok(self.written.len() as u32),
            _ => Err(UploadRefusal::TooLarge { max: 2000 }),
        }
    }
    fn write(&mut self, offset: u32, data: &[u8]) -> Result<u32, UploadRefusal> {
        let expected = self.written.len() as u32;
        if offset != expected {
            return Err(UploadRefusal::Offset { expected });
        }
        self.written.extend_from_slice(data);
        Ok(self.written.len() as u32)
    }
    fn finish(&mut self) -> Result<(), UploadRefusal> {
        self.finished = true;
        Ok(())
    }
    fn proved(&mut self) {
        self.proved += 1;
    }
}

/// A byte per tick: whether the policy acted.
#[derive(Default)]
struct Ticks(Vec<u8>);

impl History for Ticks {
    fn record(&mut self, record: &Record<'_>) {
        self.0.push(u8::from(record.mode == Mode::Running));
    }
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

type TestDevice<'a> = Device<'a, Vec<u32>, &'a mut Slot, Ticks, STATE, ACT>;

/// Both ends.
struct Rig<'a> {
    device: TestDevice<'a>,
    bench: Bench,
    port: Queues,
    lamp: Lamp,
    sender: Sender,
    receiver: Receiver<ToHost<'static>>,
    next: Next,
    policy: PolicyId,
}

impl<'a> Rig<'a> {
    /// A device that has been greeted in session 1.
    fn new(file: &'a PolicyFile, slot: &'a mut Slot) -> Self {
        let loaded = Loaded::boot(file.bytes(), arena(file), limits).unwrap();
        let policy = loaded.policy;
        let mut rig = Self::with(Some(loaded), slot);
        rig.policy = policy;
        assert_eq!(
            rig.say(&ToDevice::Hello),
            [Heard::Hello(policy, Mode::Idle)]
        );
        rig
    }

    fn with(loaded: Option<Loaded<'a, Vec<u32>, STATE, ACT>>, slot: &'a mut Slot) -> Self {
        Self::after(ResetCause::Unknown, loaded, slot)
    }

    fn after(
        cause: ResetCause,
        loaded: Option<Loaded<'a, Vec<u32>, STATE, ACT>>,
        slot: &'a mut Slot,
    ) -> Self {
        let wire = Wire {
            board: "bench",
            version: "0",
            silence_us: SILENCE_US,
            cause,
        };
        let mut rig = Self {
            device: Device::new(wire, loaded, slot, Ticks::default()),
            bench: Bench {
                now: Cell::new(1_000_000),
                look_us: 0,
                fed: 0,
            },
            port: Queues {
                to_device: VecDeque::new(),
                to_host: Vec::new(),
                room: usize::MAX,
                undrained: false,
            },
            lamp: Lamp::default(),
            sender: Sender::new(Direction::ToDevice),
            receiver: Receiver::new(Direction::ToHost),
            next: Next::Step,
            policy: PolicyId::default(),
        };
        rig.begin(1);
        rig
    }

    fn begin(&mut self, session: u8) {
        self.sender.begin(session);
        self.receiver.begin(session);
    }

    fn step(&mut self, tick: Option<Tick>) {
        let Self {
            device,
            bench,
            port,
            lamp,
            ..
        } = self;
        self.next = device.step(bench, port, lamp, tick);
    }

    /// What the device has to say to this, without a tick.
    fn say(&mut self, message: &ToDevice<'_>) -> Vec<Heard> {
        let mut wire = [0; MAX_WIRE];
        let len = self.sender.encode(message, &mut wire).unwrap();
        self.send(&wire[..len])
    }

    fn send(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.port.to_device.extend(bytes);
        while !self.port.to_device.is_empty() {
            self.step(None);
        }
        self.step(None);
        self.hear()
    }

    fn hear(&mut self) -> Vec<Heard> {
        let bytes = std::mem::take(&mut self.port.to_host);
        let mut heard = Vec::new();
        for byte in bytes {
            match self.receiver.feed(byte) {
                Some(Ok((_, message))) => heard.push(message.into()),
                Some(Err(refused)) => panic!("{refused}"),
                None => {}
            }
        }
        heard
    }

    /// The board's timer, `after_us` from now.
    fn tick(&mut self, after_us: u32) -> Vec<Heard> {
        let at = self.bench.now.get() + u64::from(after_us);
        self.bench.now.set(at);
        self.step(Some(Tick { at, missed: 0 }));
        self.hear()
    }

    fn arm(&mut self, pace: Pace) -> Vec<Heard> {
        let arm = self.arming(pace, 1);
        self.say(&arm)
    }

    fn arming(&self, pace: Pace, warm_up: u16) -> ToDevice<'static> {
        ToDevice::Arm {
            policy: self.policy,
            state_dim: STATE as u16,
            act_dim: ACT as u16,
            warm_up,
            pace,
        }
    }

    /// In lock step: armed, started, and the first action.
    fn start(&mut self) -> Vec<f32> {
        assert!(matches!(self.arm(Pace::Lockstep)[..], [Heard::Done(_)]));
        let safe = self.say(&observation(0, None));
        assert_eq!(safe, [Heard::Action(0, Mode::Armed, vec![0.0])]);
        assert_eq!(self.say(&START), []);
        match &self.say(&observation(0, None))[..] {
            [Heard::Done(_), Heard::Action(0, Mode::Running, action)] => action.clone(),
            heard => panic!("{heard:?}"),
        }
    }
}

const START: ToDevice<'static> = ToDevice::Start {
    target_return: TARGET,
    seed: Some(SEED),
};

/// The pendulum at step `step`, anywhere.
fn seen(step: u32) -> [f32; STATE] {
    let angle = 0.3 * step as f32;
    [angle.cos(), angle.sin(), 0.5 - angle.sin()]
}

fn observation(step: u32, reward: Option<f32>) -> ToDevice<'static> {
    aged(step, reward, 0)
}

fn aged(step: u32, reward: Option<f32>, age_us: u32) -> ToDevice<'static> {
    ToDevice::Observation {
        step,
        age_us,
        reward,
        return_to_go: None,
        // Few, and for as long as a test.
        values: Values::new(Box::leak(Box::new(seen(step)))),
    }
}

fn reward(step: u32) -> f32 {
    -0.1 * step as f32
}

fn policy_of(reward: RewardMode) -> PolicyFile {
    let config = Config {
        dtype: Dtype::Int8,
        ..small_config()
    };
    episodes::policy(config, reward, 5)
}

fn policy() -> PolicyFile {
    policy_of(RewardMode::Observed)
}

fn arena(file: &PolicyFile) -> Vec<u32> {
    vec![0; file.blob().manifest().config.arena_words()]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn is_refused(heard: &[Heard], why: Refusal) -> bool {
    matches!(heard, [Heard::Refusal(_, because)] if *because == why)
}

#[test]
fn a_device_says_what_it_is() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    assert_eq!(rig.policy.crc, file.crc());
    assert_eq!(rig.policy.len as usize, file.bytes().len());
    let components =
        file.blob()
            .manifest()
            .observation
            .iter()
            .zip(0..)
            .map(|((name, unit), index)| {
                Heard::Component(Side::Observation, index, name.to_owned(), unit.to_owned())
            });
    let expected: Vec<Heard> = components.collect();
    for (index, component) in expected.iter().enumerate() {
        let of = Side::Observation;
        let index = index as u16;
        assert_eq!(
            rig.say(&ToDevice::Component { of, index }),
            std::slice::from_ref(component)
        );
    }
    let none = Heard::Component(Side::Action, 77, String::new(), String::new());
    let asked = ToDevice::Component {
        of: Side::Action,
        index: 77,
    };
    assert_eq!(rig.say(&asked), [none]);
    rig.port.to_device.extend([1, 2, 3, 0]);
    assert_eq!(rig.say(&ToDevice::Status), [Heard::Status(Mode::Idle, 1)]);
    // Clipping keeps characters whole.
    assert_eq!(clip(&"ü".repeat(60)), "ü".repeat(48));
}

#[test]
fn arming_is_refused_for_every_reason_it_has() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    let has = rig.policy;
    let with = |rig: &mut Rig<'_>, policy, state_dim, act_dim| {
        rig.say(&ToDevice::Arm {
            policy,
            state_dim,
            act_dim,
            warm_up: 1,
            pace: Pace::Lockstep,
        })
    };
    for other in [
        PolicyId {
            crc: has.crc ^ 1,
            ..has
        },
        PolicyId {
            len: has.len + 1,
            ..has
        },
    ] {
        assert!(is_refused(
            &with(&mut rig, other, 3, 1),
            Refusal::OtherPolicy { has }
        ));
    }
    let dimensions = Refusal::Dimensions {
        state_dim: 3,
        act_dim: 1,
    };
    for (state_dim, act_dim) in [(2, 1), (3, 2)] {
        assert!(is_refused(
            &with(&mut rig, has, state_dim, act_dim),
            dimensions
        ));
    }
    // Nothing came of all that: an observation is answered by the timer alone, and nothing starts.
    assert_eq!(rig.say(&observation(0, None)), []);
    assert!(is_refused(&rig.say(&START), Refusal::NotArmed));

    rig.start();
    assert!(is_refused(&with(&mut rig, has, 3, 1), Refusal::Running));
    rig.say(&observation(1, Some(f32::NAN)));
    let fault = rig.device.mode();
    assert!(matches!(fault, Mode::Faulted(_)), "{fault:?}");
    assert!(is_refused(
        &with(&mut rig, has, 3, 1),
        Refusal::Faulted(mode_bytes(fault))
    ));
}

#[test]
fn a_policy_that_fails_its_self_test_is_not_armed_and_can_be_replaced() {
    let spoilt = episodes::policy_with(small_config(), RewardMode::Observed, 5, |golden| {
        golden[4] += 0.5;
    });
    let refused = Loaded::<_, STATE, ACT>::boot(spoilt.bytes(), arena(&spoilt), limits);
    let Err(Unusable::Setup(SetupError::SelfTest(_))) = refused else {
        panic!("it passed");
    };
    let mut slot = Slot::default();
    let mut rig = Rig::with(None, &mut slot);
    let greeting = Heard::Hello(PolicyId::default(), Mode::Faulted(Fault::SelfTest));
    assert_eq!(rig.say(&ToDevice::Hello), [greeting]);
    assert!(is_refused(&rig.arm(Pace::Timer), Refusal::SelfTest));
    assert!(is_refused(
        &rig.say(&START),
        Refusal::Faulted(mode_bytes(Mode::Faulted(Fault::SelfTest)))
    ));
    for _ in 0..10 {
        assert_eq!(rig.tick(PERIOD_US), []);
    }
    let policy = PolicyId { crc: 1, len: 4 };
    let begin = ToDevice::UploadBegin { policy, seal: None };
    assert_eq!(rig.say(&begin), [Heard::Upload(0)]);
    let other = Loaded::<_, STATE, 2>::boot(file_bytes(), Vec::new(), limits);
    assert!(matches!(other, Err(Unusable::Blob(_))));
}

/// No policy.
fn file_bytes() -> &'static [u8] {
    &[]
}

#[test]
fn a_lock_step_episode_is_the_hosts_to_the_bit() {
    for mode in [
        RewardMode::Observed,
        RewardMode::Constant,
        RewardMode::External,
    ] {
        let (file, mut slot) = (policy_of(mode), Slot::default());
        let mut host = file.controllers()();
        let mut rig = Rig::new(&file, &mut slot);
        let wants = |wanted, value| (mode == wanted).then_some(value);
        for episode in 0..2 {
            host.reset(SEED, TARGET).unwrap();
            let mut return_to_go = TARGET;
            rig.say(&ToDevice::Stop);
            for step in 0..40 {
                let action = match step {
                    0 => rig.start(),
                    _ => {
                        let values = seen(step);
                        let message = ToDevice::Observation {
                            step,
                            age_us: 0,
                            reward: wants(RewardMode::Observed, reward(step)),
                            return_to_go: wants(RewardMode::External, return_to_go),
                            values: Values::new(&values),
                        };
                        match &rig.say(&message)[..] {
                            [Heard::Action(of, Mode::Running, action)] if *of == step => {
                                action.clone()
                            }
                            heard => panic!("{heard:?}"),
                        }
                    }
                };
                let expected = host.act(&seen(step)).unwrap().to_vec();
                assert_eq!(bits(&action), bits(&expected), "{mode:?} {episode} {step}");
                host.feedback(&expected, reward(step + 1)).unwrap();
                return_to_go -= reward(step + 1);
            }
        }
    }
}

#[test]
fn in_lock_step_a_repeated_question_gets_the_same_answer_without_a_tick() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    let first = rig.start();
    let ticks = rig.device.served.robot.history.0.len();
    let again = rig.say(&observation(0, None));
    assert_eq!(again, [Heard::Action(0, Mode::Running, first)]);
    assert_eq!(rig.device.served.robot.history.0.len(), ticks);
    for wrong in [2, 7, u32::MAX] {
        let why = Refusal::Step { expected: 1 };
        assert!(is_refused(&rig.say(&observation(wrong, Some(0.0))), why));
    }
    let heard = rig.say(&observation(1, Some(0.0)));
    assert!(matches!(heard[..], [Heard::Action(1, Mode::Running, _)]));
    // Nothing of another length, and no half numbers.
    let short = ToDevice::Observation {
        step: 2,
        age_us: 0,
        reward: Some(0.0),
        return_to_go: None,
        values: Values::new(&[1.0, 0.0]),
    };
    let why = Refusal::Length {
        expected: 3,
        got: 2,
    };
    assert!(is_refused(&rig.say(&short), why));
    assert_eq!(rig.device.mode(), Mode::Running);
}

#[test]
fn the_lock_step_deadline_counts_from_the_observations_arrival() {
    let (file, mut slot) = (policy(), Slot::default());
    for (look_us, late) in [
        (u64::from(PERIOD_US) / 20, false),
        (u64::from(PERIOD_US), true),
    ] {
        let mut rig = Rig::new(&file, &mut slot);
        rig.start();
        // However long the host took.
        rig.bench
            .now
            .set(rig.bench.now.get() + u64::from(SILENCE_US) - 1);
        rig.bench.look_us = look_us;
        let heard = rig.say(&observation(1, Some(0.0)));
        let expected = match late {
            false => Mode::Running,
            true => Mode::Faulted(Fault::MissedDeadline),
        };
        let [Heard::Action(1, mode, action)] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert_eq!(*mode, expected);
        assert!(!late || *action == [0.0]);
    }
}

#[test]
fn a_silent_host_is_a_fault_whatever_else_it_says() {
    for (pace, talk) in [
        (Pace::Lockstep, false),
        (Pace::Lockstep, true),
        (Pace::Timer, false),
        (Pace::Timer, true),
    ] {
        let (file, mut slot) = (policy(), Slot::default());
        // Readings may be older than the silence here, so that it is the silence that is found.
        let patient = |period| Limits {
            stale_us: [10 * SILENCE_US],
            ..limits(period)
        };
        let loaded = Loaded::boot(file.bytes(), arena(&file), patient).unwrap();
        let policy = loaded.policy;
        let mut rig = Rig::with(Some(loaded), &mut slot);
        rig.policy = policy;
        rig.say(&ToDevice::Hello);
        match pace {
            Pace::Lockstep => drop(rig.start()),
            Pace::Timer => run_by_the_timer(&mut rig),
        }
        let mut heard = Vec::new();
        let mut step = 1;
        let mut silent = false;
        for passed in 1..=20 {
            if talk {
                rig.say(&observation(step, Some(0.0)));
                step += 1;
            } else {
                // Everything but an observation.
                rig.say(&ToDevice::Status);
                rig.say(&START);
                rig.say(&ToDevice::UploadFinish);
            }
            heard = rig.tick(PERIOD_US);
            silent = rig.bench.now.get() - rig.device.served.heard > u64::from(SILENCE_US);
            let expected = match silent {
                false => Mode::Running,
                true => Mode::Faulted(Fault::LostLink),
            };
            assert_eq!(rig.device.mode(), expected, "{pace:?} {passed}");
            assert_eq!(rig.lamp.0, Some(expected));
            if silent {
                break;
            }
        }
        assert_ne!(silent, talk);
        if !talk {
            let [Heard::Action(_, Mode::Faulted(Fault::LostLink), action)] = &heard[..] else {
                panic!("{heard:?}");
            };
            assert_eq!(*action, [0.0]);
        }
    }
}

/// Armed and started by the board's timer.
fn run_by_the_timer(rig: &mut Rig<'_>) {
    rig.arm(Pace::Timer);
    rig.say(&observation(0, None));
    assert_eq!(
        rig.tick(PERIOD_US),
        [Heard::Action(0, Mode::Armed, vec![0.0])]
    );
    assert_eq!(rig.say(&START), []);
    rig.say(&observation(0, None));
    let heard = rig.tick(PERIOD_US);
    assert!(
        matches!(
            heard[..],
            [Heard::Done(_), Heard::Action(0, Mode::Running, _)]
        ),
        "{heard:?}"
    );
}

#[test]
fn by_the_timer_the_newest_observation_counts_and_its_age_with_it() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut host = file.controllers()();
    let mut rig = Rig::new(&file, &mut slot);
    run_by_the_timer(&mut rig);
    host.reset(SEED, TARGET).unwrap();
    host.act(&seen(0)).unwrap();
    // Two observations between two ticks: the later one, and what both have earned.
    rig.say(&observation(1, Some(-1.0)));
    rig.say(&observation(2, Some(-2.0)));
    let heard = rig.tick(PERIOD_US);
    let mut expect = |heard: &[Heard], of: u32, reward: f32| {
        let policy = host.policy_mut();
        policy.absorb_commanded().unwrap();
        policy.observe_reward(reward).unwrap();
        let expected = policy.act(&seen(of)).unwrap().to_vec();
        let [Heard::Action(step, Mode::Running, action)] = heard else {
            panic!("{heard:?}");
        };
        assert_eq!((*step, bits(action)), (of, bits(&expected)));
    };
    expect(&heard, 2, -3.0);
    // None: the old one, in which nothing more was earned, up to its age.
    let heard = rig.tick(PERIOD_US);
    expect(&heard, 2, 0.0);
    let stale = Mode::Faulted(Fault::StaleSensor { group: 0 });
    assert_eq!(rig.tick(PERIOD_US), [Heard::Action(2, stale, vec![0.0])]);

    // The sender's age counts, too.
    for (age_us, mode) in [(2 * PERIOD_US, Mode::Running), (2 * PERIOD_US + 1, stale)] {
        rig.say(&ToDevice::Stop);
        run_by_the_timer(&mut rig);
        rig.say(&aged(1, Some(0.0), age_us));
        rig.tick(0);
        assert_eq!(rig.device.mode(), mode);
    }
}

#[test]
fn a_warm_up_takes_as_many_observations_whatever_the_ticks() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    let arm = rig.arming(Pace::Timer, 3);
    rig.say(&arm);
    assert!(is_refused(&rig.say(&START), Refusal::WarmingUp { left: 3 }));
    rig.say(&observation(0, None));
    // The loop finds one observation plausible three times.
    for _ in 0..3 {
        rig.tick(PERIOD_US / 2);
    }
    assert_eq!(rig.device.mode(), Mode::Armed);
    assert!(is_refused(&rig.say(&START), Refusal::WarmingUp { left: 2 }));
    for step in 1..3 {
        rig.say(&observation(step, None));
        rig.tick(PERIOD_US);
    }
    assert_eq!(rig.say(&START), []);
    // What came before the arming does not count, and until something comes after it the timer finds nothing amiss.
    rig.say(&ToDevice::Stop);
    rig.say(&observation(3, None));
    let arm = rig.arming(Pace::Timer, 1);
    for armed_before in [false, true] {
        assert!(matches!(rig.say(&arm)[..], [.., Heard::Done(_)]));
        for _ in 0..10 {
            assert_eq!(rig.tick(PERIOD_US), [], "{armed_before}");
        }
        assert!(is_refused(&rig.say(&START), Refusal::WarmingUp { left: 1 }));
        rig.say(&observation(4, None));
        assert_eq!(
            rig.tick(0),
            [Heard::Action(4, Mode::Armed, vec![0.0])],
            "{armed_before}"
        );
    }
}

/// Nothing of the session before happens in the next one.
#[test]
fn a_greeting_forgets_what_was_about_to_happen() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    let greet = |rig: &mut Rig<'_>, session| {
        rig.begin(session);
        let greeting = Heard::Hello(rig.policy, Mode::Idle);
        assert_eq!(rig.say(&ToDevice::Hello), [greeting]);
        rig.say(&observation(0, None));
        assert_eq!(rig.tick(PERIOD_US), []);
        assert_eq!(rig.device.mode(), Mode::Idle);
    };
    rig.arm(Pace::Timer);
    greet(&mut rig, 2);
    rig.arm(Pace::Timer);
    rig.say(&observation(0, None));
    greet(&mut rig, 3);
}

#[test]
fn a_return_to_go_is_not_lost_with_the_observation_that_brought_it() {
    let (file, mut slot) = (policy_of(RewardMode::External), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    run_by_the_timer(&mut rig);
    let mut host = file.controllers()();
    host.reset(SEED, TARGET).unwrap();
    host.act(&seen(0)).unwrap();
    for (step, return_to_go) in [(1, Some(-77.0)), (2, None)] {
        let values = seen(step);
        rig.say(&ToDevice::Observation {
            step,
            age_us: 0,
            reward: None,
            return_to_go,
            values: Values::new(&values),
        });
    }
    let heard = rig.tick(PERIOD_US);
    let policy = host.policy_mut();
    policy.absorb_commanded().unwrap();
    policy.set_return_to_go(-77.0).unwrap();
    let expected = policy.act(&seen(2)).unwrap().to_vec();
    let [Heard::Action(2, Mode::Running, action)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(bits(action), bits(&expected));
}

#[test]
fn an_end_of_another_version_is_told_of_this_one_once() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    // A sound frame of version 2, from the host: COBS by hand, the CRC of `02 01 07 07 07`.
    let content = [2, 1, 7, 7, 7];
    let crc = !content.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| match crc & 1 {
            0 => crc >> 1,
            _ => crc >> 1 ^ 0xEDB8_8320,
        })
    });
    let body = [&content[..], &crc.to_le_bytes()].concat();
    assert!(!body.contains(&0));
    let wire = [&[body.len() as u8 + 1][..], &body, &[0]].concat();
    assert_eq!(rig.send(&wire), [Heard::Refusal(0, Refusal::Unknown)]);
    assert_eq!(rig.send(&wire), []);
}

#[test]
fn a_start_that_the_loop_refuses_says_why() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    rig.arm(Pace::Lockstep);
    rig.say(&observation(0, None));
    let nowhere = ToDevice::Start {
        target_return: f32::NAN,
        seed: None,
    };
    assert_eq!(rig.say(&nowhere), []);
    let heard = rig.say(&observation(0, None));
    assert!(
        matches!(&heard[..], [Heard::Refusal(3, Refusal::TargetReturn), Heard::Action(0, mode, action)]
            if *mode != Mode::Running && *action == [0.0]),
        "{heard:?}"
    );
}

#[test]
fn a_stop_and_a_greeting_stop_at_once() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    rig.start();
    let heard = rig.say(&ToDevice::Stop);
    assert_eq!(heard[0], Heard::Action(0, Mode::Idle, vec![0.0]));
    assert!(matches!(heard[1..], [Heard::Done(_)]));

    rig.start();
    // Somebody without a session changes nothing,
    let mut stranger = Sender::new(Direction::ToDevice);
    stranger.begin(9);
    let mut wire = [0; MAX_WIRE];
    let len = stranger.encode(&ToDevice::Stop, &mut wire).unwrap();
    assert_eq!(rig.send(&wire[..len]), []);
    assert_eq!(rig.device.mode(), Mode::Running);
    // and one who greets takes over.
    rig.begin(9);
    let greeting = Heard::Hello(rig.policy, Mode::Idle);
    assert_eq!(rig.say(&ToDevice::Hello), [greeting]);
    assert_eq!(rig.device.mode(), Mode::Idle);
    rig.start();
}

#[test]
fn uploads_and_the_black_box_are_served_at_rest() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    let begin = |len| ToDevice::UploadBegin {
        policy: PolicyId { crc: 1, len },
        seal: None,
    };
    let chunk = |offset, data| ToDevice::UploadChunk {
        offset,
        data: Bytes(data),
    };
    let refused = |why| Refusal::Upload(why);
    let too_large = refused(UploadRefusal::TooLarge { max: 2000 });
    assert!(is_refused(&rig.say(&begin(2001)), too_large));
    assert_eq!(rig.say(&begin(600)), [Heard::Upload(0)]);
    assert_eq!(rig.say(&chunk(0, &[7; CHUNK])), [Heard::Upload(512)]);
    let gap = refused(UploadRefusal::Offset { expected: 512 });
    assert!(is_refused(&rig.say(&chunk(0, &[7; 4])), gap));

    rig.arm(Pace::Lockstep);
    rig.say(&observation(0, None));
    for message in [
        begin(600),
        chunk(512, &[8; 88]),
        ToDevice::UploadFinish,
        ToDevice::BlackBox { offset: 0 },
        ToDevice::Restart,
    ] {
        assert!(
            is_refused(&rig.say(&message), Refusal::Running),
            "{message:?}"
        );
    }
    rig.say(&ToDevice::Stop);
    // Resumed.
    assert_eq!(rig.say(&begin(600)), [Heard::Upload(512)]);
    assert_eq!(rig.say(&chunk(512, &[8; 88])), [Heard::Upload(600)]);
    assert!(matches!(
        rig.say(&ToDevice::UploadFinish)[..],
        [Heard::Done(_)]
    ));

    for _ in 0..700 {
        rig.tick(PERIOD_US);
    }
    let mut bytes = Vec::new();
    loop {
        let offset = bytes.len() as u32;
        match &rig.say(&ToDevice::BlackBox { offset })[..] {
            [Heard::BlackBox(at, total, data)] if *at == offset => {
                if data.is_empty() {
                    assert_eq!(*total, offset);
                    break;
                }
                bytes.extend_from_slice(data);
            }
            heard => panic!("{heard:?}"),
        }
    }
    assert_eq!(bytes, rig.device.served.robot.history.0);
    assert!(slot.finished && slot.written.len() == 600);
}

#[test]
fn a_device_without_slots_says_so() {
    let file = policy();
    let loaded = Loaded::<_, STATE, ACT>::boot(file.bytes(), arena(&file), limits).unwrap();
    let wire = Wire {
        board: "bench",
        version: "0",
        silence_us: SILENCE_US,
        cause: ResetCause::Unknown,
    };
    let mut slot = Slot::default();
    let mut rig = Rig::new(&file, &mut slot);
    let mut bare = Device::new(wire, Some(loaded), (), ());
    for message in [
        ToDevice::Hello,
        ToDevice::UploadFinish,
        ToDevice::BlackBox { offset: 0 },
    ] {
        let mut wire = [0; MAX_WIRE];
        let len = rig.sender.encode(&message, &mut wire).unwrap();
        rig.port.to_device.extend(&wire[..len]);
    }
    // Its numbers begin again with this device.
    rig.begin(1);
    rig.receiver.begin(1);
    let Rig {
        bench, port, lamp, ..
    } = &mut rig;
    for _ in 0..4 {
        let _ = bare.step(bench, port, lamp, None);
    }
    let heard = rig.hear();
    assert!(
        matches!(
            heard[..],
            [
                _,
                Heard::Refusal(_, Refusal::Unsupported),
                Heard::BlackBox(0, 0, _)
            ]
        ),
        "{heard:?}"
    );
}

#[test]
fn a_restart_is_answered_first() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    rig.port.room = 0;
    // What comes after it in the same breath is not served any more.
    let mut wire = [0; 2 * MAX_WIRE];
    let len = rig.sender.encode(&ToDevice::Restart, &mut wire).unwrap();
    let len = len
        + rig
            .sender
            .encode(&ToDevice::Status, &mut wire[len..])
            .unwrap();
    assert_eq!(rig.send(&wire[..len]), []);
    assert_eq!(rig.next, Next::Step);
    rig.port.room = usize::MAX;
    // In the port's queue it is not on the wire yet.
    rig.port.undrained = true;
    rig.step(None);
    assert!(matches!(rig.hear()[..], [Heard::Done(1)]));
    for _ in 0..10 {
        rig.tick(PERIOD_US);
        assert_eq!(rig.next, Next::Step);
    }
    // Out of that, the hardware's own takes no longer than two ticks.
    rig.port.undrained = false;
    rig.tick(PERIOD_US);
    assert_eq!(rig.next, Next::Step);
    rig.tick(PERIOD_US);
    assert_eq!(rig.next, Next::Restart);
}

#[test]
fn a_narrow_port_gets_it_all() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    rig.port.room = 1;
    for _ in 0..3 {
        assert_eq!(rig.say(&ToDevice::Status).len(), 1);
    }
}

/// Garbage is taken a gulp at a time, between which ticks are served and the watchdog is fed.
#[test]
fn a_flood_of_bytes_keeps_no_tick_waiting() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    run_by_the_timer(&mut rig);
    let fed = rig.bench.fed;
    let mut gulps = 0;
    for step in 1..50 {
        rig.say(&observation(step, Some(0.0)));
        rig.port
            .to_device
            .extend((0..10_000).map(|i| (i * 7 + step) as u8));
        rig.tick(PERIOD_US);
        gulps += 10_000 - rig.port.to_device.len();
        assert_eq!(rig.device.mode(), Mode::Running);
        rig.port.to_device.clear();
        rig.port.to_device.push_back(0);
        rig.step(None);
        rig.hear();
    }
    assert_eq!(rig.bench.fed - fed, 49);
    assert_eq!(gulps, 49 * GULP);
}

#[test]
fn a_policy_has_proved_itself_after_so_many_ticks_in_a_row() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    let run = |rig: &mut Rig<'_>, steps| {
        rig.start();
        for step in 1..steps {
            rig.say(&observation(step, Some(0.0)));
        }
    };
    run(&mut rig, TRIAL - 1);
    assert_eq!(rig.device.served.updates.proved, 0);
    // A fault, and it begins again; a stop does not matter.
    rig.say(&observation(TRIAL - 1, None));
    assert!(matches!(rig.device.mode(), Mode::Faulted(_)));
    rig.say(&ToDevice::Stop);
    run(&mut rig, TRIAL / 2);
    assert_eq!(rig.device.served.updates.proved, 0);
    rig.say(&ToDevice::Stop);
    run(&mut rig, TRIAL / 2);
    assert_eq!(rig.device.served.updates.proved, 1);
    rig.say(&ToDevice::Stop);
    run(&mut rig, 2 * TRIAL);
    assert_eq!(rig.device.served.updates.proved, 1);
}

#[test]
fn a_device_that_its_watchdog_has_reset_says_so_until_a_stop() {
    let (file, mut slot) = (policy(), Slot::default());
    let loaded = Loaded::boot(file.bytes(), arena(&file), limits).unwrap();
    let policy = loaded.policy;
    let mut rig = Rig::after(ResetCause::Watchdog, Some(loaded), &mut slot);
    rig.policy = policy;
    let fault = Mode::Faulted(Fault::WatchdogReset);
    assert_eq!(rig.say(&ToDevice::Hello), [Heard::Hello(policy, fault)]);
    assert!(is_refused(
        &rig.arm(Pace::Lockstep),
        Refusal::Faulted(mode_bytes(fault))
    ));
    rig.say(&ToDevice::Stop);
    rig.start();
}

/// Whatever a bad wire makes of an episode, the device gives actions for observations that were sent, or the safe one.
#[test]
fn damage_on_the_wire_moves_nothing_wrongly() {
    let (file, mut slot) = (policy(), Slot::default());
    let mut rig = Rig::new(&file, &mut slot);
    let mut noise = 12345_u32;
    let mut random = move || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise
    };
    let (mut running, mut recovered) = (0, 0);
    for _ in 0..300 {
        rig.say(&ToDevice::Stop);
        rig.start();
        for step in 1..30 {
            let mut wire = [0; MAX_WIRE];
            let len = rig
                .sender
                .encode(&observation(step, Some(0.0)), &mut wire)
                .unwrap();
            let damaged = random() % 4 == 0;
            if damaged {
                wire[(random() as usize) % len] ^= 1 << (random() % 8);
            }
            let mut heard = rig.send(&wire[..len]);
            if damaged {
                assert_eq!(heard, [], "step {step}");
                // Zero, in case it was the delimiter that suffered; then the same again.
                rig.send(&[0]);
                heard = rig.say(&observation(step, Some(0.0)));
                recovered += 1;
            }
            let [Heard::Action(of, Mode::Running, action)] = &heard[..] else {
                panic!("{heard:?}");
            };
            assert_eq!(*of, step);
            assert!(action.iter().all(|value| value.abs() <= 2.0));
            running += 1;
        }
    }
    assert!(
        running == 300 * 29 && recovered > 1000,
        "{running} {recovered}"
    );
}
