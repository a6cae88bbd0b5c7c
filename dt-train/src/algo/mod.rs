//! The learning algorithms.

pub mod bc;
pub mod dt;
pub mod sac;
