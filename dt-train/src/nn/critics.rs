//! What judges: several networks of one shape, batched as one.
//!
//! Matrices this small cost more to call than to compute, so that two critics are one network with a leading dimension.

use tch::{Kind, Tensor};

use super::parameters::{Init, Parameter, framework_init};

/// Names and shapes of `count` networks from `inputs` numbers through `layers` hidden layers of `width` ReLUs to one, which
/// start as libtorch's `Linear` does.
///
/// The leading `count`, or of the first layer one after the other that many parts of its rows, tells them apart; weights of
/// later hidden layers are [inputs, outputs].
pub fn parameters(name: &str, count: usize, [inputs, width, layers]: [usize; 3]) -> Vec<Parameter> {
    let [count, inputs, width] = [count, inputs, width].map(|n| n as i64);
    let mut list = Vec::new();
    let mut push = |layer: String, shapes: [&[i64]; 2], [weight, bias]: [Init; 2]| {
        for (part, shape, init) in [("weight", shapes[0], weight), ("bias", shapes[1], bias)] {
            list.push(Parameter {
                name: format!("{name}.{layer}.{part}"),
                shape: shape.to_vec(),
                init,
            });
        }
    };
    let first: [&[i64]; 2] = [&[count * width, inputs], &[count * width]];
    push("hidden_1".into(), first, framework_init(inputs));
    for layer in 2..=layers {
        let shapes: [&[i64]; 2] = [&[count, width, width], &[count, 1, width]];
        push(format!("hidden_{layer}"), shapes, framework_init(width));
    }
    let head: [&[i64]; 2] = [&[count, 1, width], &[count, 1]];
    push("head".into(), head, framework_init(width));
    list
}

/// Values by each network, (count, B), of `x` (B, inputs); `parameters` are in the order of [`parameters`].
///
/// # Panics
/// If they are not.
pub fn values(parameters: &[Tensor], x: &Tensor) -> Tensor {
    let [w1, b1, hidden @ .., w, b] = parameters else {
        unreachable!("the layout of `critics::parameters`")
    };
    let (count, width) = (w.size()[0], w.size()[2]);
    // (B, count · width) → (count, B, width), without moving anything.
    let mut h = x
        .linear(w1, Some(b1))
        .relu_()
        .view([-1, count, width])
        .transpose(0, 1);
    for layer in hidden.chunks_exact(2) {
        h = layer[1].baddbmm(&h, &layer[0], 1, 1).relu_();
    }
    // A product and a sum: several times faster than a matrix product with a single column.
    (h * w).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float) + b
}

/// The smaller of two critics' values, (2, B) → (B).
pub fn smaller(values: &Tensor) -> Tensor {
    values.get(0).minimum(&values.get(1))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::parameters::{draw, host_values};

    #[test]
    fn batched_networks_are_as_many_separate_ones() {
        for layers in [1, 2, 3] {
            let flat = draw(&parameters("critics", 2, [5, 32, layers]), 3, Device::Cpu);
            let parameters = flat.frozen();
            let x = Tensor::from_slice(&[0.1f32, -0.4, 2.0, 0.7, -0.9]).view([1, 5]);
            let values = host_values(&values(&parameters, &x));
            for critic in 0..2 {
                let half = |i: usize| parameters[i].narrow(0, critic * 32, 32);
                let own = |i: usize| parameters[i].get(critic);
                let mut h = (half(0).matmul(&x.get(0)) + half(1)).relu();
                for layer in 1..layers {
                    h = (own(2 * layer).tr().matmul(&h) + own(2 * layer + 1).get(0)).relu();
                }
                let expected = host_values(&(own(2 * layers).matmul(&h) + own(2 * layers + 1)))[0];
                assert!(
                    (values[critic as usize] - expected).abs() < 1e-6,
                    "{layers}"
                );
            }
            assert_ne!(values[0], values[1]);
        }
    }
}
