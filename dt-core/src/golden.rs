//! The self-test: golden vectors that travel in the policy file and must come out to the bit.
//!
//! A record is `[return_to_go, observation, applied action, expected action]` (images lie beside the records, fewer than there are
//! records: each is shown again after the last), all in the
//! environment's units, and where the policy chooses the logits expected (act_dim): an index alone would tell little. Where it
//! predicts states or returns, what it is expected to have predicted at this step for the action before follows, zeros at first.
//! The records of a file are consecutive control steps of one episode, whose random numbers have the key in the file.

use core::hint::black_box;

use crate::blob::{Blob, Choice, RewardMode};
use crate::policy::{ActError, Policy};
use crate::slices::{Guaranteed, part, plus, rows};
#[cfg(any(test, feature = "emit"))]
use crate::slices::{copy, rows_mut};

/// Why a policy failed its self-test. It must not move anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SelfTestError {
    /// The floating-point unit, or the compiler's arithmetic in its place, is not the one that the numerics contract
    /// (`BLOB.md`) asks for.
    Arithmetic(Deviation),
    /// The file holds no golden records.
    Empty,
    /// A control step failed.
    Act {
        /// Which record.
        step: usize,
        /// Why.
        error: ActError,
    },
    /// A logit differs.
    Logit {
        /// Which record.
        step: usize,
        /// Which logit.
        index: usize,
        /// Bits of the recorded value.
        expected: u32,
        /// Bits of the computed value.
        got: u32,
    },
    /// A predicted state or return differs.
    Prediction {
        /// Which record.
        step: usize,
        /// Which value: components of the state, then the return-to-go.
        index: usize,
        /// Bits of the recorded value.
        expected: u32,
        /// Bits of the computed value.
        got: u32,
    },
    /// An action differs.
    Mismatch {
        /// Which record.
        step: usize,
        /// Which component of the action.
        index: usize,
        /// Bits of the recorded value.
        expected: u32,
        /// Bits of the computed value.
        got: u32,
    },
}

impl core::fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Arithmetic(deviation) => write!(f, "floating-point arithmetic {deviation}"),
            Self::Empty => f.write_str("the policy holds no golden vectors"),
            Self::Act { step, error } => write!(f, "golden step {step}: {error}"),
            Self::Logit {
                step,
                index,
                expected,
                got,
            } => write!(
                f,
                "golden step {step}, logit {index}: bits {got:08x} instead of {expected:08x}"
            ),
            Self::Prediction {
                step,
                index,
                expected,
                got,
            } => write!(
                f,
                "golden step {step}, prediction {index}: bits {got:08x} instead of {expected:08x}"
            ),
            Self::Mismatch {
                step,
                index,
                expected,
                got,
            } => write!(
                f,
                "golden step {step}, action {index}: bits {got:08x} instead of {expected:08x}"
            ),
        }
    }
}

impl core::error::Error for SelfTestError {}

/// In what way arithmetic is not IEEE 754's in its default mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Deviation {
    /// Subnormal results become zero.
    FlushesResults,
    /// Subnormal inputs count as zero.
    FlushesInputs,
    /// Results are not rounded to nearest, ties to even.
    Rounding,
    /// A product and a sum are rounded once instead of twice.
    Contraction,
}

impl core::fmt::Display for Deviation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::FlushesResults => "flushes subnormal results to zero",
            Self::FlushesInputs => "takes subnormal inputs for zero",
            Self::Rounding => "does not round to nearest, ties to even",
            Self::Contraction => "fuses products and sums",
        })
    }
}

/// Probes the modes that golden vectors may miss, because no value of theirs happens to be subnormal or a tie.
///
/// # Errors
/// The first [`Deviation`] found.
pub fn check_arithmetic() -> Result<(), Deviation> {
    /// 2⁻²⁴ and 2⁻²³: half the distance from 1 to the next number, and all of it.
    const HALF: f32 = 5.960_464_5e-8;
    const ULP: f32 = f32::EPSILON;
    let [tiny, two] = black_box([f32::from_bits(1), 2.0]);
    if (f32::MIN_POSITIVE / two).to_bits() != 0x0040_0000 {
        return Err(Deviation::FlushesResults);
    }
    if tiny * black_box(16_777_216.0) != 2.0 * f32::MIN_POSITIVE {
        return Err(Deviation::FlushesInputs);
    }
    let [one, odd, half] = black_box([1.0, 1.0 + ULP, HALF]);
    // A tie below an even number, one above an odd one, and both signs: every other mode fails one of them.
    let ties = [one + half, odd + half, -one - half, -odd - half];
    if ties != [1.0, 1.0 + 2.0 * ULP, -1.0, -(1.0 + 2.0 * ULP)] {
        return Err(Deviation::Rounding);
    }
    // The square of 1 + 2⁻¹² ends in 2⁻²⁴, a tie that is rounded away.
    let [factor, rounded] = black_box([1.0 + 2048.0 * ULP, 1.0 + 4096.0 * ULP]);
    if factor * factor - rounded != 0.0 {
        return Err(Deviation::Contraction);
    }
    Ok(())
}

/// Probes the arithmetic, runs the golden vectors of `blob` through `policy`, which must have been made from it, and
/// returns the number of control steps compared. The policy is in the middle of an episode
/// afterwards: reset it.
///
/// # Errors
/// [`SelfTestError`] names the first step that differs.
pub fn check<A: AsMut<[u32]>>(
    policy: &mut Policy<'_, A>,
    blob: &Blob<'_>,
) -> Result<usize, SelfTestError> {
    check_arithmetic().map_err(SelfTestError::Arithmetic)?;
    let seed = policy.seed();
    if let Choice::Sampled(sampling) = blob.manifest().choice {
        policy.set_seed(sampling.seed);
    }
    let compared = compare(policy, blob);
    policy.set_seed(seed);
    match compared {
        Ok(0) => Err(SelfTestError::Empty),
        compared => compared,
    }
}

fn compare<A: AsMut<[u32]>>(
    policy: &mut Policy<'_, A>,
    blob: &Blob<'_>,
) -> Result<usize, SelfTestError> {
    let shape = Shape::of(blob);
    let mut steps = 0;
    for (step, record) in (0..usize::MAX).zip(rows(blob.golden(), shape.len)) {
        let (inputs, expected, logits, predictions) = shape.split(step, record);
        let failed = |error| SelfTestError::Act { step, error };
        let got = run(policy, step, &inputs).map_err(failed)?;
        let action = difference(expected, got);
        // Logits first, because an index follows from them.
        if let Some(Difference {
            index,
            expected,
            got,
        }) = difference(logits, policy.logits().unwrap_or_default())
        {
            return Err(SelfTestError::Logit {
                step,
                index,
                expected,
                got,
            });
        }
        if let Some(Difference {
            index,
            expected,
            got,
        }) = shape.prediction_difference(predictions, policy)
        {
            return Err(SelfTestError::Prediction {
                step,
                index,
                expected,
                got,
            });
        }
        if let Some(Difference {
            index,
            expected,
            got,
        }) = action
        {
            return Err(SelfTestError::Mismatch {
                step,
                index,
                expected,
                got,
            });
        }
        absorb(policy, &inputs).map_err(failed)?;
        steps = plus(step, 1);
    }
    Ok(steps)
}

/// Where computed values are not the recorded ones, in bits.
struct Difference {
    index: usize,
    expected: u32,
    got: u32,
}

/// The first. What there are only values of on one side is not compared.
fn difference(expected: &[f32], got: &[f32]) -> Option<Difference> {
    let pairs = expected.iter().zip(got);
    let differences = (0..usize::MAX)
        .zip(pairs)
        .map(|(index, (expected, got))| Difference {
            index,
            expected: expected.to_bits(),
            got: got.to_bits(),
        });
    { differences }.find(|difference| difference.expected != difference.got)
}

/// Fills in the expected actions, and logits, of `golden` (records as in the file), at export.
///
/// # Errors
/// [`ActError`] of the first step that fails.
#[cfg(any(test, feature = "emit"))]
pub fn record<A: AsMut<[u32]>>(
    policy: &mut Policy<'_, A>,
    blob: &Blob<'_>,
    golden: &mut [f32],
) -> Result<(), ActError> {
    let shape = Shape::of(blob);
    for (step, record) in rows_mut(golden, shape.len).enumerate() {
        let (inputs, outputs) = record.split_at_mut_checked(shape.inputs).guaranteed();
        let (action, rest) = outputs.split_at_mut_checked(shape.action).guaranteed();
        let (logits, predictions) = rest.split_at_mut_checked(shape.logits).guaranteed();
        let inputs = shape.inputs(step, inputs);
        copy(run(policy, step, &inputs)?, action);
        copy(policy.logits().unwrap_or_default(), logits);
        predictions.fill(0.0);
        if let Some(predicted) = policy.predicted() {
            let (state, critic) = predictions.split_at_mut_checked(shape.state).guaranteed();
            copy(predicted.observation, state);
            copy(predicted.return_to_go.as_slice(), critic);
        }
        absorb(policy, &inputs)?;
    }
    Ok(())
}

fn run<'p, A: AsMut<[u32]>>(
    policy: &'p mut Policy<'_, A>,
    step: usize,
    inputs: &Inputs<'_>,
) -> Result<&'p [f32], ActError> {
    if step == 0 {
        policy.reset(inputs.return_to_go)?;
    }
    policy.set_return_to_go(inputs.return_to_go)?;
    match inputs.image {
        [] => policy.act(inputs.observation),
        image => policy.act_image(image),
    }
}

fn absorb<A: AsMut<[u32]>>(
    policy: &mut Policy<'_, A>,
    inputs: &Inputs<'_>,
) -> Result<(), ActError> {
    policy.absorb(inputs.applied)?;
    match policy.reward_mode() {
        // The next record overrides whatever the reward makes of the return-to-go.
        RewardMode::Observed => policy.observe_reward(0.0),
        RewardMode::Constant | RewardMode::External | RewardMode::Predicted => Ok(()),
    }
}

struct Inputs<'r> {
    return_to_go: f32,
    observation: &'r [f32],
    /// In place of the observation, if not empty.
    image: &'r [u8],
    applied: &'r [f32],
}

/// Lengths within a record.
struct Shape<'b> {
    /// Of an observation that is a vector.
    state_len: usize,
    /// Those that are images, and the bytes of one.
    images: &'b [u8],
    pixels: usize,
    /// Of an action.
    action: usize,
    logits: usize,
    /// Of a predicted state.
    state: usize,
    /// Of what goes in.
    inputs: usize,
    /// Of all of it.
    len: usize,
}

impl<'b> Shape<'b> {
    fn of(blob: &Blob<'b>) -> Self {
        let manifest = blob.manifest();
        let config = &manifest.config;
        let [state_len, pixels, action] = [
            config.state_vector_len(),
            config.state_dim,
            config.action_len(),
        ]
        .map(|dim| dim as usize);
        Self {
            state_len,
            images: blob.golden_images(),
            pixels,
            action,
            logits: manifest.config.logits_len() as usize,
            state: manifest.config.predicted_state_len() as usize,
            inputs: plus(1, plus(state_len, action)),
            len: manifest.golden_record_len(),
        }
    }

    /// Inputs, expected action, expected logits, expected predictions.
    fn split<'r>(
        &self,
        step: usize,
        record: &'r [f32],
    ) -> (Inputs<'r>, &'r [f32], &'r [f32], &'r [f32])
    where
        'b: 'r,
    {
        let (inputs, outputs) = record.split_at_checked(self.inputs).guaranteed();
        let (action, rest) = outputs.split_at_checked(self.action).guaranteed();
        let (logits, predictions) = rest.split_at_checked(self.logits).guaranteed();
        (self.inputs(step, inputs), action, logits, predictions)
    }

    /// Where what the policy has just predicted is not what was expected.
    fn prediction_difference<A: AsMut<[u32]>>(
        &self,
        expected: &[f32],
        policy: &mut Policy<'_, A>,
    ) -> Option<Difference> {
        let got = policy.predicted()?;
        let (state, critic) = expected.split_at_checked(self.state).guaranteed();
        difference(state, got.observation).or_else(|| {
            let index = self.state;
            let critic = difference(critic, got.return_to_go.as_slice())?;
            Some(Difference { index, ..critic })
        })
    }

    fn inputs<'r>(&self, step: usize, inputs: &'r [f32]) -> Inputs<'r>
    where
        'b: 'r,
    {
        let (return_to_go, rest) = inputs.split_first().unwrap_or((&0.0, &[]));
        let (observation, applied) = rest.split_at_checked(self.state_len).guaranteed();
        let images = self.images.len().checked_div(self.pixels).unwrap_or(0);
        let shown = step.checked_rem(images).unwrap_or(0);
        Inputs {
            return_to_go: *return_to_go,
            observation,
            image: self
                .images
                .get(part(shown, self.pixels))
                .unwrap_or_default(),
            applied,
        }
    }
}

#[cfg(test)]
mod tests;
