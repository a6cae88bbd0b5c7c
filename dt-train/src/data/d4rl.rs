//! The HDF5 layout of D4RL: flat arrays, one row per step, episodes one after the other.
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `observations` | (N, state_dim) | float | before the action |
//! | `actions` | (N, act_dim) | float | |
//! | `rewards` | (N) or (N, 1) | float | |
//! | `terminals` | (N) or (N, 1) | bool or integer | the step ended in a terminal state |
//! | `timeouts` | (N) or (N, 1) | bool or integer | the step was the last one before a time limit |
//! | `next_observations` | (N, state_dim) | float | after the action; written, not read |
//!
//! `timeouts` is required even where all of it is 0: without it, episodes cut off by a time limit would silently
//! become one. Attributes `env` and `policy` are read where present; every other group or dataset is ignored.

use std::io;
use std::path::Path;

use hdf5::types::VarLenUnicode;

use super::h5::{self, Arrays};
use super::{DataError, Dataset, Episode, Problem, Source, digest, environment_name};
use crate::atomic::{OutputError, Staged};

const LAYOUT: &str = "the D4RL layout";

/// Reads the finished episodes of a file.
///
/// # Errors
/// [`DataError`] names the field and what to do; see [`Problem`].
pub fn read(path: &Path) -> Result<Dataset, DataError> {
    parse(path).map_err(|problem| DataError::new(path, problem))
}

/// Steps as they were taken, to be written to a file. One entry (or one row of them) per step in each list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Observation before the action, (N, state_dim).
    pub observations: Vec<f32>,
    /// Action, (N, act_dim).
    pub actions: Vec<f32>,
    /// Reward, (N).
    pub rewards: Vec<f32>,
    /// Observation after the action, (N, state_dim).
    pub next_observations: Vec<f32>,
    /// The step ended in a terminal state, (N).
    pub terminals: Vec<bool>,
    /// The step was the last one before a time limit, (N).
    pub timeouts: Vec<bool>,
}

/// What a file says about its origin, as attributes of its root group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// Environment, as `--env` takes it.
    pub env: &'a str,
    /// The agent that acted.
    pub policy: &'a str,
    /// Seed of the run that made the file.
    pub seed: u64,
}

/// Writes `recording` (at least one step) to `path`, compressed.
///
/// # Errors
/// The output exists and `force` is not given, or it cannot be written; nothing is left half-written.
pub fn write(
    path: &Path,
    force: bool,
    recording: &Recording,
    metadata: &Metadata,
) -> Result<(), OutputError> {
    let staged = Staged::new(path, force)?;
    fill(staged.temporary_path(), recording, metadata).map_err(|error| OutputError::Io {
        path: path.into(),
        source: io::Error::other(h5::first_line(&error)),
    })?;
    staged.commit()
}

fn parse(path: &Path) -> Result<Dataset, Problem> {
    let sha256 = digest(path).map_err(Problem::Unreadable)?;
    let file = h5::open(path)?;
    let arrays = Arrays {
        layout: LAYOUT,
        group: &file,
    };
    let observations = arrays.matrix("observations", "a float array (N, state_dim)")?;
    let rows = observations.rows();
    let actions = arrays.matrix("actions", "a float array (N, act_dim)")?;
    arrays.same_length("actions", actions.rows(), "observations", rows)?;
    let rewards = arrays.column("rewards", "a float array (N)")?;
    arrays.same_length("rewards", rewards.len(), "observations", rows)?;
    let terminals = arrays.flags("terminals", rows, "observations")?;
    let timeouts = arrays.flags("timeouts", rows, "observations")?;

    let mut episodes: Vec<Episode> = Vec::new();
    let mut start = 0;
    for row in 0..rows {
        if terminals[row] || timeouts[row] {
            episodes.push(Episode {
                rows: start..row + 1,
                terminated: terminals[row],
            });
            start = row + 1;
        }
    }
    if episodes.is_empty() {
        return Err(Problem::NoEpisodeEnd {
            rows,
            flags: "`terminals` and `timeouts`",
            set: "timeouts",
        });
    }
    let finished = |mut values: Vec<f32>, columns: usize| {
        values.truncate(start * columns);
        values
    };
    Ok(Dataset {
        state_dim: observations.columns,
        act_dim: actions.columns,
        observations: finished(observations.values, observations.columns),
        actions: finished(actions.values, actions.columns),
        rewards: finished(rewards, 1),
        episodes,
        sources: vec![Source {
            path: path.into(),
            sha256,
            env: h5::text_attribute(&file, "env").map(|env| environment_name(&env)),
            policy: h5::text_attribute(&file, "policy"),
            unfinished: rows - start,
        }],
    })
}

fn fill(path: &Path, recording: &Recording, metadata: &Metadata) -> hdf5::Result<()> {
    let file = hdf5::File::create(path)?;
    let rows = recording.rewards.len();
    for (key, values) in [
        ("observations", &recording.observations),
        ("actions", &recording.actions),
        ("next_observations", &recording.next_observations),
    ] {
        dataset::<f32>(&file, key, &[rows, values.len() / rows])?.write_raw(values)?;
    }
    dataset::<f32>(&file, "rewards", &[rows])?.write_raw(&recording.rewards)?;
    dataset::<bool>(&file, "terminals", &[rows])?.write_raw(&recording.terminals)?;
    dataset::<bool>(&file, "timeouts", &[rows])?.write_raw(&recording.timeouts)?;
    for (name, value) in [
        ("env", metadata.env),
        ("policy", metadata.policy),
        ("version", env!("CARGO_PKG_VERSION")),
    ] {
        let value: VarLenUnicode = value
            .parse()
            .map_err(|_| format!("`{name}` has a NUL byte: {value:?}"))?;
        file.new_attr::<VarLenUnicode>()
            .create(name)?
            .write_scalar(&value)?;
    }
    for (name, value) in [("seed", metadata.seed), ("steps", rows as u64)] {
        file.new_attr::<u64>().create(name)?.write_scalar(&value)?;
    }
    file.close()
}

fn dataset<T: hdf5::H5Type>(
    file: &hdf5::File,
    key: &str,
    shape: &[usize],
) -> hdf5::Result<hdf5::Dataset> {
    file.new_dataset::<T>()
        .deflate(4)
        // The same steps give the same bytes.
        .obj_track_times(false)
        .shape(shape)
        .create(key)
}
