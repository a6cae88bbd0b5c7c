use core::cell::{Cell, RefCell};
use core::ops::ControlFlow;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use ::tests::{Sample, episodes, small_config};
use dt_core::blob::{BeyondLimits, Blob, Choice, ReturnLimits, RewardMode, Sampling};
use dt_core::config::{Actions, Config, Head};
use dt_core::golden::SelfTestError;
use dt_core::guard::Fault;
use dt_core::policy::{ActError, Policy};
use host_sim::policy_file::PolicyFile;

use super::*;

mod arming;
mod schedules;

const STATE: usize = 3;
const ACT: usize = 2;
const GROUPS: usize = 2;
const SAFE: [f32; ACT] = [0.25, -0.5];
const DEADLINE_US: u32 = 20_000;
const STALE_US: [u32; GROUPS] = [5_000, 300];
const PERIOD_US: u32 = 50_000;
const SILENCE_US: u32 = 3 * PERIOD_US;
const WATCHDOG_US: u32 = 100_000;
const TARGET: f32 = 40.0;
const START: Request = Request::Start {
    target_return: TARGET,
};
const REWARDS: [RewardMode; 3] = [
    RewardMode::Observed,
    RewardMode::Constant,
    RewardMode::External,
];

type Loop<'a> = ControlLoop<'a, Vec<u32>, STATE, ACT, GROUPS>;

/// What happens to the loop in one tick.
#[derive(Clone, Copy)]
struct Plan {
    missed: u32,
    /// What passes between the tick and the loop's beginning.
    waking_us: u64,
    float_mode: Result<(), FloatMode>,
    request: Option<Request>,
    requesting_us: u64,
    /// None: the sensors give no reading.
    observation: Option<[f32; STATE]>,
    /// Components that the robot forgets to write, from this one on.
    written: usize,
    /// None: the robot does not write it.
    ages_us: [Option<u32>; GROUPS],
    reward: Option<f32>,
    return_to_go: Option<f32>,
    sensing_us: u64,
    actuating_us: u64,
    /// What the actuators can do at most.
    limit: f32,
    /// What the second actuator says that it did, whatever it did.
    reported: Option<f32>,
}

/// A tick in which all is well, at the limits of what is allowed.
fn healthy(i: usize) -> Plan {
    let phase = i as f32;
    Plan {
        missed: 0,
        waking_us: 300,
        float_mode: Ok(()),
        request: (i == 0).then_some(START),
        requesting_us: 700,
        observation: Some([phase.sin(), (0.7 * phase).cos(), 0.1 * phase - 1.0]),
        written: STATE,
        ages_us: STALE_US.map(Some),
        reward: (i > 0).then_some(0.25 * phase - 1.0),
        return_to_go: (i % 3 == 2).then_some(3.0 * phase),
        sensing_us: u64::from(DEADLINE_US) - 300 - 700 - 2_000,
        actuating_us: 2_000,
        limit: f32::INFINITY,
        reported: None,
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
struct Played {
    mode: Mode,
    refusal: Option<Refusal>,
    /// Timestep, return-to-go and action of the policy's step.
    step: Option<(u32, f32, [f32; ACT])>,
    /// Everything the actuators were commanded to do, in order.
    commanded: Vec<[f32; ACT]>,
    /// Observations asked for.
    sensed: u32,
    jitter: u64,
    latency: u64,
    busy: u64,
}

/// A board and a robot whose time passes only where a plan says so, and what they went through.
struct World {
    now: Cell<u64>,
    plans: Vec<Plan>,
    /// Ticks so far.
    ticks: Cell<usize>,
    played: RefCell<Vec<Played>>,
    longest_us: u32,
    stoppable: bool,
    reset_cause: ResetCause,
    ticking_us: Cell<Option<u32>>,
    watchdog_us: Cell<Option<u32>>,
    /// How many ticks had been played at each feeding.
    fed: RefCell<Vec<usize>>,
}

impl World {
    fn new(plans: &[Plan]) -> Self {
        Self {
            now: Cell::new(77),
            plans: plans.to_vec(),
            ticks: Cell::new(0),
            played: RefCell::default(),
            longest_us: u32::MAX,
            stoppable: true,
            reset_cause: ResetCause::PowerOn,
            ticking_us: Cell::new(None),
            watchdog_us: Cell::new(None),
            fed: RefCell::default(),
        }
    }

    fn plan(&self) -> &Plan {
        &self.plans[self.ticks.get() - 1]
    }

    fn pass(&self, us: u64) {
        self.now.set(self.now.get() + us);
    }

    /// Time goes to the next multiple of a period, and a little further.
    fn tick(&self) -> Tick {
        self.ticks.set(self.ticks.get() + 1);
        let period = u64::from(PERIOD_US);
        let at = self.now.get().next_multiple_of(period);
        self.now.set(at + self.plan().waking_us);
        self.played.borrow_mut().push(Played {
            mode: Mode::Boot,
            refusal: None,
            step: None,
            commanded: Vec::new(),
            sensed: 0,
            jitter: 0,
            latency: 0,
            busy: 0,
        });
        Tick {
            at,
            missed: self.plan().missed,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Played)) {
        change(self.played.borrow_mut().last_mut().unwrap());
    }
}

impl Processor for &World {
    const CLOCK_HZ: u32 = 1_000_000;

    fn now(&mut self) -> u64 {
        self.now.get()
    }
    fn float_mode(&mut self) -> Result<(), FloatMode> {
        self.plan().float_mode
    }
}

impl Board for &World {
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong> {
        self.ticking_us.set(Some(period_us));
        if period_us <= self.longest_us {
            Ok(())
        } else {
            Err(PeriodTooLong {
                period_us,
                max_us: self.longest_us,
            })
        }
    }
    fn start_watchdog(&mut self, timeout_us: u32) {
        self.watchdog_us.set(Some(timeout_us));
    }
    fn feed_watchdog(&mut self) {
        self.fed.borrow_mut().push(self.ticks.get());
    }
    fn reset_cause(&mut self) -> ResetCause {
        self.reset_cause
    }
    fn stop_watchdog(&mut self) -> Watchdog {
        if self.stoppable {
            assert_eq!(
                self.played.borrow().last().unwrap().commanded,
                [SAFE],
                "the robot is safe first"
            );
            self.watchdog_us.set(None);
            Watchdog::Stopped
        } else {
            Watchdog::Armed
        }
    }
}

impl BlockingBoard for &World {
    fn wait_for_tick(&mut self) -> Tick {
        self.tick()
    }
}

impl AsyncBoard for &World {
    /// Ready when asked for the second time.
    async fn next_tick(&mut self) -> Tick {
        let mut asked = false;
        core::future::poll_fn(|context| {
            if core::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.tick()
    }
}

impl Robot for &World {
    fn request(&mut self) -> Option<Request> {
        self.pass(self.plan().requesting_us);
        self.plan().request
    }
    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
        let plan = self.plan();
        self.pass(plan.sensing_us);
        self.change(|played| played.sensed += 1);
        let written = plan.written;
        observation[..written].copy_from_slice(&plan.observation?[..written]);
        for (age, plan) in ages_us.iter_mut().zip(plan.ages_us) {
            *age = plan.unwrap_or(*age);
        }
        Some(Reading {
            reward: plan.reward,
            return_to_go: plan.return_to_go,
        })
    }
    fn actuate(&mut self, action: &mut [f32]) {
        let plan = self.plan();
        self.pass(plan.actuating_us);
        self.change(|played| played.commanded.push((&*action).try_into().unwrap()));
        for value in action.iter_mut().filter(|v| v.abs() > plan.limit) {
            *value = plan.limit.copysign(*value);
        }
        action[1] = plan.reported.unwrap_or(action[1]);
    }
    fn record(&mut self, record: &Record<'_>) {
        self.change(|played| {
            played.mode = record.mode;
            played.refusal = record.refusal;
            let step = |step: Step<'_>| {
                (
                    step.timestep,
                    step.return_to_go,
                    step.action.try_into().unwrap(),
                )
            };
            played.step = record.step.map(step);
            played.jitter = record.jitter;
            played.latency = record.latency;
            played.busy = record.busy;
        });
    }
}

const ARM: Request = Request::Arm { warm_up: 1 };

/// Plays the plans, a stop and arming before each start, and returns what became of the plans alone.
fn play(control: &mut Loop<'_>, plans: &[Plan]) -> Vec<Played> {
    let before = |request| Plan {
        request: Some(request),
        ..healthy(1)
    };
    let mut all = Vec::new();
    for plan in plans {
        if matches!(plan.request, Some(Request::Start { .. })) {
            all.extend([(before(Request::Stop), false), (before(ARM), false)]);
        }
        all.push((*plan, true));
    }
    let (plans, wanted): (Vec<Plan>, Vec<bool>) = all.into_iter().unzip();
    let mut wanted = wanted.into_iter();
    let mut played = play_exactly(control, &plans);
    played.retain(|_| wanted.next() == Some(true));
    played
}

/// Plays the plans, and checks of each that it commanded something.
fn play_exactly(control: &mut Loop<'_>, plans: &[Plan]) -> Vec<Played> {
    let world = World::new(plans);
    for plan in plans {
        let tick = world.tick();
        let flow = control.tick(tick, &mut &world, &mut &world);
        let shutdown = plan.request == Some(Request::Shutdown);
        assert_eq!(flow == ControlFlow::Break(()), shutdown);
    }
    let played = world.played.into_inner();
    assert!(played.iter().all(|played| !played.commanded.is_empty()));
    played
}

fn sample(reward: RewardMode) -> Sample {
    let mut sample = Sample::random(small_config(), 1);
    sample.reward = reward;
    sample.action[2] = SAFE.to_vec();
    sample
}

fn policy_file(reward: RewardMode) -> PolicyFile {
    episodes::proven(&sample(reward), "none", 4, |_| {})
}

fn new_policy<'a>(blob: &Blob<'a>) -> Policy<'a, Vec<u32>> {
    let words = blob.manifest().config.arena_words();
    Policy::new(blob, vec![0; words]).unwrap()
}

fn new_loop<'a>(blob: &Blob<'a>) -> Loop<'a> {
    loop_with(blob, |_| {})
}

fn loop_with<'a>(blob: &Blob<'a>, change: impl FnOnce(&mut Limits<GROUPS>)) -> Loop<'a> {
    let mut limits = Limits {
        deadline_us: DEADLINE_US,
        stale_us: STALE_US,
        silence_us: SILENCE_US,
        watchdog_us: WATCHDOG_US,
        missed: Missed::Fault,
    };
    change(&mut limits);
    Loop::new(blob, new_policy(blob), limits).unwrap()
}

/// What the policy alone does in healthy ticks, if actions are limited.
fn expected_actions(blob: &Blob<'_>, ticks: usize, limit: f32) -> Vec<[f32; ACT]> {
    let mut policy = new_policy(blob);
    policy.reset(TARGET).unwrap();
    let mut actions = Vec::new();
    for i in 0..ticks {
        let action: [f32; ACT] = policy
            .act(&healthy(i).observation.unwrap())
            .unwrap()
            .try_into()
            .unwrap();
        let applied = action.map(|a| {
            if a.abs() > limit {
                limit.copysign(a)
            } else {
                a
            }
        });
        policy.absorb(&applied).unwrap();
        let next = healthy(i + 1);
        match (blob.manifest().reward, next.return_to_go) {
            (RewardMode::Observed, _) => policy.observe_reward(next.reward.unwrap()).unwrap(),
            (RewardMode::External, Some(value)) => policy.set_return_to_go(value).unwrap(),
            _ => {}
        }
        actions.push(action);
    }
    actions
}

#[test]
fn a_healthy_loop_does_what_the_policy_says() {
    for reward in REWARDS {
        let file = policy_file(reward);
        let blob = file.blob();
        let expected = expected_actions(&blob, 30, f32::INFINITY);
        let moves = expected.windows(2).filter(|pair| pair[0] != pair[1]);
        assert_eq!(
            moves.count(),
            29,
            "every action differs from the one before"
        );

        let plans: Vec<_> = (0..30).map(healthy).collect();
        for (i, played) in play(&mut new_loop(&blob), &plans).iter().enumerate() {
            assert_eq!(played.mode, Mode::Running, "{reward:?}, tick {i}");
            assert_eq!(played.commanded, [expected[i]], "{reward:?}, tick {i}");
            assert_eq!(played.latency, u64::from(DEADLINE_US));
        }
    }
}

#[test]
fn the_policy_is_told_what_was_really_applied() {
    for reward in REWARDS {
        let file = policy_file(reward);
        let blob = file.blob();
        let expected = expected_actions(&blob, 12, 0.3);
        assert_ne!(expected, expected_actions(&blob, 12, f32::INFINITY));
        let weak = |i| Plan {
            limit: 0.3,
            ..healthy(i)
        };
        let plans: Vec<_> = (0..12).map(weak).collect();
        for (played, expected) in play(&mut new_loop(&blob), &plans).iter().zip(expected) {
            assert_eq!(played.commanded, [expected]);
        }
    }
}

#[test]
fn every_fault_latches_the_safe_action_in_its_tick_until_a_stop() {
    use RewardMode::{Constant, External, Observed};
    let with = |change: fn(&mut Plan)| change;
    let observation = |index| Fault::Act(ActError::Observation { index });
    let faults = [
        (Observed, with(|p| p.missed = 1), Fault::MissedDeadline),
        (
            Observed,
            with(|p| p.sensing_us += 2_001),
            Fault::MissedDeadline,
        ),
        (
            Constant,
            with(|p| p.waking_us += 2_001),
            Fault::MissedDeadline,
        ),
        (
            External,
            with(|p| p.requesting_us += 2_001),
            Fault::MissedDeadline,
        ),
        (
            Observed,
            with(|p| p.float_mode = Err(FloatMode::FlushToZero)),
            Fault::FloatingPointMode,
        ),
        (
            Observed,
            with(|p| p.ages_us[0] = Some(STALE_US[0] + 1)),
            Fault::StaleSensor { group: 0 },
        ),
        (
            Constant,
            with(|p| p.ages_us[1] = Some(STALE_US[1] + 1)),
            Fault::StaleSensor { group: 1 },
        ),
        (
            Observed,
            with(|p| p.ages_us[1] = None),
            Fault::StaleSensor { group: 1 },
        ),
        (Observed, with(|p| p.observation = None), Fault::NoReading),
        (Observed, with(|p| p.written = 2), observation(2)),
        (
            Observed,
            with(|p| p.observation = Some([0.0, 0.0, 100.5])),
            Fault::OutOfRange { index: 2 },
        ),
        (
            External,
            with(|p| p.observation = Some([-101.0, 0.0, 0.0])),
            Fault::OutOfRange { index: 0 },
        ),
        (
            Observed,
            with(|p| p.observation = Some([0.0, f32::NAN, 0.0])),
            observation(1),
        ),
        (
            Observed,
            with(|p| p.observation = Some([0.0, 0.0, f32::INFINITY])),
            observation(2),
        ),
        (
            Observed,
            with(|p| p.reward = None),
            Fault::Act(ActError::MissingReward),
        ),
        (
            Observed,
            with(|p| p.reward = Some(f32::NAN)),
            Fault::Act(ActError::Return),
        ),
        (
            External,
            with(|p| p.return_to_go = Some(f32::INFINITY)),
            Fault::Act(ActError::Return),
        ),
    ];
    for (reward, spoil, fault) in faults {
        let file = policy_file(reward);
        let blob = file.blob();
        let fresh = expected_actions(&blob, 4, f32::INFINITY);
        let mut control = new_loop(&blob);
        let mut plans: Vec<_> = (0..8).map(healthy).collect();
        spoil(&mut plans[4]);
        plans.extend((0..4).map(healthy)); // the first of these is a start
        let played = play(&mut control, &plans);
        for healthy in &played[..4] {
            assert_eq!(healthy.mode, Mode::Running, "{fault:?}");
        }
        for safe in &played[4..8] {
            assert_eq!(safe.mode, Mode::Faulted(fault));
            assert_eq!(safe.commanded, [SAFE], "{fault:?}");
        }
        for (again, expected) in played[8..].iter().zip(&fresh) {
            assert_eq!(again.mode, Mode::Running, "{fault:?}");
            assert_eq!(again.commanded, [*expected], "{fault:?}");
        }
    }
}

/// Where a host keeps count of rewards, a mute link is noticed after the limit and not before; where none
/// does, there is nothing to hear.
#[test]
fn a_silent_host_is_a_fault_where_it_sends_the_return_to_go() {
    let mute_after = |last: usize, waking_us| {
        move |i: usize| Plan {
            return_to_go: (i == last).then_some(30.0),
            waking_us,
            ..healthy(i)
        }
    };
    for reward in REWARDS {
        let file = policy_file(reward);
        // It last spoke in tick 2, or with the start.
        for (last, heard) in [(2, 2), (99, 0)] {
            let plans: Vec<_> = (0..9).map(mute_after(last, 300)).collect();
            let played = play(&mut new_loop(&file.blob()), &plans);
            for (i, played) in played.iter().enumerate() {
                // Three periods are allowed.
                let silent = reward == RewardMode::External && i > heard + 3;
                let expected = if silent {
                    Mode::Faulted(Fault::LostLink)
                } else {
                    Mode::Running
                };
                assert_eq!(played.mode, expected, "{reward:?}, tick {i}");
                assert_eq!(played.commanded == [SAFE], silent);
            }
        }
    }
}

#[test]
fn a_return_to_go_out_of_range_is_a_fault_where_the_policy_file_says_so() {
    for (beyond, expected) in [
        (BeyondLimits::Fault, Mode::Faulted(Fault::ReturnOutOfRange)),
        (BeyondLimits::Clamp, Mode::Running),
    ] {
        let mut sample = sample(RewardMode::External);
        sample.return_limits = Some(ReturnLimits {
            low: -10.0,
            high: 40.0,
            beyond,
        });
        let file = episodes::proven(&sample, "none", 4, |_| {});
        let mut plans: Vec<_> = (0..6).map(healthy).collect();
        plans[3].return_to_go = Some(40.5);
        let played = play(&mut new_loop(&file.blob()), &plans);
        assert_eq!(played[2].mode, Mode::Running);
        assert_eq!(played[3].mode, expected);
        assert_eq!(played[5].mode, expected);
    }
}

/// The time that the deadline allows is from the tick until the actuators have done their part; what is done
/// ahead afterwards does not count.
#[test]
fn the_deadline_counts_from_the_tick_until_the_actuators_are_done() {
    let spoilers: [fn(&mut Plan); 4] = [
        |p| p.waking_us += 1,
        |p| p.requesting_us += 1,
        |p| p.sensing_us += 1,
        |p| p.actuating_us += 1,
    ];
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let expected = expected_actions(&blob, 3, f32::INFINITY);
    for spoil in spoilers {
        let mut plans: Vec<_> = (0..5).map(healthy).collect();
        spoil(&mut plans[2]);
        let mut control = new_loop(&blob);
        let played = play(&mut control, &plans);
        assert_eq!(played[1].mode, Mode::Running);
        // The actuators were 1 µs late: the action had gone to them, and the safe one follows at once.
        assert_eq!(played[2].mode, Mode::Faulted(Fault::MissedDeadline));
        assert_eq!(played[2].commanded, [expected[2], SAFE]);
        assert_eq!(played[2].latency, u64::from(DEADLINE_US) + 1);
        assert_eq!(played[3].commanded, [SAFE]);
        assert_eq!(control.timing().late_actions, 1);
    }
}

#[test]
fn timing_is_that_of_the_ticks_it_acted_in() {
    let file = policy_file(RewardMode::Observed);
    let mut control = new_loop(&file.blob());
    let mut plans: Vec<_> = (0..6).map(healthy).collect();
    plans[1].waking_us -= 100;
    plans[2].sensing_us -= 900;
    plans[3].waking_us -= 200;
    plans[5].missed = 7;
    // Idle ticks are nobody's deadline.
    let idle = Plan {
        waking_us: 30_000,
        missed: 9,
        ..healthy(1)
    };
    plans.insert(0, idle);
    plans.extend([idle; 3]);
    let played = play(&mut control, &plans);
    let timing = *control.timing();
    let of = |spans: Spans| (spans.len, spans.min, spans.mean(), spans.max);
    assert_eq!(of(timing.jitter), (5, 100, 240, 300));
    assert_eq!(of(timing.slack), (5, 0, 240, 900));
    let busy = |played: &Played| played.busy;
    let busy: Vec<u64> = played[1..6].iter().map(busy).collect();
    assert_eq!(timing.busy.min, *busy.iter().min().unwrap());
    assert_eq!(timing.busy.max, *busy.iter().max().unwrap());
    assert_eq!((timing.missed_ticks, timing.late_actions), (7, 0));
    assert_eq!(played[1].jitter, 300);
    control.reset_timing();
    assert_eq!(*control.timing(), Timing::default());
}

#[test]
fn an_applied_action_that_is_no_number_is_a_fault() {
    let fault = Mode::Faulted(Fault::Act(ActError::Action { index: 1 }));
    for reward in REWARDS {
        let file = policy_file(reward);
        let mut plans: Vec<_> = (0..5).map(healthy).collect();
        plans[2].reported = Some(f32::NAN);
        let played = play(&mut new_loop(&file.blob()), &plans);
        for (i, played) in played.iter().enumerate() {
            let expected = if i < 2 { Mode::Running } else { fault };
            assert_eq!(played.mode, expected, "{reward:?}, tick {i}");
            assert_eq!(played.commanded.last() == Some(&SAFE), i >= 2);
        }
        // It is noticed while the action is already out: the safe one follows at once.
        assert_eq!(played[2].commanded.len(), 2);
    }
}

/// What runs ahead runs in the tick of its action: an applied action that overflows the network is found
/// before the next reading is asked for.
#[test]
fn an_action_that_the_network_cannot_take_is_found_ahead() {
    let fault = Mode::Faulted(Fault::Act(ActError::NonFinite));
    for reward in REWARDS {
        let file = policy_file(reward);
        let mut plans: Vec<_> = (0..4).map(healthy).collect();
        plans[2].reported = Some(f32::MAX);
        let played = play(&mut new_loop(&file.blob()), &plans);
        assert_eq!(played[1].mode, Mode::Running);
        assert_eq!(played[2].mode, fault, "{reward:?}");
        assert_eq!(played[2].commanded.len(), 2);
        assert_eq!(played[2].commanded[1], SAFE);
        assert_eq!((played[3].mode, played[3].sensed), (fault, 0));
    }
}

#[test]
fn the_first_fault_is_the_one_reported() {
    let file = policy_file(RewardMode::Observed);
    let mut plans: Vec<_> = (0..4).map(healthy).collect();
    plans[1].ages_us[0] = Some(u32::MAX);
    plans[2].missed = 3;
    let played = play(&mut new_loop(&file.blob()), &plans);
    let stale = Fault::StaleSensor { group: 0 };
    assert_eq!(played[3].mode, Mode::Faulted(stale));
}

/// A latched loop asks the sensors for nothing, and the policy neither.
#[test]
fn a_latched_loop_does_not_sense() {
    let file = policy_file(RewardMode::Observed);
    let mut plans: Vec<_> = (0..4).map(healthy).collect();
    plans[1].float_mode = Err(FloatMode::Rounding);
    let played = play(&mut new_loop(&file.blob()), &plans);
    let sensed: Vec<u32> = played.iter().map(|played| played.sensed).collect();
    assert_eq!(sensed, [1, 0, 0, 0]);
}

#[test]
fn a_target_that_is_no_number_starts_nothing() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let mut plans: Vec<_> = (0..4).map(healthy).collect();
    plans[0].request = Some(ARM);
    plans[1].request = Some(Request::Start {
        target_return: f32::NAN,
    });
    plans[2].request = Some(START);
    let played = play_exactly(&mut new_loop(&blob), &plans);
    assert_eq!(played[1].mode, Mode::Armed);
    assert_eq!(played[1].refusal, Some(Refusal::TargetReturn));
    assert_eq!(played[1].commanded, [SAFE]);
    assert_eq!((played[2].mode, played[2].refusal), (Mode::Running, None));
}

#[test]
fn nothing_but_the_safe_action_before_a_start_and_after_a_stop() {
    let file = policy_file(RewardMode::Constant);
    let mut plans: Vec<_> = (0..6).map(|_| healthy(1)).collect();
    plans[1].missed = 9; // An idle loop has no deadline.
    plans[2].request = Some(START);
    plans[4].request = Some(Request::Stop);
    let played = play(&mut new_loop(&file.blob()), &plans);
    let modes: Vec<_> = played.iter().map(|p| p.mode).collect();
    use Mode::{Idle, Running};
    assert_eq!(modes, [Idle, Idle, Running, Running, Idle, Idle]);
    for played in played {
        let safe = played.commanded == [SAFE];
        assert_eq!(safe, played.mode == Idle);
    }
}

/// Arming, five healthy ticks and a shutdown.
fn to_the_end() -> Vec<Plan> {
    let mut plans = vec![Plan {
        request: Some(ARM),
        ..healthy(1)
    }];
    plans.extend((0..6).map(healthy));
    plans[6].request = Some(Request::Shutdown);
    plans
}

fn check_ended(world: &World, ended: Result<Watchdog, PeriodTooLong>, blob: &Blob<'_>) {
    assert_eq!(ended, Ok(Watchdog::Stopped));
    assert_eq!(world.ticking_us.get(), Some(PERIOD_US));
    assert_eq!(world.watchdog_us.get(), None, "it was stopped");
    assert_eq!(*world.fed.borrow(), [1, 2, 3, 4, 5, 6], "once per tick");
    let played = world.played.borrow();
    let expected = expected_actions(blob, 5, f32::INFINITY);
    for (played, expected) in played[1..].iter().zip(expected) {
        assert_eq!(played.commanded, [expected]);
    }
    assert_eq!(played[6].commanded, [SAFE]);
    assert_eq!(played[6].mode, Mode::Idle);
}

#[test]
fn run_serves_every_tick_and_leaves_with_the_safe_action_and_the_watchdog_off() {
    let file = policy_file(RewardMode::Observed);
    let world = World::new(&to_the_end());
    let ended = run(&mut &world, &mut &world, &mut new_loop(&file.blob()));
    check_ended(&world, ended, &file.blob());
}

#[test]
fn run_async_does_what_run_does() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let world = World::new(&to_the_end());
    let (mut board, mut robot, mut control) = (&world, &world, new_loop(&blob));
    let mut polls = 0;
    let ended = {
        let mut running = pin!(run_async(&mut board, &mut robot, &mut control));
        loop {
            polls += 1;
            if let Poll::Ready(ended) = running
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                break ended;
            }
            assert_eq!(world.watchdog_us.get(), Some(WATCHDOG_US), "armed");
        }
    };
    assert_eq!(polls, 8, "it gives way while it waits for each of 7 ticks");
    check_ended(&world, ended, &blob);
}

/// Nobody serves the robot any more, so the hardware has to.
#[test]
fn an_abandoned_run_leaves_the_watchdog_armed() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let world = World::new(&to_the_end());
    let (mut board, mut robot, mut control) = (&world, &world, new_loop(&blob));
    {
        let mut running = pin!(run_async(&mut board, &mut robot, &mut control));
        for _ in 0..3 {
            let polled = running
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
    }
    assert_eq!(world.watchdog_us.get(), Some(WATCHDOG_US));
}

#[test]
fn a_watchdog_that_cannot_be_stopped_is_reported() {
    let file = policy_file(RewardMode::Observed);
    let mut world = World::new(&to_the_end());
    world.stoppable = false;
    let ended = run(&mut &world, &mut &world, &mut new_loop(&file.blob()));
    assert_eq!(ended, Ok(Watchdog::Armed));
    assert_eq!(world.watchdog_us.get(), Some(WATCHDOG_US));
}

#[test]
fn a_period_that_the_board_cannot_tick_moves_nothing() {
    let file = policy_file(RewardMode::Observed);
    let mut world = World::new(&to_the_end());
    world.longest_us = PERIOD_US - 1;
    let error = run(&mut &world, &mut &world, &mut new_loop(&file.blob())).unwrap_err();
    assert_eq!((error.period_us, error.max_us), (PERIOD_US, PERIOD_US - 1));
    assert!(error.to_string().contains("50000 µs"), "{error}");
    assert_eq!((world.ticks.get(), world.watchdog_us.get()), (0, None));
}

#[test]
fn a_policy_for_another_robot_is_refused() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let limits = Limits::of_period(1);
    let error = ControlLoop::<_, STATE, 1>::new(&blob, new_policy(&blob), limits).err();
    assert_eq!(
        error,
        Some(SetupError::WrongDimensions {
            policy: (STATE, ACT),
            robot: (STATE, 1)
        })
    );
    assert!(ControlLoop::<_, 4, ACT>::new(&blob, new_policy(&blob), limits).is_err());
}

#[test]
fn a_policy_that_fails_its_self_test_is_refused() {
    let new = |file: &PolicyFile| {
        let blob = file.blob();
        let limits = Limits::of_period(1);
        ControlLoop::<_, STATE, ACT>::new(&blob, new_policy(&blob), limits).err()
    };
    let sample = sample(RewardMode::Observed);
    assert_eq!(new(&episodes::proven(&sample, "none", 4, |_| {})), None);
    let spoiled = episodes::proven(&sample, "none", 4, |golden| {
        let last = golden.last_mut().unwrap();
        *last = f32::from_bits(last.to_bits() ^ 1);
    });
    let error = new(&spoiled).unwrap();
    assert!(
        matches!(
            error,
            SetupError::SelfTest(SelfTestError::Mismatch {
                step: 12,
                index: 1,
                ..
            })
        ),
        "{error}"
    );
    let unproven = new(&sample.emit());
    assert_eq!(unproven, Some(SetupError::SelfTest(SelfTestError::Empty)));
}

/// Another policy takes over: in the same memory, at rest until somebody starts it.
#[test]
fn a_loop_gives_its_memory_to_the_next() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let plans: Vec<_> = (0..4).map(healthy).collect();
    let mut first = new_loop(&blob);
    let limits = *first.limits();
    let played = play(&mut first, &plans);
    let arena = first.into_policy().into_arena();
    let mut second = Loop::new(&blob, Policy::new(&blob, arena).unwrap(), limits).unwrap();
    assert_eq!(second.mode(), Mode::Idle);
    assert_eq!(play(&mut second, &plans), played);
}

/// Sampled actions are drawn with the key that the robot gives an episode, else with the file's, also after another one.
#[test]
fn episodes_draw_with_the_robots_key_or_the_files() {
    struct Chooser {
        seed: Option<u64>,
        requests: std::vec::IntoIter<Request>,
        chosen: Vec<f32>,
    }
    impl Robot for Chooser {
        fn request(&mut self) -> Option<Request> {
            self.requests.next()
        }
        fn seed(&mut self) -> Option<u64> {
            self.seed
        }
        fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
            observation.fill(0.5);
            ages_us.fill(0);
            Some(Reading::default())
        }
        fn actuate(&mut self, action: &mut [f32]) {
            self.chosen.push(action[0]);
        }
        fn record(&mut self, _: &Record<'_>) {}
    }
    struct Still;
    impl Processor for Still {
        const CLOCK_HZ: u32 = 1_000_000;
        fn now(&mut self) -> u64 {
            0
        }
        fn float_mode(&mut self) -> Result<(), FloatMode> {
            Ok(())
        }
    }

    let config = Config {
        actions: Actions::Discrete,
        act_dim: 4,
        head: Head::Linear,
        ..small_config()
    };
    let sample = Sample {
        reward: RewardMode::Constant,
        choice: Choice::Sampled(Sampling {
            temperature: 5.0,
            top_k: 0,
            seed: 3,
        }),
        ..Sample::random(config, 1)
    };
    let file = episodes::proven(&sample, "none", 1, |_| {});
    let blob = file.blob();
    let policy = || Policy::new(&blob, vec![0; config.arena_words()]).unwrap();
    let limits = Limits::of_period(PERIOD_US);
    let mut control = ControlLoop::<_, STATE, 1>::new(&blob, policy(), limits).unwrap();
    let mut by_loop = |seed| {
        let mut robot = Chooser {
            seed,
            requests: vec![Request::Stop, ARM, START].into_iter(),
            chosen: Vec::new(),
        };
        for _ in 0..32 {
            let tick = Tick { at: 0, missed: 0 };
            assert!(control.tick(tick, &mut Still, &mut robot).is_continue());
        }
        assert_eq!(control.mode(), Mode::Running);
        robot.chosen.split_off(2)
    };
    let alone = |seed| -> Vec<f32> {
        let mut policy = policy();
        policy.set_seed(seed);
        policy.reset(TARGET).unwrap();
        let step = |_| {
            let action = policy.act(&[0.5; STATE]).unwrap()[0];
            policy.absorb_commanded().unwrap();
            action
        };
        (0..30).map(step).collect()
    };
    assert_eq!(by_loop(None), alone(3));
    assert_eq!(by_loop(Some(9)), alone(9));
    assert_eq!(by_loop(None), alone(3));
    assert_ne!(alone(3), alone(9));
}
