//! A run as a model's folder, which transformers' `from_pretrained` loads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dt_core::config::{Actions, Attention, Config, Dtype, Embeddings, Head};
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::description::{Own, activation_name};
use super::weights::to_transformers;
use super::{CARD, CONFIG, EMBEDDING_NORM_EPS, OWN, WEIGHTS};
use crate::atomic;
use crate::run::{Run, Which};

/// Rows of the table of timesteps, all 0, where the network has none.
pub const NO_TABLE: u32 = 1000;

/// A folder that was written, and what is to be said about it.
#[derive(Debug)]
pub struct Exported {
    /// The folder.
    pub dir: PathBuf,
    /// Notes for people.
    pub notes: Vec<String>,
}

/// Writes weights, `config.json` and model card of a run's checkpoint into the folder `out`, which is created.
///
/// # Errors
/// A run that transformers has no counterpart of, or files in `out` that are not to be replaced.
pub fn export(run: &Run, which: Which, out: &Path, force: bool) -> anyhow::Result<Exported> {
    let run = &published(run);
    let network = run.deployed(Dtype::F32)?;
    let config = config(run, &network)?;
    let checkpoint = run.checkpoint(which)?;
    let tokens = 3 * network.context_len as usize;
    let tensors = to_transformers(&network, &checkpoint.weights, tokens)
        .with_context(|| format!("{}", run.dir.display()))?;
    let views = tensors.iter().map(|(name, array)| {
        let bytes = bytemuck::cast_slice(&array.values);
        let view = TensorView::new(safetensors::Dtype::F32, array.shape.clone(), bytes);
        (name, view.expect("the shape fits"))
    });
    // What transformers asks files for before it reads them.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights = safetensors::serialize(views, Some(metadata)).context("the weights")?;
    std::fs::create_dir_all(out)
        .with_context(|| format!("cannot create folder {}", out.display()))?;
    let files = [
        (WEIGHTS, weights),
        (CARD, card(run, &network).into_bytes()),
        // Last: without it the rest is no model.
        (CONFIG, text(&config)),
    ];
    for (name, _) in &files {
        atomic::check(&out.join(name), force)?;
    }
    for (name, bytes) in &files {
        atomic::write(&out.join(name), force, bytes)?;
    }
    let mut notes = Vec::new();
    if network.attention == Attention::Streaming {
        notes.push(format!(
            "{} was trained with streaming attention, and transformers attends to the window that it is given: the same actions \
             in the first {} steps of an episode, others later",
            run.dir.display(),
            network.context_len
        ));
    }
    Ok(Exported {
        dir: out.to_owned(),
        notes,
    })
}

/// `config.json`, with all that a run has besides under [`OWN`].
fn config(run: &Run, network: &Config) -> anyhow::Result<Value> {
    if network.is_mlp() {
        bail!(
            "{}: its network is a multilayer perceptron, and transformers' is a Decision Transformer; `dt-train export` writes a policy file",
            run.dir.display()
        );
    }
    let Some(activation) = activation_name(network.activation) else {
        bail!(
            "{}: transformers has no {:?}",
            run.dir.display(),
            network.activation
        );
    };
    if network.image().is_some() {
        bail!(
            "{}: its states are images, and transformers' Decision Transformer reads vectors",
            run.dir.display()
        );
    }
    if network.actions == Actions::Discrete {
        bail!(
            "{}: its actions are choices, and transformers' Decision Transformer predicts vectors",
            run.dir.display()
        );
    }
    if network.is_convolved() {
        bail!(
            "{}: dt.mixer is \"convolution\", and transformers has attention alone; train with --set dt.mixer=attention",
            run.dir.display()
        );
    }
    if network.embeddings != Embeddings::GYM {
        bail!(
            "{}: dt.embeddings is \"atari\", and transformers has the other of the paper's networks; train with --set dt.embeddings=gym",
            run.dir.display()
        );
    }
    if network.is_state_first() {
        bail!(
            "{}: dt.return_expectile puts states before returns, which transformers does not; train with --set \
             dt.return_expectile=0",
            run.dir.display()
        );
    }
    if network.glu {
        bail!(
            "{}: dt.glu is true, and transformers has no gated unit before the action head; train with --set dt.glu=false",
            run.dir.display()
        );
    }
    let action_tanh = match network.head {
        Head::Tanh => true,
        Head::Linear => false,
    };
    if network.layer_norm_eps != EMBEDDING_NORM_EPS {
        bail!(
            "{}: dt.layer_norm_eps is {}, and transformers' embedding norm has {EMBEDDING_NORM_EPS:e} in any case",
            run.dir.display(),
            network.layer_norm_eps
        );
    }
    let own = Own {
        recipe: serde_json::to_value(&run.recipe)?,
        run: run.info.clone(),
    };
    let max_ep_len = match network.max_ep_len {
        0 => NO_TABLE,
        rows => rows,
    };
    let dropout = run.recipe.train.dropout;
    Ok(json!({
        "architectures": ["DecisionTransformerModel"],
        "model_type": "decision_transformer",
        "state_dim": network.state_dim,
        "act_dim": network.act_dim,
        "hidden_size": network.d_model,
        "n_layer": network.n_layer,
        "n_head": network.n_head,
        "n_inner": network.d_ff,
        "max_ep_len": max_ep_len,
        // Tokens of the longest window, which older versions make a mask of.
        "n_positions": 3 * network.context_len,
        "vocab_size": 1,
        "activation_function": activation,
        "action_tanh": action_tanh,
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": dropout,
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "torch_dtype": "float32",
        OWN: own,
    }))
}

fn text(config: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(config).expect("plain values only");
    text.push(b'\n');
    text
}

/// What others may know of a run: not where on this computer its data, its environment and what it began with lay.
fn published(run: &Run) -> Run {
    let name = |path: &str| {
        let name = Path::new(path).file_name();
        name.map_or(path.to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let mut run = run.clone();
    let info = &mut run.info;
    info.dataset = info
        .dataset
        .split(',')
        .map(name)
        .collect::<Vec<_>>()
        .join(",");
    if let Some(env) = &mut info.env_file {
        *env = name(env);
    }
    if let Some(from) = &mut info.init_from {
        from.run = name(&from.run);
    }
    run
}

/// The model card, in the hub's form: what the weights alone do not say, for people and as a program.
fn card(run: &Run, network: &Config) -> String {
    let Run { recipe, info, .. } = run;
    let place = match info.env.as_str() {
        "" => "a control problem".to_owned(),
        env => format!("`{env}`"),
    };
    let row = |values: &[f32]| {
        let values: Vec<_> = values.iter().map(f32::to_string).collect();
        values.join(", ")
    };
    let data = match info.dataset.as_str() {
        "" => "unknown",
        data => data,
    };
    format!(
        "---
library_name: transformers
pipeline_tag: reinforcement-learning
tags:
- deep-reinforcement-learning
- reinforcement-learning
- decision-transformer
- continuous-control
---

# Decision Transformer for {place}

Predicts actions from {k} timesteps of returns-to-go, states and actions. What it was run with:

| | |
|---|---|
| data | {data} |
| target return | {target} |
| return scale: returns-to-go are divided by it | {scale} |
| context length | {k} |
| lowest action: -1 of the network | {low} |
| highest action: 1 of the network | {high} |
| control period | {period} µs |

States are normalized as (state - mean) / std:

```
mean = [{mean}]
std = [{std}]
```

The same is in `config.json`, under `{OWN}`:

```python
from transformers import DecisionTransformerModel

model = DecisionTransformerModel.from_pretrained(\".\").eval()
own = model.config.{OWN}
mean, std = own[\"run\"][\"state_mean\"], own[\"run\"][\"state_std\"]
scale, target = own[\"recipe\"][\"data\"][\"return_scale\"], own[\"run\"][\"target_return\"]
```
",
        k = network.context_len,
        target = info.target_return,
        scale = recipe.data.return_scale,
        low = row(&info.action_low),
        high = row(&info.action_high),
        period = info.control_period_us,
        mean = row(&info.state_mean),
        std = row(&info.state_std),
    )
}
