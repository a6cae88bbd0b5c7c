//! Cortex-M4 and M7: two products per instruction with `SMLAD`.
//!
//! `dot_pair` for three tokens, the shape of a fused control step: per group of four columns, two
//! weight words (one of each row) and three pairs of activation words give 24 products in 20
//! instructions.
//!
//! ```text
//! memory     r0 → | a0 a2 a1 a3 | b0 b2 b1 b3 |  …      one word of each row (packed i8)
//!            r1 → | x0 x1 | x2 x3 |  token 0, then token 1, token 2, then the next group
//! SXTB16     r10 = (a0, a1)   r8 = (a2, a3)   r11 = (b0, b1)   r9 = (b2, b3)
//! LDRD       r12 = (x0, x1)   lr = (x2, x3)
//! SMLAD      token 0: r2 += a·x, r3 += b·x    token 1: r4, r5    token 2: r6, r7
//! ```
//!
//! All fourteen usable registers are taken, so the end of the loop lies on the stack.

use core::arch::{asm, global_asm};

use super::scalar;

/// See [`scalar::dot_pair`], which this equals.
#[inline]
pub fn dot_pair<const T: usize>(pair: &[i8], x: &[i16]) -> [[i32; 2]; T] {
    let groups = pair.len() / 8;
    let kernel = match T {
        1 => dt_core_dot_pair_1,
        2 => dt_core_dot_pair_2,
        3 => dt_core_dot_pair_3,
        _ => return scalar::dot_pair(pair, x),
    };
    let mut sums = [[0; 2]; T];
    if groups > 0 && x.len() >= 4 * T * groups && is_word_aligned(pair) && is_word_aligned(x) {
        // SAFETY: the kernel reads 8·groups bytes of weights and 4·T·groups activations, which the
        // slices hold, with loads that need word alignment, and writes 2·T sums.
        unsafe { kernel(pair.as_ptr(), x.as_ptr(), groups, sums.as_mut_ptr().cast()) };
        sums
    } else {
        scalar::dot_pair(pair, x)
    }
}

/// Σ q\[i\]·k\[i\]; see [`scalar::dot`], which this equals.
#[inline]
pub fn dot(q: &[i16], k: &[i8]) -> i32 {
    let mut sum = 0;
    for (&[q0, q1, q2, q3], &k) in q.as_chunks::<4>().0.iter().zip(k.as_chunks::<4>().0) {
        let k = word(k);
        sum = smlad(sxtb16(k), pair(q0, q1), sum);
        sum = smlad(sxtb16(k.rotate_right(8)), pair(q2, q3), sum);
    }
    sum
}

/// See [`scalar::weighted_sum`], which this equals: four sums stay in registers while the values
/// go by, two rows at a time.
#[inline]
pub fn weighted_sum(weights: &[i16], values: &[i8], stride: usize, sums: &mut [i32]) {
    let (pairs, last) = weights.as_chunks::<2>();
    let mut column = values;
    for sums in sums.as_chunks_mut::<4>().0 {
        let mut rest = column;
        for &[w0, w1] in pairs {
            let below = rest.get(stride..).unwrap_or_default();
            add_rows(sums, pair(w0, w1), group(rest), group(below));
            rest = below.get(stride..).unwrap_or_default();
        }
        if let &[weight] = last {
            add_rows(sums, pair(weight, 0), group(rest), 0);
        }
        column = column.get(4..).unwrap_or_default();
    }
}

/// Adds two rows of four values, each with its weight.
#[inline]
fn add_rows(sums: &mut [i32; 4], weights: u32, row_0: u32, row_1: u32) {
    // (v0, v2) and (v1, v3) of both rows, then both rows' values of one column side by side.
    let (even_0, odd_0) = (sxtb16(row_0), sxtb16(row_0.rotate_right(8)));
    let (even_1, odd_1) = (sxtb16(row_1), sxtb16(row_1.rotate_right(8)));
    let [sum_0, sum_1, sum_2, sum_3] = sums;
    *sum_0 = smlad(low_halves(even_0, even_1), weights, *sum_0);
    *sum_1 = smlad(low_halves(odd_0, odd_1), weights, *sum_1);
    *sum_2 = smlad(high_halves(even_0, even_1), weights, *sum_2);
    *sum_3 = smlad(high_halves(odd_0, odd_1), weights, *sum_3);
}

/// The first four values.
#[inline]
fn group(values: &[i8]) -> u32 {
    word(values.first_chunk().copied().unwrap_or_default())
}

#[inline]
fn word(bytes: [i8; 4]) -> u32 {
    u32::from_le_bytes(bytes.map(i8::cast_unsigned))
}

#[inline]
fn pair(low: i16, high: i16) -> u32 {
    u32::from(low.cast_unsigned()) | u32::from(high.cast_unsigned()) << 16
}

/// `PKHBT`.
#[inline]
fn low_halves(a: u32, b: u32) -> u32 {
    a & 0xffff | b << 16
}

/// `PKHTB`.
#[inline]
fn high_halves(a: u32, b: u32) -> u32 {
    a >> 16 | b & 0xffff_0000
}

/// Bytes 0 and 2, each sign-extended to 16 bits.
#[inline]
fn sxtb16(x: u32) -> u32 {
    let result;
    // SAFETY: register to register.
    unsafe {
        asm!("sxtb16 {}, {}", out(reg) result, in(reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    result
}

/// `sum` plus the products of the two pairs of 16-bit halves.
#[inline]
fn smlad(a: u32, b: u32, sum: i32) -> i32 {
    let result;
    // SAFETY: register to register. (The sticky Q flag, set on overflow, is nobody's.)
    unsafe {
        asm!("smlad {}, {}, {}, {}", out(reg) result, in(reg) a, in(reg) b, in(reg) sum, options(pure, nomem, nostack));
    }
    result
}

fn is_word_aligned<T>(slice: &[T]) -> bool {
    slice.as_ptr().addr().is_multiple_of(4)
}

unsafe extern "C" {
    fn dt_core_dot_pair_1(pair: *const i8, x: *const i16, groups: usize, sums: *mut i32);
    fn dt_core_dot_pair_2(pair: *const i8, x: *const i16, groups: usize, sums: *mut i32);
    fn dt_core_dot_pair_3(pair: *const i8, x: *const i16, groups: usize, sums: *mut i32);
}

global_asm!(
    "
    .syntax unified

    @ Widens the next weight word of both rows.
    .macro dt_weights
        ldrd    r8, r9, [r0], #8
        sxtb16  r10, r8
        sxtb16  r8, r8, ror #8
        sxtb16  r11, r9
        sxtb16  r9, r9, ror #8
    .endm

    @ Multiplies them with the next four activations of one token.
    .macro dt_token sum_a, sum_b
        ldrd    r12, lr, [r1], #8
        smlad   \\sum_a, r10, r12, \\sum_a
        smlad   \\sum_b, r11, r12, \\sum_b
        smlad   \\sum_a, r8, lr, \\sum_a
        smlad   \\sum_b, r9, lr, \\sum_b
    .endm

    .macro dt_group tokens
        dt_weights
        dt_token r2, r3
        .if \\tokens > 1
        dt_token r4, r5
        .endif
        .if \\tokens > 2
        dt_token r6, r7
        .endif
    .endm

    .macro dt_kernel tokens
        push    {{r3-r11, lr}}              @ [sp, #8]: where the sums go
        sub     sp, sp, #8
        movs    r4, #(8 * \\tokens)
        mla     r5, r2, r4, r1
        str     r5, [sp]                    @ [sp]: end of the activations
        bic     r6, r2, #7
        mla     r5, r6, r4, r1
        str     r5, [sp, #4]                @ [sp, #4]: end of the groups of eight
        movs    r2, #0
        movs    r3, #0
        movs    r4, #0
        movs    r5, #0
        movs    r6, #0
        movs    r7, #0
        b       2f
    1:
        .rept 8
        dt_group \\tokens
        .endr
    2:
        ldr     r12, [sp, #4]
        cmp     r1, r12
        bne     1b
        b       4f
    3:
        dt_group \\tokens
    4:
        ldr     r12, [sp]
        cmp     r1, r12
        bne     3b
        ldr     r12, [sp, #8]
        .if \\tokens == 1
        stm     r12, {{r2-r3}}
        .elseif \\tokens == 2
        stm     r12, {{r2-r5}}
        .else
        stm     r12, {{r2-r7}}
        .endif
        add     sp, sp, #8
        pop     {{r3-r11, pc}}
    .endm

    .section .text.dt_core_dot_pair_1, \"ax\", %progbits
    .global dt_core_dot_pair_1
    .type   dt_core_dot_pair_1, %function
    .thumb_func
    dt_core_dot_pair_1:
        dt_kernel 1
    .size   dt_core_dot_pair_1, . - dt_core_dot_pair_1

    .section .text.dt_core_dot_pair_2, \"ax\", %progbits
    .global dt_core_dot_pair_2
    .type   dt_core_dot_pair_2, %function
    .thumb_func
    dt_core_dot_pair_2:
        dt_kernel 2
    .size   dt_core_dot_pair_2, . - dt_core_dot_pair_2

    .section .text.dt_core_dot_pair_3, \"ax\", %progbits
    .global dt_core_dot_pair_3
    .type   dt_core_dot_pair_3, %function
    .thumb_func
    dt_core_dot_pair_3:
        dt_kernel 3
    .size   dt_core_dot_pair_3, . - dt_core_dot_pair_3
    "
);
