//! What `dt-train inspect` says about a policy file.

use dt_core::blob::{Blob, Choice, Manifest, VERSION};
use dt_core::config::Actions;
use dt_core::golden;
use dt_core::policy::Policy;
use serde_json::{Value, json};

use super::{Facts, exact, name};

pub fn facts(blob: &Blob<'_>) -> Facts {
    let manifest = blob.manifest();
    let (config, vectors, provenance) = (&manifest.config, blob.vectors(), &manifest.provenance);
    let digest: String = provenance
        .dataset_sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // What a perceptron does not have.
    let of_transformer = |fact: Value| match config.is_mlp() {
        true => Value::Null,
        false => fact,
    };
    let [how, temperature, top_k, seed] = choice(manifest);
    vec![
        ("kind", json!("policy")),
        ("format_version", json!(VERSION)),
        ("env", json!(manifest.env)),
        ("dtype", name(config.dtype)),
        ("network", name(config.network)),
        ("attention", of_transformer(name(config.attention))),
        ("mixer", of_transformer(name(config.mixer))),
        ("flash_bytes", json!(blob.file_len())),
        ("arena_bytes", json!(4 * config.arena_words())),
        ("parameters", json!(blob.parameters())),
        ("step_macs", json!(config.step_macs())),
        ("step_instructions", json!(config.step_instructions())),
        ("golden_steps", json!(manifest.golden_steps)),
        ("self_test", self_test(blob)),
        ("state_dim", json!(config.state_dim)),
        ("act_dim", json!(config.act_dim)),
        ("actions", name(config.actions)),
        ("choice", how),
        ("temperature", temperature),
        ("top_k", top_k),
        ("choice_seed", seed),
        ("d_model", of_transformer(json!(config.d_model))),
        ("n_layer", json!(config.n_layer)),
        ("n_head", of_transformer(json!(config.n_head))),
        ("d_ff", json!(config.d_ff)),
        ("context_len", json!(config.context_len)),
        ("max_ep_len", of_transformer(json!(config.max_ep_len))),
        ("at_max_ep_len", name(manifest.at_max_ep_len)),
        ("activation", name(config.activation)),
        ("head", name(config.head)),
        ("glu", json!(config.glu)),
        ("predicts_state", json!(config.predictions.state)),
        ("predicts_return", json!(config.predictions.return_to_go)),
        ("math", name(config.math)),
        (
            "layer_norm_eps",
            of_transformer(json!(f64::from(config.layer_norm_eps))),
        ),
        ("return_scale", json!(f64::from(manifest.return_scale))),
        ("target_return", json!(f64::from(manifest.target_return))),
        (
            "return_limits",
            manifest
                .return_limits
                .map_or(Value::Null, |limits| exact(&[limits.low, limits.high])),
        ),
        (
            "return_limit",
            manifest
                .return_limits
                .map_or(Value::Null, |limits| name(limits.beyond)),
        ),
        ("reward", name(manifest.reward)),
        ("control_period_us", json!(manifest.control_period_us)),
        ("state_mean", exact(vectors.state_mean)),
        ("state_std", exact(vectors.state_std)),
        ("state_low", exact(vectors.state_low)),
        ("state_high", exact(vectors.state_high)),
        ("action_low", exact(vectors.action_low)),
        ("action_high", exact(vectors.action_high)),
        ("safe_action", exact(vectors.safe_action)),
        ("dataset", json!(provenance.dataset)),
        ("dataset_sha256", json!(digest)),
        ("run", json!(provenance.run)),
        ("version", json!(provenance.version)),
        ("seed", json!(provenance.seed)),
        ("updates", json!(provenance.updates)),
    ]
}

/// How a discrete action follows from the logits: what it is called, and what it is drawn with.
fn choice(manifest: &Manifest<'_>) -> [Value; 4] {
    match (manifest.config.actions, manifest.choice) {
        (Actions::Continuous, _) => [(); 4].map(|()| Value::Null),
        (Actions::Discrete, Choice::Greedy) => {
            [json!("greedy"), Value::Null, Value::Null, Value::Null]
        }
        (Actions::Discrete, Choice::Sampled(sampling)) => [
            json!("sampled"),
            json!(f64::from(sampling.temperature)),
            json!(sampling.top_k),
            json!(sampling.seed),
        ],
    }
}

/// Whether this machine reproduces the golden vectors.
fn self_test(blob: &Blob<'_>) -> Value {
    if blob.manifest().golden_steps == 0 {
        return Value::Null;
    }
    let arena = vec![0u32; blob.manifest().config.arena_words()];
    let mut policy = Policy::new(blob, arena).expect("the arena has the size it asks for");
    match golden::check(&mut policy, blob) {
        Ok(_) => json!("passed"),
        Err(error) => json!(format!("failed: {error}")),
    }
}
