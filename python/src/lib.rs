//! Policy files in Python: the engine of the controller behind a class, NumPy in and out.
//!
//! `policy` is the class, `vector` what it takes for a vector and what it gives. An action comes from
//! [`host_sim::controller`], as in every rollout, so its bits are those of `host-sim` and of the controller.
//! `dt_policy.pyi` describes all this to Python's type checkers; `tests/` are the tests, run by `cargo xtask python`.
#![deny(unsafe_code)]

mod policy;
mod vector;

use pyo3::prelude::*;

/// Decision Transformer policies, as `dt-train export` writes them, on this machine.
///
/// >>> policy = dt_policy.Policy("policy.dtb")
/// >>> policy.reset()
/// >>> action = policy.act(observation)
/// >>> policy.absorb(reward)
#[pymodule]
mod dt_policy {
    #[pymodule_export]
    use super::policy::{FaultWarning, Policy};

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
