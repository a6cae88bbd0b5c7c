//! A checked policy file under any sequence of calls.

use dt_core::blob::{Blob, RewardMode};
use dt_core::config::{Actions, Attention, Config};
use dt_core::policy::ActError;
use dt_core::{Guard, Policy, golden};

use crate::script::Script;

/// Control steps per input, unless the policy is so large that they would take long.
const STEPS: u64 = 100;
const MAX_WORK: u64 = 1 << 21;
const MAX_ARENA_WORDS: usize = 1 << 20;

/// Runs 100 control steps, in which `script` chooses what is called when, and with which numbers.
///
/// Two policies live through it. One runs ahead where the script says so (the split step), the other
/// never does (the fused step).
///
/// # Panics
/// If `dt-core` does, if an action is not finite or out of bounds, or if the two policies ever differ in a
/// bit, an error or their books.
pub fn run(blob: &Blob<'_>, mut script: Script<'_>) {
    let config = &blob.manifest().config;
    let words = config.arena_words();
    if words > MAX_ARENA_WORDS {
        return;
    }
    // Whatever was in memory before must not matter.
    let split = Policy::new(blob, vec![0x8080_8080; words]);
    let fused = Policy::new(blob, vec![0; words]);
    let mut pair = Pair {
        blob,
        split: split.expect("memory enough"),
        fused: fused.expect("memory enough"),
        ran_ahead: false,
        next: Next::Reset,
    };
    assert_eq!(
        golden::check(&mut pair.split, blob),
        golden::check(&mut pair.fused, blob)
    );
    let mut steps = STEPS.min(MAX_WORK / work(config));
    for _ in 0..4 * steps {
        let call = match script.below(16) {
            0..10 => pair.next,
            10..12 => Next::RunAhead,
            12 => Next::Act,
            13 => match script.below(3) {
                0 => Next::Absorb,
                1 => Next::AbsorbCommanded,
                _ => Next::Reward,
            },
            14 => Next::SetReturn,
            _ => Next::Reset,
        };
        if call == Next::Act {
            if steps == 0 {
                break;
            }
            steps -= 1;
        }
        pair.call(call, &mut script);
    }
    pair.guarded(&mut script);
}

/// Multiply-accumulates of a control step, about.
fn work(config: &Config) -> u64 {
    if config.is_mlp() {
        return config.step_macs();
    }
    let [d, f, k, layers] = [
        config.d_model,
        config.d_ff,
        config.context_len,
        config.n_layer,
    ]
    .map(u64::from);
    let restarts = match config.attention {
        Attention::Streaming => 1,
        Attention::Window => k,
    };
    let image = config.image().map_or(0, |_| config.step_macs());
    image + restarts * layers * 3 * (4 * d * d + 2 * d * f + 6 * k * d)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Reset,
    Act,
    Absorb,
    AbsorbCommanded,
    Reward,
    RunAhead,
    SetReturn,
}

struct Pair<'b, 'a> {
    blob: &'b Blob<'a>,
    split: Policy<'a, Vec<u32>>,
    fused: Policy<'a, Vec<u32>>,
    /// Whether the split policy has run ahead since the last action.
    ran_ahead: bool,
    /// What a control loop would do.
    next: Next,
}

impl Pair<'_, '_> {
    fn call(&mut self, call: Next, script: &mut Script<'_>) {
        match call {
            Next::Reset => {
                let (target, seed) = (script.number(), u64::from(script.byte()));
                let done = self.both(|policy| {
                    policy.set_seed(seed);
                    policy.reset(target)
                });
                if done.is_ok() {
                    (self.next, self.ran_ahead) = (Next::Act, false);
                }
            }
            Next::Act => {
                let observation = self.observation(script);
                let image = self.image(&observation).filter(|_| script.below(2) == 0);
                if let Ok(action) = self.both(|policy| {
                    let action = match &image {
                        Some(image) => policy.act_image(image),
                        None => policy.act(&observation),
                    }?;
                    Ok(bits(action))
                }) {
                    let logits = self.both(|policy| Ok(policy.logits().map(bits)));
                    let discrete = self.blob.manifest().config.actions == Actions::Discrete;
                    assert_eq!(logits.is_ok_and(|logits| logits.is_some()), discrete);
                    self.check_bounds(&action.into_iter().map(f32::from_bits).collect::<Vec<_>>());
                    (self.next, self.ran_ahead) = (Next::Absorb, false);
                }
            }
            Next::Absorb => {
                let applied = self.applied(script);
                let done = self.both(|policy| policy.absorb(&applied));
                self.absorbed(done);
            }
            Next::AbsorbCommanded => {
                let done = self.both(|policy| policy.absorb_commanded());
                self.absorbed(done);
            }
            Next::Reward => {
                let reward = script.number();
                if self.both(|policy| policy.observe_reward(reward)).is_ok() {
                    // What ran ahead so far was the action alone.
                    (self.next, self.ran_ahead) = (Next::Act, false);
                }
            }
            Next::RunAhead => self.run_ahead(),
            // What has been run ahead cannot be taken back, so there the two would rightly differ.
            Next::SetReturn
                if !self.ran_ahead || self.blob.manifest().reward == RewardMode::External =>
            {
                let return_to_go = script.number();
                let _ = self.both(|policy| policy.set_return_to_go(return_to_go));
            }
            Next::SetReturn => {}
        }
    }

    fn absorbed(&mut self, done: Result<(), ActError>) {
        if done.is_ok() {
            self.next = match self.blob.manifest().reward {
                RewardMode::Observed => Next::Reward,
                RewardMode::Constant | RewardMode::External | RewardMode::Predicted => Next::Act,
            };
        }
    }

    fn run_ahead(&mut self) {
        match self.split.run_ahead() {
            Ok(()) => self.ran_ahead = true,
            Err(ActError::NotReset) => assert_eq!(self.next, Next::Reset),
            Err(error) => {
                assert_eq!(error, ActError::NonFinite);
                // What failed early would have failed late.
                let _ = self.fused.observe_reward(0.0);
                let observation = vec![0.0; self.blob.manifest().config.state_dim as usize];
                assert_eq!(self.fused.act(&observation), Err(ActError::NonFinite));
                self.next = Next::Reset;
            }
        }
    }

    /// The same call of both policies, which must have the same outcome.
    fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        mut call: impl FnMut(&mut Policy<'_, Vec<u32>>) -> Result<T, ActError>,
    ) -> Result<T, ActError> {
        let outcome = call(&mut self.split);
        assert_eq!(outcome, call(&mut self.fused));
        let books =
            |policy: &Policy<'_, Vec<u32>>| (policy.timestep(), policy.return_to_go().to_bits());
        assert_eq!(books(&self.split), books(&self.fused));
        if let Err(error) = &outcome {
            drop(error.to_string());
            if matches!(error, ActError::NonFinite | ActError::NotReset) {
                self.next = Next::Reset;
            }
        }
        outcome
    }

    fn check_bounds(&self, action: &[f32]) {
        let vectors = self.blob.vectors();
        assert_eq!(action.len(), vectors.safe_action.len());
        for (value, (low, high)) in action
            .iter()
            .zip(vectors.action_low.iter().zip(vectors.action_high))
        {
            assert!(
                value.is_finite() && low <= value && value <= high,
                "{value}"
            );
        }
    }

    /// Whatever a guarded policy sees, what goes to the actuators is within bounds.
    fn guarded(&mut self, script: &mut Script<'_>) {
        let mut guard = Guard::new(self.blob);
        for _ in 0..4 {
            let observation = self.observation(script);
            let command = match self.image(&observation) {
                Some(image) => guard.step_image(&mut self.fused, &image),
                None => guard.step(&mut self.fused, &observation),
            };
            let action = command.action.to_vec();
            self.check_bounds(&action);
            let _ = self.fused.absorb(&action);
            let _ = self.fused.observe_reward(script.number());
        }
    }

    /// What was done; of a policy that chooses mostly a choice.
    fn applied(&self, script: &mut Script<'_>) -> Vec<f32> {
        let config = &self.blob.manifest().config;
        match config.actions {
            Actions::Discrete if script.below(8) > 0 => {
                let choices = u8::try_from(config.act_dim).unwrap_or(u8::MAX);
                vec![f32::from(script.below(choices))]
            }
            _ => self.vector(config.action_len() as usize, script),
        }
    }

    /// A vector or pixels, seldom what they should be.
    fn observation(&self, script: &mut Script<'_>) -> Vec<f32> {
        let config = &self.blob.manifest().config;
        let mut observation = self.vector(config.state_dim as usize, script);
        if config.image().is_some() && script.byte() < 250 {
            for pixel in &mut observation {
                *pixel = script.byte().into();
            }
        }
        observation
    }

    /// An observation as an image, where the policy sees images and it is one.
    fn image(&self, observation: &[f32]) -> Option<Vec<u8>> {
        self.blob.manifest().config.image()?;
        let pixel = |&value: &f32| (f32::from(value as u8) == value).then_some(value as u8);
        observation.iter().map(pixel).collect()
    }

    /// A vector, seldom of the wrong length.
    fn vector(&self, len: usize, script: &mut Script<'_>) -> Vec<f32> {
        let len = if script.byte() == 255 { len + 1 } else { len };
        script.numbers(len)
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
