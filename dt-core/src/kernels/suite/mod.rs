//! The suite that every kernel runs, on the host and on the controller: against one-line references,
//! to the bit.
//!
//! All lengths up to 1100 and some around 2048, which is what the AVX2 kernels have room for and twice what the
//! Cortex-M4's int4 has, odd and even numbers of rows, one to three tokens, all alignments, random values and the largest that the
//! accumulator bound allows, and garbage wherever a kernel must not look or whatever it reads must not
//! matter. Lengths that do not match get no particular result, but nothing is written that must not be.

#![allow(clippy::indexing_slicing, reason = "test code")]

mod floats;
mod matrices;

#[cfg(all(arm_dsp, not(arm_mve)))]
use super::armv7em;
#[cfg(arm_mve)]
use super::mve;
#[cfg(neon_kernels)]
use super::neon;
use super::scalar;
#[cfg(sse2_kernels)]
use super::x86;

const MAX_TOKENS: usize = 3;
/// Values before and after what a kernel is given, which it must leave alone.
const MARGIN: usize = 16;
const GARBAGE: f32 = f32::NAN;

/// One implementation of the functions in [`crate::unstable::kernels`].
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// Its module.
    pub name: &'static str,
    matrices: matrices::KernelsByTokens,
    pub(super) floats: floats::Kernels,
}

macro_rules! kernels {
    ($name:literal, $matrices:path, $others:path) => {{
        use $matrices::{linear, linear_int4, products};
        use $others::{add, layer_norm, magnitude, quantize_groups, relu};
        Kernels {
            name: $name,
            matrices: (
                (linear, linear_int4, products::<1>),
                (linear, linear_int4, products::<2>),
                (linear, linear_int4, products::<3>),
            ),
            floats: floats::Kernels {
                magnitude,
                quantize_groups,
                relu,
                add,
                layer_norm,
            },
        }
    }};
}

/// The kernels that this machine can run.
pub fn available() -> impl Iterator<Item = Kernels> {
    [
        kernels!("scalar", scalar, scalar),
        #[cfg(all(arm_dsp, not(arm_mve)))]
        kernels!("armv7em", armv7em, armv7em),
        #[cfg(arm_mve)]
        kernels!("mve", mve, mve),
        #[cfg(neon_kernels)]
        kernels!("neon", neon, neon),
        #[cfg(sse2_kernels)]
        kernels!("sse2", x86::sse2, x86),
        // Where there is any.
        #[cfg(sse2_kernels)]
        kernels!("avx2", x86::with_avx2, x86),
        #[cfg(sse2_kernels)]
        kernels!("vnni", x86::with_vnni, x86),
    ]
    .into_iter()
}

/// The first difference from the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mismatch {
    /// What was computed.
    pub function: &'static str,
    /// Of how many tokens; of `quantize_groups`, the stride.
    pub tokens: usize,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix, or length of the vector.
    pub cols: usize,
    /// How many values behind a multiple of 16 bytes the inputs began.
    pub offset: usize,
    /// Where in the output; beyond its end: something was written that must not be.
    pub index: usize,
    /// The reference's integer or bits.
    pub expected: i64,
    /// The kernel's.
    pub got: i64,
}

impl Mismatch {
    /// Compares the bits of all of `got` with what `expected` says of each; the output began after `margin`
    /// values.
    fn between(
        self,
        got: &[f32],
        margin: usize,
        expected: impl Fn(usize) -> Option<f32>,
    ) -> Result<(), Self> {
        for (i, got) in got.iter().enumerate() {
            let index = i.wrapping_sub(margin);
            let [expected, got] = [expected(index).unwrap_or(GARBAGE), *got].map(f32::to_bits);
            if got != expected {
                let [expected, got] = [expected, got].map(i64::from);
                return Err(Self {
                    index,
                    expected,
                    got,
                    ..self
                });
            }
        }
        Ok(())
    }
}

impl Mismatch {
    /// Checks that all but `output` is still `untouched`.
    fn beside<T: PartialEq>(
        self,
        values: &[T],
        untouched: &T,
        output: core::ops::Range<usize>,
    ) -> Result<(), Self> {
        let is_written =
            |(index, value): (usize, &T)| !output.contains(&index) && value != untouched;
        match values.iter().enumerate().position(is_written) {
            Some(index) => Err(Self { index, ..self }),
            None => Ok(()),
        }
    }
}

/// What the suite works in, 40 KiB.
#[derive(Clone, Debug)]
pub struct Suite {
    matrices: matrices::Memory,
    floats: floats::Memory,
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

impl Suite {
    /// Fresh memory. A `const fn`, so that a controller can have it in a `static`.
    pub const fn new() -> Self {
        Self {
            matrices: matrices::Memory::new(),
            floats: floats::Memory::new(),
        }
    }

    /// Runs it all and counts the comparisons of a kernel's output with its reference.
    ///
    /// # Errors
    /// The first [`Mismatch`].
    pub fn run(&mut self, kernels: &Kernels) -> Result<u32, Mismatch> {
        let random = &mut Random::new(&[]);
        let count = self.matrices.run(&kernels.matrices, random)?;
        Ok(count + self.floats.run(&kernels.floats, random)?)
    }

    /// Runs one matrix and one vector, whose sizes and numbers `choices` determines: for a fuzzer.
    ///
    /// # Errors
    /// The first [`Mismatch`].
    pub fn run_one(&mut self, kernels: &Kernels, choices: &[u8]) -> Result<u32, Mismatch> {
        let random = &mut Random::new(choices);
        let count = self.floats.run_one(&kernels.floats, random)?;
        Ok(count + self.matrices.run_one(&kernels.matrices, random)?)
    }
}

#[derive(Clone, Debug)]
#[repr(C, align(16))]
struct Aligned<T>(T);

/// Numbers that somebody chose, and when those are used up, xorshift32.
#[derive(Debug)]
struct Random<'c> {
    choices: &'c [u8],
    state: u32,
}

impl<'c> Random<'c> {
    fn new(choices: &'c [u8]) -> Self {
        Self { choices, state: 1 }
    }

    fn next(&mut self) -> u32 {
        if let Some((chosen, rest)) = self.choices.split_first_chunk() {
            self.choices = rest;
            return u32::from_le_bytes(*chosen);
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state
    }

    /// 0…n − 1.
    fn below(&mut self, n: i32) -> i32 {
        (self.next() % n.cast_unsigned()).cast_signed()
    }

    fn sign(&mut self) -> i32 {
        alternating(self.next() as usize >> 9)
    }

    /// Of either sign, between 2⁻³⁰ and 2³⁰.
    fn float(&mut self) -> f32 {
        let exponent = 127 - 30 + self.next() % 60;
        self.sign() as f32 * f32::from_bits(exponent << 23 | self.next() >> 9)
    }

    /// The same, or in one of four cases below 2⁻¹⁰³ in magnitude and perhaps subnormal.
    fn any_float(&mut self) -> f32 {
        if self.below(4) > 0 {
            return self.float();
        }
        let exponent = self.next() % 24;
        self.sign() as f32 * f32::from_bits(exponent << 23 | self.next() >> 9)
    }
}

fn alternating(i: usize) -> i32 {
    if i.is_multiple_of(2) { 1 } else { -1 }
}
