//! The learning rate over a run, and the seeds of its updates.

use std::f64::consts::PI;

use crate::config::Train;

/// Learning rate of update `update`, counted from 0: linear warm-up, then constant or a half cosine.
pub fn learning_rate(recipe: &Train, update: u64) -> f64 {
    let done = (update + 1) as f64;
    let warmup = recipe.warmup_updates as f64;
    if done < warmup {
        return recipe.learning_rate * done / warmup;
    }
    let rest = recipe.updates as f64 - warmup;
    let fraction = if rest > 0.0 {
        (done - warmup) / rest
    } else {
        0.0
    };
    let cosine = 0.5 * (1.0 + (PI * fraction).cos());
    let last = recipe.learning_rate_final;
    recipe.learning_rate * (last + (1.0 - last) * cosine)
}

/// SplitMix64's output function over both numbers: neighbouring updates get unrelated seeds.
pub(crate) fn mix(seed: u64, update: u64) -> u64 {
    let mut z =
        seed.wrapping_mul(0xd134_2543_de82_ef95) ^ update.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_warms_up_and_then_stays_or_falls() {
        let mut recipe = Train {
            updates: 110,
            warmup_updates: 10,
            learning_rate: 1.0,
            ..Train::default()
        };
        assert_eq!(learning_rate(&recipe, 0), 0.1);
        assert_eq!(learning_rate(&recipe, 9), 1.0);
        assert_eq!(learning_rate(&recipe, 109), 1.0);
        recipe.learning_rate_final = 0.2;
        assert_eq!(learning_rate(&recipe, 9), 1.0);
        assert!((learning_rate(&recipe, 59) - 0.6).abs() < 1e-12);
        assert!((learning_rate(&recipe, 109) - 0.2).abs() < 1e-12);
    }
}
