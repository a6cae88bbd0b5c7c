//! AArch64: four products per instruction with `SMLAL`, part of the NEON that every such
//! processor has.
//!
//! `cargo xtask test` does not get here. On an x86-64 machine with Debian's `qemu-user` and
//! `rustup target add aarch64-unknown-linux-musl`:
//!
//! ```sh
//! export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
//! export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64
//! cargo test -p dt-core --lib --target aarch64-unknown-linux-musl
//! ```

use core::arch::aarch64::{
    vaddvq_s32, vand_s16, vdup_n_s16, vdupq_n_s32, vld1_s8, vld1_s16, vmlal_s16,
    vreinterpret_s16_s8, vshr_n_s16, vsub_s16,
};

use super::scalar::{linear_by, linear_int4_by, products_by};
// What is not defined here is portable, and the compiler's own vectorization will do.
pub use super::scalar::*;
use crate::int4::Packed;

/// See [`super::linear`].
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    linear_by(dot_pair, packed, x, scale, bias, x_scale, y);
}

/// See [`super::linear_int4`].
pub fn linear_int4<const T: usize>(
    packed: Packed<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    linear_int4_by(dot_pair, packed, x, scale, bias, x_scale, y);
}

/// See [`super::products`].
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    products_by(dot_pair::<T>, packed, x, sums);
}

/// The dot products of one packed row pair with the activations of `T` tokens.
#[inline]
fn dot_pair<const T: usize>(pair: &[i8], x: &[i16]) -> [[i32; 2]; T] {
    let groups = x.as_chunks::<4>().0.as_chunks::<T>().0;
    // SAFETY: NEON is part of AArch64.
    let (zero, offset) = unsafe { (vdupq_n_s32(0), vdup_n_s16(128)) };
    let mut sums = [[zero; 2]; T];
    for (weights, x) in pair.as_chunks::<8>().0.iter().zip(groups) {
        // SAFETY: NEON; the load reads the eight bytes of the array. Row a is the high byte of each
        // half, row b, plus 128, the low one.
        let [a, b] = unsafe {
            let both = vreinterpret_s16_s8(vld1_s8(weights.as_ptr()));
            let low = vand_s16(both, vdup_n_s16(255));
            [vshr_n_s16::<8>(both), vsub_s16(low, offset)]
        };
        for ([sum_a, sum_b], x) in sums.iter_mut().zip(x) {
            // SAFETY: NEON; the load reads the eight bytes of the array.
            unsafe {
                let x = vld1_s16(x.as_ptr());
                *sum_a = vmlal_s16(*sum_a, a, x);
                *sum_b = vmlal_s16(*sum_b, b, x);
            }
        }
    }
    // SAFETY: NEON.
    sums.map(|rows| rows.map(|sum| unsafe { vaddvq_s32(sum) }))
}
