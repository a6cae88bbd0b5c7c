//! Recorded episodes fed to the policy: the same observations and rewards must give the same actions.

use dt_control::Spans;
use dt_core::blob::RewardMode;
use dt_core::policy::{ActError, Policy};
use host_sim::trace::Recorded;

use crate::compare::differing_bits;

/// How replayed episodes compared with their recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Control steps.
    pub steps: u32,
    /// Steps with at least one differing bit.
    pub differing_steps: u32,
    /// Bits of actions that differ from the recording.
    pub differing_bits: u64,
    /// Clock counts of every control step: act and absorb.
    pub busy: Spans,
}

impl Outcome {
    /// Replays one episode; `now` reads the clock.
    ///
    /// The policy is told the recorded actions, so that one differing action does not make all later ones differ.
    ///
    /// # Errors
    /// The policy's, at the first step it refuses.
    pub fn replay<A: AsMut<[u32]>>(
        &mut self,
        policy: &mut Policy<'_, A>,
        episode: &Recorded<'_>,
        mut now: impl FnMut() -> u64,
    ) -> Result<(), ActError> {
        policy.set_seed(episode.seed);
        policy.reset(episode.target_return)?;
        for record in episode.iter() {
            let start = now();
            let action = policy.act(record.observation)?;
            let acted = now();
            let bits = differing_bits(record.action, action);
            let resumed = now();
            policy.absorb(record.action)?;
            match policy.reward_mode() {
                RewardMode::Constant | RewardMode::Predicted => {}
                RewardMode::Observed => policy.observe_reward(record.reward)?,
                // As the host that keeps count of rewards does: host_sim's PolicyController.
                RewardMode::External => {
                    policy.set_return_to_go(policy.return_to_go() - record.reward)?;
                }
            }
            self.busy.add((acted - start) + (now() - resumed));
            self.steps += 1;
            self.differing_steps += u32::from(bits > 0);
            self.differing_bits += bits;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ::tests::episodes::{self, Recording};
    use ::tests::small_config;
    use host_sim::rollout::Plan;

    use super::*;

    const PLAN: Plan = Plan {
        target_return: -100.0,
        episodes: 2,
        seed: 5,
        threads: 1,
    };

    fn replayed(reward: RewardMode, alter: impl FnMut(usize, usize, &mut [f32])) -> Outcome {
        let file = episodes::policy(small_config(), reward, 3);
        let recording = Recording::new(&file, &PLAN).0.altered(alter);
        let blob = file.blob();
        let arena = vec![0; blob.manifest().config.arena_words()];
        let mut policy = Policy::new(&blob, arena).unwrap();
        let mut outcome = Outcome::default();
        let mut now = 0;
        for episode in recording.trace().iter() {
            let clock = || {
                now += 1;
                now
            };
            outcome.replay(&mut policy, &episode, clock).unwrap();
        }
        outcome
    }

    #[test]
    fn the_same_policy_replays_without_a_differing_bit() {
        for reward in [
            RewardMode::Observed,
            RewardMode::Constant,
            RewardMode::External,
        ] {
            let outcome = replayed(reward, |_, _, _| {});
            assert_eq!(
                (outcome.steps, outcome.differing_bits),
                (400, 0),
                "{reward:?}"
            );
            // Two readings of a clock that counts its readings, for act and for absorb.
            assert_eq!((outcome.busy.len, outcome.busy.mean()), (400, 2));
        }
    }

    #[test]
    fn altered_bits_are_counted_one_by_one() {
        // The last step of an episode, so that the policy is not told a wrong action.
        let outcome = replayed(RewardMode::Observed, |_, step, action| {
            if step == 199 {
                action[0] = f32::from_bits(action[0].to_bits() ^ 0b1001);
            }
        });
        assert_eq!((outcome.differing_steps, outcome.differing_bits), (2, 4));
    }
}
