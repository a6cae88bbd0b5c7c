//! Checkpoints: weights, optimizer state and counters in one safetensors file.
//!
//! Tensors carry the names of `BLOB.md` (`embed_return.weight`, `layers.0.attn_qkv.weight`, …);
//! the optimizer's state is `optimizer.m`, `optimizer.v` and, where the weights are an average,
//! `optimizer.parameters`, flat in the same order. Counters are JSON under the metadata key `progress`. Equal states
//! give equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, OutputError};

/// Everything needed to go on training, or to run the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Counters.
    pub progress: Progress,
    /// The network's parameters: those to act with.
    pub weights: Weights,
    /// What training goes on from; absent where it does not.
    pub optimizer: Option<OptimizerState>,
}

/// Counters of a training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates done.
    pub update: u64,
    /// The best evaluation so far.
    pub best: Option<Best>,
}

/// An evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Updates done then.
    pub update: u64,
    /// Mean return at the first target.
    pub mean_return: f64,
}

/// The optimizer's state, flat in parameter order.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    /// AdamW's first moment.
    pub m: Vec<f32>,
    /// AdamW's second moment.
    pub v: Vec<f32>,
    /// The parameters that are being optimized, where the checkpoint's weights are an average of them.
    pub parameters: Option<Vec<f32>>,
}

/// Named f32 arrays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    arrays: BTreeMap<String, Array>,
}

/// A dense row-major array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub values: Vec<f32>,
}

/// Why a checkpoint could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("cannot read checkpoint {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Not a checkpoint of this program.
    #[error("{path} is not a checkpoint of dt-train: {message}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A parameter is not there.
    #[error("the checkpoint has no tensor `{0}`; it belongs to another network")]
    Missing(String),
    /// A parameter has another shape than the network's.
    #[error(
        "tensor `{name}` has shape {got:?}, the network's has {expected:?}; the checkpoint belongs to another network"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Shape in the checkpoint.
        got: Vec<usize>,
        /// Shape in the network.
        expected: Vec<usize>,
    },
}

impl Weights {
    /// Adds an array.
    pub fn insert(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        self.arrays.insert(name, Array { shape, values });
    }

    /// The values of an array of this shape.
    ///
    /// # Errors
    /// If there is none of this name or it has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32], CheckpointError> {
        let array = self
            .array(name)
            .ok_or_else(|| CheckpointError::Missing(name.to_owned()))?;
        if array.shape != shape {
            return Err(CheckpointError::Shape {
                name: name.to_owned(),
                got: array.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        Ok(&array.values)
    }

    /// An array of whatever shape, if there is one of this name.
    pub fn array(&self, name: &str) -> Option<&Array> {
        self.arrays.get(name)
    }

    /// All arrays, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays
            .iter()
            .map(|(name, array)| (name.as_str(), array))
    }

    /// Number of values in all arrays.
    pub fn len(&self) -> usize {
        self.arrays.values().map(|array| array.values.len()).sum()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Checkpoint {
    /// Writes the checkpoint; an existing file is replaced in one step.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, path: &Path) -> Result<(), OutputError> {
        atomic::write(path, true, &self.to_bytes())
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] names the file.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|message| CheckpointError::Format {
            path: path.to_owned(),
            message,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut views: Vec<(&str, TensorView<'_>)> = Vec::new();
        for (name, array) in &self.weights.arrays {
            views.push((name, view(&array.shape, &array.values)));
        }
        if let Some(OptimizerState { m, v, parameters }) = &self.optimizer {
            let flat = [(FIRST_MOMENT, Some(m)), (SECOND_MOMENT, Some(v))];
            let flat = flat.into_iter().chain([(PARAMETERS, parameters.as_ref())]);
            for (name, values) in flat {
                // Fewer than there are weights, where some follow others instead of being optimized.
                views.extend(values.map(|values| (name, view(&[values.len()], values))));
            }
        }
        let progress = serde_json::to_string(&self.progress).expect("plain values only");
        // One key only: the order of several would be random.
        let metadata = HashMap::from([(PROGRESS.to_owned(), progress)]);
        safetensors::serialize(views, Some(metadata)).expect("shapes fit their data")
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let progress = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(PROGRESS))
            .ok_or("its metadata has no `progress`")?;
        let progress = serde_json::from_str(progress).map_err(|e| format!("`progress`: {e}"))?;
        let mut weights = Weights::default();
        for (name, tensor) in SafeTensors::deserialize(bytes)
            .map_err(|e| e.to_string())?
            .iter()
        {
            if tensor.dtype() != Dtype::F32 {
                return Err(format!(
                    "tensor `{name}` is {:?}, expected F32",
                    tensor.dtype()
                ));
            }
            let values = tensor
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|&word| f32::from_le_bytes(word))
                .collect();
            weights.insert(name.to_owned(), tensor.shape().to_vec(), values);
        }
        let mut flat = |name| weights.arrays.remove(name).map(|array| array.values);
        let parameters = flat(PARAMETERS);
        let optimizer = match (flat(FIRST_MOMENT), flat(SECOND_MOMENT)) {
            (Some(m), Some(v)) => Some(OptimizerState { m, v, parameters }),
            _ => None,
        };
        Ok(Self {
            progress,
            weights,
            optimizer,
        })
    }
}

const FIRST_MOMENT: &str = "optimizer.m";
const SECOND_MOMENT: &str = "optimizer.v";
const PARAMETERS: &str = "optimizer.parameters";
const PROGRESS: &str = "progress";

fn view<'a>(shape: &[usize], values: &'a [f32]) -> TensorView<'a> {
    const {
        assert!(
            cfg!(target_endian = "little"),
            "safetensors are little-endian"
        )
    };
    TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)).expect("shape fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        let mut weights = Weights::default();
        weights.insert("b".to_owned(), vec![2, 1], vec![1.5, -0.0]);
        weights.insert("a".to_owned(), vec![1], vec![f32::MIN_POSITIVE / 2.0]);
        Checkpoint {
            progress: Progress {
                update: 12,
                best: Some(Best {
                    update: 10,
                    mean_return: -150.1,
                }),
            },
            weights,
            optimizer: Some(OptimizerState {
                m: vec![0.1, 0.2, 0.3],
                v: vec![1e-30, 2.0, 3.0],
                parameters: None,
            }),
        }
    }

    #[test]
    fn reads_back_to_the_bit_and_equal_states_give_equal_bytes() {
        let mut checkpoint = example();
        let bytes = checkpoint.to_bytes();
        assert_eq!(bytes, example().to_bytes());
        for parameters in [None, Some(vec![4.0, 5.0, -0.0])] {
            checkpoint.optimizer.as_mut().unwrap().parameters = parameters;
            let bytes = checkpoint.to_bytes();
            let read = Checkpoint::from_bytes(&bytes).unwrap();
            assert_eq!(read, checkpoint);
            assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[test]
    fn weights_that_are_not_optimized_have_no_moments() {
        let mut checkpoint = example();
        let optimizer = checkpoint.optimizer.as_mut().unwrap();
        optimizer.m.pop();
        optimizer.v.pop();
        let read = Checkpoint::from_bytes(&checkpoint.to_bytes()).unwrap();
        assert_eq!(read, checkpoint);
    }

    #[test]
    fn weights_are_checked_by_name_and_shape() {
        let weights = example().weights;
        assert_eq!(weights.get("b", &[2, 1]).unwrap()[0], 1.5);
        let error = weights.get("c", &[1]).unwrap_err().to_string();
        assert!(error.contains("no tensor `c`"), "{error}");
        let error = weights.get("b", &[1, 2]).unwrap_err().to_string();
        assert!(
            error.contains("`b` has shape [2, 1], the network's has [1, 2]"),
            "{error}"
        );
    }

    #[test]
    fn damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.safetensors");
        let bytes = example().to_bytes();
        for cut in [0, 7, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = Checkpoint::load(&path).unwrap_err().to_string();
            assert!(
                error.contains("last.safetensors is not a checkpoint"),
                "{error}"
            );
        }
        let error = Checkpoint::load(&dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot read checkpoint"), "{error}");
    }
}
