//! The floating-point operations of the network, each in one fixed order so that every target
//! computes the same bits.
//!
//! exp and tanh are polynomials of this module, specified to the bit in `BLOB.md`; in files of version 1 they are what
//! `libm` computed when those were made (`ops/version_1.rs`); or they come from `micromath`, of one exact version,
//! where the policy file asks for it. Measured over the inputs that
//! matter (see the test `errors_of_exp_and_tanh`): exp on [−20, 0] has a relative error up to 1.5·10⁻⁶, since its
//! argument is rounded once more, and tanh an absolute error up to 1.2·10⁻⁷; `libm` stays within 10⁻⁷ in
//! both; `micromath`'s exp has a relative error up to 2.4·10⁻³, tanh built from it an absolute one up to 1.1·10⁻³.
//! GELU with the normal distribution has an absolute error up to 7.5·10⁻⁷ (`gelu_over_its_whole_range`), the other
//! activations and the gate those of exp and tanh.

use crate::config::{Activation, Math};
use crate::kernels;
use crate::quant::NonFinite;
use crate::slices::copy;

mod version_1;

/// Partial sums that [`sum`] and [`dot`] keep: enough to fill a SIMD register on the host,
/// few enough to stay in the 32 registers of a Cortex-M4 FPU.
const LANES: usize = 8;

/// Σ x\[i\], in the order of the numerics contract.
pub fn sum(x: &[f32]) -> f32 {
    let (chunks, tail) = x.as_chunks();
    let mut lanes = Lanes::default();
    for chunk in chunks {
        lanes.add(chunk);
    }
    if !tail.is_empty() {
        // Adding +0 changes no bit: a lane that starts at +0 never becomes −0.
        lanes.add(&padded(tail));
    }
    lanes.fold()
}

/// Σ x\[i\]·y\[i\] over the shorter length, in the order of the numerics contract.
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let len = if x.len() < y.len() { x.len() } else { y.len() };
    let [x, y] = [x, y].map(|values| values.get(..len).unwrap_or_default());
    let (x_chunks, x_tail) = x.as_chunks();
    let (y_chunks, y_tail) = y.as_chunks();
    let mut lanes = Lanes::default();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        lanes.add_products(x, y);
    }
    if !x_tail.is_empty() {
        lanes.add_products(&padded(x_tail), &padded(y_tail));
    }
    lanes.fold()
}

#[derive(Default)]
struct Lanes([f32; LANES]);

impl Lanes {
    #[inline(always)]
    fn add(&mut self, x: &[f32; LANES]) {
        for (lane, x) in self.0.iter_mut().zip(x) {
            *lane += x;
        }
    }

    #[inline(always)]
    fn add_products(&mut self, x: &[f32; LANES], y: &[f32; LANES]) {
        // Written out, because a compiler that optimizes for size would leave a loop.
        let Self([l0, l1, l2, l3, l4, l5, l6, l7]) = self;
        let [x0, x1, x2, x3, x4, x5, x6, x7] = x;
        let [y0, y1, y2, y3, y4, y5, y6, y7] = y;
        *l0 += x0 * y0;
        *l1 += x1 * y1;
        *l2 += x2 * y2;
        *l3 += x3 * y3;
        *l4 += x4 * y4;
        *l5 += x5 * y5;
        *l6 += x6 * y6;
        *l7 += x7 * y7;
    }

    #[inline(always)]
    fn fold(self) -> f32 {
        let [l0, l1, l2, l3, l4, l5, l6, l7] = self.0;
        ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
    }
}

fn padded(tail: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    copy(tail, &mut lanes);
    lanes
}

/// Applies the MLP's nonlinearity in place.
pub fn activate(activation: Activation, math: Math, x: &mut [f32]) {
    match activation {
        Activation::Relu => kernels::relu(x),
        Activation::GeluTanh => each(math, x, |math, x| {
            let cubic = x + 0.044_715 * ((x * x) * x);
            (0.5 * x) * (1.0 + tanh(math, 0.797_884_6 * cubic))
        }),
        Activation::Gelu => each(Math::Polynomial, x, |_, x| gelu(x)),
        // An infinity does not become a plausible number: ∞ stays it, and −∞/∞ is NaN.
        Activation::Silu => each(math, x, |math, x| x / logistic_divisor(math, x)),
        // Of an infinity, tanh would make a plausible number.
        Activation::Tanh => each(
            math,
            x,
            |math, x| {
                if x.is_finite() { tanh(math, x) } else { x }
            },
        ),
    }
}

/// Applies `f` to each value. Where exp comes from is decided once, not for each; what files have now is inlined.
#[inline(always)]
fn each(math: Math, x: &mut [f32], f: impl Fn(Math, f32) -> f32) {
    match math {
        Math::Polynomial => {
            for x in x {
                *x = f(Math::Polynomial, *x);
            }
        }
        Math::Libm | Math::Micromath => {
            for x in x {
                *x = f(math, *x);
            }
        }
    }
}

/// Multiplies each value by the logistic function of its gate.
///
/// # Errors
/// [`NonFinite`] if a gate is, of which the logistic function would make a plausible number.
pub fn gate(math: Math, x: &mut [f32], gates: &[f32]) -> Result<(), NonFinite> {
    for (x, &gate) in x.iter_mut().zip(gates) {
        if !gate.is_finite() {
            return Err(NonFinite);
        }
        *x /= logistic_divisor(math, gate);
    }
    Ok(())
}

/// 1 + e⁻ˣ, of which the logistic function is the reciprocal.
#[inline]
fn logistic_divisor(math: Math, x: f32) -> f32 {
    1.0 + exp(math, -x)
}

/// Where `micromath`'s exp ends.
const MICROMATH_LARGE: f32 = 88.0;

/// eˣ. NaN stays NaN, which `micromath` alone would turn into 0 or ∞.
#[inline]
pub fn exp(math: Math, x: f32) -> f32 {
    match math {
        Math::Libm => version_1::exp(x),
        Math::Micromath if x.is_nan() => x,
        // Between 88.73 and 89.4 it would be NaN.
        Math::Micromath if x > MICROMATH_LARGE => f32::INFINITY,
        Math::Micromath => micromath::F32(x).exp().0,
        Math::Polynomial => exp2(x * core::f32::consts::LOG2_E),
    }
}

/// 2ˣ for softmax and [`Math::Polynomial`]: the nearest integer goes to the exponent, a polynomial of degree 5 (minimax
/// in relative error, fitted for this crate) takes the rest in ±½. Relative error below 2·10⁻⁷. +0 below
/// −125, so that nothing is subnormal; ∞ above 127; NaN stays NaN.
#[inline]
pub fn exp2(x: f32) -> f32 {
    // NaN's payload must not reach the addition below.
    if x.is_nan() {
        return x;
    }
    if x < -125.0 {
        return 0.0;
    }
    if x > 127.0 {
        return f32::INFINITY;
    }
    exp2_between(x)
}

/// The same for −125 ≤ x ≤ 127.
#[inline]
fn exp2_between(x: f32) -> f32 {
    let shifted = x + ROUNDING;
    let rest = x - (shifted - ROUNDING);
    let [c1, c2, c3, c4, c5] = EXP2;
    let power = ((((c5 * rest + c4) * rest + c3) * rest + c2) * rest + c1) * rest + 1.0;
    // The integer lies in the low bits of `shifted`; what is above them is shifted out.
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 1.5 · 2²³: adding it leaves the nearest integer (ties to even) in the low mantissa bits.
const ROUNDING: f32 = 12_582_912.0;

/// 2ˣ = 1 + c₁x + … + c₅x⁵ for |x| ≤ ½.
#[allow(clippy::approx_constant, reason = "c₁ is near ln 2, but not it")]
const EXP2: [f32; 5] = [
    0.693_147,
    0.240_222_42,
    0.055_507_336,
    0.009_671_513,
    0.001_326_472_5,
];

/// tanh x = x + x³·(c₀ + c₁x² + … + c₄x⁸) for |x| < 0.625.
const TANH: [f32; 5] = [
    -0.333_332_8,
    0.133_314_42,
    -0.053_739_715,
    0.020_639_086,
    -0.005_704_985,
];

/// Where tanh changes from its polynomial to exp.
const TANH_SMALL: f32 = 0.625;

#[inline]
fn tanh_polynomial(x: f32) -> f32 {
    let size = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let tanh = if size < TANH_SMALL {
        let square = size * size;
        let [c0, c1, c2, c3, c4] = TANH;
        let cubic = (((c4 * square + c3) * square + c2) * square + c1) * square + c0;
        size + size * (square * cubic)
    } else {
        1.0 - 2.0 / (exp(Math::Polynomial, 2.0 * size) + 1.0)
    };
    f32::from_bits(tanh.to_bits() | (x.to_bits() & 0x8000_0000))
}

/// tanh(x). NaN stays NaN.
#[inline]
pub fn tanh(math: Math, x: f32) -> f32 {
    match math {
        Math::Libm => version_1::tanh(x),
        // Here tanh is 1 in f32 already.
        Math::Micromath if x > 10.0 => 1.0,
        Math::Micromath => 1.0 - 2.0 / (exp(math, 2.0 * x) + 1.0),
        Math::Polynomial => tanh_polynomial(x),
    }
}

/// Φ(−x) = 2^−(c₀ + c₁x + … + c₅x⁵) for x ≥ 0.
const NORMAL_TAIL: [f32; 6] = [
    1.0,
    1.151_000_5,
    0.459_595_83,
    0.052_146_632,
    -0.007_198_718_4,
    0.000_488_102_12,
];

/// x·Φ(x), Φ the normal distribution, as max(x, 0) − |x|·Φ(−|x|): one polynomial for all x, fitted for this crate (minimax in
/// the error of the result). The same wherever exp and tanh come from. NaN stays NaN, and infinities become it.
#[inline]
fn gelu(x: f32) -> f32 {
    let size = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let [c0, c1, c2, c3, c4, c5] = NORMAL_TAIL;
    let power = ((((c5 * size + c4) * size + c3) * size + c2) * size + c1) * size + c0;
    let positive = if x < 0.0 { 0.0 } else { x };
    // Of all power there is, 1…∞; and what is made of NaN, size makes NaN again.
    let tail = if power > 125.0 {
        0.0
    } else {
        exp2_between(-power)
    };
    positive - size * tail
}

/// `x` limited to [low, high]; NaN stays NaN.
#[inline]
pub fn clamp(x: f32, low: f32, high: f32) -> f32 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

#[cfg(test)]
mod tests;
