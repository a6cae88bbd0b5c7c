//! x86-64: SSE2, which every such processor has, or AVX2 where there is any.

mod avx2;
pub mod sse2;

use core::arch::x86_64::{__m128i, _mm_loadl_epi64};

use super::scalar;
pub use super::scalar::{add, layer_norm, relu};
pub use sse2::{linear_int4, quantize_groups};

cpufeatures::new!(avx2_token, "avx2");

fn has_avx2() -> bool {
    cfg!(avx2_kernels) && avx2_token::get()
}

/// See [`super::linear`].
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    if avx2::fits::<T>(x) && has_avx2() {
        // SAFETY: the processor has AVX2.
        unsafe { avx2::linear(packed, x, scale, bias, x_scale, y) }
    } else {
        sse2::linear(packed, x, scale, bias, x_scale, y);
    }
}

/// See [`super::products`].
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    if avx2::fits::<T>(x) && has_avx2() {
        // SAFETY: the processor has AVX2.
        unsafe { avx2::products::<T>(packed, x, sums) }
    } else {
        sse2::products::<T>(packed, x, sums);
    }
}

/// See [`super::magnitude`].
pub fn magnitude(x: &[f32]) -> u32 {
    if has_avx2() {
        // SAFETY: the processor has AVX2.
        unsafe { avx2::magnitude(x) }
    } else {
        scalar::magnitude(x)
    }
}

/// Eight bytes in the low half of a register.
#[inline]
fn load64<T, const N: usize>(bytes: &[T; N]) -> __m128i {
    const { assert!(size_of::<T>() * N == 8) };
    // SAFETY: reads the eight bytes of the array; the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}
