//! x86-64: eight products per instruction with `PMADDWD`, part of the SSE2 that every such
//! processor has.

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_cvtsi128_si64, _mm_loadl_epi64, _mm_loadu_si128,
    _mm_madd_epi16, _mm_setzero_si128, _mm_shuffle_epi32, _mm_shufflehi_epi16, _mm_shufflelo_epi16,
    _mm_srai_epi16, _mm_unpackhi_epi64, _mm_unpacklo_epi8, _mm_unpacklo_epi64,
};

use super::scalar;
pub use super::scalar::weighted_sum;

/// See [`scalar::dot_pair`], which this equals.
#[inline]
pub fn dot_pair<const T: usize>(pair: &[i8], x: &[i16]) -> [[i32; 2]; T] {
    let groups = x.as_chunks::<4>().0.as_chunks::<T>().0;
    // SAFETY: SSE2 is part of x86-64.
    let zero = unsafe { _mm_setzero_si128() };
    let mut sums = [zero; T];
    for (weights, x) in pair.as_chunks::<8>().0.iter().zip(groups) {
        let weights = load64(weights);
        // SAFETY: SSE2. Each byte goes to the high half of a 16-bit lane, then down with its sign.
        let weights = unsafe { _mm_srai_epi16::<8>(_mm_unpacklo_epi8(zero, weights)) };
        for (sum, x) in sums.iter_mut().zip(x) {
            let x = load64(x);
            // SAFETY: SSE2. (x0, x2, x1, x3) is the byte order of packed weights; twice, for two rows.
            unsafe {
                let x = _mm_shufflelo_epi16::<0b11_01_10_00>(x);
                let x = _mm_unpacklo_epi64(x, x);
                *sum = _mm_add_epi32(*sum, _mm_madd_epi16(weights, x));
            }
        }
    }
    // Lanes are row a, row a, row b, row b.
    sums.map(|sum| {
        // SAFETY: SSE2.
        let both = unsafe {
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
            [sum, _mm_unpackhi_epi64(sum, sum)].map(|lanes| _mm_cvtsi128_si64(lanes))
        };
        both.map(|lanes| lanes as i32)
    })
}

/// See [`scalar::dot`], which this equals.
#[inline]
pub fn dot(q: &[i16], k: &[i8]) -> i32 {
    let (q, q_tail) = q.as_chunks::<8>();
    let (k, k_tail) = k.as_chunks::<8>();
    // SAFETY: SSE2 is part of x86-64.
    let mut sum = unsafe { _mm_setzero_si128() };
    for (q, k) in q.iter().zip(k) {
        // SAFETY: SSE2; the 16 bytes loaded are those of the array, unaligned.
        unsafe {
            let k = _mm_srai_epi16::<8>(_mm_unpacklo_epi8(_mm_setzero_si128(), load64(k)));
            let q = _mm_loadu_si128(q.as_ptr().cast());
            let q = _mm_shufflelo_epi16::<0b11_01_10_00>(q);
            let q = _mm_shufflehi_epi16::<0b11_01_10_00>(q);
            sum = _mm_add_epi32(sum, _mm_madd_epi16(k, q));
        }
    }
    // SAFETY: SSE2.
    let sum = unsafe {
        let sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
        _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum)))
    };
    sum + scalar::dot(q_tail, k_tail)
}

/// Eight bytes in the low half of a register.
#[inline]
fn load64<T, const N: usize>(bytes: &[T; N]) -> __m128i {
    const { assert!(size_of::<T>() * N == 8) };
    // SAFETY: reads the eight bytes of the array; the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}
