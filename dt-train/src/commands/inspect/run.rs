//! What `dt-train inspect` says about a run folder.

use dt_core::config::{Config, Dtype};
use serde_json::{Value, json};

use super::{Facts, name};
use crate::run::checkpoint::Progress;
use crate::run::{Run, RunError, Which};

pub fn facts(run: &Run) -> Result<Facts, RunError> {
    let progress = match run.checkpoint(Which::Last) {
        Ok(checkpoint) => checkpoint.progress,
        // A run that was stopped before its first checkpoint.
        Err(RunError::NoCheckpoint { .. }) => Progress::default(),
        Err(error) => return Err(error),
    };
    let (info, network) = (&run.info, run.network(Dtype::F32));
    let algorithm = &run.recipe.algorithm;
    let of_network = |fact: &dyn Fn(&Config) -> Value| network.as_ref().map_or(Value::Null, fact);
    let transformer = network.filter(|network| !network.is_mlp());
    let of_transformer =
        |fact: &dyn Fn(&Config) -> Value| transformer.as_ref().map_or(Value::Null, fact);
    Ok(vec![
        ("kind", json!("run")),
        ("algo", json!(algorithm.name())),
        ("env", json!(info.env)),
        ("updates_done", json!(progress.update)),
        ("updates", json!(run.recipe.train.updates)),
        (
            "best_return",
            json!(progress.best.map(|best| best.mean_return)),
        ),
        ("best_update", json!(progress.best.map(|best| best.update))),
        ("target_return", json!(f64::from(info.target_return))),
        ("network", of_network(&|network| name(network.network))),
        (
            "attention",
            of_transformer(&|network| name(network.attention)),
        ),
        ("parameters", json!(run.parameters())),
        ("state_dim", json!(info.state_dim)),
        ("act_dim", json!(info.act_dim)),
        ("d_model", of_transformer(&|network| json!(network.d_model))),
        ("n_layer", of_network(&|network| json!(network.n_layer))),
        ("n_head", of_transformer(&|network| json!(network.n_head))),
        ("d_ff", of_network(&|network| json!(network.d_ff))),
        (
            "context_len",
            of_network(&|network| json!(network.context_len)),
        ),
        ("dataset", json!(info.dataset)),
        ("dataset_sha256", json!(info.dataset_sha256)),
        ("transitions", json!(info.transitions)),
        ("episodes", json!(info.episodes)),
        ("return_mean", json!(info.return_mean)),
        ("return_max", json!(info.return_max)),
        ("seed", json!(run.recipe.train.seed)),
        ("version", json!(info.version)),
        ("config", json!(run.recipe)),
    ])
}
