//! Vectors of floats.

use super::{Aligned, GARBAGE, MARGIN, MAX_TOKENS, Mismatch, Random};
use crate::kernels::{RUN, Run};
use crate::ops;

type Magnitude = fn(&[f32]) -> u32;
type QuantizeGroups = fn(&[[f32; 4]], f32, &mut [Run], usize);
type LayerNorm = fn(&[f32], &[f32], &[f32], f32, &mut [f32]) -> f32;

#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    pub magnitude: Magnitude,
    pub quantize_groups: QuantizeGroups,
    pub relu: fn(&mut [f32]),
    pub add: fn(&mut [f32], &[f32]),
    pub layer_norm: LayerNorm,
}

/// Groups of four in the longest vector.
const GROUPS: usize = if cfg!(miri) { 2 } else { 70 };
const LEN: usize = 4 * GROUPS;
/// How often the shortest norms are computed.
const DRAWS: usize = if cfg!(miri) { 0 } else { 50 };

/// How often slices get lengths that do not match.
const WRONG_LENGTHS: usize = if cfg!(miri) { 20 } else { 2000 };

/// What a vector may hold anywhere.
const SPECIAL: [f32; 6] = [
    0.0,
    -0.0,
    f32::NAN,
    f32::NEG_INFINITY,
    -f32::MIN_POSITIVE,
    f32::from_bits(1),
];

#[derive(Clone, Debug)]
pub struct Memory {
    x: Aligned<[[f32; 4]; GROUPS + MARGIN]>,
    y: Aligned<[f32; LEN + 2 * MARGIN]>,
    runs: Aligned<[Run; MAX_TOKENS * LEN / RUN + MARGIN]>,
}

impl Memory {
    pub const fn new() -> Self {
        Self {
            x: Aligned([[0.0; 4]; _]),
            y: Aligned([0.0; _]),
            runs: Aligned([[0; RUN]; _]),
        }
    }

    pub fn run(&mut self, kernels: &Kernels, random: &mut Random<'_>) -> Result<u32, Mismatch> {
        let mut count = 0;
        for offset in 0..4 {
            for len in 0..=LEN {
                for special in SPECIAL {
                    self.magnitude(len, offset, special, kernels.magnitude, random)?;
                    self.relu(len, offset, special, kernels.relu, random)?;
                    count += 2;
                }
                self.add(len, offset, kernels.add, random)?;
                self.layer_norm(len, offset, kernels.layer_norm, random)?;
                count += 2;
            }
            // One rounding too few shows in some sums only, and best in those of few terms.
            for _ in 0..DRAWS {
                for len in [8, 12, 16, 20] {
                    self.layer_norm(len, offset, kernels.layer_norm, random)?;
                    count += 1;
                }
            }
            for groups in 0..=GROUPS {
                for stride in 1..=MAX_TOKENS {
                    self.quantize(groups, stride, offset, kernels.quantize_groups, random)?;
                    count += 1;
                }
            }
        }
        for _ in 0..WRONG_LENGTHS {
            count += self.wrong_lengths(kernels, random)?;
        }
        Ok(count)
    }

    pub fn run_one(&mut self, kernels: &Kernels, random: &mut Random<'_>) -> Result<u32, Mismatch> {
        let mut choose = |n| random.below(n) as usize;
        let (groups, tail, offset) = (choose(GROUPS as i32), choose(4), choose(4));
        let (special, stride) = (SPECIAL[choose(6)], 1 + choose(MAX_TOKENS as i32));
        let len = 4 * groups + tail;
        self.magnitude(len, offset, special, kernels.magnitude, random)?;
        self.relu(len, offset, special, kernels.relu, random)?;
        self.add(len, offset, kernels.add, random)?;
        self.layer_norm(len, offset, kernels.layer_norm, random)?;
        self.quantize(groups, stride, offset, kernels.quantize_groups, random)?;
        Ok(5 + self.wrong_lengths(kernels, random)?)
    }

    /// Slices that are too short or too long for each other, and strides that lead nowhere: nothing beside the output is
    /// written.
    fn wrong_lengths(
        &mut self,
        kernels: &Kernels,
        random: &mut Random<'_>,
    ) -> Result<u32, Mismatch> {
        const UNTOUCHED: Run = [i16::MIN; RUN];
        let right = random.below(LEN as i32 + 1) as usize;
        let mut length = || match random.below(4) {
            0 => random.below(LEN as i32 + 1) as usize,
            1 => right.saturating_sub(1),
            _ => right,
        };
        let x = &self.x.0.as_flattened()[..length()];
        let values = [1.5; LEN];
        let (weight, bias) = (&values[..length()], &values[..length()]);
        let mismatch = mismatch("lengths that do not match", right, 0);

        self.y.0.fill(GARBAGE);
        let len = length();
        let y = &mut self.y.0[MARGIN..][..len];
        (kernels.layer_norm)(x, weight, bias, 1e-5, y);
        (kernels.add)(y, x);
        let bits: &[u32] = bytemuck::cast_slice(&self.y.0);
        mismatch.beside(bits, &GARBAGE.to_bits(), MARGIN..MARGIN + len)?;

        self.runs.0.fill(UNTOUCHED);
        let (groups, len) = (length() / 4, MAX_TOKENS * length() / RUN);
        let strides = [0, 1, 2, 3, 5, 1 << 29, usize::MAX / 4, usize::MAX];
        let stride = strides[random.below(strides.len() as i32) as usize];
        let x = &self.x.0[..groups];
        (kernels.quantize_groups)(x, 0.5, &mut self.runs.0[MARGIN..][..len], stride);
        mismatch.beside(&self.runs.0, &UNTOUCHED, MARGIN..MARGIN + len)?;
        Ok(3)
    }

    fn magnitude(
        &mut self,
        len: usize,
        offset: usize,
        special: f32,
        magnitude: Magnitude,
        random: &mut Random<'_>,
    ) -> Result<(), Mismatch> {
        let x = self.input(len, offset, random);
        if len > 0 {
            x[random.next() as usize % len] = special;
        }
        let expected = x.iter().map(|x| x.abs().to_bits()).max();
        let (expected, got) = (expected.unwrap_or_default(), magnitude(x));
        if got != expected {
            return Err(Mismatch {
                expected: expected.into(),
                got: got.into(),
                ..mismatch("magnitude", len, offset)
            });
        }
        Ok(())
    }

    fn relu(
        &mut self,
        len: usize,
        offset: usize,
        special: f32,
        relu: fn(&mut [f32]),
        random: &mut Random<'_>,
    ) -> Result<(), Mismatch> {
        let x = self.input(len, offset, random);
        if len > 0 {
            x[random.next() as usize % len] = special;
        }
        self.y.0.fill(GARBAGE);
        let y = &mut self.y.0[MARGIN + offset..][..len];
        y.copy_from_slice(&self.x.0.as_flattened()[offset..][..len]);
        relu(y);
        let x = &self.x.0.as_flattened()[offset..][..len];
        mismatch("relu", len, offset).between(&self.y.0, MARGIN + offset, |i| {
            x.get(i).map(|&x| match x {
                f32::NEG_INFINITY => x,
                _ if x <= 0.0 => 0.0,
                _ => x,
            })
        })
    }

    fn add(
        &mut self,
        len: usize,
        offset: usize,
        add: fn(&mut [f32], &[f32]),
        random: &mut Random<'_>,
    ) -> Result<(), Mismatch> {
        let mut before = [0.0; LEN];
        before.fill_with(|| random.any_float());
        self.input(len, offset, random)
            .fill_with(|| random.any_float());
        self.y.0.fill(GARBAGE);
        let y = &mut self.y.0[MARGIN + offset..][..len];
        y.copy_from_slice(&before[..len]);
        let x = &self.x.0.as_flattened()[offset..][..len];
        add(y, x);
        mismatch("add", len, offset).between(&self.y.0, MARGIN + offset, |i| {
            x.get(i).map(|x| before[i] + x)
        })
    }

    /// The reference is the numerics contract in `BLOB.md`.
    fn layer_norm(
        &mut self,
        len: usize,
        offset: usize,
        layer_norm: LayerNorm,
        random: &mut Random<'_>,
    ) -> Result<(), Mismatch> {
        let [mut weight, mut bias] = [[0.0; LEN]; 2];
        // Subnormal numbers come into some vectors only: kernels may have another way for these.
        let any = len / 8 % 2 == 1;
        let fill = |random: &mut Random<'_>| {
            if any {
                random.any_float()
            } else {
                random.float()
            }
        };
        weight.fill_with(|| fill(random));
        bias.fill_with(|| fill(random));
        // Of one magnitude, as in a residual stream.
        let magnitude = if any && offset == 1 {
            f32::MIN_POSITIVE
        } else {
            1.0
        };
        for x in self.input(len, offset, random) {
            *x = (1.0 / (1.0 + x.abs()) - 0.5) * magnitude;
        }
        self.y.0.fill(GARBAGE);
        let y = &mut self.y.0[MARGIN + offset..][..len];
        let x = &self.x.0.as_flattened()[offset..][..len];
        let inverse = layer_norm(x, &weight[..len], &bias[..len], 1e-5, y);

        let n = len as f32;
        let mean = ops::sum(x) / n;
        let mut squares = [0.0; LEN];
        for (square, x) in squares.iter_mut().zip(x) {
            *square = (x - mean) * (x - mean);
        }
        let r = 1.0 / libm::sqrtf(ops::sum(&squares[..len]) / n + 1e-5);
        if len > 0 && inverse.to_bits() != r.to_bits() {
            return Err(Mismatch {
                expected: r.to_bits().into(),
                got: inverse.to_bits().into(),
                ..mismatch("layer_norm's inverse", len, offset)
            });
        }
        mismatch("layer_norm", len, offset).between(&self.y.0, MARGIN + offset, |i| {
            x.get(i).map(|x| ((x - mean) * r) * weight[i] + bias[i])
        })
    }

    fn quantize(
        &mut self,
        len: usize,
        stride: usize,
        offset: usize,
        quantize_groups: QuantizeGroups,
        random: &mut Random<'_>,
    ) -> Result<(), Mismatch> {
        const UNTOUCHED: i16 = i16::MIN;
        // The largest makes some of the values subnormal.
        let scale = [0, 60, 127][len / 3 % 3];
        let scale = f32::from_bits((127 + scale) << 23);
        for x in self.x.0.as_flattened_mut() {
            // Integers, ties and what lies between, up to the largest that 16 bits take, and −0.
            let most = [32, 4 * i32::from(i16::MAX)][random.next() as usize >> 31];
            let quarters = random.below(most + 1);
            *x = random.sign() as f32 * (quarters as f32 / 4.0) / scale;
        }
        let inverse = [1.0, 0.5, 0.0][len % 3] * scale;
        self.runs.0.fill([UNTOUCHED; RUN]);
        let x = &self.x.0[offset..][..len];
        let runs = x.as_flattened().as_chunks::<RUN>().0;
        let room = (runs.len().max(1) - 1) * stride + 1;
        quantize_groups(x, inverse, &mut self.runs.0[offset..][..room], stride);
        for (i, &got) in self.runs.0.iter().enumerate() {
            let index = i.wrapping_sub(offset);
            let expected = match runs.get(index / stride) {
                Some(x) if index.is_multiple_of(stride) => {
                    x.map(|x| libm::rintf(x * inverse) as i16)
                }
                _ => [UNTOUCHED; RUN],
            };
            let differs = got
                .iter()
                .zip(expected)
                .find(|(got, expected)| *got != expected);
            if let Some((&got, expected)) = differs {
                let [expected, got] = [expected, got].map(i64::from);
                return Err(Mismatch {
                    tokens: stride,
                    index,
                    expected,
                    got,
                    ..mismatch("quantize_groups", 4 * len, offset)
                });
            }
        }
        Ok(())
    }

    /// `len` random values, among garbage.
    fn input(&mut self, len: usize, offset: usize, random: &mut Random<'_>) -> &mut [f32] {
        let x = self.x.0.as_flattened_mut();
        x.fill(GARBAGE);
        let x = &mut x[offset..][..len];
        x.fill_with(|| random.float());
        x
    }
}

fn mismatch(function: &'static str, cols: usize, offset: usize) -> Mismatch {
    Mismatch {
        function,
        tokens: 1,
        rows: 1,
        cols,
        offset,
        index: 0,
        expected: 0,
        got: 0,
    }
}
