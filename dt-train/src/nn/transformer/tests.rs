//! Receptive field, masks, loss and initial values; a randomized network for other tests.

use dt_core::config::{
    Actions, Dtype, Embeddings, Encoder, Math, Mixer, Network, Order, Predictions,
};

use super::*;
use crate::nn::flat::Flat;
use crate::nn::layers::masked_mse;
use crate::nn::parameters::{draw, host_values, weights};

pub(crate) fn config(attention: Attention) -> Config {
    Config {
        state_dim: 3,
        act_dim: 2,
        d_model: 16,
        n_layer: 3,
        n_head: 2,
        d_ff: 32,
        context_len: 4,
        max_ep_len: 30,
        dtype: Dtype::F32,
        attention,
        mixer: Mixer::Attention,
        activation: Activation::GeluTanh,
        head: Head::Tanh,
        math: Math::Polynomial,
        layer_norm_eps: 1e-5,
        glu: false,
        actions: Actions::Continuous,
        predictions: Predictions::NONE,
        network: Network::Transformer,
        encoder: Encoder::Linear,
        embeddings: Embeddings::GYM,
        order: Order::ReturnFirst,
    }
}

/// Parameters large enough that every one of them shows in the actions.
pub(crate) fn randomized(config: &Config) -> Flat {
    let parameters = draw(&parameters(config, 0.5), 0, Device::Cpu);
    let names = parameters.layout().iter().map(|(name, _)| name.to_owned());
    for (name, view) in names.collect::<Vec<_>>().iter().zip(parameters.frozen()) {
        let mut drawn = pseudo_random(&view.size(), name.len() as i64);
        drawn = match view.size().as_slice() {
            [_, fan_in] if !["embed_timestep", "embed_position"].contains(&name.as_str()) => {
                drawn * (2.0 / (*fan_in as f64).sqrt())
            }
            _ if name.ends_with("weight") => drawn * 0.3 + 1.0,
            _ => drawn * 0.3,
        };
        tch::no_grad(|| view.shallow_clone().copy_(&drawn));
    }
    parameters
}

/// Values in ±1.7 with standard deviation near 1, without libtorch's generator, which tests
/// that run in parallel share.
fn pseudo_random(shape: &[i64], salt: i64) -> Tensor {
    let n: i64 = shape.iter().product();
    let values: Vec<f32> = (0..n)
        .map(|i| {
            let mut bits = ((i + 100_000 * salt) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ (bits >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((bits >> 40) as f32 / (1 << 23) as f32 - 1.0) * 1.7
        })
        .collect();
    Tensor::from_slice(&values).view(shape)
}

fn inputs(timesteps: i64, batch: i64) -> Inputs {
    let times = Tensor::arange(timesteps, (Kind::Int64, Device::Cpu)).clamp_max(29);
    Inputs {
        returns_to_go: pseudo_random(&[batch, timesteps, 1], 1),
        states: pseudo_random(&[batch, timesteps, 3], 2),
        actions: pseudo_random(&[batch, timesteps, 2], 3),
        timesteps: times.unsqueeze(0).repeat([batch, 1]),
    }
}

fn forward(config: &Config, parameters: &Flat, inputs: &Inputs) -> Tensor {
    let model = DecisionTransformer::bind(config, &Bound::frozen(parameters));
    let t = inputs.timesteps.size()[1] as usize;
    model.forward(inputs, &attention_mask(config, t, Device::Cpu), 0.0)
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

/// Change of each timestep's prediction when one input of timestep `at` is changed.
fn sensitivity(config: &Config, change: impl Fn(&mut Inputs)) -> Vec<f64> {
    let parameters = randomized(config);
    let before = forward(config, &parameters, &inputs(14, 1));
    let mut changed = inputs(14, 1);
    change(&mut changed);
    let difference = forward(config, &parameters, &changed) - before;
    (0..14).map(|t| largest(&difference.select(1, t))).collect()
}

/// While training all of a window is told its first timestep, and nothing of the others.
#[test]
fn a_window_is_told_one_timestep() {
    let config = Config {
        embeddings: Embeddings::ATARI,
        ..config(Attention::Window)
    };
    let parameters = randomized(&config);
    let steps = i64::from(config.context_len);
    let told = |now: Option<Now>, times: &[i64]| {
        let model = DecisionTransformer::bind(&config, &Bound::frozen(&parameters));
        let model = match now {
            Some(now) => model.told(now),
            None => model,
        };
        let seen = Inputs {
            timesteps: Tensor::from_slice(times).unsqueeze(0),
            ..inputs(steps, 1)
        };
        let mask = attention_mask(&config, times.len(), Device::Cpu);
        model.forward(&seen, &mask, 0.0)
    };
    assert_eq!(steps, 4);
    let (fives, eights) = (told(None, &[5; 4]), told(None, &[8; 4]));
    assert!(largest(&(&fives - &eights)) > 0.01);
    assert_eq!(told(Some(Now::First), &[5, 6, 7, 8]), fives);
    // As a controller runs it.
    for now in [None, Some(Now::Last)] {
        assert_eq!(told(now, &[5, 6, 7, 8]), eights);
    }
}

#[test]
fn streaming_reaches_exactly_its_receptive_field() {
    let config = config(Attention::Streaming);
    // 3 layers of K = 4 reach 3 · 3 timesteps back, and never forward.
    let state = sensitivity(&config, |x| {
        let _ = x.states.select(1, 2).fill_(1.0);
    });
    for (t, change) in state.iter().enumerate() {
        assert_eq!(
            *change > 0.0,
            (2..=11).contains(&t),
            "state at 2 seen at {t}: {change}"
        );
    }
    // An action is first seen by the next timestep; its own attention reaches as far back as a state's.
    let action = sensitivity(&config, |x| {
        let _ = x.actions.select(1, 2).fill_(1.0);
    });
    for (t, change) in action.iter().enumerate() {
        assert_eq!(
            *change > 0.0,
            (3..=11).contains(&t),
            "action at 2 seen at {t}: {change}"
        );
    }
}

#[test]
fn window_attention_is_causal() {
    let config = config(Attention::Window);
    let change = sensitivity(&config, |x| {
        let _ = x.returns_to_go.select(1, 5).fill_(1.0);
    });
    for (t, change) in change.iter().enumerate() {
        assert_eq!(*change > 0.0, t >= 5, "return at 5 seen at {t}: {change}");
    }
}

#[test]
fn what_follows_a_timestep_does_not_change_its_prediction() {
    for attention in [Attention::Streaming, Attention::Window] {
        let config = config(attention);
        let parameters = randomized(&config);
        let padded = inputs(9, 2);
        let short = Inputs {
            returns_to_go: padded.returns_to_go.narrow(1, 0, 5),
            states: padded.states.narrow(1, 0, 5),
            actions: padded.actions.narrow(1, 0, 5),
            timesteps: padded.timesteps.narrow(1, 0, 5),
        };
        let padded = forward(&config, &parameters, &padded).narrow(1, 0, 5);
        let difference = largest(&(padded - forward(&config, &parameters, &short)));
        // Kernels split longer rows differently: rounding, no more.
        assert!(difference < 2e-6, "{difference}");
    }
}

#[test]
fn the_mask_is_a_band_of_timesteps() {
    let mut config = config(Attention::Streaming);
    config.context_len = 2;
    let mask = host_values(&attention_mask(&config, 4, Device::Cpu));
    for (i, row) in mask.chunks(12).enumerate() {
        for (j, value) in row.iter().enumerate() {
            let visible = j <= i && j / 3 + 2 > i / 3;
            assert_eq!(
                *value,
                if visible { 0.0 } else { f32::NEG_INFINITY },
                "{i} sees {j}"
            );
        }
    }
}

#[test]
fn one_layer_is_enough() {
    let mut config = config(Attention::Streaming);
    config.n_layer = 1;
    let actions = forward(&config, &randomized(&config), &inputs(6, 2));
    assert_eq!(actions.size(), [2, 6, 2]);
    assert!(largest(&actions) > 0.1);
}

#[test]
fn the_loss_ignores_masked_predictions() {
    let predicted = Tensor::from_slice(&[1.0f32, 2.0, 5.0, 5.0]).view([1, 2, 2]);
    let actions = Tensor::from_slice(&[0.0f32, 0.0, 9.0, 9.0]).view([1, 2, 2]);
    let mask = Tensor::from_slice(&[1.0f32, 0.0]).view([1, 2]);
    let loss = masked_mse(&predicted, &actions, &mask).double_value(&[]);
    assert_eq!(loss, (1.0 + 4.0) / 2.0);
}

#[test]
fn initial_values_follow_the_recipe() {
    let mut config = config(Attention::Streaming);
    (config.d_model, config.d_ff, config.max_ep_len) = (64, 256, 0);
    let drawn = draw(&parameters(&config, 1.0), 7, Device::Cpu);
    let again = draw(&parameters(&config, 1.0), 7, Device::Cpu);
    assert_eq!(
        weights(&drawn).get("ln_f.weight", &[64]).unwrap(),
        [1.0; 64]
    );
    assert!(weights(&drawn).get("embed_timestep", &[0, 64]).is_err());
    for (tensor, (name, _)) in drawn.frozen().iter().zip(again.layout().iter()) {
        let (std, largest) = (tensor.std(false).double_value(&[]), largest(tensor));
        match name {
            "layers.1.mlp_fc.weight" => assert!((0.019..0.021).contains(&std), "{std}"),
            // 0.02/√(2 · 3)
            "layers.0.attn_proj.weight" | "layers.2.mlp_proj.weight" => {
                assert!((0.0077..0.0087).contains(&std), "{std}");
            }
            "layers.0.attn_qkv.bias" => assert_eq!(largest, 0.0),
            "head.weight" => assert!((0.1..=0.125).contains(&largest), "{largest}"),
            _ => {}
        }
    }
}

#[test]
fn bf16_is_close_to_f32_in_predictions_and_gradients() {
    for attention in [Attention::Streaming, Attention::Window] {
        let config = config(attention);
        let parameters = draw(&parameters(&config, 0.5), 3, Device::Cpu);
        let inputs = inputs(14, 2);
        let mask = attention_mask(&config, 14, Device::Cpu);
        let run = |precision| {
            let model = DecisionTransformer::bind(&config, &Bound::trainable(&parameters));
            let predicted = model.in_precision(precision).forward(&inputs, &mask, 0.0);
            let loss = masked_mse(
                &predicted,
                &inputs.actions,
                &Tensor::ones([2, 14], (Kind::Float, Device::Cpu)),
            );
            (predicted.detach(), parameters.gradient(&loss))
        };
        let (exact, rounded) = (run(Precision::F32), run(Precision::Bf16));
        let relative = |a: &Tensor, b: &Tensor| largest(&(a - b)) / largest(a);
        let errors = [
            relative(&exact.0, &rounded.0),
            relative(&exact.1, &rounded.1),
        ];
        assert_eq!([rounded.0.kind(), rounded.1.kind()], [Kind::Float; 2]);
        // bf16 rounds to 2⁻⁸; that it differs at all shows that it was used.
        assert!(errors.iter().all(|&e| 0.0 < e && e < 0.02), "{errors:?}");
    }
}

#[test]
fn dropout_keeps_the_mean_and_drops_the_fraction() {
    for (p, shape) in [(0.1, [301, 67]), (0.5, [128, 150])] {
        let mask = dropout(Tensor::ones(shape, (Kind::Float, Device::Cpu)), p);
        assert_eq!(mask.size(), shape);
        let n = mask.numel() as f64;
        let dropped = 1.0 - mask.count_nonzero(None).int64_value(&[]) as f64 / n;
        // Five standard deviations.
        let tolerance = 5.0 * (p * (1.0 - p) / n).sqrt();
        assert!((dropped - p).abs() < tolerance, "{p}: {dropped}");
        assert!((largest(&mask) - 1.0 / (1.0 - p)).abs() < 1e-4);
        // Every fourth value comes from the same place of a random word.
        for lane in 0..4 {
            let lane = mask.flatten(0, 1).slice(0, lane, None, 4);
            let dropped =
                1.0 - lane.count_nonzero(None).int64_value(&[]) as f64 / lane.numel() as f64;
            assert!((dropped - p).abs() < 2.0 * tolerance, "{p}: {dropped}");
        }
    }
}

#[test]
fn dropout_in_bf16_rounds_once() {
    let x =
        (Tensor::arange(200, (Kind::Float, Device::Cpu)) * 0.0078125 + 1.0).to_kind(Kind::BFloat16);
    let dropped = dropout(x.shallow_clone(), 0.1);
    let kept = dropped.ne(0.0);
    let scaled = (x.to_kind(Kind::Float) / 0.9).to_kind(Kind::BFloat16);
    let right = dropped.eq_tensor(&scaled).logical_or(&kept.logical_not());
    assert!(bool::try_from(right.all()).unwrap());
    // Where the scale is rounded, too, some of these values come out another.
    let scale = Tensor::from(1.0 / 0.9).to_kind(Kind::BFloat16);
    assert!(bool::try_from((x * scale).ne_tensor(&scaled).any()).unwrap());
}

#[test]
fn attention_matches_the_fused_kernel() {
    let [q, k, v] = [(1, 5), (2, 9), (3, 9)].map(|(salt, n)| pseudo_random(&[2, 3, n, 4], salt));
    let mask = pseudo_random(&[5, 9], 4).gt(1.0).to_kind(Kind::Float) * -1e9;
    let fused =
        Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&mask), 0.0, false, None, false);
    assert!(largest(&(attend(&q, &k, &v, &mask, 0.0) - fused)) < 1e-6);
}
