//! What a run on the controller is compared by: bits that differ from the host's, and clock counts.

/// Bits in which two vectors of equal length differ. A missing value differs in all its 32 bits.
pub fn differing_bits(expected: &[f32], got: &[f32]) -> u64 {
    let differing = |(a, b): (&f32, &f32)| u64::from((a.to_bits() ^ b.to_bits()).count_ones());
    let unpaired = expected.len().abs_diff(got.len()) as u64;
    expected.iter().zip(got).map(differing).sum::<u64>() + 32 * unpaired
}

/// Minimum, mean and maximum of a clocked span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// How many were added.
    pub len: u32,
    /// Shortest.
    pub min: u64,
    /// Longest.
    pub max: u64,
    total: u64,
}

impl Spans {
    /// Adds one.
    pub fn add(&mut self, span: u64) {
        self.merge(Self {
            len: 1,
            min: span,
            max: span,
            total: span,
        });
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: Self) {
        if other.len > 0 {
            self.min = if self.len == 0 {
                other.min
            } else {
                self.min.min(other.min)
            };
            self.max = self.max.max(other.max);
            self.total += other.total;
            self.len += other.len;
        }
    }

    /// Mean, rounded to nearest; 0 of none.
    pub fn mean(&self) -> u64 {
        match u64::from(self.len) {
            0 => 0,
            len => (self.total + len / 2) / len,
        }
    }

    /// The same spans in a unit of which `factor` make `divisor` of these; rounded down.
    #[must_use]
    pub fn scaled(self, factor: u32, divisor: u32) -> Self {
        let scaled = |span: u64| {
            let product = u128::from(span) * u128::from(factor);
            (product / u128::from(divisor.max(1))) as u64
        };
        Self {
            len: self.len,
            min: scaled(self.min),
            max: scaled(self.max),
            total: scaled(self.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_compared_not_values() {
        assert_eq!(differing_bits(&[1.0, f32::NAN], &[1.0, f32::NAN]), 0);
        assert_eq!(differing_bits(&[0.0], &[-0.0]), 1);
        let next = f32::from_bits(1.0f32.to_bits() ^ 0b101);
        assert_eq!(differing_bits(&[2.0, 1.0], &[2.0, next]), 2);
        assert_eq!(differing_bits(&[1.0], &[]), 32);
    }

    #[test]
    fn spans_are_summed_exactly() {
        let mut spans = Spans::default();
        assert_eq!((spans.min, spans.mean(), spans.max), (0, 0, 0));
        for span in [7, 3, 4] {
            spans.add(span);
        }
        assert_eq!(
            (spans.len, spans.min, spans.mean(), spans.max),
            (3, 3, 5, 7)
        );
        let mut merged = Spans::default();
        merged.merge(spans);
        merged.merge(Spans::default());
        assert_eq!(merged, spans);
        let scaled = spans.scaled(125, 4);
        // 437 / 3: the factor is applied before rounding.
        assert_eq!((scaled.min, scaled.mean(), scaled.max), (93, 146, 218));
    }
}
