//! Saved agents: safetensors, with the agent's shape and training as JSON in the metadata.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::actor::{Actor, AgentSpec};
use super::online::Settings;
use crate::atomic::{self, OutputError};

/// Key of the metadata entry.
const ENTRY: &str = "dt-train agent";

/// How an agent was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Environment steps.
    pub steps: u64,
    /// Seed.
    pub seed: u64,
    /// Algorithm and hyper-parameters.
    #[serde(flatten)]
    pub settings: Settings,
    /// Version of dt-train.
    pub version: String,
}

/// Why an agent file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct AgentError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an agent file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be opened.
    #[error(
        "cannot be read: {0}; --agent takes `random`, `sac`, `ppo` or a file written by --save-agent"
    )]
    Unreadable(std::io::Error),
    /// It is another kind of file, or damaged.
    #[error("is not an intact agent file: {0}; --agent takes files written by --save-agent")]
    NotAnAgent(String),
    /// It was trained elsewhere.
    #[error("was trained in `{trained}`, not in `{asked}`; pass --env {trained}")]
    OtherEnv {
        /// Its environment.
        trained: String,
        /// The environment asked for.
        asked: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Entry {
    shape: AgentSpec,
    training: Training,
}

/// Writes `actor` to `path`.
///
/// # Errors
/// The output exists and `force` is not given, or it cannot be written.
pub fn save(
    path: &Path,
    force: bool,
    actor: &Actor,
    training: &Training,
) -> Result<(), OutputError> {
    let entry = Entry {
        shape: actor.shape.clone(),
        training: training.clone(),
    };
    let json = serde_json::to_string(&entry).expect("strings, numbers and lists");
    let layout = actor.shape.layout();
    let mut rest = actor.weights.as_slice();
    let tensors = layout.iter().map(|(name, shape)| {
        let shape: Vec<usize> = shape.iter().map(|&dim| dim as usize).collect();
        let (values, after) = rest.split_at(shape.iter().product());
        rest = after;
        let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values));
        (name, view.expect("as many values as the shape says"))
    });
    // One entry only: the order of several would change from run to run.
    let metadata = HashMap::from([(ENTRY.to_owned(), json)]);
    let bytes = safetensors::serialize(tensors, Some(metadata)).expect("few and small tensors");
    atomic::write(path, force, &bytes)
}

/// Reads an agent for `env`, as `--env` takes it.
///
/// # Errors
/// [`AgentError`] names the file and what to do.
pub fn load(path: &Path, env: &str) -> Result<(Actor, Training), AgentError> {
    parse(path, env).map_err(|problem| AgentError {
        path: path.into(),
        problem,
    })
}

fn parse(path: &Path, env: &str) -> Result<(Actor, Training), Problem> {
    let bytes = std::fs::read(path).map_err(Problem::Unreadable)?;
    let not_an_agent = |error: &dyn std::fmt::Display| Problem::NotAnAgent(error.to_string());
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| not_an_agent(&error))?;
    let entries = metadata.metadata().as_ref();
    let json = entries
        .and_then(|entries| entries.get(ENTRY))
        .ok_or_else(|| not_an_agent(&"its metadata is missing"))?;
    let Entry { shape, training } =
        serde_json::from_str(json).map_err(|error| not_an_agent(&error))?;
    if shape.env != env {
        return Err(Problem::OtherEnv {
            trained: shape.env,
            asked: env.into(),
        });
    }
    if shape.action_low.len() != shape.act_dim || shape.action_high.len() != shape.act_dim {
        return Err(not_an_agent(
            &"its action range does not have act_dim values",
        ));
    }
    if shape.choices.is_some() && shape.act_dim != 1 {
        return Err(not_an_agent(&"a choice is one number"));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| not_an_agent(&error))?;
    let mut weights = Vec::new();
    for (name, expected) in shape.layout().iter() {
        let tensor = tensors.tensor(name).map_err(|error| not_an_agent(&error))?;
        if tensor.dtype() != Dtype::F32
            || tensor
                .shape()
                .iter()
                .map(|&dim| dim as i64)
                .ne(expected.iter().copied())
        {
            return Err(not_an_agent(&format!(
                "tensor `{name}` is not f32 {expected:?}"
            )));
        }
        weights.extend(bytemuck::pod_collect_to_vec::<u8, f32>(tensor.data()));
    }
    if !weights.iter().all(|weight| weight.is_finite()) {
        return Err(not_an_agent(&"it has weights that are not finite"));
    }
    Ok((Actor { shape, weights }, training))
}
