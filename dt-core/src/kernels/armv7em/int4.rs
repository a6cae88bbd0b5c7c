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

use crate::int4::{GROUP_COLS, Packed};
use crate::kernels::arm::int4_fits;
use crate::kernels::scalar;
use crate::slices::rows_mut;

/// Columns that the corrections have room for, whole groups; wider matrices come in parts.
const PART_COLS: usize = 1024;

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
    /// End of `scale`, or of the first token's `y` if rows come in parts.
    end: *const f32,
    x_scale: [f32; 3],
    /// What is done with a row pair's totals.
    finish: usize,
    /// Rows that come in parts: weights and multipliers, in bytes, from the end of this part to its beginning in the
    /// next row pair.
    skip: [usize; 2],
}

/// See [`crate::unstable::kernels::linear_int4`].
// Not inlined, so that corrections take stack only while there are any.
#[inline(never)]
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
    if !int4_fits::<T>(&packed, x, rows, bias, y) {
        let matrix = scalar::Matrix::Int4(packed);
        return scalar::linear_by_weight(matrix, x, scale, bias, x_scale, y);
    }
    let mut scales = [0.0; 3];
    crate::slices::copy(x_scale, &mut scales);
    let groups = cols.div_ceil(GROUP_COLS);
    let in_parts = cols > PART_COLS;
    if in_parts {
        // Totals begin at zero.
        y.get_mut(..T.saturating_mul(rows))
            .unwrap_or_default()
            .fill(0.0);
    }
    let routine = Routines::of(T);
    let mut corrections = [[0; T]; PART_COLS / GROUP_COLS];
    for (column, x) in (0..cols).step_by(PART_COLS).zip(x.chunks(T * PART_COLS)) {
        let (start, end) = (x.as_ptr(), x.as_ptr_range().end);
        let width = x.len() / T;
        let (first, of_end, finish, skip) = if in_parts {
            let skip = [
                cols.saturating_sub(width),
                groups.saturating_sub(width.div_ceil(GROUP_COLS)),
            ];
            let of_end = y.as_ptr().wrapping_add(rows);
            (column, of_end, routine.part, skip)
        } else {
            (0, scale.as_ptr_range().end, routine.whole, [0; 2])
        };
        let job = Job {
            x: start,
            corrections: corrections.as_ptr().cast(),
            correction: core::ptr::null(),
            multipliers: multipliers.as_ptr().wrapping_add(first / GROUP_COLS),
            x_groups_end: start.wrapping_add(T * (width - width % GROUP_COLS)),
            x_end: end,
            scale: scale.as_ptr(),
            bias: bias.as_ptr(),
            y: y.as_mut_ptr(),
            stride: 4 * rows,
            end: of_end,
            x_scale: scales,
            finish: super::thumb(finish),
            skip,
        };
        // SAFETY: `fits`: `correct` reads `x`, at least one group of four, and writes T corrections for each group of
        // columns, for which there is room; `multiply` reads them, `rows`/2 row pairs of weights and multipliers, of
        // each as many as `x` has columns, `x`, and `rows` scales and biases unless rows come in parts, and writes
        // `rows` numbers for each of T tokens, `rows` apart, which it reads before that if rows come in parts.
        unsafe {
            (routine.correct)(start, end, corrections.as_mut_ptr().cast());
            (routine.multiply)(nibbles.as_ptr().wrapping_add(first), &job);
        }
    }
    if in_parts {
        for (y, x_scale) in rows_mut(y, rows).zip(x_scale) {
            for ((y, scale), bias) in y.iter_mut().zip(scale).zip(bias) {
                let total = y.to_bits().cast_signed();
                *y = total as f32 * (scale * x_scale) + bias;
            }
        }
    }
}

/// What there is for a number of tokens.
struct Routines {
    correct: Corrections,
    multiply: Routine,
    /// The finishes of whole rows and of parts of rows.
    whole: *const u8,
    part: *const u8,
}

impl Routines {
    fn of(tokens: usize) -> Self {
        match tokens {
            1 => Self {
                correct: dt_core_int4_corrections_1,
                multiply: dt_core_int4_1,
                whole: &raw const dt_core_int4_whole_1,
                part: &raw const dt_core_int4_part_1,
            },
            2 => Self {
                correct: dt_core_int4_corrections_2,
                multiply: dt_core_int4_2,
                whole: &raw const dt_core_int4_whole_2,
                part: &raw const dt_core_int4_part_2,
            },
            _ => Self {
                correct: dt_core_int4_corrections_3,
                multiply: dt_core_int4_3,
                whole: &raw const dt_core_int4_whole_3,
                part: &raw const dt_core_int4_part_3,
            },
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
    static dt_core_int4_whole_1: u8;
    static dt_core_int4_whole_2: u8;
    static dt_core_int4_whole_3: u8;
    static dt_core_int4_part_1: u8;
    static dt_core_int4_part_2: u8;
    static dt_core_int4_part_3: u8;
}
