//! A trained network as a policy file for a controller.
//!
//! [`export`] is the whole way: quantize, record golden vectors, and refuse a policy that does not
//! act as the trained network does. [`emit_bytes`] alone serves evaluation during training.

mod emit;
mod episodes;
mod source;

use std::fmt;

use dt_core::config::Dtype;
use dt_core::golden::{self, SelfTestError};
use dt_core::policy::{ActError, Policy};
use dt_core::quant::NonFinite;
use host_sim::policy_file::PolicyFile;

use crate::checkpoint::CheckpointError;
use crate::predict::{Context, Core, Predictor, Torch};
use crate::quantize::{ActionError, Report};

pub use emit::{EmitBytesError, Trained, emit_bytes};
pub use episodes::{Source, Steps, training_data};
pub use source::policy_rs;

/// Largest |difference| of an unscaled action between the f32 engine and libtorch, whose sums
/// merely run in another order.
pub const TORCH_TOLERANCE: f64 = 1e-4;

/// Largest RMS difference of unscaled actions, which span −1…1, between a quantized policy and the f32 one.
///
/// Trained policies measured less than a quarter of it in int8, and less than half in int4 (RESULTS.md).
pub const fn quantized_tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 0.0,
        Dtype::Int8 => 0.02,
        Dtype::Int4 => 0.1,
    }
}

/// A policy that passed every check, with what the checks measured.
pub struct Exported {
    /// The file, golden vectors included.
    pub file: PolicyFile,
    /// Errors of the weights, and sizes.
    pub report: Report,
    /// Unscaled actions of the f32 engine against libtorch, on the golden inputs and a measured episode.
    pub engine_against_torch: ActionError,
    /// Unscaled actions against the f32 engine on the measured episodes; `None` if the file is f32 itself.
    pub against_f32: Option<ActionError>,
    /// Golden records, which the file reproduced to the bit.
    pub golden_steps: usize,
}

/// Why a network was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The policy could not be written.
    #[error(transparent)]
    Emit(#[from] EmitBytesError),
    /// The weights are not those of the run's network.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The network fails on a golden input.
    #[error("the policy fails on its golden inputs: {0}; are the weights finite?")]
    Golden(#[from] ActError),
    /// The policy does not reproduce its own golden vectors.
    #[error("the policy does not reproduce its golden vectors: {0}")]
    SelfTest(#[from] SelfTestError),
    /// The network overflows on the inputs it is measured on.
    #[error("a value inside the network is not finite; are the weights?")]
    NonFinite,
    /// The engine and libtorch disagree.
    #[error(
        "the f32 engine and libtorch differ by {}, more than {TORCH_TOLERANCE:.0e}; nothing was written",
        .0.largest
    )]
    Torch(ActionError),
    /// Quantization changes the actions too much.
    #[error(
        "quantized actions differ from f32 by {} RMS, more than {tolerance}; nothing was written. \
         Train on, or export with more bits: --dtype int8 or f32",
        .error.rms
    )]
    Quantized {
        /// How much.
        error: ActionError,
        /// What is accepted for the dtype.
        tolerance: f64,
    },
}

impl From<NonFinite> for ExportError {
    fn from(_: NonFinite) -> Self {
        Self::NonFinite
    }
}

/// Quantizes a network and checks the result on steps from `source`.
///
/// # Errors
/// [`ExportError`]; among them that the policy does not act as the network does.
pub fn export(
    trained: &Trained<'_>,
    dtype: Dtype,
    source: &Source<'_>,
) -> Result<Exported, ExportError> {
    let run = trained.run;
    let golden = source.golden(run);
    let measured: Vec<Context> = source
        .measured(run)
        .iter()
        .map(|steps| steps.context(run))
        .collect();

    let reference = emit_bytes(trained, Dtype::F32, &[])?;
    let mut compared = vec![golden.context(run)];
    compared.extend(measured.first().cloned());
    let mut torch = Torch::new(&run.network(Dtype::F32), trained.weights)?;
    let engine_against_torch = against_torch(&reference, &mut torch, &compared)?;
    // NaN is not close.
    let is_close = engine_against_torch.largest <= TORCH_TOLERANCE;
    if !is_close {
        return Err(ExportError::Torch(engine_against_torch));
    }

    let bare = emit_bytes(trained, dtype, &[])?;
    let against_f32 = match dtype {
        Dtype::F32 => None,
        Dtype::Int8 | Dtype::Int4 => {
            let tolerance = quantized_tolerance(dtype);
            let error = ActionError::over(&bare.blob(), &reference.blob(), &measured)?;
            let is_close = error.rms <= tolerance;
            if !is_close {
                return Err(ExportError::Quantized { error, tolerance });
            }
            Some(error)
        }
    };
    let file = with_golden(trained, dtype, &bare, &golden)?;
    let golden_steps = golden::check(&mut policy(&file), &file.blob())?;
    let report = Report::new(&file.blob(), trained.weights);
    Ok(Exported {
        file,
        report,
        engine_against_torch,
        against_f32,
        golden_steps,
    })
}

/// The same policy with golden vectors, which `bare` computes.
fn with_golden(
    trained: &Trained<'_>,
    dtype: Dtype,
    bare: &PolicyFile,
    steps: &Steps,
) -> Result<PolicyFile, ExportError> {
    let mut records = steps.golden();
    golden::record(&mut policy(bare), &bare.blob(), &mut records)?;
    Ok(emit_bytes(trained, dtype, &records)?)
}

fn policy(file: &PolicyFile) -> Policy<'_, Vec<u32>> {
    let blob = file.blob();
    let arena = vec![0; blob.manifest.config.arena_words()];
    Policy::new(&blob, arena).expect("the arena has the size it asks for")
}

fn against_torch(
    reference: &PolicyFile,
    torch: &mut Torch,
    episodes: &[Context],
) -> Result<ActionError, NonFinite> {
    let mut core = Core::new(&reference.blob());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for episode in episodes {
        ours.extend(core.episode(episode)?);
        theirs.extend(torch.episode(episode)?);
    }
    Ok(ActionError::between(&ours, &theirs))
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.report)?;
        writeln!(
            f,
            "f32 engine against libtorch: {}",
            self.engine_against_torch
        )?;
        if let Some(error) = &self.against_f32 {
            writeln!(
                f,
                "quantized against f32: {error}; at most {} RMS is accepted",
                quantized_tolerance(self.file.blob().manifest.config.dtype)
            )?;
        }
        write!(
            f,
            "{} golden steps reproduced to the bit",
            self.golden_steps
        )
    }
}
