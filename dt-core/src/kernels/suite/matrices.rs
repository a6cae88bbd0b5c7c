//! Matrix products, int8 and int4.

use super::{Aligned, GARBAGE, MARGIN, MAX_TOKENS, Mismatch, Random, alternating};
use crate::int4::{self, Packed};
use crate::kernels::{interleaved_index, packed_byte, packed_index, packed_len, padded_cols};
use crate::quant::{WEIGHT_MAX, q_max};

/// Rows of all lengths up to this one are tried.
const ALL_LENGTHS: usize = if cfg!(miri) { 9 } else { 1100 };
/// Around what some kernels have room for, once or twice.
const LONG: &[usize] = if cfg!(miri) {
    &[]
} else {
    &[2041, 2048, 2049, 2053, 2076]
};
const MAX_COLS: usize = if LONG.is_empty() {
    ALL_LENGTHS.next_multiple_of(4)
} else {
    2076
};
/// Rows up to this length, several rounds of every unrolled loop, are tried in all combinations; longer ones
/// in some.
const ALL_COMBINATIONS: usize = if cfg!(miri) { 2 } else { 70 };
/// Numbers of rows that all rows up to [`ALL_COMBINATIONS`] long are tried in besides: kernels that take
/// up to sixteen at once are a host's, and controllers have little memory.
const TALL: &[usize] = if cfg!(any(miri, target_os = "none")) {
    &[]
} else {
    &[6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 24, 26, 31, 32, 33, 35]
};
const MAX_ROWS: usize = if TALL.is_empty() { 5 } else { 35 };
/// Up to how many rows all lengths are tried.
const FEW_ROWS: usize = 5;

/// How often slices get lengths that do not match.
const WRONG_LENGTHS: usize = if cfg!(miri) { 20 } else { 2000 };

type Linear<const T: usize> = fn(&[i8], &[i16], &[f32], &[f32], &[f32; T], &mut [f32]);
type LinearInt4<const T: usize> = fn(Packed<'_>, &[i16], &[f32], &[f32], &[f32; T], &mut [f32]);
type Products = fn(&[i8], &[i16], &mut [i32]);
/// Those for `T` tokens.
type Kernels<const T: usize> = (Linear<T>, LinearInt4<T>, Products);
pub type KernelsByTokens = (Kernels<1>, Kernels<2>, Kernels<3>);

#[derive(Clone, Debug)]
pub struct Memory {
    packed: Aligned<[i8; packed_len(MAX_ROWS, MAX_COLS) + MARGIN]>,
    multipliers: [u8; int4::multipliers_len(MAX_ROWS + 1, MAX_COLS)],
    x: Aligned<[i16; MAX_TOKENS * MAX_COLS + MARGIN]>,
    y: [f32; MAX_TOKENS * MAX_ROWS + 2 * MARGIN],
    sums: [i32; MAX_TOKENS * MAX_ROWS + 2 * MARGIN],
}

/// The numbers in a matrix and its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    /// Anything within bounds.
    Random,
    /// The largest magnitudes with random signs.
    RandomSigns,
    /// The largest sum there is.
    Largest,
    /// The smallest.
    Smallest,
}

impl Values {
    const ALL: [Self; 4] = [
        Self::Random,
        Self::RandomSigns,
        Self::Largest,
        Self::Smallest,
    ];
}

/// One matrix.
#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    cols: usize,
    offset: usize,
    values: Values,
}

/// W·x, exactly, of all rows of a token.
type Sums = [i64; MAX_ROWS];

impl Memory {
    pub const fn new() -> Self {
        Self {
            packed: Aligned([0; _]),
            multipliers: [0; _],
            x: Aligned([0; _]),
            y: [0.0; _],
            sums: [0; _],
        }
    }

    pub fn run(
        &mut self,
        kernels: &KernelsByTokens,
        random: &mut Random<'_>,
    ) -> Result<u32, Mismatch> {
        let mut count = 0;
        for cols in (1..=ALL_LENGTHS).chain(LONG.iter().copied()) {
            let all = cols <= ALL_COMBINATIONS;
            for (i, values) in Values::ALL.into_iter().enumerate() {
                if !all && i > 0 && i != 1 + cols % 3 {
                    continue;
                }
                // Kernels that ask for alignment get it; what comes in parts gets several pairs of rows.
                let (rows, offsets) = match cols {
                    _ if all => (1..=FEW_ROWS, 0..4),
                    ..=1024 => (2..=3, 0..1),
                    _ => (2..=4, 0..1),
                };
                for (rows, offset) in rows.flat_map(|rows| offsets.clone().map(move |o| (rows, o)))
                {
                    let case = Case {
                        rows,
                        cols,
                        offset,
                        values,
                    };
                    count += self.case(case, kernels, random)?;
                }
            }
        }
        for cols in 1..=ALL_COMBINATIONS {
            let values = Values::ALL.into_iter().cycle().skip(cols % 4);
            for (&rows, values) in TALL.iter().zip(values) {
                let case = Case {
                    rows,
                    cols,
                    offset: 0,
                    values,
                };
                count += self.case(case, kernels, random)?;
            }
        }
        for _ in 0..WRONG_LENGTHS {
            count += self.wrong_lengths(kernels, random)?;
        }
        Ok(count)
    }

    pub fn run_one(
        &mut self,
        kernels: &KernelsByTokens,
        random: &mut Random<'_>,
    ) -> Result<u32, Mismatch> {
        let mut choose = |n| random.below(n) as usize;
        let case = Case {
            rows: 1 + choose(MAX_ROWS as i32),
            cols: 1 + choose(ALL_COMBINATIONS as i32),
            offset: choose(4),
            values: Values::ALL[choose(4)],
        };
        Ok(self.case(case, kernels, random)? + self.wrong_lengths(kernels, random)?)
    }

    fn wrong_lengths(
        &mut self,
        (one, two, three): &KernelsByTokens,
        random: &mut Random<'_>,
    ) -> Result<u32, Mismatch> {
        self.wrong_lengths_of(one, random)?;
        self.wrong_lengths_of(two, random)?;
        self.wrong_lengths_of(three, random)?;
        Ok(3 * 3)
    }

    /// Slices that are too short or too long for each other: nothing beside the output is written.
    fn wrong_lengths_of<const T: usize>(
        &mut self,
        (linear, linear_int4, products): &Kernels<T>,
        random: &mut Random<'_>,
    ) -> Result<(), Mismatch> {
        const BESIDE: i32 = i32::from_ne_bytes(GARBAGE.to_bits().to_ne_bytes());
        let rows = 1 + random.below(MAX_ROWS as i32) as usize;
        let cols = 1 + random.below(ALL_COMBINATIONS as i32) as usize;
        // Right in most cases, so that the others are tried one at a time.
        let mut length = |right: usize, most: usize| match random.below(4) {
            0 => random.below(most as i32 + 1) as usize,
            1 => right.saturating_sub(1),
            _ => right,
        };
        let packed = &self.packed.0[..length(packed_len(rows, cols), self.packed.0.len())];
        let x = &self.x.0[..length(T * padded_cols(cols), self.x.0.len())];
        let values = [1.5; MAX_ROWS];
        let scale = &values[..length(rows, MAX_ROWS)];
        let bias = &values[..length(rows, MAX_ROWS)];
        let most = MAX_TOKENS * MAX_ROWS;
        let mismatch = Mismatch {
            function: "lengths that do not match",
            tokens: T,
            rows,
            cols,
            offset: 0,
            index: 0,
            expected: 0,
            got: 0,
        };

        self.sums.fill(BESIDE);
        let len = length(T * rows, most);
        products(packed, x, &mut self.sums[MARGIN..][..len]);
        mismatch.beside(&self.sums, &BESIDE, MARGIN..MARGIN + len)?;

        self.y.fill(GARBAGE);
        let len = length(T * rows, most);
        let y = &mut self.y[MARGIN..][..len];
        linear(packed, x, scale, bias, &[0.5; T], y);
        let bytes: &[u8] = bytemuck::cast_slice(packed);
        let groups = int4::multipliers_len(rows, cols);
        let packed = Packed {
            nibbles: &bytes[..length(int4::packed_len(rows, cols), bytes.len()).min(bytes.len())],
            multipliers: &self.multipliers[..length(groups, self.multipliers.len())],
        };
        linear_int4(packed, x, scale, bias, &[0.5; T], y);
        let bits: &[u32] = bytemuck::cast_slice(&self.y);
        mismatch.beside(bits, &GARBAGE.to_bits(), MARGIN..MARGIN + len)
    }

    fn case(
        &mut self,
        case: Case,
        (one, two, three): &KernelsByTokens,
        random: &mut Random<'_>,
    ) -> Result<u32, Mismatch> {
        let mut count = self.int8(case, one, random)?;
        count += self.int8(case, two, random)?;
        count += self.int8(case, three, random)?;
        if case.rows.is_multiple_of(2) && case.cols.is_multiple_of(4) {
            count += self.int4(case, one, random)?;
            count += self.int4(case, two, random)?;
            count += self.int4(case, three, random)?;
        }
        Ok(count)
    }

    fn int8<const T: usize>(
        &mut self,
        case: Case,
        (linear, _, products): &Kernels<T>,
        random: &mut Random<'_>,
    ) -> Result<u32, Mismatch> {
        let Case {
            rows, cols, offset, ..
        } = case;
        self.fill_int8(case, random);
        self.fill_x::<T>(case, random);
        let packed = &self.packed.0[offset..][..packed_len(rows, cols)];
        let x = &self.x.0[offset..][..T * padded_cols(cols)];
        let weight = |row, col| packed_byte(row, packed[packed_index(cols, row, col)]);
        let expected = reference::<T>(case, weight, x);

        self.sums.fill(i32::MIN);
        products(packed, x, &mut self.sums[MARGIN..][..T * rows]);
        for (i, &got) in self.sums.iter().enumerate() {
            let index = i.wrapping_sub(MARGIN);
            let sums = expected.get(index / rows);
            let expected = sums.map_or(i32::MIN.into(), |sums| sums[index % rows]);
            if i64::from(got) != expected {
                return Err(Mismatch {
                    index,
                    expected,
                    got: got.into(),
                    ..case.mismatch::<T>("products")
                });
            }
        }

        let outputs = Outputs::new(expected, random);
        self.y.fill(GARBAGE);
        let y = &mut self.y[MARGIN..][..T * rows];
        let Outputs {
            scale,
            bias,
            x_scale,
            ..
        } = &outputs;
        linear(packed, x, &scale[..rows], &bias[..rows], x_scale, y);
        outputs.check(&self.y, case.mismatch::<T>("linear"))?;
        Ok(2)
    }

    fn int4<const T: usize>(
        &mut self,
        case: Case,
        (_, linear_int4, _): &Kernels<T>,
        random: &mut Random<'_>,
    ) -> Result<u32, Mismatch> {
        let Case {
            rows, cols, offset, ..
        } = case;
        self.fill_int4(case, random);
        self.fill_x::<T>(case, random);
        let bytes: &[u8] = bytemuck::cast_slice(&self.packed.0);
        let packed = Packed {
            nibbles: &bytes[offset..][..int4::packed_len(rows, cols)],
            multipliers: &self.multipliers[..int4::multipliers_len(rows, cols)],
        };
        let x = &self.x.0[offset..][..T * cols];
        // BLOB.md, "Packed int4".
        let weight = |row, col| {
            let byte = packed.nibbles[int4::packed_index(cols, row, col)].cast_signed();
            let group = row / 2 * cols.div_ceil(int4::GROUP_COLS) + col / int4::GROUP_COLS;
            let multiplier = packed.multipliers[group] >> (row % 2 * 4) & 15;
            let nibble = if row % 2 == 0 {
                (byte & 15) - 8
            } else {
                byte >> 4
            };
            nibble * multiplier.cast_signed()
        };
        let outputs = Outputs::new(reference::<T>(case, weight, x), random);
        self.y.fill(GARBAGE);
        let y = &mut self.y[MARGIN..][..T * rows];
        let Outputs {
            scale,
            bias,
            x_scale,
            ..
        } = &outputs;
        linear_int4(packed, x, &scale[..rows], &bias[..rows], x_scale, y);
        outputs.check(&self.y, case.mismatch::<T>("linear_int4"))?;
        Ok(1)
    }

    fn fill_int8(&mut self, case: Case, random: &mut Random<'_>) {
        let Case {
            rows, cols, offset, ..
        } = case;
        // A kernel may read what follows a row, but not let it count.
        self.packed.0.fill(i8::MIN);
        let packed = &mut self.packed.0[offset..][..packed_len(rows, cols)];
        for row in 0..rows.next_multiple_of(2) {
            for col in 0..padded_cols(cols) {
                let weight = match case.values {
                    _ if row >= rows || col >= cols => 0,
                    Values::Random => random.below(2 * WEIGHT_MAX + 1) - WEIGHT_MAX,
                    Values::RandomSigns => random.sign() * WEIGHT_MAX,
                    Values::Largest => alternating(col) * WEIGHT_MAX,
                    Values::Smallest => -WEIGHT_MAX,
                };
                packed[packed_index(cols, row, col)] = packed_byte(row, weight as i8);
            }
        }
    }

    /// The largest magnitude is −8·15 in the even row and in the odd one.
    fn fill_int4(&mut self, case: Case, random: &mut Random<'_>) {
        self.packed.0.fill_with(|| match case.values {
            Values::Random => random.next() as i8,
            Values::RandomSigns => {
                [0x70u8, 0x80, 0x7f, 0x8f][random.next() as usize >> 30].cast_signed()
            }
            Values::Largest | Values::Smallest => 0x80u8.cast_signed(),
        });
        self.multipliers.fill_with(|| match case.values {
            Values::Random => random.next() as u8,
            _ => 0xff,
        });
    }

    fn fill_x<const T: usize>(&mut self, case: Case, random: &mut Random<'_>) {
        let Case { cols, offset, .. } = case;
        let max = q_max(cols);
        self.x.0.fill(i16::MAX);
        let x = &mut self.x.0[offset..][..T * padded_cols(cols)];
        for token in 0..T {
            for col in 0..padded_cols(cols) {
                x[interleaved_index(T, token, col)] = match case.values {
                    // Stale activations in columns of padding.
                    _ if col >= cols => random.sign() * i32::from(i16::MAX),
                    Values::Random => random.below(2 * max + 1) - max,
                    Values::RandomSigns => random.sign() * max,
                    Values::Largest => alternating(col) * max,
                    Values::Smallest => max,
                } as i16;
            }
        }
    }
}

fn reference<const T: usize>(
    case: Case,
    weight: impl Fn(usize, usize) -> i8,
    x: &[i16],
) -> [Sums; T] {
    let product = |token, row, col| {
        i64::from(weight(row, col)) * i64::from(x[interleaved_index(T, token, col)])
    };
    let sum = |token, row| (0..case.cols).map(|col| product(token, row, col)).sum();
    let sums =
        |token| core::array::from_fn(|row| if row < case.rows { sum(token, row) } else { 0 });
    core::array::from_fn(sums)
}

impl Case {
    fn mismatch<const T: usize>(&self, function: &'static str) -> Mismatch {
        Mismatch {
            function,
            tokens: T,
            rows: self.rows,
            cols: self.cols,
            offset: self.offset,
            index: 0,
            expected: 0,
            got: 0,
        }
    }
}

/// What becomes of the sums in a linear layer.
struct Outputs<const T: usize> {
    sums: [Sums; T],
    scale: [f32; MAX_ROWS],
    bias: [f32; MAX_ROWS],
    x_scale: [f32; T],
}

impl<const T: usize> Outputs<T> {
    fn new(sums: [Sums; T], random: &mut Random<'_>) -> Self {
        Self {
            sums,
            scale: core::array::from_fn(|_| random.any_float()),
            bias: core::array::from_fn(|_| random.any_float()),
            x_scale: core::array::from_fn(|_| random.any_float()),
        }
    }

    fn check(&self, y: &[f32], mismatch: Mismatch) -> Result<(), Mismatch> {
        let rows = mismatch.rows;
        mismatch.between(y, MARGIN, |index| {
            let (token, row) = (index / rows, index % rows);
            let sum = self.sums.get(token)?[row];
            Some(sum as f32 * (self.scale[row] * self.x_scale[token]) + self.bias[row])
        })
    }
}
