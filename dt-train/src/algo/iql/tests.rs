//! Losses as NumPy has them.

use super::*;
use crate::algo::actor_critic::tests::{assert_near, batch, losses, tiny};

#[test]
fn losses_are_those_of_the_papers_formulas() {
    assert_near(&losses(&tiny!(Iql)), &[45.056795, 0.668092, 0.612197, 0.0]);
}

/// Of 1, 2, …, 100, asymmetric least squares find the mean at 0.5 and more the higher the expectile.
#[test]
fn the_loss_is_least_at_the_expectile() {
    let values: Vec<f32> = (1..=100).map(|i| i as f32).collect();
    let values = Tensor::from_slice(&values);
    let least = |expectile: f64| {
        let losses = (10..1000).map(|tenth| {
            let at = f64::from(tenth) * 0.1;
            (
                expectile_loss(&(&values - at), expectile).double_value(&[]),
                at,
            )
        });
        losses.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
    };
    assert!((least(0.5) - 50.5).abs() < 0.11);
    // Σ of what is above times 0.9 equals Σ of what is below times 0.1, by bisection.
    assert!((least(0.9) - 75.5).abs() < 0.11, "{}", least(0.9));
}

#[test]
fn no_action_counts_for_more_than_a_hundred() {
    let algorithm = Iql::default();
    let batch = batch();
    let (mean, log_std) = (
        batch.actions.zeros_like(),
        batch.actions.get(0).zeros_like(),
    );
    let loss = |advantage: f64| {
        let advantage = batch.rewards.full_like(advantage);
        algorithm.actor_loss(&mean, &log_std, &advantage, &batch)
    };
    let of = |advantage| loss(advantage).double_value(&[]);
    let plain = of(0.0);
    assert!((of(1.0) / plain - 3f64.exp()).abs() < 1e-4);
    assert!((of(50.0) / plain - MOST).abs() < 1e-3);
}
