//! Cortex-M55 and M85: Helium, eight products per instruction with `VMLADAVA`.
//!
//! The matrices are those of `armv7em`, eight columns of a row pair at a time. A halfword of weights is 256·a + u with a of the
//! even row, u = b + 128 of the odd one. Of the activations four columns of a token lie side by side
//! ([`RUN`](super::RUN)), so eight of them are two doublewords.
//!
//! ```text
//! memory   r0 → | u0 a0 u1 a1 u2 a2 u3 a3 |  …      columns of both rows (packed i8)
//! VMOVL    q1 = (a0 … a7)   q0 = (u0 … u7)
//! memory   q7 → | x0 x1 x2 x3 |  of token 0, then of the other tokens, then x4 to x7 of all
//! VLDRD    q4 = (x0 … x7) of a token
//! VMLADAVA token 0: r2 += a·x, r4 += u·x    token 1: r6, r8    token 2: r10, r12
//! ```
//!
//! For T = 3 that is 96 products in 25 instructions. Sums of u·x begin at −128·Σx, as in `armv7em`.
//!
//! In int4, a byte is 16·b + a + 8, and four bytes are columns 0 2 1 3: widened, the even ones are columns 0 1 4 5 8 9 12 13, so
//! words of activations are gathered instead. Weights are multiplied by their group's multiplier before they meet them.
//!
//! Sums stay integers until a matrix is done.
//!
//! # Subnormal numbers
//! Helium's floats are not IEEE 754's: whatever FPSCR says, it takes subnormal numbers for zero (Arm DDI 0553,
//! `StandardFPSCRValue`). It says so in FPSCR, by the flags for underflow and for a subnormal input. Where they are set
//! afterwards, the work is done again by the scalar floating-point unit; so all bits are those of the contract. That holds for
//! what is written here. LLVM takes Helium's floats for IEEE 754's and may use them in other loops over floats: it did not in this
//! crate's when this was written, and `-Cno-vectorize-loops -Cno-vectorize-slp` makes sure.

use core::arch::{asm, global_asm};

use super::arm::{int4_fits, is_word_aligned};
use super::{Run, scalar};
use crate::int4::{GROUP_COLS, Packed};
use crate::slices::{round_up, rows_mut, times};

/// What a routine works through; `mve.s` knows the offsets.
#[repr(C)]
struct Job {
    /// Of the first block's activations, less what one block adds: of doublewords in int8, of words in int4.
    x: [usize; 4],
    /// Of eight columns in int8, of sixteen in int4.
    blocks: usize,
    /// After the blocks: columns in int8, groups of four in int4.
    rest: usize,
    sums: *mut i32,
    /// Bytes from one token's sums to the next one's.
    stride: usize,
    /// At least one.
    pairs: usize,
}

impl Job {
    fn int8<const T: usize>(x: &[i16], sums: *mut i32, rows: usize) -> Self {
        let cols = x.len() / T;
        let start = x.as_ptr().addr().wrapping_sub(16 * T);
        Self {
            x: [start, 0, start.wrapping_add(8 * T), 0],
            blocks: cols / 8,
            rest: cols % 8,
            sums,
            stride: 4 * rows,
            pairs: rows / 2,
        }
    }

    fn int4<const T: usize>(x: &[i16], sums: *mut i32, rows: usize) -> Self {
        let groups = x.len() / (4 * T);
        let start = x.as_ptr().addr().wrapping_sub(32 * T);
        Self {
            x: [0, 1, 2, 3].map(|group| start.wrapping_add(8 * T * group)),
            blocks: groups / 4,
            rest: groups % 4,
            sums,
            stride: 4 * rows,
            pairs: rows / 2,
        }
    }
}

/// See [`super::linear`].
#[inline]
pub fn linear<const T: usize>(
    packed: &[i8],
    x: &[i16],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let rows = scale.len();
    let width = x.len().checked_div(T).unwrap_or_default();
    let fits = fits::<T>(x, rows, width)
        && packed.len() >= round_up(rows, 2).saturating_mul(width)
        && bias.len() >= rows
        && y.len() >= T.saturating_mul(rows)
        && is_word_aligned(packed);
    if !fits {
        let matrix = scalar::Matrix::Int8(packed);
        return scalar::linear_by_weight(matrix, x, scale, bias, x_scale, y);
    }
    let job = Job::int8::<T>(x, y.as_mut_ptr().cast(), rows);
    // SAFETY: `fits`: the routine reads rows/2 row pairs of weights and `x`, and writes as many pairs of sums for each of T
    // tokens, `rows` apart.
    let multiply = || unsafe { routine::<T>()(packed.as_ptr(), &job) };
    multiply();
    // An odd last row is paired with padding.
    let mut last = [[0; 2]; T];
    if rows % 2 == 1 {
        let packed = packed
            .get(times(rows.saturating_sub(1), width)..)
            .unwrap_or_default();
        products::<T>(packed, x, last.as_flattened_mut());
    }
    dequantize(multiply, last.map(|[sum, _]| sum), scale, bias, x_scale, y);
}

/// See [`super::products`].
#[inline]
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    let width = x.len().checked_div(T).unwrap_or_default();
    let rows = sums.len().checked_div(T).unwrap_or_default();
    let fits = fits::<T>(x, rows, width)
        && rows.is_multiple_of(2)
        && packed.len() >= rows.saturating_mul(width)
        && is_word_aligned(packed);
    if !fits {
        return scalar::products::<T>(packed, x, sums);
    }
    let job = Job::int8::<T>(x, sums.as_mut_ptr(), rows);
    // SAFETY: as in `linear`.
    unsafe { routine::<T>()(packed.as_ptr(), &job) };
}

/// See [`super::linear_int4`].
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
    if !int4_fits::<T>(&packed, x, rows, bias, y) {
        let matrix = scalar::Matrix::Int4(packed);
        return scalar::linear_by_weight(matrix, x, scale, bias, x_scale, y);
    }
    let routine = match T {
        1 => dt_core_mve_int4_1,
        2 => dt_core_mve_int4_2,
        _ => dt_core_mve_int4_3,
    };
    let job = Job::int4::<T>(x, y.as_mut_ptr().cast(), rows);
    // SAFETY: `fits`: the routine reads rows/2 row pairs of weights and multipliers and `x`, and writes as many pairs of sums
    // for each of T tokens, `rows` apart.
    let multiply = || unsafe { routine(nibbles.as_ptr(), &job, multipliers.as_ptr()) };
    multiply();
    dequantize(multiply, [0; T], scale, bias, x_scale, y);
}

/// Whether the routines can go through such a matrix at all.
fn fits<const T: usize>(x: &[i16], rows: usize, width: usize) -> bool {
    let (some, whole) = (width >= 4 && rows >= 2, width.is_multiple_of(4));
    (1..=3).contains(&T) && some && whole && x.len() == T * width && is_word_aligned(x)
}

/// Turns the sums that `multiply` has left in `y` into outputs; `last` are those of an odd last row.
#[inline]
fn dequantize<const T: usize>(
    multiply: impl Fn(),
    last: [i32; T],
    scale: &[f32],
    bias: &[f32],
    x_scale: &[f32; T],
    y: &mut [f32],
) {
    let rows = scale.len();
    let put_last = |y: &mut [f32]| {
        if rows % 2 == 1 {
            for (y, sum) in rows_mut(y, rows).zip(last) {
                if let Some(y) = y.last_mut() {
                    *y = f32::from_bits(sum as u32);
                }
            }
        }
    };
    put_last(y);
    let is_exact = is_exact(|| {
        for (y, &x_scale) in rows_mut(y, rows).zip(x_scale) {
            let (y, scale, bias) = (y.as_mut_ptr(), scale.as_ptr(), bias.as_ptr());
            // SAFETY: reads `rows` scales and biases, which the caller has seen to, and rewrites as many sums.
            unsafe { dt_core_mve_dequantize(y, scale, bias, rows, x_scale) };
        }
    });
    if !is_exact {
        multiply();
        put_last(y);
        for (y, x_scale) in rows_mut(y, rows).zip(x_scale) {
            for ((y, scale), bias) in y.iter_mut().zip(scale).zip(bias) {
                *y = y.to_bits() as i32 as f32 * (scale * x_scale) + bias;
            }
        }
    }
}

/// See [`super::magnitude`].
#[inline]
pub fn magnitude(x: &[f32]) -> u32 {
    // SAFETY: reads as many floats.
    unsafe { dt_core_mve_magnitude(x.as_ptr(), x.len()) }
}

/// See [`super::quantize_groups`].
#[inline]
pub fn quantize_groups(x: &[[f32; 4]], inverse: f32, runs: &mut [Run], stride: usize) {
    // In between, what is lost of subnormal numbers rounds to zero in any case: it is below 2⁻¹²⁶·2¹⁰⁰.
    const LEAST: u32 = 1 << 23; // 2⁻¹²⁶
    const MOST: u32 = (127 + 100) << 23; // 2¹⁰⁰
    let fits = (LEAST..MOST).contains(&inverse.to_bits())
        && x.len().saturating_sub(1).saturating_mul(stride) < runs.len();
    if !fits {
        return scalar::quantize_groups(x, inverse, runs, stride);
    }
    let (x, len, runs) = (x.as_ptr(), x.len(), runs.as_mut_ptr());
    // SAFETY: reads `len` runs of four and writes as many, `stride` apart, which of a single one may be anything; `fits`: the last is within `runs`.
    unsafe { dt_core_mve_quantize(x, len, runs, stride.wrapping_mul(8), inverse) };
}

/// See [`super::relu`].
#[inline]
pub fn relu(x: &mut [f32]) {
    // SAFETY: rewrites as many floats.
    unsafe { dt_core_mve_relu(x.as_mut_ptr(), x.len()) };
}

/// See [`super::add`]. In place, so that it could not be done again.
pub use scalar::add;

/// See [`super::layer_norm`].
#[inline]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) -> f32 {
    let n = x.len();
    let fits = n > 0 && n.is_multiple_of(8) && [weight.len(), bias.len(), out.len()] == [n; 3];
    let mut inverse = 0.0;
    let is_done = fits
        && is_exact(|| {
            let (x, weight, bias) = (x.as_ptr(), weight.as_ptr(), bias.as_ptr());
            let out = out.as_mut_ptr();
            // SAFETY: `fits`: reads and writes n floats each, in blocks of eight.
            inverse = unsafe { dt_core_mve_layer_norm(x, n / 8, weight, bias, out, n as f32, eps) };
        });
    if is_done {
        inverse
    } else {
        scalar::layer_norm(x, weight, bias, eps, out)
    }
}

/// Does the work, and says whether no subnormal number came into it; flags that were set stay so.
#[inline]
fn is_exact(work: impl FnOnce()) -> bool {
    const UNDERFLOW: u32 = 1 << 3;
    const SUBNORMAL_INPUT: u32 = 1 << 7;
    const FLAGS: u32 = UNDERFLOW | SUBNORMAL_INPUT;
    let (before, after): (u32, u32);
    // SAFETY: reads and clears flags that no other code relies on.
    unsafe {
        asm!("vmrs {}, fpscr", out(reg) before);
        asm!("vmsr fpscr, {}", in(reg) before & !FLAGS);
    }
    work();
    // SAFETY: as above.
    unsafe {
        asm!("vmrs {}, fpscr", out(reg) after);
        asm!("vmsr fpscr, {}", in(reg) after | before & FLAGS);
    }
    after & FLAGS == 0
}

type Routine = unsafe extern "C" fn(packed: *const i8, job: *const Job);

fn routine<const T: usize>() -> Routine {
    match T {
        1 => dt_core_mve_1,
        2 => dt_core_mve_2,
        _ => dt_core_mve_3,
    }
}

unsafe extern "C" {
    fn dt_core_mve_1(packed: *const i8, job: *const Job);
    fn dt_core_mve_2(packed: *const i8, job: *const Job);
    fn dt_core_mve_3(packed: *const i8, job: *const Job);
    fn dt_core_mve_int4_1(packed: *const u8, job: *const Job, multipliers: *const u8);
    fn dt_core_mve_int4_2(packed: *const u8, job: *const Job, multipliers: *const u8);
    fn dt_core_mve_int4_3(packed: *const u8, job: *const Job, multipliers: *const u8);
    fn dt_core_mve_dequantize(
        sums: *mut f32,
        scale: *const f32,
        bias: *const f32,
        len: usize,
        x_scale: f32,
    );
    fn dt_core_mve_magnitude(x: *const f32, len: usize) -> u32;
    fn dt_core_mve_quantize(
        x: *const [f32; 4],
        len: usize,
        runs: *mut Run,
        stride: usize,
        inverse: f32,
    );
    fn dt_core_mve_relu(x: *mut f32, len: usize);
    fn dt_core_mve_layer_norm(
        x: *const f32,
        blocks: usize,
        weight: *const f32,
        bias: *const f32,
        out: *mut f32,
        n: f32,
        eps: f32,
    ) -> f32;
}

global_asm!(".cpu cortex-m55", include_str!("mve.s"), options(raw));
