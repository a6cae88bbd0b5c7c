use std::cell::Cell;

use ::tests::{Sample, small_config};
use host_sim::policy_file::PolicyFile;

use super::*;

const STATE: usize = 3;
const ACT: usize = 2;
const SAFE: [f32; ACT] = [0.25, -0.5];
const DEADLINE_US: u32 = 20_000;
const STALE_US: u32 = 5_000;
const START: Request = Request::Start {
    target_return: 40.0,
};

type Loop<'a> = ControlLoop<'a, Vec<u32>, STATE, ACT>;

/// What happens to the loop in one tick.
#[derive(Clone, Copy)]
struct Tick {
    missed: u32,
    request: Option<Request>,
    /// None: the sensors give no reading.
    observation: Option<[f32; STATE]>,
    age_us: u32,
    reward: Option<f32>,
    return_to_go: Option<f32>,
    /// Time that sensing takes.
    sensing_us: u64,
    /// What the actuators can do at most.
    limit: f32,
    /// The actuators report nonsense.
    nonsense: bool,
}

/// A tick in which all is well, at the limits of what is allowed.
fn healthy(i: usize) -> Tick {
    let phase = i as f32;
    Tick {
        missed: 0,
        request: (i == 0).then_some(START),
        observation: Some([phase.sin(), (0.7 * phase).cos(), 0.1 * phase - 1.0]),
        age_us: STALE_US,
        reward: (i > 0).then_some(0.25 * phase - 1.0),
        return_to_go: (i % 3 == 2).then_some(3.0 * phase),
        sensing_us: DEADLINE_US.into(),
        limit: f32::INFINITY,
        nonsense: false,
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
struct Played {
    mode: Mode,
    /// Everything the actuators were commanded to do, in order.
    commanded: Vec<[f32; ACT]>,
    latency: u64,
}

impl Played {
    fn new() -> Self {
        Self {
            mode: Mode::Idle,
            commanded: Vec::new(),
            latency: 0,
        }
    }
}

/// A board whose time passes only where a tick says so.
struct Bench<'t> {
    now: &'t Cell<u64>,
    missed: u32,
    longest_us: u32,
    ticking_us: Option<u32>,
    watchdog_us: Option<u32>,
    fed: u32,
}

impl<'t> Bench<'t> {
    fn new(now: &'t Cell<u64>) -> Self {
        Self {
            now,
            missed: 0,
            longest_us: u32::MAX,
            ticking_us: None,
            watchdog_us: None,
            fed: 0,
        }
    }
}

impl Board for Bench<'_> {
    const CLOCK_HZ: u32 = 1_000_000;

    fn now(&mut self) -> u64 {
        self.now.get()
    }
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong> {
        self.ticking_us = Some(period_us);
        if period_us <= self.longest_us {
            Ok(())
        } else {
            Err(PeriodTooLong {
                period_us,
                max_us: self.longest_us,
            })
        }
    }
    fn wait_for_tick(&mut self) -> u32 {
        self.missed
    }
    fn start_watchdog(&mut self, timeout_us: u32) {
        self.watchdog_us = Some(timeout_us);
    }
    fn feed_watchdog(&mut self) {
        self.fed += 1;
    }
}

struct TestRobot<'t> {
    now: &'t Cell<u64>,
    tick: Tick,
    played: Played,
}

impl Robot for TestRobot<'_> {
    fn request(&mut self) -> Option<Request> {
        self.tick.request
    }
    fn sense(&mut self, observation: &mut [f32]) -> Option<Reading> {
        self.now.set(self.now.get() + self.tick.sensing_us);
        observation.copy_from_slice(&self.tick.observation?);
        Some(Reading {
            age_us: self.tick.age_us,
            reward: self.tick.reward,
            return_to_go: self.tick.return_to_go,
        })
    }
    fn actuate(&mut self, action: &mut [f32]) {
        self.played.commanded.push((&*action).try_into().unwrap());
        for value in action.iter_mut().filter(|v| v.abs() > self.tick.limit) {
            *value = self.tick.limit.copysign(*value);
        }
        if self.tick.nonsense {
            action[1] = f32::NAN;
        }
    }
    fn record(&mut self, record: &Record<'_>) {
        self.played.mode = record.mode;
        self.played.latency = record.latency;
    }
}

/// Runs the ticks, and checks of each that it fed the watchdog and commanded something.
fn play(control: &mut Loop<'_>, ticks: &[Tick]) -> Vec<Played> {
    let now = Cell::new(77);
    let mut board = Bench::new(&now);
    let one = |(i, tick): (usize, &Tick)| {
        board.missed = tick.missed;
        let mut robot = TestRobot {
            now: &now,
            tick: *tick,
            played: Played::new(),
        };
        let going_on = control.tick(&mut board, &mut robot);
        assert_eq!(going_on, tick.request != Some(Request::Shutdown));
        assert_eq!(board.fed as usize, i + 1);
        assert!(!robot.played.commanded.is_empty());
        robot.played
    };
    ticks.iter().enumerate().map(one).collect()
}

fn policy_file(reward: RewardMode) -> PolicyFile {
    let mut sample = Sample::random(small_config(), 1);
    sample.reward = reward;
    sample.action[2] = SAFE.to_vec();
    sample.emit()
}

fn new_policy<'a>(blob: &Blob<'a>) -> Policy<'a, Vec<u32>> {
    let words = blob.manifest.config.arena_words();
    Policy::new(blob, vec![0; words]).unwrap()
}

fn new_loop<'a>(blob: &Blob<'a>) -> Loop<'a> {
    let limits = Limits {
        deadline_us: DEADLINE_US,
        stale_us: STALE_US,
        watchdog_us: 100_000,
    };
    Loop::new(blob, new_policy(blob), limits).unwrap()
}

/// What the policy alone does in healthy ticks, if actions are limited.
fn expected_actions(blob: &Blob<'_>, ticks: usize, limit: f32) -> Vec<[f32; ACT]> {
    let mut policy = new_policy(blob);
    policy.reset(40.0).unwrap();
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
        if blob.manifest.reward == RewardMode::Observed {
            policy
                .observe_reward(healthy(i + 1).reward.unwrap())
                .unwrap();
        }
        if let (RewardMode::External, Some(value)) =
            (blob.manifest.reward, healthy(i + 1).return_to_go)
        {
            policy.set_return_to_go(value).unwrap();
        }
        actions.push(action);
    }
    actions
}

#[test]
fn a_healthy_loop_does_what_the_policy_says() {
    for reward in [
        RewardMode::Observed,
        RewardMode::Constant,
        RewardMode::External,
    ] {
        let file = policy_file(reward);
        let blob = file.blob();
        let expected = expected_actions(&blob, 30, f32::INFINITY);
        let moves = expected.windows(2).filter(|pair| pair[0] != pair[1]);
        assert_eq!(
            moves.count(),
            29,
            "every action differs from the one before"
        );

        let ticks: Vec<_> = (0..30).map(healthy).collect();
        for (i, played) in play(&mut new_loop(&blob), &ticks).iter().enumerate() {
            assert_eq!(played.mode, Mode::Running, "{reward:?}, tick {i}");
            assert_eq!(played.commanded, [expected[i]], "{reward:?}, tick {i}");
            assert_eq!(played.latency, u64::from(DEADLINE_US));
        }
    }
}

#[test]
fn the_policy_is_told_what_was_really_applied() {
    for reward in [RewardMode::Observed, RewardMode::Constant] {
        let file = policy_file(reward);
        let blob = file.blob();
        let expected = expected_actions(&blob, 12, 0.3);
        assert_ne!(expected, expected_actions(&blob, 12, f32::INFINITY));
        let weak = |i| Tick {
            limit: 0.3,
            ..healthy(i)
        };
        let ticks: Vec<_> = (0..12).map(weak).collect();
        for (played, expected) in play(&mut new_loop(&blob), &ticks).iter().zip(expected) {
            assert_eq!(played.commanded, [expected]);
        }
    }
}

#[test]
fn every_fault_latches_the_safe_action_in_its_tick_until_a_start() {
    let with = |change: fn(&mut Tick)| change;
    let faults = [
        (with(|t| t.missed = 1), Fault::MissedDeadline),
        (with(|t| t.sensing_us += 1), Fault::MissedDeadline),
        (with(|t| t.age_us += 1), Fault::StaleSensor { group: 0 }),
        (with(|t| t.observation = None), Fault::NoReading),
        (
            with(|t| t.observation = Some([0.0, 0.0, 100.5])),
            Fault::OutOfRange { index: 2 },
        ),
        (
            with(|t| t.observation = Some([-101.0, 0.0, 0.0])),
            Fault::OutOfRange { index: 0 },
        ),
        (
            with(|t| t.observation = Some([0.0, f32::NAN, 0.0])),
            Fault::Act(ActError::Observation { index: 1 }),
        ),
        (
            with(|t| t.observation = Some([0.0, 0.0, f32::INFINITY])),
            Fault::Act(ActError::Observation { index: 2 }),
        ),
        (
            with(|t| t.reward = None),
            Fault::Act(ActError::MissingReward),
        ),
        (
            with(|t| t.reward = Some(f32::NAN)),
            Fault::Act(ActError::Return),
        ),
    ];
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let fresh = expected_actions(&blob, 4, f32::INFINITY);
    for (spoil, fault) in faults {
        let mut control = new_loop(&blob);
        let mut ticks: Vec<_> = (0..8).map(healthy).collect();
        spoil(&mut ticks[4]);
        ticks.extend((0..4).map(healthy)); // the first of these is a start
        let played = play(&mut control, &ticks);
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

#[test]
fn an_applied_action_that_is_no_number_is_a_fault() {
    let fault = Mode::Faulted(Fault::Act(ActError::Action { index: 1 }));
    for reward in [RewardMode::Constant, RewardMode::Observed] {
        let file = policy_file(reward);
        let mut ticks: Vec<_> = (0..5).map(healthy).collect();
        ticks[2].nonsense = true;
        let played = play(&mut new_loop(&file.blob()), &ticks);
        for (i, played) in played.iter().enumerate() {
            let expected = if i < 2 { Mode::Running } else { fault };
            assert_eq!(played.mode, expected, "{reward:?}, tick {i}");
            assert_eq!(played.commanded.last() == Some(&SAFE), i >= 2);
        }
        // It is noticed while the action is already out: the safe one follows at once.
        assert_eq!(played[2].commanded.len(), 2);
    }
}

#[test]
fn the_first_fault_is_the_one_reported() {
    let file = policy_file(RewardMode::Observed);
    let mut ticks: Vec<_> = (0..4).map(healthy).collect();
    ticks[1].age_us = u32::MAX;
    ticks[2].missed = 3;
    let played = play(&mut new_loop(&file.blob()), &ticks);
    assert_eq!(
        played[3].mode,
        Mode::Faulted(Fault::StaleSensor { group: 0 })
    );
}

#[test]
fn a_target_that_is_no_number_is_a_fault() {
    let file = policy_file(RewardMode::Observed);
    let mut ticks: Vec<_> = (0..2).map(healthy).collect();
    ticks[0].request = Some(Request::Start {
        target_return: f32::NAN,
    });
    for played in play(&mut new_loop(&file.blob()), &ticks) {
        assert_eq!(played.mode, Mode::Faulted(Fault::Act(ActError::Return)));
        assert_eq!(played.commanded, [SAFE]);
    }
}

#[test]
fn nothing_but_the_safe_action_before_a_start_and_after_a_stop() {
    let file = policy_file(RewardMode::Constant);
    let mut ticks: Vec<_> = (0..6).map(|_| healthy(1)).collect();
    ticks[1].missed = 9; // An idle loop has no deadline.
    ticks[2].request = Some(START);
    ticks[4].request = Some(Request::Stop);
    let played = play(&mut new_loop(&file.blob()), &ticks);
    let modes: Vec<_> = played.iter().map(|p| p.mode).collect();
    use Mode::{Idle, Running};
    assert_eq!(modes, [Idle, Idle, Running, Running, Idle, Idle]);
    for played in played {
        let safe = played.commanded == [SAFE];
        assert_eq!(safe, played.mode == Idle);
    }
}

#[test]
fn run_starts_timer_and_watchdog_and_leaves_with_the_safe_action() {
    let file = policy_file(RewardMode::Observed);
    let now = Cell::new(0);
    let mut board = Bench::new(&now);
    let mut robot = TestRobot {
        now: &now,
        tick: Tick {
            request: Some(Request::Shutdown),
            ..healthy(0)
        },
        played: Played::new(),
    };
    run(&mut board, &mut robot, &mut new_loop(&file.blob())).unwrap();
    assert_eq!(board.ticking_us, Some(50_000));
    assert_eq!(board.watchdog_us, Some(100_000));
    assert_eq!(robot.played.commanded, [SAFE]);
}

#[test]
fn a_period_that_the_board_cannot_tick_moves_nothing() {
    let file = policy_file(RewardMode::Observed);
    let now = Cell::new(0);
    let mut board = Bench::new(&now);
    board.longest_us = 49_999;
    let mut robot = TestRobot {
        now: &now,
        tick: healthy(0),
        played: Played::new(),
    };
    let error = run(&mut board, &mut robot, &mut new_loop(&file.blob())).unwrap_err();
    assert_eq!((error.period_us, error.max_us), (50_000, 49_999));
    assert!(robot.played.commanded.is_empty());
}

#[test]
fn a_policy_for_another_robot_is_refused() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let limits = Limits::of_period(1);
    let error = ControlLoop::<_, STATE, 1>::new(&blob, new_policy(&blob), limits).err();
    assert_eq!(
        error,
        Some(WrongDimensions {
            policy: (STATE, ACT),
            robot: (STATE, 1)
        })
    );
    assert!(ControlLoop::<_, 4, ACT>::new(&blob, new_policy(&blob), limits).is_err());
}
