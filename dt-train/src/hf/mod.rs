//! Decision Transformers of Hugging Face's transformers, in and out: `DecisionTransformerModel`, versions 4 and 5.
//!
//! | | |
//! |---|---|
//! | [`description`] | `config.json`: the network, every field honoured or refused |
//! | [`tensors`] | the weights as their files name them |
//! | `pickle` | those of PyTorch's own files, of which nothing is run |
//! | [`weights`] | the same numbers under the names of `BLOB.md`, and back |
//! | [`statistics`] | what published checkpoints leave to their model cards |
//! | [`import`] | a folder as a run |
//! | [`export`] | a run as a folder |
//!
//! That network is GPT-2's body around this program's embeddings, but for these: its matrices are [inputs, outputs]; every
//! token has the first row of `wpe` added behind the embedding norm, since all position ids are 0; and it attends over the
//! window that it is given, so that it is a window model here.

pub mod description;
pub mod export;
pub mod import;
mod pickle;
pub mod statistics;
pub mod tensors;
pub mod weights;

/// Of a model's folder: the network.
pub const CONFIG: &str = "config.json";
/// Of a model's folder: the weights, where they are one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Of a model's folder: which file has which tensor, where they are several.
pub const INDEX: &str = "model.safetensors.index.json";
/// Of a model's folder: the weights as PyTorch pickles them.
pub const PICKLED: &str = "pytorch_model.bin";
/// Of a model's folder: which of several such files has which tensor.
pub const PICKLED_INDEX: &str = "pytorch_model.bin.index.json";
/// Of a model's folder: the model card.
pub const CARD: &str = "README.md";
/// The key of `config.json` that holds what a run has besides its network.
pub const OWN: &str = "dt_train";

/// ε of the embedding norm, which `config.json` has no say in.
pub const EMBEDDING_NORM_EPS: f32 = 1e-5;
