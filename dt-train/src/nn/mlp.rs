//! The multilayer perceptron of behaviour cloning and of actors, in libtorch: what `BLOB.md` specifies of a perceptron.

use dt_core::config::{Activation, Config, Head};
use tch::Tensor;

use super::layers::Bound;
use super::parameters::{Parameter, ParameterList, framework_init};

/// What `config` declares, with the names of `BLOB.md`: weights as [out, in], with the initial distribution of libtorch's
/// `Linear`.
pub fn parameters(config: &Config) -> Vec<Parameter> {
    let mut list = ParameterList::default();
    let [actions, width] = [config.act_dim, config.d_ff].map(i64::from);
    let mut inputs = i64::from(config.seen_len());
    for i in 0..config.n_layer {
        list.linear(&hidden(i), [width, inputs], framework_init(inputs));
        inputs = width;
    }
    list.linear(HEAD, [actions, inputs], framework_init(inputs));
    list.into()
}

/// Unscaled actions (B, act_dim), or logits of as many choices, from the last states (B, context_len, state_dim), the oldest first.
pub fn forward(config: &Config, network: &Bound<'_>, states: &Tensor, dropout: f64) -> Tensor {
    let features = features(config, network, states, dropout);
    let action = network.linear(HEAD).forward(&features);
    match config.head {
        Head::Tanh => action.tanh(),
        Head::Linear => action,
    }
}

/// What the head sees, (B, d_ff), of the same states.
pub fn features(config: &Config, network: &Bound<'_>, states: &Tensor, dropout: f64) -> Tensor {
    let mut x = states.flatten(1, 2);
    for i in 0..config.n_layer {
        x = network.linear(&hidden(i)).forward(&x);
        x = match config.activation {
            Activation::Relu => x.relu(),
            Activation::GeluTanh => x.gelu("tanh"),
            Activation::Gelu => x.gelu("none"),
            Activation::Silu => x.silu(),
            Activation::Tanh => x.tanh(),
        };
        if dropout > 0.0 {
            x = x.dropout(dropout, true);
        }
    }
    x
}

/// Name of the last layer.
pub const HEAD: &str = "head";

fn hidden(i: u32) -> String {
    format!("hidden.{i}")
}
