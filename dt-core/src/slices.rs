//! Matrices and memory as slices, without a division and without a way to panic.

use core::ops::Range;

/// What dimensions guarantee to be there. If a size were wrong after all, builds with debug assertions, and so all tests, stop
/// where it shows; a controller goes on with an empty slice or zero, because nothing is gained by a panic in a control loop.
pub(crate) trait Guaranteed<T> {
    /// The value.
    fn guaranteed(self) -> T;
}

impl<T: Default> Guaranteed<T> for Option<T> {
    #[inline(always)]
    #[track_caller]
    fn guaranteed(self) -> T {
        debug_assert!(self.is_some(), "a size is wrong");
        self.unwrap_or_default()
    }
}

impl<T: Default, E> Guaranteed<T> for Result<T, E> {
    #[inline(always)]
    #[track_caller]
    fn guaranteed(self) -> T {
        debug_assert!(self.is_ok(), "a size is wrong");
        self.unwrap_or_default()
    }
}

// Sizes: with the dimensions that `Config::validate` accepts none comes near the end of `usize`. If one did after all, builds with
// debug assertions stop; others go on with some number, and whoever takes so much finds it there or does not.

/// `a` of size `b`.
#[inline(always)]
#[track_caller]
pub(crate) const fn times(a: usize, b: usize) -> usize {
    debug_assert!(a.checked_mul(b).is_some(), "a size overflows");
    a.wrapping_mul(b)
}

/// Both.
#[inline(always)]
#[track_caller]
pub(crate) const fn plus(a: usize, b: usize) -> usize {
    debug_assert!(a.checked_add(b).is_some(), "a size overflows");
    a.wrapping_add(b)
}

/// What is left of `a`.
#[inline(always)]
#[track_caller]
pub(crate) const fn minus(a: usize, b: usize) -> usize {
    debug_assert!(a >= b, "a size is negative");
    a.wrapping_sub(b)
}

/// The next multiple of `step`, a power of two; the last one there is if that is beyond `usize`.
#[inline(always)]
pub(crate) const fn round_up(a: usize, step: usize) -> usize {
    debug_assert!(step.is_power_of_two());
    a.saturating_add(step.wrapping_sub(1)) & step.wrapping_neg()
}

/// Part number `index` of those that are `len` long each.
#[inline(always)]
pub(crate) const fn part(index: usize, len: usize) -> Range<usize> {
    let start = times(index, len);
    start..plus(start, len)
}

/// The rows of a row-major matrix, each `len` long; values after the last whole row are left out.
#[inline]
pub(crate) fn rows<T>(matrix: &[T], len: usize) -> Rows<'_, T> {
    Rows { rest: matrix, len }
}

/// The rows of a row-major matrix, to be written.
#[inline]
pub(crate) fn rows_mut<T>(matrix: &mut [T], len: usize) -> RowsMut<'_, T> {
    RowsMut { rest: matrix, len }
}

/// Copies the shorter of the two lengths.
#[inline]
pub(crate) fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Cuts the first `len` values off `rest`; nothing if there are fewer.
#[inline]
pub(crate) fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (taken, tail) = core::mem::take(rest).split_at_mut_checked(len).guaranteed();
    *rest = tail;
    taken
}

// Casting words to types of no larger size and alignment cannot fail.

#[inline]
pub(crate) fn floats(words: &mut [u32]) -> &mut [f32] {
    bytemuck::try_cast_slice_mut(words).guaranteed()
}

#[inline]
pub(crate) fn words(floats: &mut [f32]) -> &mut [u32] {
    bytemuck::try_cast_slice_mut(floats).guaranteed()
}

#[inline]
pub(crate) fn integers(words: &mut [u32]) -> &mut [i32] {
    bytemuck::try_cast_slice_mut(words).guaranteed()
}

#[inline]
pub(crate) fn halves(words: &mut [u32]) -> &mut [i16] {
    bytemuck::try_cast_slice_mut(words).guaranteed()
}

#[inline]
pub(crate) fn bytes(words: &mut [u32]) -> &mut [i8] {
    bytemuck::try_cast_slice_mut(words).guaranteed()
}

/// See [`rows`].
pub(crate) struct Rows<'a, T> {
    rest: &'a [T],
    len: usize,
}

impl<'a, T> Iterator for Rows<'a, T> {
    type Item = &'a [T];

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (row, rest) = self.rest.split_at_checked(self.len)?;
        self.rest = rest;
        (!row.is_empty()).then_some(row)
    }
}

/// See [`rows_mut`].
pub(crate) struct RowsMut<'a, T> {
    rest: &'a mut [T],
    len: usize,
}

impl<'a, T> Iterator for RowsMut<'a, T> {
    type Item = &'a mut [T];

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (row, rest) = core::mem::take(&mut self.rest).split_at_mut_checked(self.len)?;
        self.rest = rest;
        (!row.is_empty()).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_whole_and_a_length_of_zero_has_none() {
        let mut matrix = [1, 2, 3, 4, 5];
        assert!(rows(&matrix, 2).eq([&[1, 2], &[3, 4]]));
        assert!(rows(&matrix, 6).next().is_none());
        assert!(rows(&matrix, 0).next().is_none());
        assert!(rows_mut(&mut matrix, 0).next().is_none());
        assert!(rows_mut(&mut matrix, 2).eq([&[1, 2], &[3, 4]]));
    }
}
