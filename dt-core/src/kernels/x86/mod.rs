//! x86-64: SSE2, which every such processor has, and AVX2 or AVX512-VNNI where there is any.

mod avx2;
mod avx512;
mod int4;
pub mod sse2;

use core::arch::x86_64::{__cpuid_count, __m128i, _mm_loadl_epi64};
use core::sync::atomic::{AtomicU8, Ordering};

use super::scalar;
pub use super::scalar::{add, layer_norm, relu};
pub use sse2::quantize_groups;
pub use with_vnni::{linear, linear_int4, products};

cpufeatures::new!(avx2_token, "avx2");
cpufeatures::new!(avx512_token, "avx2", "avx512f", "avx512bw", "avx512vl");

fn has_avx2() -> bool {
    cfg!(avx2_kernels) && avx2_token::get()
}

/// Whether there is AVX512-VNNI, with all else that its kernels use.
fn has_vnni() -> bool {
    cfg!(vnni_kernels) && avx512_token::get() && has_vnni_bit()
}

/// The bit of it alone, which `cpufeatures` does not know. What asks for it knows that the system
/// keeps the registers.
fn has_vnni_bit() -> bool {
    // 0: nobody has looked. Asking the processor takes microseconds, more in a virtual machine.
    static BIT: AtomicU8 = AtomicU8::new(0);
    match BIT.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: AVX-512 is known to be there, so leaf 7 is.
            #[allow(unused_unsafe, reason = "no longer unsafe in later versions of Rust")]
            let bit = unsafe { __cpuid_count(7, 0) }.ecx >> 11 & 1 != 0;
            BIT.store(1 + u8::from(bit), Ordering::Relaxed);
            bit
        }
        known => known == 2,
    }
}

/// The matrix products of module `$wide` where the processor has it and they fit, otherwise those of
/// `$otherwise`.
macro_rules! where_there_is {
    ($has:ident, $wide:ident, $otherwise:ident) => {
        use super::{$has, $otherwise, $wide};
        use crate::int4::Packed;

        /// See [`crate::unstable::kernels::linear`].
        #[inline]
        pub fn linear<const T: usize>(
            packed: &[i8],
            x: &[i16],
            scale: &[f32],
            bias: &[f32],
            x_scale: &[f32; T],
            y: &mut [f32],
        ) {
            if $wide::fits::<T>(x) && $has() {
                // SAFETY: the processor has what it takes.
                unsafe { $wide::linear(packed, x, scale, bias, x_scale, y) }
            } else {
                $otherwise::linear(packed, x, scale, bias, x_scale, y);
            }
        }

        /// See [`crate::unstable::kernels::linear_int4`].
        #[inline]
        pub fn linear_int4<const T: usize>(
            packed: Packed<'_>,
            x: &[i16],
            scale: &[f32],
            bias: &[f32],
            x_scale: &[f32; T],
            y: &mut [f32],
        ) {
            if $wide::fits::<T>(x) && $has() {
                // SAFETY: the processor has what it takes.
                unsafe { $wide::linear_int4(packed, x, scale, bias, x_scale, y) }
            } else {
                $otherwise::linear_int4(packed, x, scale, bias, x_scale, y);
            }
        }

        /// See [`crate::unstable::kernels::products`].
        #[inline]
        pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
            if $wide::fits::<T>(x) && $has() {
                // SAFETY: the processor has what it takes.
                unsafe { $wide::products::<T>(packed, x, sums) }
            } else {
                $otherwise::products::<T>(packed, x, sums);
            }
        }
    };
}

/// AVX2 at most.
pub mod with_avx2 {
    where_there_is!(has_avx2, avx2, sse2);
}

/// All there is.
pub mod with_vnni {
    where_there_is!(has_vnni, avx512, with_avx2);
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

/// Shuffles four 16-bit lanes into the order of packed int4: 0, 2, 1, 3.
const ORDER: i32 = 0b11_01_10_00;

/// Eight bytes in the low half of a register.
#[inline]
fn load64<T, const N: usize>(bytes: &[T; N]) -> __m128i {
    const { assert!(size_of::<T>() * N == 8) };
    // SAFETY: reads the eight bytes of the array; the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}
