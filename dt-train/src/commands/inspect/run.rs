//! What `dt-train inspect` says about a run folder.

use dt_core::config::Dtype;
use serde_json::json;

use super::{Facts, name};
use crate::config::Kind;
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
    let kind = run.config.model.kind;
    let of_transformer = |fact| match kind {
        Kind::Transformer => fact,
        Kind::Bc => json!(null),
    };
    Ok(vec![
        ("kind", json!("run")),
        ("model", json!(kind)),
        ("env", json!(info.env)),
        ("updates_done", json!(progress.update)),
        ("updates", json!(run.config.train.updates)),
        (
            "best_return",
            json!(progress.best.map(|best| best.mean_return)),
        ),
        ("best_update", json!(progress.best.map(|best| best.update))),
        ("target_return", json!(f64::from(info.target_return))),
        ("attention", of_transformer(name(network.attention))),
        ("parameters", json!(run.parameters())),
        ("state_dim", json!(info.state_dim)),
        ("act_dim", json!(info.act_dim)),
        ("d_model", json!(network.d_model)),
        ("n_layer", json!(network.n_layer)),
        ("n_head", of_transformer(json!(network.n_head))),
        ("context_len", json!(network.context_len)),
        ("dataset", json!(info.dataset)),
        ("dataset_sha256", json!(info.dataset_sha256)),
        ("transitions", json!(info.transitions)),
        ("episodes", json!(info.episodes)),
        ("return_mean", json!(info.return_mean)),
        ("return_max", json!(info.return_max)),
        ("seed", json!(run.config.train.seed)),
        ("version", json!(info.version)),
        ("config", json!(run.config)),
    ])
}
