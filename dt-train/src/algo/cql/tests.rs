//! Losses as NumPy has them.

use super::*;
use crate::algo::actor_critic::tests::{assert_near, batch, networks, networks_of, tiny, wave};

#[test]
fn losses_are_those_of_the_papers_formulas() {
    let algorithm = tiny!(Cql);
    let noise = |shape: &[i64], phase| wave(shape, 0.8, phase, 1.0);
    let noise = Noise {
        actor: noise(&[5, 2], 1.0),
        target: noise(&[5, 2], 2.0),
        uniform: noise(&[3, 5, 2], 3.0),
        next: noise(&[3, 5, 2], 4.0),
        present: noise(&[3, 5, 2], 5.0),
    };
    let losses = algorithm.losses(&networks(&algorithm), &batch(), &noise, Mode::Acting);
    let got = [losses.actor, losses.critics, losses.temperature];
    let got = got.map(|loss| loss.double_value(&[]));
    assert_near(&got, &[-0.638142, 62.102507, 0.909274]);
}

/// Where all values are alike, the gap is the logarithm of what is summed over: 3 n actions, each divided by its density.
#[test]
fn the_gap_knows_the_densities() {
    let list = critics::parameters("critics", 2, [5, 4, 2]);
    let zeros: Vec<Tensor> = (list.iter())
        .map(|p| Tensor::zeros(p.shape.as_slice(), (Kind::Float, tch::Device::Cpu)))
        .collect();
    let others = wave(&[6, 5, 2], 0.8, 3.0, 1.0);
    let log_density = Tensor::full([6, 5], -1.5, (Kind::Float, tch::Device::Cpu));
    let gap = conservative_gap(&zeros, &batch(), &others, &log_density).double_value(&[]);
    assert!((gap - 2.0 * (6f64.ln() + 1.5)).abs() < 1e-5, "{gap}");
}

/// Two choices, in the batch of the others, with next states large enough that network and target like different ones.
fn choices() -> (Transition, Vec<Part>) {
    let mut batch = batch();
    batch.next_states = wave(&[5, 3], 1.1, 2.0, 3.0);
    batch.actions =
        Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]).view([5, 2]);
    let dims = Dims {
        actions: Actions::Discrete,
        ..Dims::vectors(3, 2)
    };
    (batch, networks_of(&tiny!(Cql), dims))
}

#[test]
fn the_loss_of_choices_is_that_of_the_formula() {
    let (batch, networks) = choices();
    let [worth, target] = &networks[..] else {
        panic!("{} networks", networks.len())
    };
    let algorithm = Cql {
        alpha: 0.5,
        ..tiny!(Cql)
    };
    let loss = algorithm.choice_loss(worth, target, &batch, Mode::Acting);
    assert_near(&[loss.double_value(&[])], &[0.923759]);
}
