//! What this project's own crates need of the inside: exporter, benchmarks, tests. **Any version may change or remove any of it.**

/// Random numbers of sampled actions.
pub mod chacha {
    pub use crate::chacha::*;
}

/// From logits to the index of an action.
pub mod choice {
    pub use crate::choice::*;
}

/// Weights of four bits.
pub mod int4 {
    pub use crate::int4::*;
}

/// The inner loops.
pub mod kernels {
    pub use crate::kernels::*;
}

/// The network's tensors, where they lie in the file.
pub mod model {
    pub use crate::model::*;
}

/// Operations on floats, each in one fixed order.
pub mod ops {
    pub use crate::ops::*;
}

/// Rounding to integers.
pub mod quant {
    pub use crate::quant::*;
}
