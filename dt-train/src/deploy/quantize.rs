//! What quantization costs: errors of weights and actions, and the sizes it buys.

use std::fmt;

use dt_core::blob::{Blob, Choice};
use dt_core::config::{Actions, Math, Mixer};
use dt_core::unstable::choice::choose;
use dt_core::unstable::model::{Embedding, Table};
use dt_core::unstable::quant::NonFinite;
use serde::{Deserialize, Serialize};

use crate::deploy::Folded;
use crate::deploy::predict::{Context, Core, Predictor};
use crate::run::checkpoint::{CheckpointError, Weights};

/// Errors and sizes of one policy file.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Each matrix, input side first.
    pub layers: Vec<LayerError>,
    /// Bytes of flash: the whole file.
    pub flash_bytes: usize,
    /// Bytes of memory: all state of the policy.
    pub arena_bytes: usize,
    /// Weights and biases.
    pub parameters: u64,
}

/// Value number `i` of a table.
fn entry(table: &Table<'_>, i: usize) -> f32 {
    match *table {
        Table::F32 { weight, .. } => weight[i],
        Table::Int8 {
            cols,
            weight,
            scale,
        } => f32::from(weight[i]) * scale[i / cols],
        Table::Int4 {
            cols,
            packed,
            scale,
        } => packed
            .weight(cols, i / cols, i % cols)
            .map_or(f32::NAN, |q| f32::from(q) * scale[i / cols]),
    }
}

/// How far the weights of one matrix are from the trained ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerError {
    /// Name in the checkpoint, without `.weight`.
    pub name: String,
    /// √(Σ error² / Σ weight²).
    pub relative_rms: f64,
    /// Largest |error|.
    pub largest: f64,
}

/// How far two policies' unscaled actions, or logits, are apart on the same inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActionError {
    /// Control steps compared.
    pub steps: usize,
    /// Root of the mean square over steps and components.
    pub rms: f64,
    /// Largest |difference|.
    pub largest: f64,
    /// Of logits, the fraction of steps in which the same one is the largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal_choices: Option<f64>,
}

impl Report {
    /// Compares the policy in `blob` with the weights it was made from.
    ///
    /// # Errors
    /// The weights are another network's.
    pub fn new(blob: &Blob<'_>, weights: &Weights) -> Result<Self, CheckpointError> {
        let config = &blob.manifest().config;
        let trained = |name: &str| {
            let array = weights.array(name);
            array
                .map(|array| array.values.as_slice())
                .unwrap_or_default()
        };
        let folded = match config.mixer {
            Mixer::Folded => (0..config.n_layer as usize)
                .map(|i| Folded::of(weights, i, config.d_model as usize))
                .collect::<Result<Vec<_>, _>>()?,
            _ => Vec::new(),
        };
        let mut layers: Vec<_> = blob
            .model()
            .linears()
            .map(|(name, linear)| {
                let trained = match (name.module, name.layer) {
                    ("attn_folded", Some(i)) => folded[i].weight(),
                    _ => trained(&format!("{name}.weight")),
                };
                LayerError::new(&name.to_string(), trained, |i| {
                    linear
                        .weight(i / linear.cols(), i % linear.cols())
                        .unwrap_or(f32::NAN)
                })
            })
            .collect();
        // Where they stand in the file: behind what embeds the action.
        let action = |layer: &LayerError| layer.name.starts_with("embed_action");
        let mut place = layers.iter().position(action).map_or(0, |index| index + 1);
        let Embedding {
            timestep, position, ..
        } = blob.model().embedding();
        for (name, rows, table) in [
            ("embed_timestep", config.max_ep_len as usize, timestep),
            ("embed_position", config.position_rows(), position),
        ] {
            if rows > 0 {
                let error = LayerError::new(name, trained(name), |i| entry(&table, i));
                layers.insert(place, error);
                place += 1;
            }
        }
        Ok(Self {
            layers,
            flash_bytes: blob.file_len(),
            arena_bytes: 4 * config.arena_words(),
            parameters: blob.parameters(),
        })
    }

    /// The matrices that folding changes.
    pub fn attention(&self) -> impl Iterator<Item = &LayerError> {
        let layers = self.layers.iter();
        layers.filter(|layer| layer.name.contains(".attn_"))
    }

    /// Sizes in words.
    pub fn sizes(&self) -> String {
        let Self {
            flash_bytes,
            arena_bytes,
            parameters,
            ..
        } = self;
        format!("{parameters} parameters, {flash_bytes} bytes of flash, {arena_bytes} bytes of RAM")
    }
}

impl LayerError {
    fn new(name: &str, trained: &[f32], stored: impl Fn(usize) -> f32) -> Self {
        let errors = trained
            .iter()
            .enumerate()
            .map(|(i, &w)| f64::from(stored(i)) - f64::from(w));
        let (squares, largest) = sum_of_squares_and_largest(errors);
        let weights: f64 = trained.iter().map(|&w| f64::from(w).powi(2)).sum();
        let relative_rms = if weights > 0.0 {
            (squares / weights).sqrt()
        } else {
            0.0
        };
        Self {
            name: name.to_owned(),
            relative_rms,
            largest,
        }
    }
}

impl ActionError {
    /// Compares actions step by step.
    pub fn between(ours: &[Vec<f32>], reference: &[Vec<f32>], actions: Actions) -> Self {
        let pairs = ours.iter().flatten().zip(reference.iter().flatten());
        let (squares, largest) =
            sum_of_squares_and_largest(pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let values = reference.iter().map(Vec::len).sum::<usize>();
        let steps = reference.len();
        let equal_choices = || {
            let chosen = |logits: &Vec<f32>| choose(logits, &Choice::Greedy, 0, Math::Polynomial);
            let pairs = ours.iter().zip(reference);
            let equal = pairs.filter(|(a, b)| chosen(a) == chosen(b)).count();
            equal as f64 / std::cmp::max(steps, 1) as f64
        };
        Self {
            steps,
            rms: (squares / std::cmp::max(values, 1) as f64).sqrt(),
            largest,
            equal_choices: (actions == Actions::Discrete).then(equal_choices),
        }
    }

    /// What was compared.
    pub fn actions(&self) -> Actions {
        match self.equal_choices {
            None => Actions::Continuous,
            Some(_) => Actions::Discrete,
        }
    }

    /// Runs two policy files over the same episodes.
    ///
    /// # Errors
    /// A value inside a network is NaN or infinite.
    pub fn over(
        blob: &Blob<'_>,
        reference: &Blob<'_>,
        episodes: &[Context],
    ) -> Result<Self, NonFinite> {
        let actions = |blob| -> Result<Vec<Vec<f32>>, NonFinite> {
            let mut core = Core::new(blob);
            let each = episodes.iter().map(|episode| core.episode(episode));
            Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
        };
        let kind = blob.manifest().config.actions;
        Ok(Self::between(&actions(blob)?, &actions(reference)?, kind))
    }
}

/// NaN counts as largest, so that no comparison passes it.
fn sum_of_squares_and_largest(errors: impl Iterator<Item = f64>) -> (f64, f64) {
    errors.fold((0.0, 0.0), |(squares, largest), error| {
        let size = error.abs();
        let largest = if size <= largest || largest.is_nan() {
            largest
        } else {
            size
        };
        (squares + error * error, largest)
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>14}{:>16}",
            "weights", "relative RMS", "largest error"
        )?;
        for layer in &self.layers {
            writeln!(f, "{layer}")?;
        }
        f.write_str(&self.sizes())
    }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            relative_rms,
            largest,
        } = self;
        write!(
            f,
            "{name:<24}{:>12.3} %{largest:>16.2e}",
            100.0 * relative_rms
        )
    }
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            steps,
            rms,
            largest,
            equal_choices,
        } = self;
        write!(f, "RMS {rms:.2e}, largest {largest:.2e} over {steps} steps")?;
        match equal_choices {
            None => Ok(()),
            Some(equal) => write!(
                f,
                " (of logits; in {:.2} % of the steps the same one is the largest)",
                100.0 * equal
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_errors_are_root_mean_squares_and_maxima() {
        let error = ActionError::between(
            &[vec![1.0, 2.0], vec![0.0, 0.0]],
            &[vec![1.0, 2.5], vec![0.0, -0.5]],
            Actions::Continuous,
        );
        assert_eq!((error.steps, error.largest), (2, 0.5));
        assert!((error.rms - 0.125f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn not_a_number_is_never_a_small_error() {
        let error = ActionError::between(
            &[vec![f32::NAN], vec![0.0]],
            &[vec![0.0], vec![0.0]],
            Actions::Continuous,
        );
        assert!(error.largest.is_nan() && error.rms.is_nan());
    }

    #[test]
    fn choices_are_equal_where_the_largest_logits_are() {
        let ours = [
            vec![1.0, 2.0],
            vec![0.0, 0.1],
            vec![0.0, 0.0],
            vec![3.0, 1.0],
        ];
        let theirs = [
            vec![1.5, 2.0],
            vec![0.1, 0.0],
            vec![0.0, -1.0],
            vec![3.0, 1.0],
        ];
        let error = ActionError::between(&ours, &theirs, Actions::Discrete);
        assert_eq!((error.equal_choices, error.largest), (Some(0.75), 1.0));
        assert_eq!(error.actions(), Actions::Discrete);
        let vectors = ActionError::between(&ours, &theirs, Actions::Continuous);
        assert_eq!(vectors.equal_choices, None);
    }

    #[test]
    fn layer_errors_are_relative_to_the_weights() {
        let error = LayerError::new("w", &[3.0, 4.0], |i| [3.0, 4.5][i]);
        assert!((error.relative_rms - 0.1).abs() < 1e-12);
        assert_eq!(error.largest, 0.5);
        assert_eq!(LayerError::new("zero", &[0.0], |_| 0.0).relative_rms, 0.0);
    }
}
