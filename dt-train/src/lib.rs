//! Collects trajectories, trains Decision Transformers on them with libtorch, quantizes and exports them.
//!
//! In the order in which data flow through it:
//!
//! - [`collect`]: agents in their environments, whose trajectories become data.
//! - [`data`]: trajectories in memory, the file formats they come in, and what of them makes a batch.
//! - [`config`]: the recipe of a training run.
//! - [`nn`]: networks in libtorch, their parameters, and descent on them.
//! - [`algo`]: the learning algorithms, one file each.
//! - [`run`]: the folder of a training run, and the loop that fills it.
//! - [`evaluate`]: returns of a policy, by the controller's engine and by libtorch.
//! - [`deploy`]: a trained network as a policy file: quantization, golden vectors, and what both cost.
//! - [`hf`]: Hugging Face's Decision Transformers as runs, and back.
//! - [`stats`]: spreads and intervals of what was measured.
//! - [`report`]: what runs reached, as charts and a page.
//! - [`commands`]: the command line, one file per command.
//!
//! [`memory`] is a setting of the allocator that training profits from. [`atomic`] writes every output file: to a
//! temporary name first, then renamed.
// Which panics when nobody reads it any more.
#![deny(clippy::print_stdout)]

pub mod algo;
pub mod collect;
pub mod commands;
pub mod config;
pub mod data;
pub mod deploy;
pub mod evaluate;
pub mod hf;
pub mod memory;
pub mod nn;
pub mod report;
pub mod run;
pub mod stats;

pub use host_sim::atomic;
