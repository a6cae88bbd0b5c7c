//! Networks in libtorch.
//!
//! - [`transformer`]: the network of a Decision Transformer, for batches.
//! - [`flat`], [`optim`]: all parameters of a network in one tensor, and AdamW on it.
//! - `descent`: parameters, their optimizer and their average; [`schedule`]: the learning rate.
//! - `host`: layers in plain Rust, for acting.

pub(crate) mod descent;
pub mod flat;
pub(crate) mod host;
pub mod optim;
pub mod schedule;
pub mod transformer;
