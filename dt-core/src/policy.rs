//! The control policy: from raw observations to actions in the environment's units.
//!
//! One control step is [`act`](Policy::act), then [`absorb`](Policy::absorb) of the action that
//! was really applied. That alone is the *fused* step, least work: what was absorbed goes through
//! the network together with the next state. Calling [`run_ahead`](Policy::run_ahead) in between
//! makes it the *split* step, least latency from sensor to action. Both give the same bits.

use crate::arena::Memory;
use crate::blob::{Blob, RewardMode, Vectors};
use crate::config::Config;
use crate::engine::{ArenaTooSmall, Pending, Stepper};
use crate::ops::clamp;
use crate::probe::Probe;
use crate::quant::NonFinite;

/// A Decision Transformer in a control loop.
///
/// `A` holds all mutable memory: `[u32; ARENA_WORDS]`, `&'static mut [u32]`, or on a host `Vec<u32>`.
#[derive(Debug)]
pub struct Policy<'a, A> {
    stepper: Stepper<'a>,
    vectors: Vectors<'a>,
    reward: RewardMode,
    return_scale: f32,
    /// In the environment's units.
    return_to_go: f32,
    timestep: u32,
    phase: Phase,
    pending: Pending,
    arena: A,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first reset, and after an error inside the network.
    NotReset,
    /// The next call is `act`.
    Ready,
    /// The next call is `absorb`.
    Acted,
}

/// Why a control step was refused. Everything but [`NonFinite`](Self::NonFinite) leaves the
/// policy as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    /// A component of the observation is NaN or infinite.
    Observation {
        /// Which one.
        index: usize,
    },
    /// A component of the applied action is NaN or infinite.
    Action {
        /// Which one.
        index: usize,
    },
    /// The target return, return-to-go or reward is NaN or infinite.
    Return,
    /// The policy subtracts measured rewards ([`RewardMode::Observed`]), and none was given.
    MissingReward,
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
                write!(f, "component {index} of the observation is NaN or infinite")
            }
            Self::Action { index } => {
                write!(
                    f,
                    "component {index} of the applied action is NaN or infinite"
                )
            }
            Self::Return => {
                f.write_str("the target return, return-to-go or reward is NaN or infinite")
            }
            Self::MissingReward => f.write_str(
                "this policy's manifest says reward = Observed, but no reward was given",
            ),
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
        let stepper = Stepper::new(&blob.model, arena.as_mut())?;
        Ok(Self {
            stepper,
            vectors: blob.vectors,
            reward: blob.manifest.reward,
            return_scale: blob.manifest.return_scale,
            return_to_go: 0.0,
            timestep: 0,
            phase: Phase::NotReset,
            pending: Pending::default(),
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
        self.phase = Phase::Ready;
        self.stage_return();
        Ok(())
    }

    /// The action (act_dim) for an observation (state_dim), both in the environment's units;
    /// always finite and within the action bounds.
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
        match self.phase {
            Phase::NotReset => return Err(ActError::NotReset),
            Phase::Acted => return Err(ActError::AwaitingAbsorb),
            Phase::Ready => {}
        }
        let vectors = &self.vectors;
        check_len("observation", vectors.state_mean, observation)?;
        if let Some(index) = first_non_finite(observation) {
            return Err(ActError::Observation { index });
        }
        let mut memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        let statistics = vectors.state_mean.iter().zip(vectors.state_std);
        for ((state, o), (mean, std)) in memory.state.iter_mut().zip(observation).zip(statistics) {
            *state = (o - mean) / std;
        }
        // Until the network has run through, a failure leaves the cache half-written.
        self.phase = Phase::NotReset;
        let pending = core::mem::take(&mut self.pending);
        self.stepper
            .step(&mut memory, pending, self.timestep, probe)?;
        let bounds = vectors.action_low.iter().zip(vectors.action_high);
        for (action, (&low, &high)) in memory.work.output.iter_mut().zip(bounds) {
            *action = clamp(*action * half(low, high) + centre(low, high), low, high);
        }
        if first_non_finite(memory.work.output).is_some() {
            return Err(ActError::NonFinite);
        }
        self.phase = Phase::Acted;
        Ok(memory.work.output)
    }

    /// Tells the policy which action (act_dim) was applied after [`act`](Self::act), and the
    /// reward that followed where the policy counts rewards. Cheap; runs no network.
    ///
    /// # Errors
    /// [`ActError`]; nothing is absorbed then.
    pub fn absorb(&mut self, applied: &[f32], reward: Option<f32>) -> Result<(), ActError> {
        match self.phase {
            Phase::NotReset => return Err(ActError::NotReset),
            Phase::Ready => return Err(ActError::NothingToAbsorb),
            Phase::Acted => {}
        }
        let vectors = &self.vectors;
        check_len("action", vectors.action_low, applied)?;
        if let Some(index) = first_non_finite(applied) {
            return Err(ActError::Action { index });
        }
        let return_to_go = match self.reward {
            RewardMode::Observed => {
                let rest = self.return_to_go - reward.ok_or(ActError::MissingReward)?;
                self.scaled(rest)?;
                rest
            }
            RewardMode::Constant | RewardMode::External => self.return_to_go,
        };
        let memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        let bounds = vectors.action_low.iter().zip(vectors.action_high);
        for ((scaled, &action), (&low, &high)) in memory.action.iter_mut().zip(applied).zip(bounds)
        {
            let half = half(low, high);
            *scaled = if half > 0.0 {
                (action - centre(low, high)) / half
            } else {
                0.0
            };
        }
        self.return_to_go = return_to_go;
        self.timestep = self.timestep.saturating_add(1);
        self.pending.action = true;
        self.phase = Phase::Ready;
        self.stage_return();
        Ok(())
    }

    /// Optional, between [`absorb`](Self::absorb) and the next [`act`](Self::act): runs what is
    /// already known through the network, to shorten the next `act`. With
    /// [`RewardMode::External`] that is the action alone, else the return-to-go as well.
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
        if self.phase == Phase::NotReset {
            return Err(ActError::NotReset);
        }
        let mut known = self.pending;
        if self.reward == RewardMode::External {
            known.return_to_go = None;
        }
        if !known.action && known.return_to_go.is_none() {
            return Ok(());
        }
        let phase = core::mem::replace(&mut self.phase, Phase::NotReset);
        let mut memory = Memory::carve(&self.stepper.layout, self.arena.as_mut());
        let before = known;
        self.stepper
            .run_ahead(&mut memory, &mut known, self.timestep, probe)?;
        if before.action && !known.action {
            self.pending.action = false;
        }
        if before.return_to_go.is_some() && known.return_to_go.is_none() {
            self.pending.return_to_go = None;
        }
        self.phase = phase;
        Ok(())
    }

    /// Replaces the return-to-go, in the environment's units, that the next [`act`](Self::act)
    /// will be conditioned on. Meant for [`RewardMode::External`]; in the other modes it works
    /// until `run_ahead` has used the old one.
    ///
    /// # Errors
    /// [`ActError::Return`] if it is not finite, [`ActError::NotReset`].
    pub fn set_return_to_go(&mut self, return_to_go: f32) -> Result<(), ActError> {
        if self.phase == Phase::NotReset {
            return Err(ActError::NotReset);
        }
        self.scaled(return_to_go)?;
        self.return_to_go = return_to_go;
        if self.pending.return_to_go.is_some() {
            self.stage_return();
        }
        Ok(())
    }

    /// Return still wanted, in the environment's units.
    pub fn return_to_go(&self) -> f32 {
        self.return_to_go
    }

    /// Control steps absorbed since the last reset.
    pub fn timestep(&self) -> u32 {
        self.timestep
    }

    /// The network's dimensions and choices.
    pub fn config(&self) -> &Config {
        self.stepper.config()
    }

    fn scaled(&self, return_to_go: f32) -> Result<f32, ActError> {
        let scaled = return_to_go / self.return_scale;
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

fn check_len(field: &'static str, expected: &[f32], got: &[f32]) -> Result<(), ActError> {
    if expected.len() == got.len() {
        Ok(())
    } else {
        Err(ActError::WrongLength {
            field,
            expected: expected.len(),
            got: got.len(),
        })
    }
}

fn first_non_finite(values: &[f32]) -> Option<usize> {
    values.iter().position(|value| !value.is_finite())
}

#[cfg(test)]
mod tests;
