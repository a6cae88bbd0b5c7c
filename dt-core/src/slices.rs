//! Matrices as slices, without a way to panic.

use core::slice::{ChunksExact, ChunksExactMut};

/// The rows of a row-major matrix; `chunks_exact`, but a length of 0 counts as 1.
#[inline]
pub(crate) fn rows<T>(matrix: &[T], len: usize) -> ChunksExact<'_, T> {
    matrix.chunks_exact(if len == 0 { 1 } else { len })
}

/// The rows of a row-major matrix, to be written.
#[inline]
pub(crate) fn rows_mut<T>(matrix: &mut [T], len: usize) -> ChunksExactMut<'_, T> {
    matrix.chunks_exact_mut(if len == 0 { 1 } else { len })
}

/// Copies the shorter of the two lengths.
#[inline]
pub(crate) fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
