//! What a run on the controller is compared by: bits that differ from the host's.

/// Bits in which two vectors of equal length differ. A missing value differs in all its 32 bits.
pub fn differing_bits(expected: &[f32], got: &[f32]) -> u64 {
    let differing = |(a, b): (&f32, &f32)| u64::from((a.to_bits() ^ b.to_bits()).count_ones());
    let unpaired = expected.len().abs_diff(got.len()) as u64;
    expected.iter().zip(got).map(differing).sum::<u64>() + 32 * unpaired
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
}
