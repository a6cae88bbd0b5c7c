//! What can sit at the controls of a [`rollout`](crate::rollout) on a host.

use dt_core::blob::{Blob, RewardMode};
use dt_core::{ActError, Policy};

use crate::rollout::Controller;

/// A policy cannot aim at NaN or infinity.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("--target-return {0} is not finite; give a return in the environment's units")]
pub struct NonFiniteTarget(pub f32);

/// Checks the target returns of a command line.
///
/// # Errors
/// [`NonFiniteTarget`] names the first that is not finite.
pub fn check_targets(targets: &[f32]) -> Result<(), NonFiniteTarget> {
    match targets.iter().find(|target| !target.is_finite()) {
        Some(&target) => Err(NonFiniteTarget(target)),
        None => Ok(()),
    }
}

/// A policy file's engine in this process: the code, and the bits, of the microcontroller.
#[derive(Debug)]
pub struct PolicyController<'a> {
    policy: Policy<'a, Vec<u32>>,
}

impl<'a> PolicyController<'a> {
    /// Prepares to run `blob`.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "the arena has the size asked for"
    )]
    pub fn new(blob: &Blob<'a>) -> Self {
        let arena = vec![0; blob.manifest().config.arena_words()];
        Self {
            policy: Policy::new(blob, arena).expect("an arena of the right size"),
        }
    }

    /// The policy itself.
    #[must_use]
    pub const fn policy(&self) -> &Policy<'a, Vec<u32>> {
        &self.policy
    }

    /// The policy itself, for a [`Guard`](dt_core::Guard) to step.
    pub const fn policy_mut(&mut self) -> &mut Policy<'a, Vec<u32>> {
        &mut self.policy
    }
}

impl Controller for PolicyController<'_> {
    type Error = ActError;

    /// The episode's seed is also the key of sampled actions, so that a rollout is the same again, here and on a
    /// controller.
    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), ActError> {
        self.policy.set_seed(seed);
        self.policy.reset(target_return)
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], ActError> {
        self.policy.act(observation)
    }

    fn predicted_return(&mut self) -> Option<f32> {
        self.policy.predicted()?.return_to_go
    }

    /// Where the manifest says that a host keeps count of rewards, this is that host.
    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), ActError> {
        self.policy.absorb(applied)?;
        match self.policy.reward_mode() {
            RewardMode::Constant | RewardMode::Predicted => Ok(()),
            RewardMode::Observed => self.policy.observe_reward(reward),
            RewardMode::External => {
                let return_to_go = self.policy.return_to_go() - reward;
                self.policy.set_return_to_go(return_to_go)
            }
        }
    }
}
