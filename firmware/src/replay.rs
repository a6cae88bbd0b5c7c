//! Recorded episodes fed to the policy: the same observations and rewards must give the same actions.

use dt_core::policy::{ActError, Policy};
use host_sim::trace::Recorded;

use crate::compare::{Spans, differing_bits};

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
        policy.reset(episode.target_return)?;
        for record in episode.iter() {
            let start = now();
            let action = policy.act(record.observation)?;
            let acted = now();
            let bits = differing_bits(record.action, action);
            let resumed = now();
            policy.absorb(record.action, Some(record.reward))?;
            self.busy.add((acted - start) + (now() - resumed));
            self.steps += 1;
            self.differing_steps += u32::from(bits > 0);
            self.differing_bits += bits;
        }
        Ok(())
    }
}
