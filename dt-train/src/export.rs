//! A trained network as a policy file for a controller.

mod emit;

pub use emit::{ExportError, Trained, emit_bytes};
