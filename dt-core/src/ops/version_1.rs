//! exp and tanh of files of version 1, to the bit.
//!
//! Version 1 says "what `libm` 0.2 computes", and what that is must not change with the version of a crate that a build happens to
//! find. So it is written down here: the algorithms published with FreeBSD's msun (`e_expf.c`, `s_expm1f.c`,
//! `s_tanhf.c`, after Sun's fdlibm). A multiple of ln 2, held in two parts, is taken off the argument; a short polynomial takes
//! the rest, and a power of two scales it back. The order of roundings is binding. `libm` is what the tests compare with.

const INVERSE_LN_2: f32 = f32::from_bits(0x3fb8_aa3b);
/// ½ ln 2: up to here nothing is taken off.
const HALF_LN_2: f32 = f32::from_bits(0x3eb1_7218);
/// 1½ ln 2: up to here the multiple is ±1.
const THREE_HALVES_LN_2: f32 = f32::from_bits(0x3f85_1592);

/// eˣ; NaN stays NaN.
pub(super) fn exp(x: f32) -> f32 {
    const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    if x.is_nan() {
        return x;
    }
    // Beyond them the result is no finite number or, to the nearest, no positive one.
    if x >= 88.722_84 {
        return f32::INFINITY;
    }
    if x <= -103.972_084 {
        return 0.0;
    }
    if size(x) <= 1.220_703_1e-4 {
        return 1.0 + x;
    }
    let (k, high, low) = reduce(x, LN_2);
    let r = high - low;
    let square = r * r;
    let c = r - square * (0.166_666_25 + square * -2.766_733_3e-3);
    scale(1.0 + (r * c / (2.0 - c) - low + high), k)
}

/// tanh x; NaN stays NaN.
pub(super) fn tanh(x: f32) -> f32 {
    let size = size(x);
    let tanh = if size.is_nan() || size < f32::MIN_POSITIVE {
        size
    } else if size > 10.0 {
        1.0
    } else if size > 0.549_306_15 {
        1.0 - 2.0 / (exp_m1(2.0 * size) + 2.0)
    } else if size > 0.255_412_82 {
        let t = exp_m1(2.0 * size);
        t / (t + 2.0)
    } else {
        let t = exp_m1(-2.0 * size);
        -t / (t + 2.0)
    };
    f32::from_bits(tanh.to_bits() | (x.to_bits() & 0x8000_0000))
}

/// eˣ − 1 for −0.52 < x < 0 and 0.51 < x ≤ 20, all that tanh asks for.
fn exp_m1(x: f32) -> f32 {
    const LN_2: [f32; 2] = [0.693_138_1, 9.058_001e-6];
    if size(x) < 2.980_232_2e-8 {
        return x;
    }
    let (k, high, low) = reduce(x, LN_2);
    let r = high - low;
    let half = 0.5 * r;
    let square = r * half;
    let r1 = 1.0 + square * (-3.333_321_2e-2 + square * 1.580_717e-3);
    let t = 3.0 - r1 * half;
    let e = square * ((r1 - t) / (6.0 - r * t));
    if k == 0 {
        return r - (r * e - square);
    }
    // What `r` was rounded by.
    let c = (high - r) - low;
    let e = r * (e - c) - c - square;
    match k {
        -1 => 0.5 * (r - e) - 0.5,
        1 => 1.0 + 2.0 * (r - e),
        ..23 => scale(r - e + (1.0 - scale(1.0, k.wrapping_neg())), k),
        _ => scale(r - (e + scale(1.0, k.wrapping_neg())) + 1.0, k),
    }
}

/// k, a and b with x = k ln 2 + a − b, for |x| < 105.
fn reduce(x: f32, [ln_2_high, ln_2_low]: [f32; 2]) -> (i32, f32, f32) {
    let sign = if x < 0.0 { -1.0f32 } else { 1.0 };
    let k = if size(x) <= HALF_LN_2 {
        return (0, x, 0.0);
    } else if size(x) <= THREE_HALVES_LN_2 {
        sign
    } else {
        (INVERSE_LN_2 * x + 0.5 * sign) as i32 as f32
    };
    (k as i32, x - k * ln_2_high, k * ln_2_low)
}

/// x · 2ᵏ for −252 ≤ k ≤ 254, rounded once at most, since half of the exponent leaves a normal number.
fn scale(x: f32, k: i32) -> f32 {
    let half = k >> 1;
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) as u32) << 23);
    x * power(half) * power(k.wrapping_sub(half))
}

fn size(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0x7fff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_same(bits: u32) {
        let x = f32::from_bits(bits);
        for (name, own, reference) in [
            ("exp", exp(x), libm::expf(x)),
            ("tanh", tanh(x), libm::tanhf(x)),
        ] {
            if x.is_nan() {
                assert!(own.is_nan() && reference.is_nan(), "{name} of {bits:08x}");
            } else {
                assert_eq!(
                    own.to_bits(),
                    reference.to_bits(),
                    "{name}({x:e}), {bits:08x}"
                );
            }
        }
    }

    /// Every sign and exponent, subnormals, infinities and NaN with them, each with 8192 mantissas from one end to the other;
    /// where the algorithms change branch, everything near.
    #[test]
    fn same_bits_as_libm() {
        for exponent in 0..0x200u32 {
            for i in 0..0x2000u32 {
                // Odd multiples reach low mantissa bits too.
                let mantissa = (i << 10) | (i.wrapping_mul(0x9e37_79b9) >> 22);
                assert_same((exponent << 23) | mantissa);
            }
        }
        let seams = [
            88.722_84,
            103.972_084,
            87.336_55,
            1.220_703_1e-4,
            2.980_232_2e-8,
            HALF_LN_2,
            THREE_HALVES_LN_2,
            10.0,
            0.549_306_15,
            0.255_412_82,
            0.5 * HALF_LN_2,
            0.5 * THREE_HALVES_LN_2,
            22.5 * core::f32::consts::LN_2,
            11.25 * core::f32::consts::LN_2,
        ];
        for seam in seams {
            for bits in seam.to_bits() - 2000..seam.to_bits() + 2000 {
                assert_same(bits);
                assert_same(bits | 0x8000_0000);
            }
        }
    }

    /// All that softmax and GELU of version 1 can ask for, and everything else.
    #[test]
    #[ignore = "four minutes: cargo xtask test --long"]
    fn same_bits_as_libm_everywhere() {
        (0..=u32::MAX).for_each(assert_same);
    }
}
