//! Four-bit matrices: their layout, what their bytes mean, and how weights become them.
//!
//! A weight is m·q grid steps of its row: q a nibble in −8…7 of its own, m a multiplier in 0…15
//! that it shares with its group of [`GROUP_COLS`] columns. So a decoded matrix is an int8 matrix
//! (|m·q| ≤ 120) with one scale per row: sums stay integer and keep the bound of
//! [`q_max`](crate::quant::q_max). `BLOB.md`, "Packed int4", specifies the bytes.
//!
//! A matrix has an even number of rows, and columns in multiples of four. The timestep table, which is
//! packed the same way, may have an odd one: the last is then paired with a row of zeros.

use core::ops::Range;

use crate::kernels::packed_byte;
use crate::quant::rne;
use crate::slices::times;

/// Columns of a row that share a multiplier. The last group of a row may be shorter.
pub const GROUP_COLS: usize = 32;

/// Largest multiplier.
pub const MULTIPLIER_MAX: u8 = 15;

/// Bytes of the nibbles: one per column of a row pair.
pub const fn packed_len(rows: usize, cols: usize) -> usize {
    rows.div_ceil(2).saturating_mul(cols)
}

/// Bytes of the multipliers: one per group of a row pair.
pub const fn multipliers_len(rows: usize, cols: usize) -> usize {
    rows.div_ceil(2).saturating_mul(cols.div_ceil(GROUP_COLS))
}

/// The byte that holds the nibble of (`row`, `col`): the high one of odd rows, the low one of even
/// rows, plus 8.
pub const fn packed_index(cols: usize, row: usize, col: usize) -> usize {
    let byte = match col % 4 {
        1 => 2,
        2 => 1,
        same => same,
    };
    (row / 2)
        .saturating_mul(cols)
        .saturating_add((col & !3) | byte)
}

/// What a nibble of `row` contributes to its byte; the two of a byte add up to it.
pub const fn encode_nibble(row: usize, nibble: i8) -> u8 {
    let nibble = nibble.cast_unsigned();
    if row.is_multiple_of(2) {
        nibble.wrapping_add(8) & 15
    } else {
        nibble << 4
    }
}

/// The bytes of a matrix of known dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// Two rows' nibbles per byte, [`packed_len`] long.
    pub nibbles: &'a [u8],
    /// Two rows' multipliers per byte, [`multipliers_len`] long.
    pub multipliers: &'a [u8],
}

impl<'a> Packed<'a> {
    /// The weight at (`row`, `col`) of a matrix of `cols` columns, in grid steps.
    pub fn weight(&self, cols: usize, row: usize, col: usize) -> Option<i8> {
        let nibbles = *self.nibbles.get(packed_index(cols, row, col))?;
        let pair = (row / 2).saturating_mul(cols.div_ceil(GROUP_COLS));
        let group = pair.saturating_add(col / GROUP_COLS);
        let multipliers = *self.multipliers.get(group)?;
        let mut weights = [0; 8];
        decode_group(&[nibbles; 4], multipliers, &mut weights);
        let [odd, even, ..] = weights;
        Some(if row.is_multiple_of(2) {
            even
        } else {
            packed_byte(1, odd)
        })
    }

    /// Some of its rows; `range` starts and ends at even ones.
    pub(crate) fn rows(&self, cols: usize, range: Range<usize>) -> Packed<'a> {
        let part = |bytes: &'a [u8], width: usize| {
            let range = times(range.start / 2, width)..times(range.end / 2, width);
            bytes.get(range).unwrap_or_default()
        };
        Packed {
            nibbles: part(self.nibbles, cols),
            multipliers: part(self.multipliers, cols.div_ceil(GROUP_COLS)),
        }
    }
}

/// Decodes one group of a row pair into packed i8 (`BLOB.md`).
///
/// `multipliers` is the pair's byte for this group. Decodes as much as the shorter slice holds.
#[inline]
pub fn decode_group(group: &[u8], multipliers: u8, weights: &mut [i8]) {
    let [even, odd] = [multipliers & 15, multipliers >> 4].map(u8::cast_signed);
    let words = group.as_chunks::<4>().0.iter();
    for (word, weights) in words.zip(weights.as_chunks_mut::<8>().0) {
        let &[c0, c2, c1, c3] = word;
        for (byte, [b, a]) in [c0, c1, c2, c3].iter().zip(weights.as_chunks_mut().0) {
            // In range, as the module's documentation shows.
            *a = ((byte & 15).cast_signed() - 8).wrapping_mul(even);
            *b = packed_byte(1, (byte.cast_signed() >> 4).wrapping_mul(odd));
        }
    }
}

/// Grid steps that a row's largest weight is worth: 15·7.5, so that multiplier 15 has as much room
/// below −7.5 as above.
pub const ROW_MAX: i32 = 112;

/// Weights of one group in grid steps: `multiplier`·`nibbles[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// 0…15.
    pub multiplier: u8,
    /// −8…7 each; 0 beyond the group's end.
    pub nibbles: [i8; GROUP_COLS],
}

/// Quantizes a group of at most [`GROUP_COLS`] weights of a row with `inverse` grid steps per unit, at
/// most [`ROW_MAX`] each: the multiplier with the least squared error, of equals the smallest.
///
/// Trying several scales for the row as well makes the error 1 % smaller: not worth it.
pub fn quantize_group(group: &[f32], inverse: f32) -> Group {
    let mut best = Group {
        multiplier: 0,
        nibbles: [0; GROUP_COLS],
    };
    let mut least: f32 = group.iter().map(|weight| square(weight * inverse)).sum();
    for multiplier in 1..=MULTIPLIER_MAX {
        let size = f32::from(multiplier);
        let mut error = 0.0;
        let mut nibbles = [0; GROUP_COLS];
        for (nibble, weight) in nibbles.iter_mut().zip(group) {
            let steps = weight * inverse;
            let rounded = rne(steps / size).clamp(-8, 7);
            *nibble = rounded as i8;
            error += square(steps - rounded as f32 * size);
        }
        if error < least {
            least = error;
            best = Group {
                multiplier,
                nibbles,
            };
        }
    }
    best
}

fn square(x: f32) -> f32 {
    x * x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels;
    use crate::quant::Grid;
    use proptest::prelude::*;

    #[test]
    fn every_byte_and_multiplier_decodes_to_an_int8_weight() {
        for byte in 0..=255u8 {
            for multipliers in 0..=255u8 {
                let mut weights = [1i8; 8];
                decode_group(&[byte; 4], multipliers, &mut weights);
                let even = (i32::from(byte % 16) - 8) * i32::from(multipliers % 16);
                let odd = i32::from(byte as i8).div_euclid(16) * i32::from(multipliers / 16);
                for [b, a] in weights.as_chunks::<2>().0 {
                    assert_eq!(i32::from(*a), even);
                    assert_eq!(i32::from(packed_byte(1, *b)), odd);
                }
                assert!(even.abs() <= 120 && odd.abs() <= 120);
            }
        }
    }

    /// The example of `BLOB.md`.
    #[test]
    fn bytes_are_what_the_specification_says() {
        let rows = [[1, 2, 3, 4], [-1, -2, -3, -4]];
        let mut packed = [0u8; 4];
        for (row, nibbles) in rows.iter().enumerate() {
            for (col, nibble) in nibbles.iter().enumerate() {
                packed[packed_index(4, row, col)] += encode_nibble(row, *nibble);
            }
        }
        assert_eq!(packed, [0xf9, 0xdb, 0xea, 0xcc]);
        let mut weights = [0; 8];
        decode_group(&packed, 0x95, &mut weights);
        let weights = [0, 1].map(|row| {
            let weight = |col| packed_byte(row, weights[kernels::packed_index(4, row, col)]);
            [0, 1, 2, 3].map(weight)
        });
        assert_eq!(weights, [[5, 10, 15, 20], [-9, -18, -27, -36]]);
    }

    #[test]
    fn decoding_keeps_the_order_of_packed_i8() {
        const COLS: usize = 36;
        for row in 0..4 {
            for col in 0..COLS {
                let mut packed = [0x08u8; packed_len(4, COLS)];
                packed[packed_index(COLS, row, col)] = [0x09, 0x18][row % 2];
                let mut weights = [0i8; kernels::packed_len(4, COLS)];
                for (packed, weights) in packed.chunks(COLS).zip(weights.chunks_mut(2 * COLS)) {
                    let groups = packed.chunks(GROUP_COLS);
                    for (group, weights) in groups.zip(weights.chunks_mut(2 * GROUP_COLS)) {
                        decode_group(group, 0x53, weights);
                    }
                }
                let mut expected = [0i8; kernels::packed_len(4, COLS)];
                for zeros in expected.as_chunks_mut::<4>().0 {
                    *zeros = kernels::PACKED_ZEROS.to_le_bytes().map(u8::cast_signed);
                }
                expected[kernels::packed_index(COLS, row, col)] = packed_byte(row, [3, 5][row % 2]);
                assert_eq!(weights, expected, "row {row}, column {col}");
            }
        }
    }

    #[test]
    fn lengths_cover_short_groups() {
        assert_eq!(packed_len(6, 36), 108);
        assert_eq!(multipliers_len(6, 36), 6);
        assert_eq!(multipliers_len(2, 32), 1);
        assert_eq!(multipliers_len(2, 4), 1);
        assert_eq!((packed_len(3, 36), multipliers_len(3, 36)), (72, 4));
    }

    #[test]
    fn all_zero_groups_stay_so() {
        let zero = Group {
            multiplier: 0,
            nibbles: [0; GROUP_COLS],
        };
        assert_eq!(quantize_group(&[0.0, -0.0], 3.0), zero);
        assert_eq!(quantize_group(&[1.0, -2.0], 0.0), zero);
    }

    /// Relative RMS error of rows of independent normal weights: the figure that trained matrices
    /// come close to. One multiplier for all groups makes it 0.1.
    #[test]
    fn normal_weights_lose_nine_percent() {
        let mut random = crate::fixture::Random::new(3);
        let mut normal = || (0..12).map(|_| random.unit()).sum::<f32>() / 2.0;
        let (mut errors, mut squares) = (0.0, 0.0);
        for _ in 0..64 {
            let row: [f32; 128] = core::array::from_fn(|_| normal());
            for (weight, rounded) in round_trip(&row) {
                errors += square(weight - rounded);
                squares += square(weight);
            }
        }
        let relative = (errors / squares).sqrt();
        assert!((0.080..0.090).contains(&relative), "{relative}");
    }

    /// The weights of a row, before and after.
    fn round_trip(row: &[f32]) -> Vec<(f32, f32)> {
        let grid = Grid::of(row, ROW_MAX).unwrap();
        let groups = row.chunks(GROUP_COLS).flat_map(|group| {
            let quantized = quantize_group(group, grid.inverse);
            assert!(quantized.multiplier <= MULTIPLIER_MAX);
            let nibbles = quantized.nibbles.into_iter();
            let steps = nibbles.map(move |nibble| {
                assert!((-8..=7).contains(&nibble));
                i32::from(nibble) * i32::from(quantized.multiplier)
            });
            group.iter().copied().zip(steps)
        });
        groups
            .map(|(weight, steps)| (weight, steps as f32 * grid.scale))
            .collect()
    }

    proptest! {
        #[test]
        fn packing_is_a_bijection(pairs in 1usize..5, groups in 1usize..20) {
            let (rows, cols) = (2 * pairs, 4 * groups);
            let mut seen = vec![0; packed_len(rows, cols)];
            for row in 0..rows {
                for col in 0..cols {
                    seen[packed_index(cols, row, col)] += 1;
                }
            }
            // Two rows to a byte.
            prop_assert!(seen.iter().all(|&seen| seen == 2));
        }

        /// Multiplier 15 with rounding alone has no larger an error, but where −7.5 or 7.5 clips.
        #[test]
        fn errors_are_bounded_at_any_magnitude(
            row in proptest::collection::vec(-1.0f32..1.0, 1..100),
            exponent in -30i32..30,
        ) {
            let row: Vec<f32> = row.iter().map(|w| w * 2f32.powi(exponent)).collect();
            let top = row.iter().fold(0.0f32, |top, w| if w.abs() > top { w.abs() } else { top });
            let bound = top / ROW_MAX as f32 * 0.5 * f32::from(MULTIPLIER_MAX) * 1.001;
            for group in round_trip(&row).chunks(GROUP_COLS) {
                let squares: f32 = group.iter().map(|(weight, rounded)| square((weight - rounded) / bound)).sum();
                prop_assert!(squares <= group.len() as f32);
            }
        }
    }
}
