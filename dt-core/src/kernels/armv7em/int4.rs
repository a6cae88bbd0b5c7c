//! Four-bit weights on the Cortex-M4F and M7: decoded in the inner loop, at the cost of int8's.
//!
//! A byte of a packed int4 word is 16·b + u with b of the odd row, and u = a + 8 of the even row, so `SXTB16`
//! and one `AND` give two numbers per column and row pair, and two sums per token
//!
//! ```text
//! both = Σ (16·b + u)·x     low = Σ u·x
//! ```
//!
//! from which a group's rows follow: both sums begin at the *correction* −8·Σx, so at its end low = Σ a·x and
//! both − low = 16·Σ b·x. These are multiplied by the group's multipliers and added up. For T = 3 a word
//! is 24 products in 19 instructions that load 7 words, for two columns and then for two more:
//!
//! ```text
//! memory     r0 → | 0 2 1 3 |  …                 four columns of both rows, one byte each (packed int4)
//!            r1 → | x0 x1 |  of token 0, of token 1, of token 2, then x2 and x3 of all three
//! SXTB16     r9 = both of columns 0, 1, then of columns 2, 3
//! AND        r10 = their low nibbles
//! LDM        r11, r12, lr = (x0, x1) of the tokens
//! SMLAD      token 0: r2 = both, r3 = low   token 1: r4, r5    token 2: r6, r7
//! VMOV       s0…s5: the rows' totals, as integers
//! ```

use super::is_word_aligned;
use crate::int4::{GROUP_COLS, Packed};
use crate::kernels::interleaved_index;
use crate::slices::rows_mut;

/// Columns that the corrections have room for; wider matrices, which no known policy has, are slow.
const MAX_COLS: usize = 1024;

/// What a routine works through. It becomes the routine's stack frame: change both together.
#[repr(C)]
struct Job {
    /// First activation.
    x: *const i16,
    /// (groups, T): first of them, and room for the next.
    corrections: *const i32,
    correction: *const i32,
    /// Of the next group.
    multipliers: *const u8,
    /// The activation after the last whole group, and the one after the last.
    x_groups_end: *const i16,
    x_end: *const i16,
    /// Scale, bias and output of the next row pair.
    scale: *const f32,
    bias: *const f32,
    y: *mut f32,
    /// Bytes from one token's output to the next one's.
    stride: usize,
    /// End of `scale`.
    end: *const f32,
    x_scale: [f32; 3],
}

/// See [`crate::kernels::linear_int4`].
#[inline]
pub fn linear_int4<const T: usize>(
    packed: Packed<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let Packed {
        nibbles,
        multipliers,
    } = packed;
    let rows = scale.len();
    let cols = x.len().checked_div(T).unwrap_or_default();
    let fits = (1..=3).contains(&T)
        && rows >= 2
        && rows.is_multiple_of(2)
        && (4..=MAX_COLS).contains(&cols)
        && cols.is_multiple_of(4)
        && nibbles.len() >= rows / 2 * cols
        && multipliers.len() >= rows / 2 * cols.div_ceil(GROUP_COLS)
        && bias.len() >= rows
        && y.len() >= T * rows
        && is_word_aligned(nibbles)
        && is_word_aligned(x);
    if !fits {
        return one_by_one(packed, x, scale, bias, x_scale, y);
    }
    let mut scales = [0.0; 3];
    crate::slices::copy(x_scale, &mut scales);
    let mut corrections = [[0; T]; MAX_COLS / GROUP_COLS];
    let (start, end) = (x.as_ptr(), x.as_ptr_range().end);
    let (correct, multiply): (Corrections, Routine) = match T {
        1 => (dt_core_int4_corrections_1, dt_core_int4_1),
        2 => (dt_core_int4_corrections_2, dt_core_int4_2),
        _ => (dt_core_int4_corrections_3, dt_core_int4_3),
    };
    let job = Job {
        x: start,
        corrections: corrections.as_ptr().cast(),
        correction: core::ptr::null(),
        multipliers: multipliers.as_ptr(),
        x_groups_end: start.wrapping_add(T * (cols - cols % GROUP_COLS)),
        x_end: end,
        scale: scale.as_ptr(),
        bias: bias.as_ptr(),
        y: y.as_mut_ptr(),
        stride: 4 * rows,
        end: scale.as_ptr_range().end,
        x_scale: scales,
    };
    // SAFETY: `fits`: `correct` reads `x`, at least one group of four, and writes T corrections for each group of
    // columns, for which there is room; `multiply` reads them, `rows`/2 row pairs of weights and multipliers, `x`, and
    // `rows` scales and biases, and writes `rows` floats for each of T tokens, `rows` apart.
    unsafe {
        correct(start, end, corrections.as_mut_ptr().cast());
        multiply(nibbles.as_ptr(), &job);
    }
}

/// What the routines are not made for: small code rather than fast.
#[cold]
#[inline(never)]
fn one_by_one(
    packed: Packed<'_>,
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32],
    y: &mut [f32],
) {
    let tokens = x_scale.len();
    let cols = x.len().checked_div(tokens).unwrap_or_default();
    let each = x_scale.iter().zip(rows_mut(y, scale.len()));
    for (token, (x_scale, y)) in each.enumerate() {
        let outputs = y.iter_mut().zip(scale).zip(bias);
        for (row, ((y, scale), bias)) in outputs.enumerate() {
            let mut sum = 0;
            for col in 0..cols {
                let weight = packed.weight(cols, row, col).unwrap_or_default();
                let x = x.get(interleaved_index(tokens, token, col));
                sum += i32::from(weight) * i32::from(x.copied().unwrap_or_default());
            }
            *y = sum as f32 * (scale * x_scale) + bias;
        }
    }
}

type Corrections = unsafe extern "C" fn(x: *const i16, end: *const i16, corrections: *mut i32);
type Routine = unsafe extern "C" fn(packed: *const u8, job: *const Job);

unsafe extern "C" {
    fn dt_core_int4_corrections_1(x: *const i16, end: *const i16, corrections: *mut i32);
    fn dt_core_int4_corrections_2(x: *const i16, end: *const i16, corrections: *mut i32);
    fn dt_core_int4_corrections_3(x: *const i16, end: *const i16, corrections: *mut i32);
    fn dt_core_int4_1(packed: *const u8, job: *const Job);
    fn dt_core_int4_2(packed: *const u8, job: *const Job);
    fn dt_core_int4_3(packed: *const u8, job: *const Job);
}
