//! A robot that is a plant simulated on the controller, living through a recorded episode again.

use host_sim::{Env, trace};

use crate::compare::{Spans, differing_bits};
use crate::control::{Mode, Reading, Record, Request, Robot};

/// One episode of a simulated plant, compared with its recording step by step.
///
/// The plant moves on when the loop comes back for the next tick.
#[derive(Debug)]
pub struct Simulated<'p, 't, E, I, const ACT: usize> {
    plant: &'p mut E,
    target_return: f32,
    recorded: I,
    expected: Option<trace::Record<'t>>,
    started: bool,
    action: [f32; ACT],
    reward: Option<f32>,
    outcome: Outcome,
}

/// How an episode went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What the loop did last; [`Mode::Running`] if all went well.
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
            target_return,
            recorded,
            expected: None,
            started: false,
            action: [0.0; ACT],
            reward: None,
            outcome: Outcome {
                mode: Mode::Idle,
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
        self.outcome.total_reward += step.reward;
        self.outcome.steps += 1;
    }
}

impl<'t, E: Env, I: Iterator<Item = trace::Record<'t>>, const ACT: usize> Robot
    for Simulated<'_, 't, E, I, ACT>
{
    fn request(&mut self) -> Option<Request> {
        let start = !self.started;
        if start {
            self.started = true;
        } else {
            self.advance();
        }
        self.expected = self.recorded.next();
        let faulted = matches!(self.outcome.mode, Mode::Faulted(_));
        if self.expected.is_none() || faulted {
            return Some(Request::Shutdown);
        }
        start.then_some(Request::Start {
            target_return: self.target_return,
        })
    }

    fn sense(&mut self, observation: &mut [f32]) -> Option<Reading> {
        self.plant.observation(observation);
        if let Some(expected) = self.expected {
            self.outcome.differing_plant_bits += differing_bits(expected.observation, observation);
        }
        Some(Reading {
            age_us: 0,
            reward: self.reward,
        })
    }

    fn actuate(&mut self, action: &mut [f32]) {
        self.action.copy_from_slice(action);
    }

    fn record(&mut self, record: &Record<'_>) {
        let Some(expected) = self.expected else {
            return; // The tick of the shutdown.
        };
        self.outcome.mode = record.mode;
        self.outcome.differing_bits += differing_bits(expected.action, record.action);
        if record.mode == Mode::Running {
            self.outcome.busy.add(record.busy);
        }
    }
}
