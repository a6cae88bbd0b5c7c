//! The manifest of format version 1. Its tensors are those of version 2 without folded attention.

use serde::Deserialize;

use super::{AtMaxEpLen, Choice, Components, Manifest, Provenance, RewardMode};
use crate::config::{
    Actions, Activation, Attention, Config, Dtype, Embeddings, Encoder, Head, Math, Mixer, Network,
    Order, Predictions,
};

#[derive(Deserialize)]
pub(super) struct Manifest1<'a> {
    config: Config1,
    return_scale: f32,
    target_return: f32,
    reward: RewardMode,
    control_period_us: u32,
    at_max_ep_len: AtMaxEpLen,
    golden_steps: u32,
    env: &'a str,
    #[serde(borrow)]
    provenance: Provenance1<'a>,
}

#[derive(Deserialize)]
struct Config1 {
    state_dim: u32,
    act_dim: u32,
    d_model: u32,
    n_layer: u32,
    n_head: u32,
    d_ff: u32,
    context_len: u32,
    max_ep_len: u32,
    dtype: Dtype,
    attention: Attention,
    activation: Activation,
    head: Head,
    math: Math1,
    layer_norm_eps: f32,
}

#[derive(Deserialize)]
enum Math1 {
    Libm,
    Micromath,
}

#[derive(Deserialize)]
struct Provenance1<'a> {
    dataset: &'a str,
    dataset_sha256: [u8; 32],
    run: &'a str,
    version: &'a str,
    seed: u64,
    updates: u64,
}

impl<'a> From<Manifest1<'a>> for Manifest<'a> {
    fn from(manifest: Manifest1<'a>) -> Self {
        let Config1 {
            state_dim,
            act_dim,
            d_model,
            n_layer,
            n_head,
            d_ff,
            context_len,
            max_ep_len,
            dtype,
            attention,
            activation,
            head,
            math,
            layer_norm_eps,
        } = manifest.config;
        let Provenance1 {
            dataset,
            dataset_sha256,
            run,
            version,
            seed,
            updates,
        } = manifest.provenance;
        Self {
            config: Config {
                state_dim,
                act_dim,
                d_model,
                n_layer,
                n_head,
                d_ff,
                context_len,
                max_ep_len,
                dtype,
                attention,
                mixer: Mixer::Attention,
                activation,
                head,
                math: match math {
                    Math1::Libm => Math::Libm,
                    Math1::Micromath => Math::Micromath,
                },
                layer_norm_eps,
                glu: false,
                predictions: Predictions::NONE,
                actions: Actions::Continuous,
                network: Network::Transformer,
                encoder: Encoder::Linear,
                embeddings: Embeddings::GYM,
                order: Order::ReturnFirst,
            },
            return_scale: manifest.return_scale,
            target_return: manifest.target_return,
            return_limits: None,
            reward: manifest.reward,
            control_period_us: manifest.control_period_us,
            at_max_ep_len: manifest.at_max_ep_len,
            golden_steps: manifest.golden_steps,
            env: manifest.env,
            observation: Components::default(),
            action: Components::default(),
            provenance: Provenance {
                dataset,
                dataset_sha256,
                statistics: "",
                checkpoint: "",
                run,
                version,
                seed,
                updates,
            },
            choice: Choice::Greedy,
            golden_images: 0,
        }
    }
}
