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
mod tests {
    use super::*;

    #[test]
    fn sums_follow_the_contract() {
        // Values for which every other order gives another result.
        let x: [f32; 19] =
            core::array::from_fn(|i| [1e8, 1.0, -1e8, 3.5e-3][i % 4] * (i as f32 + 0.7));
        let mut lanes = [0.0f32; 8];
        for (i, x) in x.iter().enumerate() {
            lanes[i % 8] += x;
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let expected = ((a + e) + (c + g)) + ((b + f) + (d + h));
        assert_eq!(sum(&x).to_bits(), expected.to_bits());
        assert_eq!(dot(&x, &[1.0; 19]).to_bits(), expected.to_bits());
        assert_ne!(sum(&x), x.iter().sum::<f32>());
    }

    #[test]
    fn dot_goes_over_the_shorter_length() {
        let x: [f32; 19] = core::array::from_fn(|i| i as f32 + 1.0);
        for (m, n) in (0..19).flat_map(|m| (0..19).map(move |n| (m, n))) {
            let expected = sum(&x[..m.min(n)]);
            assert_eq!(dot(&x[..m], &[1.0; 19][..n]), expected, "{m} {n}");
        }
        assert_eq!(dot(&[1.0], &[2.0, f32::INFINITY]), 2.0);
    }

    #[test]
    fn clamp_keeps_nan() {
        assert_eq!(clamp(3.0, -1.0, 1.0), 1.0);
        assert_eq!(clamp(-3.0, -1.0, 1.0), -1.0);
        assert!(clamp(f32::NAN, -1.0, 1.0).is_nan());
    }

    const ACTIVATIONS: [Activation; 5] = [
        Activation::Relu,
        Activation::GeluTanh,
        Activation::Gelu,
        Activation::Silu,
        Activation::Tanh,
    ];

    /// NaN stays it, and of an infinity no activation makes a plausible number.
    #[test]
    fn nan_stays_nan() {
        for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7fc0_0001)] {
            for math in [Math::Libm, Math::Micromath, Math::Polynomial] {
                assert!(
                    exp(math, nan).is_nan() && tanh(math, nan).is_nan(),
                    "{math:?}"
                );
                for activation in ACTIVATIONS {
                    let mut x = [nan];
                    activate(activation, math, &mut x);
                    assert!(x[0].is_nan(), "{activation:?} {math:?}");
                    let mut x = [f32::INFINITY, f32::NEG_INFINITY];
                    activate(activation, math, &mut x);
                    assert!(
                        !x[0].is_finite() && !x[1].is_finite(),
                        "{activation:?} {math:?}"
                    );
                }
            }
        }
        let mut x = [-0.0, -1.0, f32::MIN, 2.0, f32::NEG_INFINITY];
        activate(Activation::Relu, Math::Libm, &mut x);
        assert_eq!(
            x.map(f32::to_bits),
            [0.0, 0.0, 0.0, 2.0, f32::NEG_INFINITY].map(f32::to_bits)
        );
    }

    #[test]
    fn a_gate_lets_through_by_the_logistic_function() {
        let mut x = [2.0, 2.0, 2.0, 2.0];
        gate(Math::Polynomial, &mut x, &[0.0, 1.0, -200.0, 200.0]).unwrap();
        let expected = [1.0, 1.462_117_2, 0.0, 2.0];
        for (x, expected) in x.iter().zip(expected) {
            assert!((x - expected).abs() < 5e-7, "{x} {expected}");
        }
        for infinite in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(
                gate(Math::Polynomial, &mut [1.0], &[infinite]),
                Err(NonFinite)
            );
        }
    }

    #[test]
    fn micromath_tanh_is_finite_everywhere() {
        for i in 0..=20_000 {
            for x in [i as f32 * 0.01, i as f32 * -0.01] {
                let error = f64::from(tanh(Math::Micromath, x)) - f64::from(x).tanh();
                assert!(error.abs() < 1.1e-3, "tanh({x})");
            }
        }
        for (x, expected) in [(f32::MAX, 1.0), (f32::MIN, -1.0)] {
            assert_eq!(tanh(Math::Micromath, x), expected);
        }
    }

    /// Pins the errors that the module documentation states.
    #[test]
    fn errors_of_exp_and_tanh() {
        const ALL: [Math; 3] = [Math::Libm, Math::Micromath, Math::Polynomial];
        let mut worst = [[0.0f64; 2]; ALL.len()];
        for i in 0..=200_000 {
            let x = -20.0 + i as f32 * 1e-4;
            let t = -8.0 + i as f32 * 8e-5;
            for (worst, math) in worst.iter_mut().zip(ALL) {
                let reference = f64::from(x).exp();
                let relative = (f64::from(exp(math, x)) - reference).abs() / reference;
                let absolute = (f64::from(tanh(math, t)) - f64::from(t).tanh()).abs();
                worst[0] = worst[0].max(relative);
                worst[1] = worst[1].max(absolute);
            }
        }
        let [
            [libm_exp, libm_tanh],
            [micromath_exp, micromath_tanh],
            [own_exp, own_tanh],
        ] = worst;
        assert!(libm_exp < 1e-7 && libm_tanh < 1e-7, "{worst:?}");
        assert!((2.3e-3..2.4e-3).contains(&micromath_exp), "{worst:?}");
        assert!((1.0e-3..1.1e-3).contains(&micromath_tanh), "{worst:?}");
        assert!((1.0e-6..1.5e-6).contains(&own_exp), "{worst:?}");
        assert!((5e-8..1.2e-7).contains(&own_tanh), "{worst:?}");
        assert_eq!(exp(Math::Micromath, 0.0), 1.0);
        assert_eq!(exp(Math::Micromath, -1e30), 0.0);
        assert_eq!(tanh(Math::Micromath, 1e30), 1.0);
        assert_eq!(tanh(Math::Micromath, -1e30), -1.0);
    }

    /// GELU stays within the stated error over all of its range, nothing happens at its ends, and its tail is no noise.
    #[test]
    fn gelu_over_its_whole_range() {
        // x·Φ(x) with Φ from tables (Abramowitz & Stegun 1964, table 26.1).
        for (x, reference) in [
            (0.5, 0.345_731_231),
            (1.0, 0.841_344_746),
            (-1.0, -0.158_655_254),
            (-2.0, -0.045_500_264),
            (3.0, 2.995_950_306),
        ] {
            let error = (f64::from(gelu(x)) - reference).abs();
            assert!(error < 7.5e-7, "gelu({x}): {error:e}");
        }
        let mut worst = 0.0f64;
        for i in -800_000..=800_000i32 {
            let x = i as f32 * 1e-5;
            let exact = f64::from(x);
            let reference = 0.5 * exact * libm::erfc(-exact * core::f64::consts::FRAC_1_SQRT_2);
            worst = worst.max((f64::from(gelu(x)) - reference).abs());
        }
        assert!((5e-7..7.5e-7).contains(&worst), "{worst:e}");
        assert_eq!([100.0, f32::MAX].map(gelu), [100.0, f32::MAX]);
        assert_eq!([-100.0, f32::MIN].map(gelu), [0.0; 2]);
        assert!(
            [f32::INFINITY, f32::NEG_INFINITY]
                .iter()
                .all(|&x| gelu(x).is_nan())
        );
    }

    /// Of a finite number activations and gates make a finite one, also where exp overflows, and between 88.73 and 89.4, where
    /// `micromath` alone makes NaN of it.
    #[test]
    fn what_is_finite_stays_finite() {
        let (from, to) = ((88f32).to_bits(), (89.5f32).to_bits());
        for math in [Math::Libm, Math::Micromath, Math::Polynomial] {
            for activation in ACTIVATIONS {
                for bits in (from..to)
                    .step_by(7)
                    .chain([100f32.to_bits(), f32::MAX.to_bits()])
                {
                    let size = f32::from_bits(bits);
                    let mut x = [size, -size];
                    activate(activation, math, &mut x);
                    // tanh-GELU's cube overflows, and NaN is what it says then.
                    let overflow = activation == Activation::GeluTanh && size > 1e12;
                    assert!(
                        overflow || x.iter().all(|x| x.is_finite()),
                        "{activation:?} {math:?} {size}: {x:?}"
                    );
                    let mut x = [size, size];
                    gate(math, &mut x, &[size, -size]).unwrap();
                    assert!(x.iter().all(|x| x.is_finite()), "{math:?} {size}: {x:?}");
                }
            }
        }
    }

    /// Powers of two are exact, errors stay within the stated bound over every exponent, and the ends are what they should be.
    #[test]
    fn exp2_over_its_whole_range() {
        for n in -125..=127 {
            assert_eq!(exp2(n as f32), 2f32.powi(n));
        }
        let mut worst = 0.0f64;
        for i in 0..2_520_000 {
            let x = -125.0 + i as f32 * 1e-4;
            let reference = f64::from(x).exp2();
            worst = worst.max((f64::from(exp2(x)) / reference - 1.0).abs());
        }
        assert!((1e-7..2e-7).contains(&worst), "{worst:e}");
        let ends = [-125.001, f32::MIN, f32::NEG_INFINITY];
        assert_eq!(ends.map(|x| exp2(x).to_bits()), [0; 3]);
        assert_eq!(
            [128.0, f32::MAX, f32::INFINITY].map(exp2),
            [f32::INFINITY; 3]
        );
    }

    /// Small arguments keep their relative accuracy, the seam is no step, and signs are kept.
    #[test]
    fn tanh_from_tiny_to_saturated() {
        let tanh = |x| tanh(Math::Polynomial, x);
        let mut worst = 0.0f64;
        for exponent in -120..4 {
            for i in 0..4000 {
                let x = 2f32.powi(exponent) * (1.0 + i as f32 / 4000.0);
                let reference = f64::from(x).tanh();
                worst = worst.max((f64::from(tanh(x)) / reference - 1.0).abs());
                assert_eq!(tanh(-x).to_bits(), (-tanh(x)).to_bits());
            }
        }
        assert!((8e-8..2.5e-7).contains(&worst), "{worst:e}");
        assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!([10.0, f32::MAX, f32::INFINITY].map(tanh), [1.0; 3]);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
    }
}
