//! Losses as NumPy has them.

use super::*;
use crate::algo::actor_critic::tests::{assert_near, batch, losses, tiny};

#[test]
fn losses_are_those_of_the_papers_formulas() {
    assert_near(&losses(&tiny!(Awr)), &[0.512859, 2.033273]);
}

#[test]
fn weights_are_clipped_and_advantages_have_no_unit() {
    let batch = batch();
    let actions = batch.actions.zeros_like();
    let advantage = batch.rewards.shallow_clone();
    let loss = |algorithm: &Awr, advantage: &Tensor| {
        (algorithm.actor_loss(&actions, advantage, &batch)).double_value(&[])
    };
    let algorithm = Awr::default();
    let other_unit = &advantage * 1000.0 + 7.0;
    let difference = loss(&algorithm, &advantage) - loss(&algorithm, &other_unit);
    assert!(difference.abs() < 1e-3, "{difference}");
    let clipped = Awr {
        weight_clip: 1e-3,
        temperature: 100.0,
        ..algorithm
    };
    // All weigh the same then.
    let distance = batch.actions.square().mean(Kind::Float).double_value(&[]);
    assert!((loss(&clipped, &advantage) / distance - 1e-3).abs() < 1e-6);
}
