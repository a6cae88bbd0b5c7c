//! A trained network as a policy file for a controller.
//!
//! An algorithm that is [`Deployable`] says what its network is to [`dt_core`]; the rest follows from that and the names of
//! its parameters, which are those of `BLOB.md`. [`export`] is the whole way: fold, quantize, record golden vectors, and refuse a policy that does not
//! act as the trained network does. [`emit_bytes`] alone serves evaluation during training.

pub mod attention;
pub mod control;
mod emit;
mod episodes;
mod fold;
pub mod predict;
pub mod quantize;
mod source;

use std::fmt;

use dt_core::blob::Golden;
use dt_core::config::{Actions, Config, Dtype, Mixer};
use dt_core::golden::{self, SelfTestError};
use dt_core::policy::{ActError, Policy};
use dt_core::unstable::quant::NonFinite;
use host_sim::policy_file::PolicyFile;

use crate::algo::Dims;
use crate::deploy::predict::{Context, Core, Predictor, Torch};
use crate::deploy::quantize::{ActionError, Report};
use crate::run::checkpoint::CheckpointError;

pub use emit::{EmitBytesError, Trained, emit_bytes, in_pixels};
pub use episodes::{Source, Steps, training_data};
pub(crate) use fold::Folded;
pub use source::policy_rs;

/// An algorithm whose networks become policy files. Their parameters have the names of `BLOB.md`.
pub trait Deployable {
    /// The network for data with these dimensions, its attention as trained.
    fn network(&self, dims: Dims, dtype: Dtype) -> Config;
}

/// Largest |difference| of an unscaled action, which spans −1…1, or of a logit between the f32 engine and libtorch,
/// whose sums merely run in another order.
pub const fn torch_tolerance(actions: Actions) -> f64 {
    match actions {
        Actions::Continuous => 1e-4,
        Actions::Discrete => 1e-3,
    }
}

/// Largest RMS difference between a quantized policy and the f32 one: of unscaled actions, which span −1…1, or of logits, of
/// which a difference of 0.1 makes a choice 10 % likelier than another.
///
/// Trained policies of vectors measured less than a quarter of it in int8, and less than half in int4
/// (docs/results/int4.md).
pub const fn quantized_tolerance(dtype: Dtype, actions: Actions) -> f64 {
    match (dtype, actions) {
        (Dtype::F32, _) => 0.0,
        (Dtype::Int8, Actions::Continuous) => 0.02,
        (Dtype::Int4, Actions::Continuous) => 0.1,
        (Dtype::Int8, Actions::Discrete) => 0.2,
        (Dtype::Int4, Actions::Discrete) => 1.0,
    }
}

/// A folded policy is taken for its speed if its actions' error is at most this many times that of the policy as trained …
const FOLDED_ERROR: f64 = 1.5;

/// … or at most this part of what is accepted.
const FOLDED_PART: f64 = 0.25;

/// Whether single-head attention is folded: see [`Mixer::Folded`].
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fold {
    /// Where it can be, if it costs little accuracy; never f32, which the others are compared with
    #[default]
    Auto,
    /// Or refuse
    Always,
    /// Attention as trained
    Never,
}

/// A policy that passed every check, with what the checks measured.
pub struct Exported {
    /// The file, golden vectors included.
    pub file: PolicyFile,
    /// What was measured of it.
    pub measured: Measured,
    /// The other form of its attention, where it was measured too.
    pub other: Option<Measured>,
    /// Golden records, which the file reproduced to the bit.
    pub golden_steps: usize,
}

/// What was measured of a policy in one of the forms that its attention can have.
pub struct Measured {
    /// The form.
    pub mixer: Mixer,
    /// Errors of the weights, and sizes.
    pub report: Report,
    /// Unscaled actions, or logits, of the f32 engine in this form against libtorch, on the golden inputs and a measured episode.
    pub engine_against_torch: ActionError,
    /// Unscaled actions, or logits, against the f32 engine on the measured episodes; `None` if the policy is f32 itself.
    pub against_f32: Option<ActionError>,
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
        "the f32 engine and libtorch differ by {}, more than {:.0e}; nothing was written",
        .0.largest, torch_tolerance(.0.actions())
    )]
    Torch(ActionError),
    /// They disagree once attention is folded.
    #[error(
        "folded, the f32 engine differs from libtorch by {}, more than {:.0e}; nothing was written. \
         Export the network as trained: --fold never",
        .0.largest, torch_tolerance(.0.actions())
    )]
    Folded(ActionError),
    /// Folding was asked for, and there is more than one head.
    #[error(
        "only attention with one head can be folded, this network has {0}; leave out --fold always"
    )]
    Heads(u32),
    /// Folding was asked for, and there is no attention.
    #[error("a network without attention has none to fold; leave out --fold always")]
    NoAttention,
    /// Quantization changes the actions too much.
    #[error(
        "quantized {} differ from f32 by {} RMS, more than {tolerance}; nothing was written. \
         Train on, or export with more bits (--dtype int8 or f32){}",
        match .error.actions() {
            Actions::Continuous => "actions",
            Actions::Discrete => "logits",
        },
        .error.rms,
        if *.folded { " or --fold never" } else { "" }
    )]
    Quantized {
        /// How much.
        error: ActionError,
        /// What is accepted for the dtype.
        tolerance: f64,
        /// Whether attention was folded.
        folded: bool,
    },
}

impl From<NonFinite> for ExportError {
    fn from(_: NonFinite) -> Self {
        Self::NonFinite
    }
}

/// Quantizes a network, its attention folded or not, and checks the result on steps from `source`.
///
/// # Errors
/// [`ExportError`]; among them that the policy does not act as the network does.
pub fn export(
    trained: &Trained<'_>,
    dtype: Dtype,
    fold: Fold,
    source: &Source<'_>,
) -> Result<Exported, ExportError> {
    let has_attention = trained.network.mixer == Mixer::Attention && !trained.network.is_mlp();
    if !has_attention && fold == Fold::Always {
        return Err(ExportError::NoAttention);
    }
    let heads = trained.network.n_head;
    let tolerance = quantized_tolerance(dtype, trained.network.actions);
    if fold == Fold::Always && heads != 1 {
        return Err(ExportError::Heads(heads));
    }
    let golden = source.golden(trained);
    let mut bench = Bench::new(trained, dtype, &golden, source)?;
    let unfolded = bench.measure(Mixer::Attention)?;
    let folds = match fold {
        Fold::Auto => has_attention && heads == 1 && dtype != Dtype::F32,
        Fold::Always => true,
        Fold::Never => false,
    };
    let (measured, other) = if folds {
        let folded = bench.measure(Mixer::Folded)?;
        let pays = || folding_pays(folded.rms(), unfolded.rms(), tolerance);
        if fold == Fold::Always || pays() {
            (folded, Some(unfolded))
        } else {
            (unfolded, Some(folded))
        }
    } else {
        (unfolded, None)
    };
    if let Some(error) = measured.against_f32 {
        // NaN is not close.
        let is_close = error.rms <= tolerance;
        if !is_close {
            return Err(ExportError::Quantized {
                error,
                tolerance,
                folded: measured.mixer == Mixer::Folded,
            });
        }
    }
    let (records, images) = (bench.golden, &bench.golden_images);
    let file = with_golden(trained, dtype, measured.mixer, records, images)?;
    let golden_steps = golden::check(&mut policy(&file), &file.blob())?;
    Ok(Exported {
        file,
        measured,
        other,
        golden_steps,
    })
}

/// What forms of a policy are measured with.
struct Bench<'a> {
    trained: &'a Trained<'a>,
    dtype: Dtype,
    /// Golden records, expected actions still 0.
    golden: Vec<f32>,
    /// The images that they show.
    golden_images: Vec<u8>,
    /// The network as trained, in f32.
    reference: PolicyFile,
    torch: Torch,
    /// For libtorch, which is slow: the golden inputs and an episode.
    few: Vec<Context>,
    /// All episodes.
    episodes: Vec<Context>,
}

impl<'a> Bench<'a> {
    fn new(
        trained: &'a Trained<'a>,
        dtype: Dtype,
        golden: &Steps,
        source: &Source<'_>,
    ) -> Result<Self, ExportError> {
        let steps = source.measured(trained);
        let episodes: Vec<Context> = steps.iter().map(|steps| steps.context(trained)).collect();
        let mut few = vec![golden.context(trained)];
        few.extend(episodes.first().cloned());
        Ok(Self {
            trained,
            dtype,
            golden: golden.golden(&trained.network),
            golden_images: golden.images(&trained.network),
            reference: emit_bytes(trained, Dtype::F32, Mixer::Attention, Golden::default())?,
            torch: Torch::new(&trained.network, trained.weights)?,
            few,
            episodes,
        })
    }

    /// Measures one form; refuses it if it is not the network that libtorch runs.
    fn measure(&mut self, mixer: Mixer) -> Result<Measured, ExportError> {
        let exact = emit_bytes(self.trained, Dtype::F32, mixer, Golden::default())?;
        let engine_against_torch = against_torch(&exact, &mut self.torch, &self.few)?;
        // NaN is not close.
        let tolerance = torch_tolerance(self.trained.network.actions);
        let is_close = engine_against_torch.largest <= tolerance;
        if !is_close {
            return Err(match mixer {
                Mixer::Folded => ExportError::Folded(engine_against_torch),
                _ => ExportError::Torch(engine_against_torch),
            });
        }
        let golden = Golden {
            records: &self.golden,
            images: &self.golden_images,
        };
        let file = emit_bytes(self.trained, self.dtype, mixer, golden)?;
        let against_f32 = match self.dtype {
            Dtype::F32 => None,
            Dtype::Int8 | Dtype::Int4 => Some(ActionError::over(
                &file.blob(),
                &self.reference.blob(),
                &self.episodes,
            )?),
        };
        Ok(Measured {
            mixer,
            report: Report::new(&file.blob(), self.trained.weights)?,
            engine_against_torch,
            against_f32,
        })
    }
}

impl Measured {
    /// RMS error of the actions; none in f32.
    fn rms(&self) -> f64 {
        self.against_f32.map_or(0.0, |error| error.rms)
    }
}

/// Whether the folded form's RMS error of actions is worth its speed. NaN never is.
fn folding_pays(folded: f64, unfolded: f64, tolerance: f64) -> bool {
    folded <= FOLDED_PART * tolerance || (folded <= tolerance && folded <= FOLDED_ERROR * unfolded)
}

/// The policy file with golden vectors, whose expected actions the same policy computes.
fn with_golden(
    trained: &Trained<'_>,
    dtype: Dtype,
    mixer: Mixer,
    mut records: Vec<f32>,
    images: &[u8],
) -> Result<PolicyFile, ExportError> {
    let emit = |records: &[f32]| emit_bytes(trained, dtype, mixer, Golden { records, images });
    let expecting_zeros = emit(&records)?;
    let blob = expecting_zeros.blob();
    golden::record(&mut policy(&expecting_zeros), &blob, &mut records)?;
    Ok(emit(&records)?)
}

fn policy(file: &PolicyFile) -> Policy<'_, Vec<u32>> {
    let blob = file.blob();
    let arena = vec![0; blob.manifest().config.arena_words()];
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
    Ok(ActionError::between(&ours, &theirs, core.config().actions))
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.file.blob().manifest().config;
        let tolerance = quantized_tolerance(config.dtype, config.actions);
        let Measured {
            mixer,
            report,
            engine_against_torch,
            against_f32,
        } = &self.measured;
        writeln!(f, "{report}")?;
        writeln!(f, "f32 engine against libtorch: {engine_against_torch}")?;
        if let Some(error) = against_f32 {
            writeln!(
                f,
                "quantized against f32: {error}; at most {tolerance} RMS is accepted"
            )?;
        }
        if !config.is_mlp() {
            writeln!(f, "attention: {}", form(*mixer))?;
        }
        if let Some(other) = &self.other {
            writeln!(f, "\n{} instead, it would be:", form(other.mixer))?;
            other
                .report
                .attention()
                .try_for_each(|layer| writeln!(f, "{layer}"))?;
            writeln!(f, "{}", other.report.sizes())?;
            if let Some(error) = &other.against_f32 {
                writeln!(f, "quantized against f32: {error}")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "{} golden steps reproduced to the bit",
            self.golden_steps
        )
    }
}

fn form(mixer: Mixer) -> &'static str {
    match mixer {
        Mixer::Folded => "folded",
        _ => "as trained",
    }
}

#[cfg(test)]
mod tests {
    use dt_core::blob::{Choice, Sampling};
    use dt_core::config::{Activation, Attention, Head};

    use super::*;
    use crate::config::{ChoiceName, Recipe};
    use crate::nn::parameters::weights;
    use crate::nn::transformer::tests::{config, randomized};
    use crate::run::Run;

    /// A network of choices with random weights: libtorch, engine and quantized engine agree, the file says how the recipe
    /// chooses, and its golden records hold logits.
    #[test]
    fn choices_are_exported_with_how_they_are_made() {
        let network = Config {
            actions: Actions::Discrete,
            act_dim: 3,
            head: Head::Linear,
            n_head: 1,
            activation: Activation::Relu,
            ..config(Attention::Streaming)
        };
        let mut recipe = Recipe::default();
        recipe.train.seed = 9;
        recipe.control.choice = ChoiceName::Sampled;
        recipe.control.temperature = 0.7;
        recipe.control.top_k = 2;
        let run = Run::for_tests(recipe, [&[0.5; 3], &[2.0; 3]], [&[0.0][..], &[2.0]]);
        let mut weights = weights(&randomized(&network));
        let export = |weights: &_, dtype, fold| {
            let trained = Trained {
                run: &run,
                network,
                weights,
                update: 1,
            };
            export(&trained, dtype, fold, &Source::Random)
        };
        for (dtype, fold) in [
            (Dtype::F32, Fold::Never),
            (Dtype::Int8, Fold::Never),
            (Dtype::Int8, Fold::Always),
        ] {
            let exported = export(&weights, dtype, fold).unwrap();
            let blob = exported.file.blob();
            let sampled = Choice::Sampled(Sampling {
                temperature: 0.7,
                top_k: 2,
                seed: 9,
            });
            assert_eq!(blob.manifest().choice, sampled);
            assert_eq!(blob.manifest().golden_record_len(), 1 + 3 + 1 + 1 + 3);
            assert_eq!(exported.golden_steps, 2 * 4 + 3 + 3);
            let against_torch = exported.measured.engine_against_torch;
            assert_eq!(against_torch.equal_choices, Some(1.0));
            let text = exported.to_string();
            let quantized = text.contains("quantized against f32") && text.contains("of logits");
            assert_eq!(quantized, dtype != Dtype::F32, "{text}");
        }
        // Logits that are as large as this are too far off in four bits: refused, and said of what.
        let head = weights.get("head.weight", &[3, 16]).unwrap();
        let large = head.iter().map(|w| 20.0 * w).collect();
        weights.insert("head.weight".to_owned(), vec![3, 16], large);
        let refused = export(&weights, Dtype::Int4, Fold::Never);
        let message = refused.err().unwrap().to_string();
        assert!(message.starts_with("quantized logits differ"), "{message}");
    }

    #[test]
    fn folding_pays_where_it_costs_little() {
        let pays = |folded, unfolded| folding_pays(folded, unfolded, 0.02);
        // As accurate, or accurate enough for nobody to care.
        assert!(pays(0.010, 0.009) && pays(0.010, 0.012) && pays(0.005, 0.001));
        // Clearly worse, or refused.
        assert!(!pays(0.010, 0.006) && !pays(0.021, 0.020));
        assert!(!pays(f64::NAN, 0.001));
        // What is refused as trained may pass folded.
        assert!(pays(0.019, 0.021));
    }
}
