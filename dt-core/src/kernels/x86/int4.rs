//! Four-bit weights to eight-bit ones: a nibble selects among the sixteen products of its multiplier, with
//! `VPSHUFB`.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_castsi128_si256, _mm256_inserti128_si256, _mm256_set1_epi8, _mm256_shuffle_epi8,
    _mm256_srli_epi16,
};

/// The products of both rows of a pair, by nibble; in each half of a register those of a pair.
#[derive(Clone, Copy)]
pub struct Tables {
    even: __m256i,
    odd: __m256i,
}

impl Tables {
    /// Those of one pair's multipliers, for both halves.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn of(multipliers: u8) -> Self {
        Self {
            even: _mm256_broadcastsi128_si256(table(&EVEN, multipliers & 15)),
            odd: _mm256_broadcastsi128_si256(table(&ODD, multipliers >> 4)),
        }
    }

    /// Those of two pairs.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn of_two([first, second]: [u8; 2]) -> Self {
        let (even_0, even_1) = (table(&EVEN, first & 15), table(&EVEN, second & 15));
        let (odd_0, odd_1) = (table(&ODD, first >> 4), table(&ODD, second >> 4));
        Self {
            even: _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(even_0), even_1),
            odd: _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(odd_0), odd_1),
        }
    }

    /// The weights that bytes of packed int4 stand for: of the even row, of the odd row.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn decode(&self, bytes: __m256i) -> [__m256i; 2] {
        let low = _mm256_set1_epi8(15);
        let high = _mm256_srli_epi16::<4>(bytes);
        [
            _mm256_shuffle_epi8(self.even, _mm256_and_si256(bytes, low)),
            _mm256_shuffle_epi8(self.odd, _mm256_and_si256(high, low)),
        ]
    }
}

/// What each nibble of an even row means, by multiplier.
static EVEN: [[i8; 16]; 16] = products(0);

/// The same of an odd row.
static ODD: [[i8; 16]; 16] = products(1);

#[expect(clippy::indexing_slicing, reason = "computed by the compiler")]
const fn products(row: usize) -> [[i8; 16]; 16] {
    let mut products = [[0; 16]; 16];
    let mut i = 0;
    while i < 256 {
        let (multiplier, nibble) = (i / 16, i % 16);
        let value = match (row, nibble) {
            (0, _) => nibble as i8 - 8,
            (_, 0..8) => nibble as i8,
            _ => nibble as i8 - 16,
        };
        products[multiplier][nibble] = value * multiplier as i8;
        i += 1;
    }
    products
}

#[inline]
fn table(products: &'static [[i8; 16]; 16], multiplier: u8) -> __m128i {
    let products = products.get(usize::from(multiplier)).unwrap_or(&[0; 16]);
    // SAFETY: SSE2. Reads the 16 bytes of the array; the load needs no alignment.
    unsafe { _mm_loadu_si128(products.as_ptr().cast()) }
}
