//! Networks in libtorch.
//!
//! - [`parameters`]: what a network learns, by name; [`flat`]: all of it in one tensor.
//! - [`layers`]: layers bound to their parameters by name; [`transformer`]: the network of a Decision Transformer;
//!   [`mlp`]: that of behaviour cloning and of actors.
//! - [`optim`]: AdamW; [`schedule`]: the learning rate; [`descent`]: both on one network, and its average.
//! - [`critics`]: networks that judge, batched; [`gaussian`]: densities of actions.
//! - `host`: layers in plain Rust, for acting.

pub mod critics;
pub mod descent;
pub mod encoder;
pub mod flat;
pub mod gaussian;
pub(crate) mod host;
pub mod layers;
pub mod mlp;
pub mod optim;
pub mod parameters;
pub mod schedule;
pub mod transformer;

/// Every parameter of the network that a policy file declares.
pub fn parameters_of(config: &dt_core::Config) -> Vec<parameters::Parameter> {
    match config.is_mlp() {
        true => mlp::parameters(config),
        false => transformer::parameters(config, 0.0),
    }
}
