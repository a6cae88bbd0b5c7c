//! What the kernels in Arm's assembly ask of their slices before they leave Rust: said once, since unsafe code rests on it.

use crate::int4::{GROUP_COLS, Packed};

/// Words are loaded several at a time, which takes aligned addresses.
pub(super) fn is_word_aligned<T>(slice: &[T]) -> bool {
    slice.as_ptr().addr().is_multiple_of(4)
}

/// Whether there are whole row pairs and groups of four columns of four-bit weights, everything that goes with them, and room for the
/// outputs of `T` tokens.
#[inline(always)]
pub(super) fn int4_fits<const T: usize>(
    packed: &Packed<'_>,
    x: &[i16],
    rows: usize,
    bias: &[f32],
    y: &[f32],
) -> bool {
    let cols = x.len().checked_div(T).unwrap_or_default();
    (1..=3).contains(&T)
        && rows >= 2
        && rows.is_multiple_of(2)
        && cols >= 4
        && x.len().is_multiple_of(4 * T)
        && packed.nibbles.len() >= (rows / 2).saturating_mul(cols)
        && packed.multipliers.len() >= (rows / 2).saturating_mul(cols.div_ceil(GROUP_COLS))
        && bias.len() >= rows
        && y.len() >= T.saturating_mul(rows)
        && is_word_aligned(packed.nibbles)
        && is_word_aligned(x)
}
