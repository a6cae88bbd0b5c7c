//! From logits to the index of an action, in integers wherever chance decides: the same on every target.

use core::cmp::Ordering;

use crate::blob::Choice;
use crate::config::{MAX_DIM, Math};
use crate::ops::exp;
use crate::quant::rne;
use crate::slices::plus;

/// The weight of the largest logit; others have what temperature and distance leave of it, rounded to an integer.
const UNIT: i32 = 1 << 18;

/// So the sum of all weights fits 32 bits, and its product with a draw 64.
const _: () = assert!(UNIT as u64 * MAX_DIM as u64 <= u32::MAX as u64);

/// The index of the action that `logits` (act_dim, finite) say; 0 if there are none.
///
/// [`Choice::Greedy`]: the largest, the first of equal ones. [`Choice::Sampled`]: each of the `top_k` largest, of equal ones
/// the first, weighs exp((logit − largest)/temperature)·2¹⁸, rounded to an integer w; `draw`·Σw/2³² then lies in one of
/// the intervals that the weights fill, one after the other. `draw` is uniform in all of 32 bits
/// ([`chacha::draw`](crate::unstable::chacha::draw)); an action whose probability is below 2⁻¹⁹ of the likeliest's never comes.
///
/// Needs no memory: looks at each logit thrice, and 33 times more to find the `top_k` largest.
#[inline(never)]
pub fn choose(logits: &[f32], choice: &Choice, draw: u32, math: Math) -> usize {
    let (greedy, largest) = largest(logits);
    let Choice::Sampled(sampling) = choice else {
        return greedy;
    };
    let weights = Weights {
        logits,
        top: Top::of(logits, sampling.top_k),
        largest,
        temperature: sampling.temperature,
        math,
    };
    // No place is as far as this one.
    let (_, sum) = weights.reach(u32::MAX);
    let place = (u64::from(draw).wrapping_mul(sum.into()) >> 32) as u32;
    // The largest weighs something, so that there is a place and someone who reaches it.
    weights.reach(place).0.unwrap_or(greedy)
}

/// Index and value.
fn largest(logits: &[f32]) -> (usize, f32) {
    let mut found = (0, f32::NEG_INFINITY);
    for (index, &logit) in (0..usize::MAX).zip(logits) {
        if logit > found.1 {
            found = (index, logit);
        }
    }
    found
}

/// Of the logits that may be chosen.
struct Weights<'l> {
    logits: &'l [f32],
    top: Top,
    largest: f32,
    temperature: f32,
    math: Math,
}

impl Weights<'_> {
    /// Adds them up until the sum is above `place`: the index that makes it so, and the sum there or of all.
    #[inline(never)]
    fn reach(&self, place: u32) -> (Option<usize>, u32) {
        let mut top = self.top;
        let mut sum = 0u32;
        for (index, &logit) in (0..usize::MAX).zip(self.logits) {
            if !top.has(logit) {
                continue;
            }
            let part = exp(self.math, (logit - self.largest) / self.temperature);
            // `Math::Micromath` is off by up to 0.24 %, above 1 as well.
            let weight = rne(part * UNIT as f32).clamp(0, UNIT);
            sum = sum.wrapping_add(weight.cast_unsigned());
            if place < sum {
                return (Some(index), sum);
            }
        }
        (None, sum)
    }
}

/// The largest logits, met one after the other.
#[derive(Clone, Copy)]
struct Top {
    /// [`rank`] of the smallest of them.
    lowest: u32,
    /// How many of that rank there is still room for.
    room: usize,
}

impl Top {
    /// The `k` largest; all for 0.
    fn of(logits: &[f32], k: u32) -> Self {
        let k = k as usize;
        if k == 0 || k >= logits.len() {
            return Self {
                lowest: 0,
                room: usize::MAX,
            };
        }
        let count = |least: u32| {
            let of = |&logit: &f32| usize::from(rank(logit) >= least);
            logits.iter().map(of).fold(0, plus)
        };
        // The highest rank that k of them have, bit by bit.
        let (mut lowest, mut bit) = (0u32, 1 << 31);
        while bit > 0 {
            if count(lowest | bit) >= k {
                lowest |= bit;
            }
            bit >>= 1;
        }
        let above = lowest.checked_add(1).map_or(0, count);
        Self {
            lowest,
            room: k.saturating_sub(above),
        }
    }

    fn has(&mut self, logit: f32) -> bool {
        match rank(logit).cmp(&self.lowest) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => {
                let has = self.room > 0;
                self.room = self.room.saturating_sub(1);
                has
            }
        }
    }
}

/// A number that orders as its logit does; zeros are equal.
fn rank(logit: f32) -> u32 {
    // Adding +0 makes one of −0.
    let bits = (logit + 0.0).to_bits();
    let negative = (bits.cast_signed() >> 31).cast_unsigned();
    bits ^ (negative | 1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Sampling;
    use crate::chacha::draw;
    use crate::fixture::Random;
    use proptest::prelude::*;

    const ALL_MATH: [Math; 3] = [Math::Libm, Math::Micromath, Math::Polynomial];

    fn sampled(temperature: f32, top_k: u32) -> Choice {
        Choice::Sampled(Sampling {
            temperature,
            top_k,
            seed: 0,
        })
    }

    fn greedy(logits: &[f32]) -> usize {
        choose(logits, &Choice::Greedy, 0, Math::Polynomial)
    }

    #[test]
    fn greedy_is_the_first_of_the_largest() {
        assert_eq!(greedy(&[0.5]), 0);
        assert_eq!(greedy(&[-3.0, -1.0, -1.0, -2.0]), 1);
        assert_eq!(greedy(&[-0.0, 0.0]), 0);
        assert_eq!(greedy(&[f32::MIN, f32::MIN]), 0);
        assert_eq!(greedy(&[]), 0);
        assert_eq!(choose(&[], &sampled(1.0, 0), 5, Math::Libm), 0);
    }

    /// Weights 2¹⁸ and 2¹⁷ (of ln 2 less): draws below two thirds of 2³² choose the first.
    #[test]
    fn draws_fall_into_intervals_one_after_the_other() {
        let logits = [1.0, 1.0 - core::f32::consts::LN_2, 1.0];
        let end = |weights: u64| (weights << 32).div_ceil(5 << 17) as u32;
        for math in [Math::Libm, Math::Polynomial] {
            let choose = |draw| choose(&logits, &sampled(1.0, 0), draw, math);
            for (draw, index) in [
                (0, 0),
                (end(2 << 17) - 1, 0),
                (end(2 << 17), 1),
                (end(3 << 17) - 1, 1),
                (end(3 << 17), 2),
                (u32::MAX, 2),
            ] {
                assert_eq!(choose(draw), index, "{draw:#x} {math:?}");
            }
        }
    }

    #[test]
    fn the_top_k_are_the_largest_the_first_of_equal_ones() {
        let logits = [0.0, 2.0, -1.0, 2.0, 0.0, -0.0];
        let chosen = |top_k| {
            let choice = sampled(100.0, top_k);
            let mut chosen: Vec<usize> = (0..64)
                .map(|i| choose(&logits, &choice, i << 26, Math::Polynomial))
                .collect();
            chosen.dedup();
            chosen
        };
        assert_eq!(chosen(1), [1]);
        assert_eq!(chosen(2), [1, 3]);
        assert_eq!(chosen(3), [0, 1, 3]);
        assert_eq!(chosen(4), [0, 1, 3, 4]);
        assert_eq!(chosen(5), [0, 1, 3, 4, 5]);
        for all in [0, 6, 7, u32::MAX] {
            assert_eq!(chosen(all), [0, 1, 2, 3, 4, 5]);
        }
    }

    /// The ends of what f32 can say: differences that overflow, temperatures that make infinities of them or nothing.
    #[test]
    fn extremes_give_an_index_that_can_be_chosen() {
        let logits = [f32::MIN, f32::MAX, 0.0, f32::MAX];
        for math in ALL_MATH {
            for draw in [0, 1 << 31, u32::MAX] {
                let choose = |temperature| choose(&logits, &sampled(temperature, 0), draw, math);
                let last = usize::from(draw >= 1 << 31);
                let tiny = f32::from_bits(1);
                assert_eq!(choose(tiny), [1, 3][last], "{math:?} {draw:#x}");
                assert_eq!(choose(1.0), [1, 3][last], "{math:?} {draw:#x}");
            }
            // Too hot to tell −10³⁸ from 10³⁸ apart, but for what overflows.
            let hot = |draw| choose(&[-1e38, 1e38], &sampled(f32::MAX, 0), draw, math);
            assert_eq!([0, u32::MAX].map(hot), [0, 1]);
        }
    }

    /// Every weight at its largest, as many as there can be: the sum does not wrap.
    #[test]
    fn as_many_as_there_can_be_share_alike() {
        let logits = vec![3.25; MAX_DIM as usize];
        for math in ALL_MATH {
            for index in [0, 1, MAX_DIM - 1] {
                let draw = index * (1 << 19);
                let chosen = [draw, draw + ((1 << 19) - 1)]
                    .map(|draw| choose(&logits, &sampled(1.0, 0), draw, math));
                assert_eq!(chosen, [index as usize; 2]);
            }
        }
    }

    /// Pearson's χ² of `n` draws against softmax at `temperature` of the `top_k` largest.
    fn chi_square(logits: &[f32], choice: &Choice, temperature: f64, top_k: usize) -> f64 {
        let n = 200_000;
        let mut counts = vec![0u32; logits.len()];
        for t in 0..n {
            counts[choose(logits, choice, draw(3, t), Math::Polynomial)] += 1;
        }
        let mut sorted = logits.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let part = |logit: f32| match logit >= sorted[top_k - 1] {
            true => (f64::from(logit) / temperature).exp(),
            false => 0.0,
        };
        let sum: f64 = logits.iter().map(|&logit| part(logit)).sum();
        let terms = logits.iter().zip(&counts).map(|(&logit, &count)| {
            let expected = part(logit) / sum * f64::from(n);
            match expected > 0.0 {
                true => (f64::from(count) - expected).powi(2) / expected,
                false => f64::from(count),
            }
        });
        terms.sum()
    }

    /// The 99.9 % quantile of χ² is 20.5 for five degrees of freedom, 13.8 for two; a temperature that is a tenth off is
    /// far beyond it.
    #[test]
    fn draws_are_distributed_as_softmax_says() {
        let logits = [0.3, -1.2, 1.1, 0.0, -2.5, 0.9];
        assert!(chi_square(&logits, &sampled(1.0, 0), 1.0, 6) < 20.5);
        assert!(chi_square(&logits, &sampled(0.7, 0), f64::from(0.7f32), 6) < 20.5);
        assert!(chi_square(&logits, &sampled(2.0, 3), 2.0, 3) < 13.8);
        assert!(chi_square(&logits, &sampled(1.0, 0), 1.1, 6) > 200.0);
        assert!(chi_square(&logits, &sampled(2.0, 3), 2.0, 6) > 200.0);
    }

    proptest! {
        /// Against a search by sorting, with ties.
        #[test]
        fn the_top_are_what_sorting_puts_first(
            seed in any::<u64>(), n in 1usize..40, top_k in 1u32..40, draw: u32,
        ) {
            let mut random = Random::new(seed);
            let logits: Vec<f32> = (0..n).map(|_| random.below(9) as f32 - 4.0).collect();
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            order.truncate(top_k as usize);
            order.sort_unstable();
            let mut top = Top::of(&logits, top_k);
            let kept: Vec<usize> = (0..n).filter(|&i| top.has(logits[i])).collect();
            prop_assert_eq!(&kept, &order);
            let chosen = choose(&logits, &sampled(3.0, top_k), draw, Math::Polynomial);
            prop_assert!(order.contains(&chosen));
        }

        #[test]
        fn ranks_order_as_values_do(a: f32, b: f32) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(rank(a).cmp(&rank(b)), a.partial_cmp(&b).unwrap());
        }
    }
}
