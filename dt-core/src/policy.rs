//! The control policy: from raw observations to actions in the environment's units.
//!
//! One control step is [`act`](Policy::act), [`absorb`](Policy::absorb) of the action that was
//! really applied and, where rewards are measured ([`RewardMode::Observed`]),
//! [`observe_reward`](Policy::observe_reward) of the reward that followed. That alone is the *fused*
//! step, least work: what was absorbed goes through the network together with the next state. Calling
//! [`run_ahead`](Policy::run_ahead) in between makes it the *split* step, least latency from sensor to
//! action: after `absorb` the action alone is known, after `observe_reward` the return-to-go as well.
//! However it is split, the bits are the same.
//!
//! An action is a vector (act_dim), or, where the policy chooses ([`Actions::Discrete`]), one number: the index of the
//! choice, from 0, in a slice of length 1.

use crate::arena::Memory;
use crate::blob::{BeyondLimits, Blob, Choice, ReturnLimits, RewardMode, Vectors};
use crate::chacha::draw;
use crate::choice::choose;
use crate::config::{Actions, Config};
use crate::encoder::Image;
use crate::engine::{ArenaTooSmall, Pending, Stepper};
use crate::ops::clamp;
use crate::probe::Probe;
use crate::quant::NonFinite;
use crate::slices::Guaranteed;

/// A Decision Transformer in a control loop.
///
/// `A` holds all mutable memory: `[u32; ARENA_WORDS]`, `&'static mut [u32]`, or on a host `Vec<u32>`.
#[derive(Debug)]
pub struct Policy<'a, A> {
    stepper: Stepper<'a>,
    vectors: Vectors<'a>,
    reward: RewardMode,
    return_scale: f32,
    return_limits: Option<ReturnLimits>,
    /// In the environment's units.
    return_to_go: f32,
    timestep: u32,
    choice: Choice,
    /// Of the random numbers that [`Choice::Sampled`] draws.
    seed: u64,
    /// The index chosen last, where actions are discrete.
    chosen: [f32; 1],
    due: Due,
    pending: Pending,
    /// Whether the action absorbed last has run through the network, so that what it predicts is in
    /// [`Work::predicted`](crate::arena::Work::predicted).
    predicted: bool,
    arena: A,
}

/// What a network predicted to come after an action ([`Predictions`](crate::config::Predictions)), in the environment's units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted<'p> {
    /// The next observation (state_dim); empty if the network does not predict it.
    pub observation: &'p [f32],
    /// The return-to-go at that time, which the network thinks is left: a critic's opinion.
    pub return_to_go: Option<f32>,
}

/// The call that has to come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Before the first reset, and after an error inside the network.
    Reset,
    Act,
    Absorb,
    /// `observe_reward`.
    Reward,
}

/// Why a control step was refused. Everything but [`NonFinite`](Self::NonFinite) leaves the
/// policy as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ActError {
    /// There has been no [`Policy::reset`] yet, or none since an error inside the network.
    NotReset,
    /// [`Policy::act`] was called twice without [`Policy::absorb`].
    AwaitingAbsorb,
    /// [`Policy::absorb`] was called without an action to absorb.
    NothingToAbsorb,
    /// A slice has the wrong length.
    WrongLength {
        /// Which one.
        field: &'static str,
        /// Length the policy calls for.
        expected: usize,
        /// Length given.
        got: usize,
    },
    /// A component of the observation is NaN or infinite, or no pixel.
    Observation {
        /// Which one.
        index: usize,
    },
    /// A component of the applied action is NaN or infinite, or the index of no choice.
    Action {
        /// Which one.
        index: usize,
    },
    /// The target return, return-to-go or reward is NaN or infinite.
    Return,
    /// The policy subtracts measured rewards ([`RewardMode::Observed`]), and [`Policy::act`] was called
    /// before [`Policy::observe_reward`].
    MissingReward,
    /// [`Policy::observe_reward`] was called before [`Policy::absorb`], twice after it, or of a policy
    /// that does not subtract measured rewards.
    UnexpectedReward,
    /// [`Policy::act_image`] was called of a policy whose observations are vectors.
    SeesVectors,
    /// A value inside the network is NaN or infinite.
    NonFinite,
}

impl core::fmt::Display for ActError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotReset => f.write_str("the policy has not been reset"),
            Self::AwaitingAbsorb => f.write_str("absorb the last action before the next act"),
            Self::NothingToAbsorb => f.write_str("there is no action to absorb; act first"),
            Self::WrongLength {
                field,
                expected,
                got,
            } => write!(f, "{field} has {got} components instead of {expected}"),
            Self::Observation { index } => {
                write!(
                    f,
                    "component {index} of the observation is NaN or infinite, or of an image no whole number from 0 to 255"
                )
            }
            Self::Action { index } => {
                write!(
                    f,
                    "component {index} of the applied action is NaN, infinite or the index of no choice"
                )
            }
            Self::Return => {
                f.write_str("the target return, return-to-go or reward is NaN or infinite")
            }
            Self::MissingReward => f.write_str(
                "this policy's manifest says reward = Observed: observe the last reward before the next act",
            ),
            Self::UnexpectedReward => f.write_str(
                "no reward is due: it is observed once after each absorb, if the policy's manifest says reward = Observed",
            ),
            Self::SeesVectors => {
                f.write_str("this policy's observations are vectors: act instead of act_image")
            }
            Self::NonFinite => NonFinite.fmt(f),
        }
    }
}

impl core::error::Error for ActError {}

impl From<NonFinite> for ActError {
    fn from(_: NonFinite) -> Self {
        Self::NonFinite
    }
}

impl<'a, A: AsMut<[u32]>> Policy<'a, A> {
    /// Prepares to run `blob` with all state in `arena`.
    ///
    /// # Errors
    /// [`ArenaTooSmall`] names both sizes.
    pub fn new(blob: &Blob<'a>, mut arena: A) -> Result<Self, ArenaTooSmall> {
        let stepper = Stepper::new(blob.model(), arena.as_mut())?;
        Ok(Self {
            stepper,
            vectors: *blob.vectors(),
            reward: blob.manifest().reward,
            return_scale: blob.manifest().return_scale,
            return_limits: blob.manifest().return_limits,
            return_to_go: 0.0,
            timestep: 0,
            choice: blob.manifest().choice,
            seed: match blob.manifest().choice {
                Choice::Sampled(sampling) => sampling.seed,
                Choice::Greedy => 0,
            },
            chosen: [0.0],
            due: Due::Reset,
            pending: Pending::default(),
            predicted: false,
            arena,
        })
    }

    /// Begins an episode in which `target_return` (in the environment's units) is wanted.
    ///
    /// # Errors
    /// [`ActError::Return`] if it is not finite; the policy is then as it was.
    pub fn reset(&mut self, target_return: f32) -> Result<(), ActError> {
        self.scaled(target_return)?;
        self.stepper.reset();
        self.return_to_go = target_return;
        self.timestep = 0;
        self.pending = Pending::default();
        self.predicted = false;
        self.begin_timestep();
        Ok(())
    }

    /// Goes on at `timestep` of an episode of whose past nothing is known, wanting `return_to_go` (in the environment's
    /// units): for replaying the end of one. From the [receptive field](Config::receptive_field) on, counted from here,
    /// actions are to the bit those of the whole episode; those before are not.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub fn reset_at(&mut self, return_to_go: f32, timestep: u32) -> Result<(), ActError> {
        self.reset(return_to_go)?;
        self.timestep = timestep;
        Ok(())
    }

    /// The action (act_dim, or the index of a choice) for an observation (state_dim), both in the environment's units;
    /// always finite and within the action bounds. Where the policy sees images, pixels are whole numbers from 0 to 255: for
    /// hosts, to which observations are floats; controllers have [`act_image`](Self::act_image).
    ///
    /// # Errors
    /// [`ActError`]; after [`ActError::NonFinite`] the policy needs a reset.
    pub fn act(&mut self, observation: &[f32]) -> Result<&[f32], ActError> {
        self.act_probed(observation, &mut ())
    }

    /// [`act`](Self::act), telling `probe` what the time goes to.
    ///
    /// # Errors
    /// As `act`.
    pub fn act_probed(
        &mut self,
        observation: &[f32],
        probe: &mut impl Probe,
    ) -> Result<&[f32], ActError> {
        if self.config().image().is_some() {
            let is_pixel = |&value: &f32| f32::from(value as u8) == value;
            let no_pixel = observation.iter().position(|value| !is_pixel(value));
            self.see(observation, probe, no_pixel)?;
            return self.decide(probe);
        }
        self.expect_act()?;
        let vectors = &self.vectors;
        check_len("observation", vectors.state_mean.len(), observation.len())?;
        if let Some(index) = first_non_finite(observation) {
            return Err(ActError::Observation { index });
        }
        let memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        let statistics = vectors.state_mean.iter().zip(vectors.state_std);
        for ((state, o), (mean, std)) in memory.state.iter_mut().zip(observation).zip(statistics) {
            *state = (o - mean) / std;
        }
        self.decide(probe)
    }

    /// [`act`](Self::act) for an image (height · width · channels bytes, the channels of a pixel side by side), where the policy
    /// sees images. It is read where it lies.
    ///
    /// # Errors
    /// As `act`, and [`ActError::SeesVectors`].
    pub fn act_image(&mut self, image: &[u8]) -> Result<&[f32], ActError> {
        self.act_image_probed(image, &mut ())
    }

    /// [`act_image`](Self::act_image), telling `probe` what the time goes to.
    ///
    /// # Errors
    /// As `act_image`.
    pub fn act_image_probed(
        &mut self,
        image: &[u8],
        probe: &mut impl Probe,
    ) -> Result<&[f32], ActError> {
        self.see(image, probe, None)?;
        self.decide(probe)
    }

    /// Encodes an image, unless there is something wrong with it: the index of what is no pixel.
    fn see<P: Image>(
        &mut self,
        image: &[P],
        probe: &mut impl Probe,
        no_pixel: Option<usize>,
    ) -> Result<(), ActError> {
        self.expect_act()?;
        let config = self.config();
        if config.image().is_none() {
            return Err(ActError::SeesVectors);
        }
        check_len("observation", config.state_dim as usize, image.len())?;
        if let Some(index) = no_pixel {
            return Err(ActError::Observation { index });
        }
        self.due = Due::Reset;
        let mut memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        self.stepper.encode(&mut memory, image, probe)?;
        Ok(())
    }

    fn expect_act(&self) -> Result<(), ActError> {
        match self.due {
            Due::Act => Ok(()),
            Due::Reset => Err(ActError::NotReset),
            Due::Absorb => Err(ActError::AwaitingAbsorb),
            Due::Reward => Err(ActError::MissingReward),
        }
    }

    /// Runs the network on the state in [`Memory::state`].
    fn decide(&mut self, probe: &mut impl Probe) -> Result<&[f32], ActError> {
        let vectors = &self.vectors;
        let mut memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        // Until the network has run through, a failure leaves the cache half-written.
        self.due = Due::Reset;
        let mut pending = core::mem::take(&mut self.pending);
        if self.stepper.config().is_state_first() {
            let (stepper, timestep) = (&mut self.stepper, self.timestep);
            stepper.foresee(&mut memory, &mut pending, timestep, probe)?;
            let (config, predicted) = (stepper.config(), &mut *memory.work.predicted);
            unscale(vectors, self.return_scale, config, predicted)?;
            self.predicted = true;
            if self.reward == RewardMode::Predicted {
                let possible = predicted.first().copied().guaranteed();
                let told = within(self.return_limits.as_ref(), possible) / self.return_scale;
                if !told.is_finite() {
                    return Err(ActError::NonFinite);
                }
                pending.return_to_go = Some(told);
            }
        }
        self.stepper
            .step(&mut memory, pending, self.timestep, probe)?;
        let config = self.stepper.config();
        if pending.action && config.predicts() {
            unscale(vectors, self.return_scale, config, memory.work.predicted)?;
            self.predicted = true;
        }
        if config.actions == Actions::Discrete {
            let draw = match self.choice {
                Choice::Sampled(_) => draw(self.seed, self.timestep),
                Choice::Greedy => 0,
            };
            let index = choose(memory.work.output, &self.choice, draw, config.math);
            self.chosen = [index as f32];
            self.due = Due::Absorb;
            return Ok(&self.chosen);
        }
        let bounds = vectors.action_low.iter().zip(vectors.action_high);
        for (action, (&low, &high)) in memory.work.output.iter_mut().zip(bounds) {
            *action = clamp(*action * half(low, high) + centre(low, high), low, high);
        }
        if first_non_finite(memory.work.output).is_some() {
            return Err(ActError::NonFinite);
        }
        self.due = Due::Absorb;
        Ok(memory.work.output)
    }

    /// Between [`act`](Self::act) and [`absorb`](Self::absorb) of a policy that chooses: what it chose by (act_dim).
    pub fn logits(&mut self) -> Option<&[f32]> {
        // Nothing has run since `act`, so its output is still there.
        (self.due == Due::Absorb && self.config().actions == Actions::Discrete).then(|| {
            &*Memory::carve(&self.stepper.layout, self.arena.as_mut())
                .work
                .output
        })
    }

    /// What the network predicts to come after the action absorbed last, once that action has run through it: with streaming
    /// attention from [`run_ahead`](Self::run_ahead) on, else from the next [`act`](Self::act) on, until the next action is absorbed. `None`
    /// otherwise, and if the network predicts nothing but actions ([`Config::predicts`]).
    ///
    /// Where a control step's state comes first ([`Order::StateFirst`](crate::config::Order::StateFirst)): the return-to-go it
    /// thinks possible from the state of the last `act`, before limits, until the action is absorbed.
    pub fn predicted(&mut self) -> Option<Predicted<'_>> {
        let len = self.config().predicted_state_len() as usize;
        self.predicted.then(|| {
            let work = Memory::carve(&self.stepper.layout, self.arena.as_mut()).work;
            let (observation, critic) = work.predicted.split_at_checked(len).guaranteed();
            Predicted {
                observation,
                return_to_go: critic.first().copied(),
            }
        })
    }

    /// Tells the policy which action (act_dim, in the environment's units, or the index of a choice) was applied
    /// after [`act`](Self::act). Cheap; runs no network.
    ///
    /// # Errors
    /// [`ActError`]; nothing is absorbed then.
    pub fn absorb(&mut self, applied: &[f32]) -> Result<(), ActError> {
        self.expect_absorb()?;
        check_len("action", self.vectors.action_low.len(), applied.len())?;
        if let Some(index) = first_non_finite(applied) {
            return Err(ActError::Action { index });
        }
        let memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        match self.stepper.config().actions {
            Actions::Continuous => scale_action(&self.vectors, applied, memory.action),
            Actions::Discrete => one_hot(applied, memory.action)?,
        }
        self.absorbed();
        Ok(())
    }

    /// [`absorb`](Self::absorb) where the actuators did exactly what [`act`](Self::act) returned.
    ///
    /// # Errors
    /// [`ActError::NotReset`] and [`ActError::NothingToAbsorb`].
    pub fn absorb_commanded(&mut self) -> Result<(), ActError> {
        self.expect_absorb()?;
        // Nothing has run since `act`, so its output is still there.
        let memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        match self.stepper.config().actions {
            Actions::Continuous => {
                scale_action(&self.vectors, memory.work.output, memory.action);
            }
            Actions::Discrete => one_hot(&self.chosen, memory.action)?,
        }
        self.absorbed();
        Ok(())
    }

    /// With [`RewardMode::Observed`], once between [`absorb`](Self::absorb) and the next
    /// [`act`](Self::act): subtracts the reward of the absorbed action, in the environment's units, from
    /// the return-to-go. Cheap; runs no network.
    ///
    /// # Errors
    /// [`ActError::Return`] if the reward or what remains is not finite, [`ActError::UnexpectedReward`],
    /// [`ActError::NotReset`]; nothing is subtracted then.
    pub fn observe_reward(&mut self, reward: f32) -> Result<(), ActError> {
        match self.due {
            Due::Reward => {}
            Due::Reset => return Err(ActError::NotReset),
            Due::Act | Due::Absorb => return Err(ActError::UnexpectedReward),
        }
        let rest = self.return_to_go - reward;
        self.scaled(rest)?;
        self.return_to_go = rest;
        self.begin_timestep();
        Ok(())
    }

    /// Optional, at any time after a reset: runs what is known and has not been run yet through the
    /// network, to shorten the next [`act`](Self::act). After [`absorb`](Self::absorb) that is the
    /// action; with [`RewardMode::Observed`] after [`observe_reward`](Self::observe_reward), and with
    /// [`RewardMode::Constant`] at once, the return-to-go as well.
    ///
    /// # Errors
    /// [`ActError::NotReset`], or [`ActError::NonFinite`], after which the policy needs a reset.
    pub fn run_ahead(&mut self) -> Result<(), ActError> {
        self.run_ahead_probed(&mut ())
    }

    /// [`run_ahead`](Self::run_ahead), telling `probe` what the time goes to.
    ///
    /// # Errors
    /// As `run_ahead`.
    pub fn run_ahead_probed(&mut self, probe: &mut impl Probe) -> Result<(), ActError> {
        if self.due == Due::Reset {
            return Err(ActError::NotReset);
        }
        let mut known = self.pending;
        if self.reward == RewardMode::External {
            known.return_to_go = None;
        }
        if !known.action && known.return_to_go.is_none() {
            return Ok(());
        }
        let due = core::mem::replace(&mut self.due, Due::Reset);
        let mut memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        let before = known;
        self.stepper
            .run_ahead(&mut memory, &mut known, self.timestep, probe)?;
        if before.action && !known.action {
            self.pending.action = false;
            let config = self.stepper.config();
            if config.predicts() && !config.is_state_first() {
                let predicted = memory.work.predicted;
                unscale(&self.vectors, self.return_scale, config, predicted)?;
                self.predicted = true;
            }
        }
        if before.return_to_go.is_some() && known.return_to_go.is_none() {
            self.pending.return_to_go = None;
        }
        self.due = due;
        Ok(())
    }

    /// Replaces the return-to-go, in the environment's units, that the next [`act`](Self::act)
    /// will be conditioned on. Meant for [`RewardMode::External`]; in the other modes it works
    /// until `run_ahead` has used the old one, and a reward observed later is subtracted from it.
    ///
    /// # Errors
    /// [`ActError::Return`] if it is not finite, [`ActError::NotReset`].
    pub fn set_return_to_go(&mut self, return_to_go: f32) -> Result<(), ActError> {
        if self.due == Due::Reset {
            return Err(ActError::NotReset);
        }
        self.scaled(return_to_go)?;
        self.return_to_go = return_to_go;
        if self.pending.return_to_go.is_some() {
            self.stage_return();
        }
        Ok(())
    }

    /// Gives the random numbers of sampled actions another key than the policy file's, from the next
    /// [`act`](Self::act) on. The number of a control step follows from the key and [`timestep`](Self::timestep) alone:
    /// episodes with the same key and the same observations have the same actions, those with another key
    /// independent draws.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Key of the random numbers of sampled actions.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Return still wanted, in the environment's units; with [`RewardMode::Predicted`] the target, which nothing depends on. Where the manifest clamps the return-to-go to
    /// limits, the network is told the nearest of them, while this goes on with the true value.
    pub fn return_to_go(&self) -> f32 {
        self.return_to_go
    }

    /// Control steps absorbed since the last reset.
    pub fn timestep(&self) -> u32 {
        self.timestep
    }

    /// Whether [`observe_reward`](Self::observe_reward) has to come before the next [`act`](Self::act).
    pub fn awaits_reward(&self) -> bool {
        self.due == Due::Reward
    }

    /// Where the return-to-go comes from after each step.
    pub fn reward_mode(&self) -> RewardMode {
        self.reward
    }

    /// The network's dimensions and choices.
    pub fn config(&self) -> &Config {
        self.stepper.config()
    }

    /// Ends the policy and gives its memory back, for another one.
    pub fn into_arena(self) -> A {
        self.arena
    }

    fn expect_absorb(&self) -> Result<(), ActError> {
        match self.due {
            Due::Absorb => Ok(()),
            Due::Reset => Err(ActError::NotReset),
            Due::Act | Due::Reward => Err(ActError::NothingToAbsorb),
        }
    }

    /// The books after an action is in [`Memory::action`].
    fn absorbed(&mut self) {
        self.timestep = self.timestep.saturating_add(1);
        self.pending.action = true;
        self.predicted = false;
        match self.reward {
            RewardMode::Observed => self.due = Due::Reward,
            RewardMode::Constant | RewardMode::External | RewardMode::Predicted => {
                self.begin_timestep();
            }
        }
    }

    fn begin_timestep(&mut self) {
        self.due = Due::Act;
        self.stage_return();
    }

    /// What the network is told of a return-to-go.
    fn scaled(&self, return_to_go: f32) -> Result<f32, ActError> {
        let clamping = |limits: &&ReturnLimits| limits.beyond == BeyondLimits::Clamp;
        let told = within(self.return_limits.as_ref().filter(clamping), return_to_go);
        let scaled = told / self.return_scale;
        if return_to_go.is_finite() && scaled.is_finite() {
            Ok(scaled)
        } else {
            Err(ActError::Return)
        }
    }

    fn stage_return(&mut self) {
        self.pending.return_to_go = self.scaled(self.return_to_go).ok();
    }
}

/// The return-to-go nearest to this one that lies within limits.
fn within(limits: Option<&ReturnLimits>, return_to_go: f32) -> f32 {
    match limits {
        Some(&ReturnLimits { low, high, .. }) => clamp(return_to_go, low, high),
        None => return_to_go,
    }
}

/// Half the width of an action's range: actions are ±1 in the network's units.
///
/// Shared with training, which scales recorded actions by it.
#[inline]
pub fn half(low: f32, high: f32) -> f32 {
    0.5 * (high - low)
}

/// Centre of an action's range.
#[inline]
pub fn centre(low: f32, high: f32) -> f32 {
    0.5 * (high + low)
}

/// Writes an action (act_dim) in the environment's units in those of the network. Where an action has no
/// range, it is the network's 0.
fn scale_action(vectors: &Vectors<'_>, action: &[f32], scaled: &mut [f32]) {
    let bounds = vectors.action_low.iter().zip(vectors.action_high);
    for ((scaled, &action), (&low, &high)) in scaled.iter_mut().zip(action).zip(bounds) {
        let half = half(low, high);
        *scaled = if half > 0.0 {
            (action - centre(low, high)) / half
        } else {
            0.0
        };
    }
}

/// Turns what the network predicted into the environment's units, in place.
fn unscale(
    vectors: &Vectors<'_>,
    return_scale: f32,
    config: &Config,
    predicted: &mut [f32],
) -> Result<(), NonFinite> {
    let len = config.predicted_state_len() as usize;
    let (state, return_to_go) = predicted.split_at_mut_checked(len).guaranteed();
    let statistics = vectors.state_mean.iter().zip(vectors.state_std);
    for (value, (mean, std)) in state.iter_mut().zip(statistics) {
        *value = *value * std + mean;
    }
    for value in return_to_go {
        *value *= return_scale;
    }
    match first_non_finite(predicted) {
        None => Ok(()),
        Some(_) => Err(NonFinite),
    }
}

/// Writes the index of a choice as the network reads it: 1 there, and 0 elsewhere.
#[inline(never)]
fn one_hot(index: &[f32], choices: &mut [f32]) -> Result<(), ActError> {
    let index = index.first().copied().guaranteed();
    let whole = index as usize;
    if whole as f32 != index || whole >= choices.len() {
        return Err(ActError::Action { index: 0 });
    }
    for (choice, place) in choices.iter_mut().zip(0..usize::MAX) {
        *choice = if place == whole { 1.0 } else { 0.0 };
    }
    Ok(())
}

fn check_len(field: &'static str, expected: usize, got: usize) -> Result<(), ActError> {
    if expected == got {
        Ok(())
    } else {
        Err(ActError::WrongLength {
            field,
            expected,
            got,
        })
    }
}

fn first_non_finite(values: &[f32]) -> Option<usize> {
    values.iter().position(|value| !value.is_finite())
}

#[cfg(test)]
mod tests;
