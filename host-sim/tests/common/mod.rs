//! A small policy with random weights, made without training anything.

use dt_core::blob::{
    Affine, Choice, LayerParameters, Manifest, MixerParameters, Parameters, RewardMode, Sampling,
    Vectors,
};
use dt_core::config::{
    Actions, Activation, Attention, Config, Dtype, Embeddings, Encoder, Head, Math, Mixer, Network,
    Order, Predictions,
};
use host_sim::policy_file::PolicyFile;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub fn config(state_dim: u32, act_dim: u32) -> Config {
    Config {
        state_dim,
        act_dim,
        d_model: 16,
        n_layer: 2,
        n_head: 2,
        d_ff: 32,
        context_len: 4,
        max_ep_len: 200,
        dtype: Dtype::Int8,
        attention: Attention::Streaming,
        mixer: Mixer::Attention,
        activation: Activation::Relu,
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

/// Where actions are discrete they are drawn. Weights are large enough for actions to differ visibly from state to state.
pub fn random_policy(config: Config, env: &str, reward: RewardMode) -> PolicyFile {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut values = |n: u32| -> Vec<f32> {
        (0..n)
            .map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 1.2)
            .collect()
    };
    let (d, f) = (config.d_model, config.d_ff);
    let mut linear = |rows: u32, cols: u32| (values(rows * cols), values(rows));
    let embed = [
        linear(d, 1),
        linear(d, config.state_dim),
        linear(d, config.act_dim),
        linear(config.max_ep_len, d),
        linear(d, 1),
        linear(d, 1),
        linear(config.act_dim, d),
    ];
    let layers: Vec<[(Vec<f32>, Vec<f32>); 6]> = (0..config.n_layer)
        .map(|_| {
            [
                linear(d, 1),
                linear(3 * d, d),
                linear(d, d),
                linear(d, 1),
                linear(f, d),
                linear(d, f),
            ]
        })
        .collect();
    let layers: Vec<LayerParameters<'_>> = layers.iter().map(layer).collect();
    let (states, actions) = (config.state_dim as usize, config.action_len() as usize);
    let manifest = Manifest {
        return_scale: 1000.0,
        target_return: -150.0,
        reward,
        env,
        choice: match config.actions {
            Actions::Continuous => Choice::Greedy,
            Actions::Discrete => Choice::Sampled(Sampling {
                temperature: 1.0,
                top_k: 0,
                seed: 0,
            }),
        },
        ..Manifest::new(config)
    };
    let (low, high) = match config.actions {
        Actions::Continuous => (-2.0, 2.0),
        Actions::Discrete => (0.0, (config.act_dim - 1) as f32),
    };
    let vectors = Vectors {
        state_mean: &vec![0.0; states],
        state_std: &vec![1.0; states],
        state_low: &vec![-100.0; states],
        state_high: &vec![100.0; states],
        action_low: &vec![low; actions],
        action_high: &vec![high; actions],
        safe_action: &vec![0.0; actions],
    };
    let parameters = Parameters {
        embed_return: borrow(&embed[0]),
        convolutions: &[],
        embed_state: borrow(&embed[1]),
        embed_action: borrow(&embed[2]),
        embed_timestep: &embed[3].0,
        embed_position: &[],
        embed_ln: borrow(&embed[4]),
        layers: &layers,
        hidden: &[],
        ln_f: borrow(&embed[5]),
        glu: Affine::default(),
        state_head: Affine::default(),
        return_head: Affine::default(),
        head: borrow(&embed[6]),
    };
    PolicyFile::emit(&manifest, &vectors, &parameters, &[]).unwrap()
}

fn layer(values: &[(Vec<f32>, Vec<f32>); 6]) -> LayerParameters<'_> {
    let [ln_1, attn_qkv, attn_proj, ln_2, mlp_fc, mlp_proj] = values.each_ref().map(borrow);
    LayerParameters {
        ln_1,
        mixer: MixerParameters::Attention {
            qkv: attn_qkv,
            proj: attn_proj,
        },
        ln_2,
        mlp_fc,
        mlp_proj,
    }
}

fn borrow((weight, bias): &(Vec<f32>, Vec<f32>)) -> Affine<'_> {
    Affine { weight, bias }
}
