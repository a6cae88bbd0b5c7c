//! Random schedules of faults on a simulated clock, and at every tick what must hold whatever happens:
//!
//! - what goes to the actuators is finite and within the policy's limits;
//! - nothing but the safe action goes there before a start of an armed loop, after a stop, and from the tick of a fault on;
//! - the loop is in the mode that a model of it says, which knows what was put into the schedule and nothing of the loop's
//!   arithmetic: so it neither overlooks a fault nor sees one that is none.
//!
//! That the guards are what it takes is shown by breaking them, one by one: each of [`broken`] hides from the loop what one
//! of them looks at, and the schedules find out.

use std::time::Instant;

use dt_core::blob::AtMaxEpLen;
use dt_core::config::Mixer;

use super::*;

/// Schedules of the test; `DT_SCHEDULES=10000000` for more.
const SCHEDULES: u64 = 100_000;
/// A broken guard is found within so many.
const TO_FIND: u64 = 20_000;

const MAX_CHANGE: [f32; STATE] = [0.5, 2.0, f32::INFINITY];
const RANGE: f32 = 10.0;
const LAST_STEP: u32 = 14;
const RETURN_LIMITS: [f32; 2] = [-60.0, 140.0];
const HOLD: u32 = 1;
const SILENT_PERIODS: u32 = 3;

/// What is wrong in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Late(Where),
    Missed,
    FloatMode,
    Stale(usize),
    AgeUnwritten,
    NoReading,
    HalfWritten,
    NotANumber,
    Infinite,
    OutOfRange,
    Jump,
    NoReward,
    RewardNotANumber,
    ReturnNotANumber,
    ReturnBeyond,
    Silence,
    AppliedNotANumber,
    Halt,
}

/// What takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Waking,
    Requesting,
    Sensing,
    Actuating,
}

const WRONGS: [Wrong; 21] = [
    Wrong::Late(Where::Waking),
    Wrong::Late(Where::Requesting),
    Wrong::Late(Where::Sensing),
    Wrong::Late(Where::Actuating),
    Wrong::Missed,
    Wrong::FloatMode,
    Wrong::Stale(0),
    Wrong::Stale(1),
    Wrong::AgeUnwritten,
    Wrong::NoReading,
    Wrong::HalfWritten,
    Wrong::NotANumber,
    Wrong::Infinite,
    Wrong::OutOfRange,
    Wrong::Jump,
    Wrong::NoReward,
    Wrong::RewardNotANumber,
    Wrong::ReturnNotANumber,
    Wrong::ReturnBeyond,
    Wrong::Silence,
    Wrong::AppliedNotANumber,
];

/// A guard that does not work, or something else that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// It does not see this.
    Blind(Wrong),
    /// Changes of any size pass.
    AnyChange,
    /// Returns beyond the limits pass.
    AnyReturn,
    /// The episode never ends.
    NoLastStep,
    /// The host may be silent for ever.
    AnySilence,
    /// Any number of ticks may be missed.
    AnyGap,
    /// A start arms by itself.
    StartsUnarmed,
    /// A warm-up of any length is one of one reading.
    NoWarmUp,
    /// It goes on after a stop.
    DeafToStop,
    /// A reason of the robot's own is not heard.
    DeafToHalt,
    /// A fault goes away by itself.
    DoesNotLatch,
    /// Actions are not clamped.
    TooStrong,
    /// An action is no number.
    ActsNotANumber,
    /// The safe action of the tick of a fault does not get out.
    SafeTooLate,
    /// It stops without a reason.
    Timid,
}

fn broken() -> Vec<Broken> {
    use Broken::*;
    // A jump is hidden by a limit that allows it.
    let blind = WRONGS
        .into_iter()
        .filter(|wrong| *wrong != Wrong::Jump)
        .map(Blind);
    let others = [
        AnyChange,
        AnyReturn,
        NoLastStep,
        AnySilence,
        AnyGap,
        StartsUnarmed,
        NoWarmUp,
        DeafToStop,
        DeafToHalt,
        DoesNotLatch,
        TooStrong,
        ActsNotANumber,
        SafeTooLate,
        Timid,
    ];
    blind.chain(others).collect()
}

/// Steele et al. 2014, "Fast splittable pseudorandom number generators".
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    /// −1…1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// What the loop is in by the schedule alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    Idle,
    Arming(u16),
    Armed,
    Running,
    Faulted,
}

impl Model {
    fn of(mode: Mode) -> Self {
        match mode {
            Mode::Boot | Mode::SelfTest | Mode::Idle => Self::Idle,
            Mode::Arming { left } => Self::Arming(left),
            Mode::Armed => Self::Armed,
            Mode::Running => Self::Running,
            Mode::Faulted(_) => Self::Faulted,
        }
    }
}

/// The world of all schedules of a policy: what happens in this tick, and the books of the model.
struct Schedules {
    random: SplitMix,
    reward_mode: RewardMode,
    broken: Option<Broken>,
    model: Model,
    timestep: u32,
    return_to_go: f32,
    /// Periods since the host's last word.
    silent: u32,
    /// The reading of the tick before, if it was good.
    before: Option<[f32; STATE]>,

    now: u64,
    at: u64,
    mode: Mode,
    wrong: Option<Wrong>,
    request: Option<Request>,
    missed: u32,
    times: [u64; 4],
    observation: [f32; STATE],
    ages: [u32; GROUPS],
    reward: Option<f32>,
    told: Option<f32>,
    commands: u32,
    last: [f32; ACT],
    not_safe: bool,
    impossible: bool,
    low: [f32; ACT],
    high: [f32; ACT],
}

impl Schedules {
    /// What the loop is shown of what is wrong.
    fn seen(&self) -> Option<Wrong> {
        self.wrong
            .filter(|wrong| self.broken != Some(Broken::Blind(*wrong)))
    }

    /// Draws a tick in which `wrong` is wrong, and tells the model.
    fn draw(&mut self, wrong: Option<Wrong>) -> Tick {
        let random = &mut self.random;
        self.wrong = wrong;
        self.request = match (self.model, random.below(16)) {
            (_, 0) => Some(Request::Stop),
            (_, 1) => Some(Request::Start {
                target_return: 40.0,
            }),
            (_, 2) => Some(Request::Arm {
                warm_up: random.below(4) as u16,
            }),
            (Model::Idle, 3..12) => Some(Request::Arm {
                warm_up: random.below(3) as u16,
            }),
            (Model::Armed, 3..12) => Some(Request::Start {
                target_return: 40.0,
            }),
            (Model::Faulted, 3..8) => Some(Request::Stop),
            _ => None,
        };
        if wrong == Some(Wrong::Halt) {
            self.request = Some(Request::Halt(Fault::Robot { code: 7 }));
        }
        self.missed = match wrong {
            Some(Wrong::Missed) => HOLD + 1 + random.below(5) as u32,
            _ if random.one_in(8) => HOLD,
            _ => 0,
        };
        // The whole time until the deadline, or less.
        let most = u64::from(DEADLINE_US) / 4;
        self.times = [(); 4].map(|()| {
            if random.one_in(4) {
                most
            } else {
                random.below(most)
            }
        });
        if let Some(Wrong::Late(place)) = wrong {
            self.times = match place {
                Where::Actuating => [most; 4],
                // Late before the action goes to the actuators.
                _ => [most, most, 2 * most, 0],
            };
            self.times[place as usize] += 1 + random.below(500);
        }
        let periods = self.missed + 1;
        for (i, value) in self.observation.iter_mut().enumerate() {
            let step = match self.before {
                Some(_) => MAX_CHANGE[i] * periods as f32,
                None => RANGE,
            };
            let step = if step > 4.0 { 4.0 } else { step };
            // A sum that is rounded may be off by a bit.
            let to = *value + 0.999 * step * random.unit();
            *value = if to.abs() > RANGE {
                to.signum() * RANGE
            } else {
                to
            };
        }
        let jumped = wrong == Some(Wrong::Jump) && self.before.is_some();
        if jumped {
            let far = MAX_CHANGE[0] * periods as f32 + 0.01;
            let value = self.before.map_or(0.0, |before| before[0]);
            self.observation[0] = if value > 0.0 {
                value - far
            } else {
                value + far
            };
        }
        self.ages = STALE_US.map(|limit| random.below(u64::from(limit) + 1) as u32);
        if let Some(Wrong::Stale(group)) = wrong {
            self.ages[group] = STALE_US[group] + 1 + random.below(999) as u32;
        }
        self.reward = Some(random.unit());
        self.told = random.one_in(2).then(|| 50.0 * random.unit());
        self.at += u64::from(PERIOD_US) * u64::from(periods);
        self.now = self.at + self.times[0];
        (self.commands, self.not_safe, self.impossible) = (0, false, false);

        self.advance(jumped);
        let seen = self.broken != Some(Broken::Blind(Wrong::Missed));
        Tick {
            at: self.at,
            missed: if seen { self.missed } else { 0 },
        }
    }

    /// What the loop has to be in after this tick.
    fn advance(&mut self, jumped: bool) {
        use Model::*;
        let bad_reading = match self.wrong {
            Some(Wrong::Jump) => jumped,
            Some(
                Wrong::FloatMode
                | Wrong::Stale(_)
                | Wrong::AgeUnwritten
                | Wrong::NoReading
                | Wrong::HalfWritten
                | Wrong::NotANumber
                | Wrong::Infinite
                | Wrong::OutOfRange
                | Wrong::Late(Where::Waking | Where::Requesting | Where::Sensing),
            ) => true,
            _ => false,
        };
        self.silent = self.silent.saturating_add(self.missed + 1);
        // In this order: the gap before the tick, the request, the reading.
        if self.wrong == Some(Wrong::Missed) {
            self.model = match self.model {
                Running => Faulted,
                Arming(_) | Armed => Idle,
                other => other,
            };
        }
        match (self.request, self.model) {
            (Some(Request::Stop), _) => self.model = Idle,
            (Some(Request::Halt(_)), Running) => self.model = Faulted,
            (Some(Request::Halt(_)), Arming(_) | Armed) => self.model = Idle,
            (Some(Request::Arm { warm_up }), Idle | Arming(_) | Armed) => {
                self.model = Arming(warm_up.max(1));
            }
            (Some(Request::Start { target_return }), Armed) => {
                self.model = Running;
                (self.timestep, self.return_to_go, self.silent) = (0, target_return, 0);
            }
            _ => {}
        }
        let mut sensed = true;
        match self.model {
            Arming(_) | Armed if bad_reading => self.model = Idle,
            Arming(1) => self.model = Armed,
            Arming(left) => self.model = Arming(left - 1),
            Running => self.step(bad_reading),
            Armed => {}
            Idle | Faulted => sensed = false,
        }
        let good = sensed && !matches!(self.model, Idle | Faulted);
        // Of a bad reading nothing is kept; a good one that came too late is followed by nothing either.
        self.before = good.then_some(self.observation);
        if self.before.is_none() && self.observation.iter().any(|value| value.abs() > RANGE) {
            self.observation = [0.0; STATE];
        }
    }

    /// A step of the policy, or a fault.
    fn step(&mut self, bad_reading: bool) {
        let observed = self.reward_mode == RewardMode::Observed;
        let external = self.reward_mode == RewardMode::External;
        match self.wrong {
            Some(Wrong::NoReward) => self.reward = None,
            Some(Wrong::RewardNotANumber) => self.reward = Some(f32::NAN),
            Some(Wrong::ReturnNotANumber) => self.told = Some(f32::NAN),
            Some(Wrong::ReturnBeyond) => {
                self.told = Some(RETURN_LIMITS[1] + 1.0);
                self.reward = Some(self.return_to_go - RETURN_LIMITS[0] + 1.0);
            }
            Some(Wrong::Silence) => self.told = None,
            _ if external && self.silent > SILENT_PERIODS => self.told = Some(7.0),
            _ => {}
        }
        let mut bad = bad_reading;
        if observed && self.timestep > 0 {
            match self.reward {
                Some(reward) if reward.is_finite() => self.return_to_go -= reward,
                _ => bad = true,
            }
        }
        if external {
            match self.told {
                Some(told) => {
                    bad |= !told.is_finite();
                    self.return_to_go = told;
                    self.silent = 0;
                }
                None => bad |= self.silent > SILENT_PERIODS,
            }
        }
        let [low, high] = RETURN_LIMITS;
        bad |= !(low..=high).contains(&self.return_to_go);
        bad |= self.timestep >= LAST_STEP;
        bad |= matches!(
            self.wrong,
            Some(Wrong::AppliedNotANumber | Wrong::Late(Where::Actuating))
        );
        self.timestep += 1;
        if bad {
            self.model = Model::Faulted;
        }
    }

    /// What of the tick must not be.
    fn violation(&self) -> Option<&'static str> {
        let running = Model::of(self.mode) == Model::Running;
        if self.impossible {
            Some("an actuator value that is no number or out of range")
        } else if self.commands == 0 {
            Some("no action at all")
        } else if self.model != Model::Running && self.last != SAFE {
            Some(
                "not the safe action at the end of a tick in which something is wrong or nothing has started",
            )
        } else if self.not_safe && !running && !matches!(self.mode, Mode::Faulted(_)) {
            Some("an action other than the safe one before a start or after a stop")
        } else if Model::of(self.mode) != self.model {
            Some("another mode than the model's")
        } else {
            None
        }
    }
}

/// The robot's side of the same world; the loop borrows both.
struct Side<'s>(&'s RefCell<&'s mut Schedules>);

impl Robot for Side<'_> {
    fn request(&mut self) -> Option<Request> {
        let mut world = self.0.borrow_mut();
        world.now += world.times[1];
        let arm = Request::Arm { warm_up: 1 };
        match (world.broken, world.request, world.mode) {
            (Some(Broken::StartsUnarmed), None, Mode::Idle) => Some(arm),
            (Some(Broken::NoWarmUp), Some(Request::Arm { .. }), _) => Some(arm),
            (Some(Broken::DeafToStop), Some(Request::Stop), _) => None,
            (Some(Broken::DeafToHalt), Some(Request::Halt(_)), _) => None,
            (Some(Broken::DoesNotLatch), None, Mode::Faulted(_)) => Some(Request::Stop),
            (Some(Broken::Timid), None, Mode::Running) if world.random.one_in(100) => {
                Some(Request::Stop)
            }
            (_, request, _) => request,
        }
    }
    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
        let mut world = self.0.borrow_mut();
        world.now += world.times[2];
        let seen = world.seen();
        if seen == Some(Wrong::NoReading) {
            return None;
        }
        let written = STATE - usize::from(seen == Some(Wrong::HalfWritten));
        observation[..written].copy_from_slice(&world.observation[..written]);
        match seen {
            Some(Wrong::NotANumber) => observation[0] = -f32::NAN,
            Some(Wrong::Infinite) => observation[1] = f32::NEG_INFINITY,
            Some(Wrong::OutOfRange) => observation[1] = RANGE + 0.001,
            _ => {}
        }
        let written = GROUPS - usize::from(seen == Some(Wrong::AgeUnwritten));
        ages_us[..written].copy_from_slice(&world.ages[..written]);
        let mut reading = Reading {
            reward: world.reward,
            return_to_go: world.told,
        };
        if seen != world.wrong {
            // Wrong, but not to be seen.
            match world.wrong {
                Some(Wrong::Stale(group)) => ages_us[group] = 0,
                Some(Wrong::NoReward | Wrong::RewardNotANumber) => reading.reward = Some(0.0),
                Some(Wrong::ReturnNotANumber | Wrong::ReturnBeyond | Wrong::Silence) => {
                    (reading.reward, reading.return_to_go) = (Some(0.0), Some(1.0));
                }
                _ => {}
            }
        }
        Some(reading)
    }
    fn actuate(&mut self, action: &mut [f32]) {
        let mut world = self.0.borrow_mut();
        if world.commands == 0 {
            world.now += world.times[3];
        }
        let mut out: [f32; ACT] = action.try_into().unwrap();
        let broken = world.broken;
        match broken {
            Some(Broken::TooStrong) if out != SAFE => out = out.map(|value| 2.0 * value),
            Some(Broken::ActsNotANumber) if out != SAFE && world.random.one_in(50) => {
                out[1] = f32::NAN;
            }
            Some(Broken::SafeTooLate) if world.commands > 0 => return,
            _ => {}
        }
        let within = out
            .iter()
            .zip(world.low.iter().zip(&world.high))
            .all(|(value, (low, high))| value >= low && value <= high);
        world.impossible |= !within;
        world.not_safe |= out != SAFE;
        world.last = out;
        world.commands += 1;
        if world.seen() == Some(Wrong::AppliedNotANumber) {
            action[0] = f32::NAN;
        }
    }
    fn record(&mut self, record: &Record<'_>) {
        self.0.borrow_mut().mode = record.mode;
    }
}

/// The board's side.
struct Hardware<'s>(&'s RefCell<&'s mut Schedules>);

impl Processor for Hardware<'_> {
    const CLOCK_HZ: u32 = 1_000_000;

    fn now(&mut self) -> u64 {
        let world = self.0.borrow();
        match world.wrong {
            // The clock of a loop that does not see that it is late stands still.
            Some(Wrong::Late(_)) if world.seen().is_none() => world.at,
            _ => world.now,
        }
    }
    fn float_mode(&mut self) -> Result<(), FloatMode> {
        match self.0.borrow().seen() {
            Some(Wrong::FloatMode) => Err(FloatMode::DefaultNan),
            _ => Ok(()),
        }
    }
}

/// As small as a policy can be, so that there is time for many schedules.
fn tiny(reward: RewardMode, broken: Option<Broken>) -> PolicyFile {
    let config = Config {
        d_model: 4,
        n_layer: 1,
        n_head: 1,
        d_ff: 4,
        context_len: 2,
        max_ep_len: LAST_STEP,
        mixer: Mixer::Attention,
        ..small_config()
    };
    let mut sample = Sample::random(config, 1);
    sample.reward = reward;
    sample.action = [vec![-1.0, -2.0], vec![1.0, 0.5], SAFE.to_vec()];
    sample.state[2] = vec![-RANGE; STATE];
    sample.state[3] = vec![RANGE; STATE];
    sample.at_max_ep_len = match broken {
        Some(Broken::NoLastStep) => AtMaxEpLen::Saturate,
        _ => AtMaxEpLen::Fault,
    };
    sample.return_limits = Some(ReturnLimits {
        low: RETURN_LIMITS[0],
        high: RETURN_LIMITS[1],
        beyond: match broken {
            Some(Broken::AnyReturn) => BeyondLimits::Clamp,
            _ => BeyondLimits::Fault,
        },
    });
    episodes::proven(&sample, "none", 4, |_| {})
}

/// What was played, and the first violation.
#[derive(Debug, Default)]
struct Outcome {
    schedules: u64,
    ticks: u64,
    running: u64,
    faults: u64,
    disarmed: u64,
    violation: Option<String>,
}

/// Plays schedules of 4 to 24 ticks, one after the other with the same loop.
fn play_schedules(
    reward: RewardMode,
    seed: u64,
    schedules: u64,
    broken: Option<Broken>,
) -> Outcome {
    let file = tiny(reward, broken);
    let blob = file.blob();
    let mut control = loop_with(&blob, |limits| {
        limits.missed = Missed::Hold {
            at_most: match broken {
                Some(Broken::AnyGap) => u32::MAX,
                _ => HOLD,
            },
        };
        limits.silence_us = match broken {
            Some(Broken::AnySilence) => u32::MAX,
            _ => SILENT_PERIODS * PERIOD_US,
        };
    });
    if broken != Some(Broken::AnyChange) {
        control = control.with_max_change(MAX_CHANGE);
    }
    let [low, high] = [blob.vectors().action_low, blob.vectors().action_high];
    let mut world = Schedules {
        random: SplitMix(seed),
        reward_mode: reward,
        broken,
        model: Model::Idle,
        timestep: 0,
        return_to_go: 0.0,
        silent: 0,
        before: None,
        now: 0,
        at: 0,
        mode: Mode::Idle,
        wrong: None,
        request: None,
        missed: 0,
        times: [0; 4],
        observation: [0.0; STATE],
        ages: [0; GROUPS],
        reward: None,
        told: None,
        commands: 0,
        last: SAFE,
        not_safe: false,
        impossible: false,
        low: low.try_into().unwrap(),
        high: high.try_into().unwrap(),
    };
    let mut outcome = Outcome::default();
    for schedule in 0..schedules {
        let ticks = 4 + world.random.below(21);
        // Of some nothing is wrong, of some nearly everything.
        let rarity = [u64::MAX, 30, 8, 2][world.random.below(4) as usize];
        for tick in 0..ticks {
            let wrong = match world.random.below(rarity) {
                0 => {
                    let which = world.random.below(WRONGS.len() as u64 + 1) as usize;
                    Some(WRONGS.get(which).copied().unwrap_or(Wrong::Halt))
                }
                _ => None,
            };
            let before = Model::of(world.mode);
            let due = world.draw(wrong);
            let shared = RefCell::new(&mut world);
            let flow = control.tick(due, &mut Hardware(&shared), &mut Side(&shared));
            assert!(flow.is_continue());
            let after = Model::of(world.mode);
            outcome.ticks += 1;
            outcome.running += u64::from(after == Model::Running);
            outcome.faults += u64::from(before != after && after == Model::Faulted);
            let armed = matches!(before, Model::Armed | Model::Arming(_));
            let stopped = matches!(world.request, Some(Request::Stop));
            outcome.disarmed += u64::from(armed && after == Model::Idle && !stopped);
            if let Some(violation) = world.violation() {
                outcome.violation = Some(format!(
                    "{reward:?}, seed {seed}, schedule {schedule}, tick {tick}: {violation}: {wrong:?} {:?}, missed {}, {:?} instead of {:?}, {:?}",
                    world.request, world.missed, world.mode, world.model, world.last
                ));
                return outcome;
            }
        }
        outcome.schedules += 1;
    }
    outcome
}

#[test]
fn no_schedule_of_faults_moves_the_robot_when_it_must_not() {
    let schedules = match std::env::var("DT_SCHEDULES") {
        Ok(text) => text.parse().expect("DT_SCHEDULES is a number"),
        Err(_) => SCHEDULES,
    };
    let start = Instant::now();
    let mut all = Outcome::default();
    for (seed, reward) in REWARDS.into_iter().enumerate() {
        let share = schedules.div_ceil(3);
        let outcome = play_schedules(reward, seed as u64, share, None);
        assert_eq!(outcome.violation, None);
        all.schedules += outcome.schedules;
        all.ticks += outcome.ticks;
        all.running += outcome.running;
        all.faults += outcome.faults;
        all.disarmed += outcome.disarmed;
    }
    println!("{all:?} in {:.1} s", start.elapsed().as_secs_f64());
    assert!(all.schedules >= schedules);
    // They are about something.
    assert!(
        all.running > all.ticks / 10 && all.faults > all.schedules / 10,
        "{all:?}"
    );
    assert!(all.disarmed > all.schedules / 50, "{all:?}");
}

#[test]
fn every_broken_guard_is_found_by_the_schedules() {
    for broken in broken() {
        let found = REWARDS.into_iter().enumerate().find_map(|(seed, reward)| {
            play_schedules(reward, seed as u64, TO_FIND, Some(broken)).violation
        });
        println!("{broken:?}: {}", found.as_deref().unwrap_or("not found"));
        assert!(found.is_some(), "{broken:?} was not found");
    }
}
