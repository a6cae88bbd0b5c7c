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
    vaddvq_s32, vdupq_n_s32, vget_high_s16, vget_low_s16, vld1_s8, vld1_s16, vld1_u8, vmlal_s16,
    vmovl_s8, vreinterpret_s8_u8, vtbl1_s8,
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

/// From the order of packed weights, 0 2 1 3 of two rows, to that of columns.
const ORDER: [u8; 8] = [0, 2, 1, 3, 4, 6, 5, 7];

/// The dot products of one packed row pair with the activations of `T` tokens.
#[inline]
fn dot_pair<const T: usize>(pair: &[i8], x: &[i16]) -> [[i32; 2]; T] {
    let groups = x.as_chunks::<4>().0.as_chunks::<T>().0;
    // SAFETY: NEON is part of AArch64; the load reads the eight bytes of `ORDER`.
    let (order, zero) = unsafe { (vreinterpret_s8_u8(vld1_u8(ORDER.as_ptr())), vdupq_n_s32(0)) };
    let mut sums = [[zero; 2]; T];
    for (weights, x) in pair.as_chunks::<8>().0.iter().zip(groups) {
        // SAFETY: NEON; the load reads the eight bytes of the array.
        let [a, b] = unsafe {
            let weights = vmovl_s8(vtbl1_s8(vld1_s8(weights.as_ptr()), order));
            [vget_low_s16(weights), vget_high_s16(weights)]
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
