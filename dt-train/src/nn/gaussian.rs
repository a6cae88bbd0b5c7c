//! Gaussians of actions.

use std::f64::consts::{LN_2, PI};

use tch::{Kind, Tensor};

/// Squashed actions tanh(mean + e^`log_std` · `noise`), with the logarithm of their probability density: of (…, act_dim), with
/// standard normal `noise`, → (…, act_dim) and (…).
pub fn squashed(mean: &Tensor, log_std: &Tensor, noise: &Tensor) -> (Tensor, Tensor) {
    let raw = mean + log_std.exp() * noise;
    // ln N(raw) − ln(1 − tanh²(raw)), the latter as 2·(ln 2 − raw − softplus(−2·raw)), which does not cancel.
    let normal = noise.square() * -0.5 - log_std - 0.5 * (2.0 * PI).ln();
    let squashing: Tensor = (LN_2 - &raw - (&raw * -2.0).softplus()) * 2.0;
    let log_prob = (normal - squashing).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    (raw.tanh(), log_prob)
}

/// Logarithm of the normal density of `actions` (B, act_dim) around `mean` (B, act_dim), with e^`log_std` (act_dim) for standard
/// deviations, (B).
pub fn log_density(mean: &Tensor, log_std: &Tensor, actions: &Tensor) -> Tensor {
    let standard = (actions - mean) * (-log_std).exp();
    let each = standard.square() * -0.5 - log_std - 0.5 * (2.0 * PI).ln();
    each.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
}
