//! Cortex-M4F, M7, and M33 with the DSP extension: two products per instruction with `SMLAD`.
//!
//! One assembly routine per number of tokens T goes through a whole matrix, row pair by row pair.
//! The weights of a pair, their scales and biases and the activations are each read in the order
//! they lie in memory, four columns (one *group*) at a time. A half of a word of weights is 256·a + u with a of the even
//! row, u = b + 128 of the odd one. For T = 3, the shape of a fused control step, a group is 24 products in 19
//! instructions that load 8 words, for two columns and then for two more:
//!
//! ```text
//! memory     r0 → | u0 a0 u1 a1 | u2 a2 u3 a3 |  …      two columns of both rows (packed i8)
//!            r1 → | x0 x1 |  of token 0, of token 1, of token 2, then x2 and x3 of all three
//! SXTB16     r8 = (a0, a1)    then r9 = (a2, a3)
//! UXTB16     r10 = (u0, u1)   then r10 = (u2, u3)
//! LDM        r11, r12, lr = (x0, x1) of the tokens
//! SMLAD      token 0: r2 += a·x, r3 += u·x    token 1: r4, r5    token 2: r6, r7
//! ```
//!
//! All fourteen usable registers are taken, so everything else lies on the stack. Sums of u·x begin at −128·Σx, so at
//! the end of a row they are Σb·x: modulo 2³², as which it fits, whatever happens on the way.
//!
//! With two tokens, and with one, registers are left for sums of 64 bits, and half of the unpacking is saved: words are
//! multiplied as they are (`SMLALD`), which gives 256·Σa·x + Σu·x, and beside that by `UXTB16`, which gives
//! Σu·x. Both begin at −128·Σx, and subtracting the second from the first leaves 256·Σa·x. 13 instructions for 16 products with two tokens,
//! 14 for two groups with one:
//!
//! ```text
//! UXTB16     lr = (u0, u1)
//! SMLALD     r3:r2 += (256·a + u)·x
//! SMLAD      r4 += u·x
//! ```
//!
//! 32 groups are unrolled. A row of another length enters the unrolled code in the middle:
//! all groups of a routine are equally long.

mod int4;

use core::arch::global_asm;

use super::arm::is_word_aligned;
use super::{Run, scalar};
use crate::slices::{round_up, rows_mut, times};
pub use int4::linear_int4;

/// What a routine works through. It becomes the routine's stack frame: change both together.
#[repr(C)]
struct Job {
    /// What a row pair begins with: the first activation, sums, and where in the unrolled code it begins.
    x: *const i16,
    sums: [i32; 6],
    entry: usize,
    /// What follows the unrolled code: `finish`, or a look at whether the row has another round.
    next: usize,
    /// The activation after the last.
    x_end: *const i16,
    /// What is done with the sums.
    finish: usize,
    /// One token: where it goes on after an odd group.
    entry_twos: usize,
    /// Scale, bias and output of the next row pair.
    scale: *const f32,
    bias: *const f32,
    y: *mut f32,
    /// Bytes from one token's output to the next one's.
    stride: usize,
    /// End of `scale`, or of the first token's `y` if the sums stay integers.
    end: *const f32,
    x_scale: [f32; 3],
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
    let pairs = rows / 2;
    let width = x.len().checked_div(T).unwrap_or_default();
    let fits = (1..=3).contains(&T)
        && width >= 4
        && x.len().is_multiple_of(4 * T)
        && packed.len() >= round_up(rows, 2).saturating_mul(width)
        && bias.len() >= rows
        && y.len() >= T.saturating_mul(rows)
        && is_word_aligned(packed)
        && is_word_aligned(x);
    if !fits {
        let matrix = scalar::Matrix::Int8(packed);
        return scalar::linear_by_weight(matrix, x, scale, bias, x_scale, y);
    }
    let mut scales = [0.0; 3];
    crate::slices::copy(x_scale, &mut scales);
    if pairs > 0 {
        let job = Job {
            scale: scale.as_ptr(),
            bias: bias.as_ptr(),
            y: y.as_mut_ptr(),
            stride: 4 * rows,
            end: scale.as_ptr().wrapping_add(2 * pairs),
            x_scale: scales,
            ..Job::new::<T>(x, Finish::Floats)
        };
        // SAFETY: `fits`: the routine reads 2·pairs rows of weights, `x`, and 2·pairs scales and
        // biases, and writes 2·pairs floats for each of T tokens, `rows` apart.
        unsafe { routine::<T>()(packed.as_ptr(), &job) };
    }
    // An odd last row is paired with padding.
    if rows % 2 == 1 {
        let mut sums = [[0; 2]; T];
        let last = packed.get(times(2 * pairs, width)..).unwrap_or_default();
        products::<T>(last, x, sums.as_flattened_mut());
        let parameters = scale.last().zip(bias.get(2 * pairs));
        for ((sums, x_scale), y) in sums.iter().zip(x_scale).zip(rows_mut(y, rows)) {
            if let (Some((scale, bias)), Some(y)) = (parameters, y.last_mut()) {
                *y = sums[0] as f32 * (scale * x_scale) + bias;
            }
        }
    }
}

/// See [`super::products`].
#[inline]
pub fn products<const T: usize>(packed: &[i8], x: &[i16], sums: &mut [i32]) {
    let width = x.len().checked_div(T).unwrap_or_default();
    let rows = sums.len().checked_div(T).unwrap_or_default();
    let fits = (1..=3).contains(&T)
        && width >= 4
        && x.len().is_multiple_of(4 * T)
        && rows > 0
        && rows.is_multiple_of(2)
        && packed.len() >= rows.saturating_mul(width)
        && is_word_aligned(packed)
        && is_word_aligned(x);
    if !fits {
        return scalar::products::<T>(packed, x, sums);
    }
    let y = sums.as_mut_ptr().cast::<f32>();
    let job = Job {
        y,
        stride: 4 * rows,
        end: y.wrapping_add(rows),
        ..Job::new::<T>(x, Finish::Integers)
    };
    // SAFETY: `fits`: the routine reads `rows` rows of weights and `x`, and writes as many sums for
    // each token.
    unsafe { routine::<T>()(packed.as_ptr(), &job) };
}

/// See [`super::magnitude`].
#[inline]
pub fn magnitude(x: &[f32]) -> u32 {
    let (blocks, tail) = x.as_chunks::<8>();
    let of_tail = scalar::magnitude(tail);
    if blocks.is_empty() {
        return of_tail;
    }
    // SAFETY: reads the blocks, of which there is at least one.
    let of_blocks = unsafe { dt_core_magnitude(blocks.as_ptr(), blocks.as_ptr_range().end) };
    if of_tail > of_blocks {
        of_tail
    } else {
        of_blocks
    }
}

/// See [`super::quantize_groups`].
#[inline]
pub fn quantize_groups(x: &[[f32; 4]], inverse: f32, runs: &mut [Run], stride: usize) {
    let (blocks, tail) = x.as_chunks::<2>();
    let last = (2 * x.len()).saturating_sub(1).saturating_mul(stride);
    if last >= runs.len() || blocks.is_empty() || !is_word_aligned(runs) {
        return scalar::quantize_groups(x, inverse, runs, stride);
    }
    let (start, end) = (blocks.as_ptr(), blocks.as_ptr_range().end);
    // SAFETY: reads the blocks, of which there is at least one, and writes four runs of two for each,
    // `stride` apart; the `last` is within `runs`.
    unsafe { dt_core_quantize(start, end, runs.as_mut_ptr(), times(4, stride), inverse) };
    let rest = runs.get_mut(times(4 * blocks.len(), stride)..);
    scalar::quantize_groups(tail, inverse, rest.unwrap_or_default(), stride);
}

/// See [`super::relu`].
#[inline]
pub fn relu(x: &mut [f32]) {
    let (blocks, tail) = x.as_chunks_mut::<8>();
    scalar::relu(tail);
    if !blocks.is_empty() {
        let ends = blocks.as_mut_ptr_range();
        // SAFETY: rewrites the blocks, of which there is at least one.
        unsafe { dt_core_relu(ends.start, ends.end) };
    }
}

/// See [`super::add`].
#[inline]
pub fn add(x: &mut [f32], y: &[f32]) {
    let (blocks, tail) = x.as_chunks_mut::<8>();
    let Some((y, y_tail)) = y.split_at_checked(8 * blocks.len()) else {
        return scalar::add(x, y);
    };
    scalar::add(tail, y_tail);
    if !blocks.is_empty() {
        let ends = blocks.as_mut_ptr_range();
        // SAFETY: rewrites the blocks, of which there is at least one; `y` is as long.
        unsafe { dt_core_add(ends.start, ends.end, y.as_ptr()) };
    }
}

/// See [`super::layer_norm`].
#[inline]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) -> f32 {
    let n = x.len();
    let fits = n >= 8 && n.is_multiple_of(4) && [weight.len(), bias.len(), out.len()] == [n; 3];
    if !fits {
        return scalar::layer_norm(x, weight, bias, eps, out);
    }
    let (blocks, tail) = x.as_chunks::<8>();
    let (weight, bias) = (weight.as_ptr(), bias.as_ptr());
    // SAFETY: `fits`: reads and writes n floats each, in blocks of eight, at least one, and four where those are left.
    unsafe {
        dt_core_layer_norm(
            x.as_ptr(),
            blocks.as_ptr_range().end.cast(),
            weight,
            bias,
            out.as_mut_ptr(),
            tail.len(),
            n as f32,
            eps,
        )
    }
}

/// What a routine does with a row pair's sums.
#[derive(Clone, Copy)]
enum Finish {
    /// Scales them and adds the bias.
    Floats,
    /// Writes them as they are.
    Integers,
}

impl Job {
    /// Reads activations; what is done with the sums is still to be filled in.
    fn new<const T: usize>(x: &[i16], finish: Finish) -> Self {
        let groups = x.len().checked_div(4 * T).unwrap_or_default();
        // The unrolled code consists of `unrolled` units of `size` bytes; `units` make a row.
        let (code, size, unrolled, units) = match T {
            1 => (Code::of_1(), 14 * 4, 16, groups / 2),
            2 => (Code::of_2(), 13 * 4, 32, groups),
            _ => (Code::of_3(), 19 * 4, 32, groups),
        };
        // As many units go first as do not fill a round.
        let rounds = units.div_ceil(unrolled);
        let skipped = match units % unrolled {
            0 if units > 0 => 0,
            rest => unrolled - rest,
        };
        let start = thumb(code.groups).wrapping_add(skipped * size);
        let finish = thumb(match finish {
            Finish::Floats => code.floats,
            Finish::Integers => code.integers,
        });
        let is_odd = T == 1 && groups % 2 == 1;
        Self {
            x: x.as_ptr(),
            sums: beginning::<T>(x),
            entry: if is_odd {
                thumb(&raw const dt_core_odd_group)
            } else {
                start
            },
            next: if rounds > 1 { thumb(code.more) } else { finish },
            x_end: x.as_ptr_range().end,
            finish,
            entry_twos: start,
            scale: core::ptr::null(),
            bias: core::ptr::null(),
            y: core::ptr::null_mut(),
            stride: 0,
            end: core::ptr::null(),
            x_scale: [0.0; 3],
        }
    }
}

/// What the sums of a row pair begin with: −128·Σx, where b + 128 will be multiplied in place of b.
fn beginning<const T: usize>(x: &[i16]) -> [i32; 6] {
    let mut sums = [0; 3];
    let ends = x.as_ptr_range();
    // SAFETY: reads `x`, at least one group of four for each of T tokens.
    unsafe {
        match T {
            1 => dt_core_sums_1(ends.start, ends.end, &mut sums),
            2 => dt_core_sums_2(ends.start, ends.end, &mut sums),
            _ => dt_core_sums_3(ends.start, ends.end, &mut sums),
        }
    }
    // |Σx| < 2³¹/127, times 128.
    let [first, second, third] = sums.map(|sum| -128 * i64::from(sum));
    let (low, high) = (|sum| sum as i32, |sum| (sum >> 32) as i32);
    match T {
        3 => [0, low(first), 0, low(second), 0, low(third)],
        _ => [
            low(first),
            high(first),
            low(first),
            low(second),
            high(second),
            low(second),
        ],
    }
}

/// Places in a routine.
struct Code {
    groups: *const u8,
    more: *const u8,
    floats: *const u8,
    integers: *const u8,
}

impl Code {
    fn of_1() -> Self {
        Self {
            groups: &raw const dt_core_groups_1,
            more: &raw const dt_core_more_1,
            floats: &raw const dt_core_floats_1,
            integers: &raw const dt_core_integers_1,
        }
    }

    fn of_2() -> Self {
        Self {
            groups: &raw const dt_core_groups_2,
            more: &raw const dt_core_more_2,
            floats: &raw const dt_core_floats_2,
            integers: &raw const dt_core_integers_2,
        }
    }

    fn of_3() -> Self {
        Self {
            groups: &raw const dt_core_groups_3,
            more: &raw const dt_core_more_3,
            floats: &raw const dt_core_floats_3,
            integers: &raw const dt_core_integers_3,
        }
    }
}

/// Addresses of Thumb code are odd when they are jumped to.
fn thumb(code: *const u8) -> usize {
    code.addr() | 1
}

type Routine = unsafe extern "C" fn(packed: *const i8, job: *const Job);

fn routine<const T: usize>() -> Routine {
    match T {
        1 => dt_core_matrix_1,
        2 => dt_core_matrix_2,
        _ => dt_core_matrix_3,
    }
}

unsafe extern "C" {
    fn dt_core_matrix_1(packed: *const i8, job: *const Job);
    fn dt_core_matrix_2(packed: *const i8, job: *const Job);
    fn dt_core_matrix_3(packed: *const i8, job: *const Job);
    /// The unrolled groups.
    static dt_core_groups_1: u8;
    static dt_core_groups_2: u8;
    static dt_core_groups_3: u8;
    /// The group that comes before groups in twos.
    static dt_core_odd_group: u8;
    /// After a round of unrolled groups.
    static dt_core_more_1: u8;
    static dt_core_more_2: u8;
    static dt_core_more_3: u8;
    /// After the last one.
    static dt_core_floats_1: u8;
    static dt_core_floats_2: u8;
    static dt_core_floats_3: u8;
    static dt_core_integers_1: u8;
    static dt_core_integers_2: u8;
    static dt_core_integers_3: u8;
    fn dt_core_sums_1(x: *const i16, end: *const i16, sums: *mut [i32; 3]);
    fn dt_core_sums_2(x: *const i16, end: *const i16, sums: *mut [i32; 3]);
    fn dt_core_sums_3(x: *const i16, end: *const i16, sums: *mut [i32; 3]);
    fn dt_core_magnitude(x: *const [f32; 8], end: *const [f32; 8]) -> u32;
    fn dt_core_quantize(
        x: *const [[f32; 4]; 2],
        end: *const [[f32; 4]; 2],
        runs: *mut Run,
        stride: usize,
        inverse: f32,
    );
    fn dt_core_relu(x: *mut [f32; 8], end: *mut [f32; 8]);
    fn dt_core_add(x: *mut [f32; 8], end: *mut [f32; 8], y: *const f32);
    fn dt_core_layer_norm(
        x: *const f32,
        end: *const f32,
        weight: *const f32,
        bias: *const f32,
        out: *mut f32,
        tail: usize,
        n: f32,
        eps: f32,
    ) -> f32;
}

global_asm!(
    concat!(".cpu ", env!("DT_ASSEMBLY_CPU")),
    include_str!("armv7em.s"),
    include_str!("armv7em/int4.s"),
    options(raw)
);
