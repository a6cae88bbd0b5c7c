//! Collects trajectories, trains Decision Transformers on them with libtorch, quantizes and exports them.
//!
//! One file per stage of the pipeline, in the order data flows through them:
//!
//! - [`collect`]: random, saved and SAC agents that make trajectories.
//! - [`dataset`]: trajectories in memory, and the file formats they come in.
//! - [`config`]: the recipe of a training run.
//! - [`batch`]: training sequences.
//! - [`model`]: the network in libtorch.
//! - [`bc`]: behaviour cloning, the baseline that Decision Transformers are compared with.
//! - [`flat`], [`optim`]: all parameters of a network in one tensor, and AdamW on it.
//! - [`train`]: the training loop; [`memory`]: a setting of the allocator that it profits from.
//! - [`run`]: the folder of a training run; [`checkpoint`]: what is in its checkpoints; [`plot`]: its learning curve.
//! - [`evaluate`]: returns of a policy, by the controller's engine and by libtorch.
//! - [`plot_targets`]: achieved against target return.
//! - [`predict`]: actions for given contexts, by libtorch and by the engine.
//! - [`quantize`]: what quantization costs; [`export`]: a trained network as a policy file.
//! - [`records`]: what evaluations and exports leave in the run folder; [`report`]: a page that compares runs.
//! - [`commands`]: the command line, one file per command.
//!
//! [`atomic`] writes every output file: to a temporary name first, then renamed.

pub mod batch;
pub mod bc;
pub mod checkpoint;
pub mod collect;
pub mod commands;
pub mod config;
pub mod dataset;
pub mod evaluate;
pub mod export;
pub mod flat;
mod linear;
pub mod memory;
pub mod model;
pub mod optim;
pub mod plot;
pub mod plot_demo;
pub mod plot_targets;
pub mod predict;
pub mod quantize;
pub mod records;
pub mod report;
pub mod run;
pub mod train;

pub use host_sim::atomic;
