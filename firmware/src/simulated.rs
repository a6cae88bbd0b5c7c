//! A robot that is a plant simulated on the controller, living through a recorded episode again.

use dt_control::{Mode, Reading, Record, Request, Robot, Spans};
use host_sim::{Env, trace};

use crate::compare::differing_bits;

/// One episode of a simulated plant, compared with its recording step by step.
///
/// The plant moves on when all of a tick is done, so that simulating it takes no time from the robot.
#[derive(Debug)]
pub struct Simulated<'p, 't, E, I, const ACT: usize> {
    plant: &'p mut E,
    seed: u64,
    target_return: f32,
    recorded: I,
    expected: Option<trace::Record<'t>>,
    action: [f32; ACT],
    reward: Option<f32>,
    return_to_go: f32,
    outcome: Outcome,
}

/// How an episode went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What the loop did last, [`Mode::Boot`] before its first tick; [`Mode::Running`] if all went well.
    pub mode: Mode,
    /// Steps of the plant.
    pub steps: u32,
    /// Sum of its rewards in f64, added in order, as on the host.
    pub total_reward: f64,
    /// Bits of actions that differ from the recording.
    pub differing_bits: u64,
    /// Bits of observations and rewards that differ: tells an error of the plant from one of the policy.
    pub differing_plant_bits: u64,
    /// Board clock counts of the control steps.
    pub busy: Spans,
}

impl<'p, 't, E: Env, I: Iterator<Item = trace::Record<'t>>, const ACT: usize>
    Simulated<'p, 't, E, I, ACT>
{
    /// The episode that started from `seed`, aiming at `target_return`.
    pub fn new(plant: &'p mut E, seed: u64, target_return: f32, recorded: I) -> Self {
        plant.reset(seed);
        Self {
            plant,
            seed,
            target_return,
            recorded,
            expected: None,
            action: [0.0; ACT],
            reward: None,
            return_to_go: target_return,
            outcome: Outcome {
                mode: Mode::Boot,
                steps: 0,
                total_reward: 0.0,
                differing_bits: 0,
                differing_plant_bits: 0,
                busy: Spans::default(),
            },
        }
    }

    /// How it went.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// One control period passes in the simulated world.
    fn advance(&mut self) {
        let step = self.plant.step(&self.action);
        let reward = step.reward as f32;
        if let Some(expected) = self.expected {
            self.outcome.differing_plant_bits += differing_bits(&[expected.reward], &[reward]);
        }
        self.reward = Some(reward);
        self.return_to_go -= reward;
        self.outcome.total_reward += step.reward;
        self.outcome.steps += 1;
    }
}

impl<'t, E: Env, I: Iterator<Item = trace::Record<'t>>, const ACT: usize> Robot
    for Simulated<'_, 't, E, I, ACT>
{
    fn request(&mut self) -> Option<Request> {
        self.expected = match self.outcome.mode {
            Mode::Armed | Mode::Running => self.recorded.next(),
            _ => None,
        };
        match (self.outcome.mode, self.expected) {
            (Mode::Boot, _) => Some(Request::Arm { warm_up: 1 }),
            (_, None) => Some(Request::Shutdown),
            (Mode::Armed, _) => Some(Request::Start {
                target_return: self.target_return,
            }),
            _ => None,
        }
    }

    /// As `host_sim`'s controller of policy files.
    fn seed(&mut self) -> Option<u64> {
        Some(self.seed)
    }

    fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
        ages_us.fill(0);
        self.plant.observation(observation);
        if let Some(expected) = self.expected {
            self.outcome.differing_plant_bits += differing_bits(expected.observation, observation);
        }
        Some(Reading {
            reward: self.reward,
            return_to_go: Some(self.return_to_go),
        })
    }

    fn actuate(&mut self, action: &mut [f32]) {
        self.action.copy_from_slice(action);
    }

    fn record(&mut self, record: &Record<'_>) {
        let Some(expected) = self.expected else {
            // The tick of arming, which succeeds or ends it all, or that of the shutdown.
            if self.outcome.mode == Mode::Boot {
                self.outcome.mode = record.mode;
            }
            return;
        };
        self.outcome.mode = record.mode;
        self.outcome.differing_bits += differing_bits(expected.action, record.action);
        if record.mode == Mode::Running {
            self.outcome.busy.add(record.busy);
        }
        self.advance();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use ::tests::episodes::{self, Recording};
    use ::tests::small_config;
    use dt_control::{
        BlockingBoard, Board, ControlLoop, FloatMode, Limits, PeriodTooLong, Processor, Tick,
        Watchdog, run,
    };
    use dt_core::blob::RewardMode;
    use dt_core::guard::Fault;
    use dt_core::policy::Policy;
    use host_sim::pendulum::{LibmTrig, Pendulum, SPEC};
    use host_sim::rollout::Plan;

    use super::*;

    const TARGET: f32 = -100.0;
    const REWARDS: [RewardMode; 3] = [
        RewardMode::Observed,
        RewardMode::Constant,
        RewardMode::External,
    ];

    /// Every reading of its clock takes one count; one of its ticks may come late.
    struct Bench {
        now: Cell<u64>,
        ticks: u32,
        late_tick: Option<u32>,
    }

    impl Processor for Bench {
        const CLOCK_HZ: u32 = 1_000_000;

        fn now(&mut self) -> u64 {
            self.now.replace(self.now.get() + 1)
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
        fn feed_watchdog(&mut self) {}
        fn stop_watchdog(&mut self) -> Watchdog {
            Watchdog::Stopped
        }
    }

    impl BlockingBoard for Bench {
        fn wait_for_tick(&mut self) -> Tick {
            self.ticks += 1;
            Tick {
                at: self.now(),
                missed: u32::from(self.late_tick == Some(self.ticks)),
            }
        }
    }

    /// The outcome on the controller and the return on the host.
    fn relive(
        reward: RewardMode,
        target_return: f32,
        late_tick: Option<u32>,
        alter: impl FnMut(usize, usize, &mut [f32]),
    ) -> (Outcome, f64) {
        let file = episodes::policy(small_config(), reward, 3);
        let plan = Plan {
            target_return: TARGET,
            episodes: 1,
            seed: 5,
            threads: 1,
        };
        let (recording, episodes) = Recording::new(&file, &plan);
        let recording = recording.altered(alter);
        let blob = file.blob();
        let arena = vec![0; blob.manifest().config.arena_words()];
        let policy = Policy::new(&blob, arena).unwrap();
        let limits = Limits::of_period(blob.manifest().control_period_us);
        let mut control =
            ControlLoop::<_, { SPEC.state_dim() }, { SPEC.act_dim() }>::new(&blob, policy, limits)
                .unwrap();
        let mut board = Bench {
            now: Cell::new(0),
            ticks: 0,
            late_tick,
        };
        let episode = recording.trace().iter().next().unwrap();
        let mut plant = Pendulum::<LibmTrig>::new();
        let mut robot = Simulated::<_, _, { SPEC.act_dim() }>::new(
            &mut plant,
            5,
            target_return,
            episode.iter(),
        );
        let ended = run(&mut board, &mut robot, &mut control);
        assert_eq!(ended, Ok(Watchdog::Stopped));
        (robot.outcome(), episodes[0].total_reward)
    }

    #[test]
    fn the_control_loop_relives_the_rollout_to_the_bit() {
        for reward in REWARDS {
            let (outcome, host_return) = relive(reward, TARGET, None, |_, _, _| {});
            assert_eq!(outcome.mode, Mode::Running, "{reward:?}");
            assert_eq!(outcome.steps, 200);
            assert_eq!(
                outcome.differing_bits + outcome.differing_plant_bits,
                0,
                "{reward:?}"
            );
            assert_eq!(outcome.total_reward.to_bits(), host_return.to_bits());
            assert_eq!(outcome.busy.len, 200);
        }
    }

    #[test]
    fn altered_actions_are_counted_one_by_one() {
        let alter = |_: usize, step: usize, action: &mut [f32]| {
            if step == 7 {
                action[0] = f32::from_bits(action[0].to_bits() ^ 0b111);
            }
        };
        let (outcome, _) = relive(RewardMode::Observed, TARGET, None, alter);
        assert_eq!(outcome.differing_bits, 3);
        assert_eq!(outcome.differing_plant_bits, 0);
    }

    #[test]
    fn another_target_differs_in_actions_and_then_in_the_plant() {
        let (outcome, _) = relive(RewardMode::Observed, -900.0, None, |_, _, _| {});
        assert!(outcome.differing_bits > 200, "{outcome:?}");
        assert!(outcome.differing_plant_bits > 200, "{outcome:?}");
    }

    #[test]
    fn a_fault_ends_the_episode() {
        let (outcome, _) = relive(RewardMode::Observed, TARGET, Some(11), |_, _, _| {});
        assert_eq!(outcome.mode, Mode::Faulted(Fault::MissedDeadline));
        assert_eq!(outcome.steps, 10);
        assert_eq!(outcome.busy.len, 9);
    }
}
