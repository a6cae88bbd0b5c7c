//! Collects trajectories, trains Decision Transformers on them with libtorch, quantizes and exports them.
//!
//! One file per stage of the pipeline, in the order data flows through them:
//!
//! - [`commands`]: the command line, one file per command.
//!
//! [`atomic`] writes every output file: to a temporary name first, then renamed.

pub mod atomic;
pub mod commands;
