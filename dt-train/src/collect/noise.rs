//! Seeded random numbers for exploration and initialization: the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Uniform and normal f32 numbers.
#[derive(Debug)]
pub struct Noise {
    rng: ChaCha8Rng,
    /// The second number of a Box–Muller pair.
    spare: Option<f32>,
}

/// How far a stream has been read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    word: u64,
    spare: Option<f32>,
}

impl Noise {
    /// The stream of `seed` for one `purpose`; streams of different purposes are unrelated.
    pub fn new(seed: u64, purpose: [u8; 8]) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&purpose);
        Self {
            rng: ChaCha8Rng::from_seed(key),
            spare: None,
        }
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        // 24 bits fill the significand of an f32 in [0, 1).
        low + (high - low) * ((self.rng.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0))
    }

    /// Normal with mean 0 and variance 1 (Box & Muller, 1958).
    pub fn normal(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 − u lies in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform(0.0, 1.0)).ln()).sqrt();
        let (sin, cos) = self.uniform(0.0, std::f32::consts::TAU).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Uniform in 0..n; the bias is below n / 2⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.rng.next_u64()) * n as u128) >> 64) as usize
    }

    /// 0..n in random order (Fisher & Yates).
    pub fn order(&mut self, n: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..n as i64).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// Where the stream is, for [`Noise::resume`].
    pub fn position(&self) -> Position {
        Position {
            // 2⁶⁴ words would take centuries.
            word: self.rng.get_word_pos() as u64,
            spare: self.spare,
        }
    }

    /// Goes on from a position of a stream with the same seed and purpose.
    pub fn resume(&mut self, position: Position) {
        self.rng.set_word_pos(position.word.into());
        self.spare = position.spare;
    }

    /// A seed for something else.
    pub fn seed(&mut self) -> u64 {
        self.rng.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_stream_goes_on_where_it_was() {
        let mut whole = Noise::new(1, *b"a stream");
        // An odd number of them, so that a spare one waits.
        let _: [f32; 3] = std::array::from_fn(|_| whole.normal());
        let _ = whole.below(10);
        let json = serde_json::to_string(&whole.position()).unwrap();
        let mut resumed = Noise::new(1, *b"a stream");
        resumed.resume(serde_json::from_str(&json).unwrap());
        for _ in 0..100 {
            assert_eq!(resumed.normal(), whole.normal());
            assert_eq!(resumed.seed(), whole.seed());
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut noise = Noise::new(3, *b"the test");
        let n = 200_000;
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let centred = |power| {
                values.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / values.len() as f64
            };
            (mean, centred(2), centred(4))
        };
        let normal: Vec<f64> = (0..n).map(|_| noise.normal().into()).collect();
        let (mean, variance, fourth) = moments(&normal);
        // Five standard errors: 5/√n, 5·√(2/n), 5·√(96/n).
        assert!(
            mean.abs() < 0.0112 && (variance - 1.0).abs() < 0.0158 && (fourth - 3.0).abs() < 0.11
        );
        let uniform: Vec<f64> = (0..n).map(|_| noise.uniform(-2.0, 2.0).into()).collect();
        let (mean, variance, _) = moments(&uniform);
        assert!(mean.abs() < 0.013 && (variance - 4.0 / 3.0).abs() < 0.014);
        assert!(uniform.iter().all(|x| (-2.0..2.0).contains(x)));
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut noise = Noise::new(3, *b"an order");
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..6000 {
            *counts.entry(noise.order(3)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Five standard errors: 5·√(6000 · 1/6 · 5/6).
        assert!(
            counts.values().all(|&n: &i32| (n - 1000).abs() < 145),
            "{counts:?}"
        );
        assert!(noise.order(0).is_empty());
    }

    #[test]
    fn streams_repeat_and_differ_by_seed_and_purpose() {
        let draw = |seed, purpose| Noise::new(seed, purpose).seed();
        assert_eq!(draw(1, *b"reset---"), draw(1, *b"reset---"));
        assert_ne!(draw(1, *b"reset---"), draw(2, *b"reset---"));
        assert_ne!(draw(1, *b"reset---"), draw(1, *b"actions-"));
    }
}
