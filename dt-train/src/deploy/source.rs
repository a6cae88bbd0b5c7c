//! The constants that make a controller's memory a matter of compile time, as Rust source beside the policy file.

use std::fmt::Write;

use dt_core::blob::Blob;
use dt_core::config::{Config, Convolution};

/// Rust source with `CONFIG` and `ARENA_WORDS` of a policy file named `file`. It is meant to be included by a firmware, in a
/// module of its own where there are several policies: `mod hopper { include!("hopper.rs"); }`.
pub fn policy_rs(blob: &Blob<'_>, file: &str) -> String {
    let manifest = blob.manifest();
    let (config, provenance) = (&manifest.config, &manifest.provenance);
    let digest: String = provenance
        .dataset_sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let about = [
        format!(
            "Configuration of the policy in {file}, written beside it by dt-train {}.",
            provenance.version
        ),
        String::new(),
        format!("- environment: {}", manifest.env),
        format!(
            "- run: {}, {} updates, seed {}",
            provenance.run, provenance.updates, provenance.seed
        ),
        format!("- data: {}, SHA-256 {digest}", provenance.dataset),
        format!(
            "- {} parameters, {} bytes of flash",
            blob.parameters(),
            blob.file_len()
        ),
    ];
    let mut source = String::new();
    for line in about {
        // Names come from the user; a line break in one must not end the comment.
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let _ = writeln!(source, "{}", format!("/// {line}").trim_end());
    }
    let _ = write!(
        source,
        "pub const CONFIG: dt_core::config::Config = dt_core::config::Config {{
    state_dim: {},
    act_dim: {},
    d_model: {},
    n_layer: {},
    n_head: {},
    d_ff: {},
    context_len: {},
    max_ep_len: {},
    dtype: dt_core::config::Dtype::{:?},
    attention: dt_core::config::Attention::{:?},
    mixer: dt_core::config::Mixer::{:?},
    activation: dt_core::config::Activation::{:?},
    head: dt_core::config::Head::{:?},
    math: dt_core::config::Math::{:?},
    layer_norm_eps: {:?},
    glu: {},
    actions: dt_core::config::Actions::{:?},
    predictions: dt_core::config::Predictions {{
        state: {},
        return_to_go: {},
    }},
    network: dt_core::config::Network::{:?},
    encoder: {},
    embeddings: dt_core::config::Embeddings {{
        tanh: {},
        norm: {},
        positions: dt_core::config::Positions::{:?},
    }},
    order: dt_core::config::Order::{:?},
}};

/// 32-bit words of memory that the policy needs, all of it.
pub const ARENA_WORDS: usize = CONFIG.arena_words();
",
        config.state_dim,
        config.act_dim,
        config.d_model,
        config.n_layer,
        config.n_head,
        config.d_ff,
        config.context_len,
        config.max_ep_len,
        config.dtype,
        config.attention,
        config.mixer,
        config.activation,
        config.head,
        config.math,
        config.layer_norm_eps,
        config.glu,
        config.actions,
        config.predictions.state,
        config.predictions.return_to_go,
        config.network,
        encoder(config),
        config.embeddings.tanh,
        config.embeddings.norm,
        config.embeddings.positions,
        config.order,
    );
    source
}

/// The value of `encoder`; an image's is longer than a line.
fn encoder(config: &Config) -> String {
    let Some(image) = config.image() else {
        return "dt_core::config::Encoder::Linear".into();
    };
    let mut source = format!(
        "dt_core::config::Encoder::Image(dt_core::config::ImageEncoder {{
        height: {},
        width: {},
        channels: {},
        convolutions: [
",
        image.height, image.width, image.channels,
    );
    for Convolution {
        filters,
        kernel,
        stride,
    } in image.convolutions
    {
        let _ = writeln!(
            source,
            "            dt_core::config::Convolution {{ filters: {filters}, kernel: {kernel}, stride: {stride} }},"
        );
    }
    source += "        ],\n    })";
    source
}
