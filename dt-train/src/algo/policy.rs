//! Trained networks that act: in the engine of the controller, or by other arithmetic.

use std::collections::VecDeque;
use std::fmt::{self, Debug};

use dt_core::ActError;
use dt_core::blob::{BeyondLimits, Choice, RewardMode};
use dt_core::config::{Actions, Math};
use dt_core::unstable::chacha::draw;
use dt_core::unstable::choice::choose;
use host_sim::EnvSpec;
use host_sim::policy_file::{EnvMismatch, PolicyFile, check_env};
use host_sim::rollout::Controller;
use tch::{Device, Tensor};

use super::Dims;
use crate::data::prepare::one_hot;
use crate::nn::transformer::Inputs;
use crate::run::Run;

/// What can be evaluated, on several threads at once.
pub trait Policy: Debug + Sync {
    /// What runs [`controller`](Self::controller), in a word.
    fn runner(&self) -> &'static str;

    /// Whether the target return changes what it does.
    fn is_conditioned(&self) -> bool;

    /// Whether it can act in an environment.
    ///
    /// # Errors
    /// [`EnvMismatch`] names what differs.
    fn check_env(&self, spec: &EnvSpec<'_>) -> Result<(), EnvMismatch>;

    /// It at the controls, with the arithmetic that counts.
    fn controller(&self) -> BoxedController<'_>;

    /// The same by libtorch on `device`: an independent check. None: there is no network to check with.
    fn reference(&self, device: Device) -> Option<BoxedController<'_>>;
}

/// Any [`Controller`].
pub struct BoxedController<'a>(Box<dyn Controller<Error = ActError> + 'a>);

impl<'a> BoxedController<'a> {
    /// Forgets which one it is.
    pub fn new(controller: impl Controller<Error = ActError> + 'a) -> Self {
        Self(Box::new(controller))
    }
}

impl Debug for BoxedController<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedController")
    }
}

impl Controller for BoxedController<'_> {
    type Error = ActError;

    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), ActError> {
        self.0.reset(seed, target_return)
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], ActError> {
        self.0.act(observation)
    }

    fn predicted_return(&mut self) -> Option<f32> {
        self.0.predicted_return()
    }

    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), ActError> {
        self.0.feedback(applied, reward)
    }
}

/// A policy file, run by the engine of the controller.
#[derive(Debug)]
pub struct Engine<'a> {
    file: PolicyFile,
    /// The network that became the file, if it is at hand.
    network: Option<Box<dyn Policy + 'a>>,
}

impl<'a> Engine<'a> {
    /// A file that somebody gave us.
    pub fn new(file: PolicyFile) -> Self {
        Self {
            file,
            network: None,
        }
    }

    /// A file with the network that it was made from, for [`Policy::reference`].
    pub fn of(network: impl Policy + 'a, file: PolicyFile) -> Self {
        Self {
            file,
            network: Some(Box::new(network)),
        }
    }
}

impl Policy for Engine<'_> {
    fn runner(&self) -> &'static str {
        "engine"
    }

    /// A perceptron knows no returns, and some policies ask themselves.
    fn is_conditioned(&self) -> bool {
        let blob = self.file.blob();
        let manifest = blob.manifest();
        !manifest.config.is_mlp() && manifest.reward != RewardMode::Predicted
    }

    fn check_env(&self, spec: &EnvSpec<'_>) -> Result<(), EnvMismatch> {
        self.file.check_env(spec)
    }

    fn controller(&self) -> BoxedController<'_> {
        BoxedController::new(self.file.controllers()())
    }

    fn reference(&self, device: Device) -> Option<BoxedController<'_>> {
        self.network.as_ref()?.reference(device)
    }
}

/// A policy that takes a target return for the form's sake.
#[derive(Debug)]
pub(super) struct Unconditioned<'a>(pub Box<dyn Policy + 'a>);

impl Policy for Unconditioned<'_> {
    fn runner(&self) -> &'static str {
        self.0.runner()
    }

    fn is_conditioned(&self) -> bool {
        false
    }

    fn check_env(&self, spec: &EnvSpec<'_>) -> Result<(), EnvMismatch> {
        self.0.check_env(spec)
    }

    fn controller(&self) -> BoxedController<'_> {
        self.0.controller()
    }

    fn reference(&self, device: Device) -> Option<BoxedController<'_>> {
        self.0.reference(device)
    }
}

/// What of an episode so far a network acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Up to this many timesteps, the newest last.
    Timesteps(usize),
    /// This many states, zeros (the data's mean) before the episode's first, and the rest of the newest timestep: what
    /// [`Draw::Histories`](crate::data::sampler::Draw::Histories) trains on.
    Padded(usize),
}

impl Memory {
    fn timesteps(self) -> usize {
        match self {
            Self::Timesteps(n) | Self::Padded(n) => n,
        }
    }
}

/// The timesteps that a [`Memory`] holds, as the network reads them.
#[derive(Debug)]
pub struct History {
    memory: Memory,
    steps: VecDeque<Timestep>,
    /// Lowest and highest return-to-go, scaled, that a policy asks itself for.
    limits: Option<[f32; 2]>,
}

#[derive(Debug)]
struct Timestep {
    return_to_go: f32,
    state: Vec<f32>,
    action: Vec<f32>,
    timestep: i64,
}

impl History {
    /// As a batch of one sequence, on `device`.
    pub fn inputs(&self, device: Device) -> Inputs {
        let first = match self.memory {
            Memory::Timesteps(_) => 0,
            Memory::Padded(_) => self.steps.len() - 1,
        };
        let steps = || self.steps.range(first..);
        let table = |values: Vec<f32>, rows: usize| {
            let rows = rows as i64;
            Tensor::from_slice(&values).view([1, rows, -1]).to(device)
        };
        let t = self.steps.len() - first;
        let timesteps: Vec<i64> = steps().map(|step| step.timestep).collect();
        let states = match self.memory {
            Memory::Timesteps(_) => t,
            Memory::Padded(n) => n,
        };
        Inputs {
            returns_to_go: table(steps().map(|step| step.return_to_go).collect(), t),
            states: table(self.states(), states),
            actions: table(steps().flat_map(|step| step.action.clone()).collect(), t),
            timesteps: Tensor::from_slice(&timesteps).view([1, -1]).to(device),
        }
    }

    /// Asks for what is possible, scaled, in the newest timestep: as a policy file that asks itself does, within the data's returns.
    pub fn ask(&mut self, possible: f32) {
        let told = match self.limits {
            Some([low, _]) if possible < low => low,
            Some([_, high]) if possible > high => high,
            _ => possible,
        };
        if let Some(newest) = self.steps.back_mut() {
            newest.return_to_go = told;
        }
    }

    /// Normalized states, the oldest first, with the zeros of [`Memory::Padded`].
    pub fn states(&self) -> Vec<f32> {
        let width = self.steps.back().map_or(0, |step| step.state.len());
        let missing = match self.memory {
            Memory::Timesteps(_) => 0,
            Memory::Padded(n) => n - self.steps.len(),
        };
        let mut states = vec![0.0; missing * width];
        states.extend(self.steps.iter().flat_map(|step| &step.state));
        states
    }
}

/// Writes the unscaled action (act_dim) of the newest timestep, or the logits of its choices.
type Forward<'a> = dyn FnMut(&mut History, &mut [f32]) + 'a;

/// A network in the rollout loop: does around it what a policy file does on the controller.
pub struct Player<'a> {
    run: &'a Run,
    forward: Box<Forward<'a>>,
    history: History,
    return_to_go: f32,
    timestep: u32,
    /// What the network gives (act_dim).
    output: Vec<f32>,
    action: Vec<f32>,
    /// How choices follow from logits.
    choice: Choice,
    /// By whose exp.
    math: Math,
    /// Key of the random numbers of an episode.
    seed: u64,
}

impl<'a> Player<'a> {
    /// Plays what `forward` makes of the history: the unscaled action (act_dim) of the newest timestep, or logits by
    /// which the recipe's `control.choice` chooses with this `math`, as the policy file's engine does.
    pub fn new(
        run: &'a Run,
        memory: Memory,
        math: Math,
        forward: impl FnMut(&mut History, &mut [f32]) + 'a,
    ) -> Self {
        Self {
            run,
            forward: Box::new(forward),
            history: History {
                memory,
                steps: VecDeque::new(),
                limits: (run.info.return_range)
                    .map(|limits| limits.map(|limit| limit / run.recipe.data.return_scale)),
            },
            return_to_go: 0.0,
            timestep: 0,
            output: vec![0.0; run.info.act_dim],
            action: vec![0.0; run.dims().action_len()],
            choice: run.recipe.control.choice(run.recipe.train.seed),
            math,
            seed: 0,
        }
    }

    /// What the network is told (act_dim) of an action that was applied: a vector (act_dim) or the index of a choice.
    fn input(&self, applied: &[f32]) -> Vec<f32> {
        match self.run.dims().actions {
            Actions::Continuous => {
                let components = applied.iter().enumerate();
                let scaled = components.map(|(i, a)| {
                    let [_, _, centre, half] = self.range(i);
                    if half > 0.0 { (a - centre) / half } else { 0.0 }
                });
                scaled.collect()
            }
            Actions::Discrete => {
                let choices: Vec<u32> = applied.iter().map(|&choice| choice as u32).collect();
                one_hot(&choices, self.run.info.act_dim)
            }
        }
    }

    /// The return-to-go that the network is told, raw units: as a policy file with the recipe's limits tells it.
    fn told(&self) -> f32 {
        let Run { recipe, info, .. } = self.run;
        match (info.return_range, recipe.control.return_limit) {
            (Some([low, _]), BeyondLimits::Clamp) if self.return_to_go < low => low,
            (Some([_, high]), BeyondLimits::Clamp) if self.return_to_go > high => high,
            _ => self.return_to_go,
        }
    }

    /// Makes the action of what the network gave.
    fn finish(&mut self) {
        match self.run.dims().actions {
            Actions::Continuous => {
                for i in 0..self.action.len() {
                    let [low, high, centre, half] = self.range(i);
                    let action = self.output[i] * half + centre;
                    self.action[i] = match action {
                        _ if action < low => low,
                        _ if action > high => high,
                        _ => action,
                    };
                }
            }
            Actions::Discrete => {
                let drawn = draw(self.seed, self.timestep);
                self.action[0] = choose(&self.output, &self.choice, drawn, self.math) as f32;
            }
        }
    }

    /// Lowest and highest value of action component `i`, the middle between them and half their distance.
    fn range(&self, i: usize) -> [f32; 4] {
        let (low, high) = (self.run.info.action_low[i], self.run.info.action_high[i]);
        [low, high, 0.5 * (high + low), 0.5 * (high - low)]
    }
}

impl Debug for Player<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = &self.history;
        f.debug_struct("Player").field("history", history).finish()
    }
}

impl Controller for Player<'_> {
    type Error = ActError;

    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), ActError> {
        self.seed = seed;
        self.history.steps.clear();
        self.return_to_go = target_return;
        self.timestep = 0;
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], ActError> {
        let Run { recipe, info, .. } = self.run;
        self.history.steps.push_back(Timestep {
            return_to_go: self.told() / recipe.data.return_scale,
            state: info.normalized(observation),
            action: vec![0.0; info.act_dim],
            timestep: self.timestep.into(),
        });
        while self.history.steps.len() > self.history.memory.timesteps() {
            self.history.steps.pop_front();
        }
        (self.forward)(&mut self.history, &mut self.output);
        if !self.output.iter().all(|value| value.is_finite()) {
            return Err(ActError::NonFinite);
        }
        self.finish();
        Ok(&self.action)
    }

    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), ActError> {
        let scaled = self.input(applied);
        if let Some(step) = self.history.steps.back_mut() {
            step.action = scaled;
        }
        match self.run.recipe.control.reward {
            RewardMode::Constant | RewardMode::Predicted => {}
            // As the rollout loop does for a policy whose host keeps count.
            RewardMode::Observed | RewardMode::External => self.return_to_go -= reward,
        }
        self.timestep += 1;
        Ok(())
    }
}

/// [`Policy::check_env`] for networks of a run that have no policy file.
pub(super) fn check_run(run: &Run, spec: &EnvSpec<'_>) -> Result<(), EnvMismatch> {
    let Dims {
        state_dim,
        act_dim,
        actions,
        ..
    } = run.dims();
    check_env(&run.info.env, state_dim, act_dim, actions, spec)
}
