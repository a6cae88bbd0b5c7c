//! Losses as NumPy has them.

use super::*;
use crate::algo::actor_critic::tests::{assert_near, losses, tiny};

#[test]
fn losses_are_those_of_the_papers_formulas() {
    let algorithm = Td3Bc {
        policy_noise: 0.0,
        ..tiny!(Td3Bc)
    };
    assert_near(&losses(&algorithm), &[1.699761, 0.997450, 0.0, 0.0]);
}

#[test]
fn noise_on_the_targets_actions_changes_what_critics_learn_and_is_clipped() {
    let of = |policy_noise, noise_clip| {
        losses(&Td3Bc {
            policy_noise,
            noise_clip,
            ..tiny!(Td3Bc)
        })[1]
    };
    let without = of(0.0, 0.5);
    assert!((of(0.5, 0.5) - without).abs() > 1e-4);
    assert!((of(0.5, 1e-6) - without).abs() < 1e-5);
}

#[test]
fn the_actor_waits_for_the_critics() {
    let algorithm = tiny!(Td3Bc);
    let steps: Vec<u64> = (0..5).map(|updates| algorithm.steps(0, updates)).collect();
    assert_eq!(steps, [0, 0, 1, 1, 2]);
    assert_eq!(algorithm.steps(1, 5), 5);
}
