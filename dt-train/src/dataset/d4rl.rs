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

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use hdf5::types::{FloatSize, TypeDescriptor, VarLenUnicode};
use sha2::{Digest, Sha256};

use super::{DataError, Dataset, Episode, Problem, Source};
use crate::atomic::{OutputError, Staged};

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
        source: io::Error::other(first_line(&error)),
    })?;
    staged.commit()
}

fn parse(path: &Path) -> Result<Dataset, Problem> {
    let sha256 = digest(path).map_err(Problem::Unreadable)?;
    let file = open(path)?;
    let (observations, state_dim) = matrix(&file, "observations", "a float array (N, state_dim)")?;
    let rows = observations.len() / state_dim;
    let (actions, act_dim) = matrix(&file, "actions", "a float array (N, act_dim)")?;
    same_length("actions", actions.len() / act_dim, rows)?;
    let (rewards, _) = numbers(&file, "rewards", "a float array (N)", is_column)?;
    same_length("rewards", rewards.len(), rows)?;
    let terminals = flags(&file, "terminals", rows)?;
    let timeouts = flags(&file, "timeouts", rows)?;

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
        return Err(Problem::NoEpisodeEnd { rows });
    }
    let finished = |mut values: Vec<f32>, columns: usize| {
        values.truncate(start * columns);
        values
    };
    Ok(Dataset {
        state_dim,
        act_dim,
        observations: finished(observations, state_dim),
        actions: finished(actions, act_dim),
        rewards: finished(rewards, 1),
        episodes,
        sources: vec![Source {
            path: path.into(),
            sha256,
            env: text_attribute(&file, "env").map(|env| environment_name(&env)),
            policy: text_attribute(&file, "policy"),
            unfinished: rows - start,
        }],
    })
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn open(path: &Path) -> Result<hdf5::File, Problem> {
    let mut signature = Vec::new();
    File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut signature))
        .map_err(Problem::Unreadable)?;
    if signature != *b"\x89HDF\r\n\x1a\n" {
        return Err(Problem::NotHdf5);
    }
    for _ in 0..LOCK_ATTEMPTS {
        match hdf5::File::open(path) {
            Err(error) if is_locked(&error) => thread::sleep(LOCK_WAIT),
            other => return other.map_err(|error| damaged("the file", &error)),
        }
    }
    Err(Problem::Locked)
}

/// HDF5 locks the files it has open, and a lock can outlive its file for a moment: a process that was
/// just being started holds it until it has loaded.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

fn is_locked(error: &hdf5::Error) -> bool {
    error.to_string().contains("unable to lock file")
}

/// A dataset of finite numbers with at least one row and column, and its number of columns.
fn matrix(
    file: &hdf5::File,
    key: &'static str,
    needs: &'static str,
) -> Result<(Vec<f32>, usize), Problem> {
    let (values, shape) = numbers(file, key, needs, |shape| shape.len() == 2)?;
    Ok((values, shape[1]))
}

fn numbers(
    file: &hdf5::File,
    key: &'static str,
    needs: &'static str,
    fits: impl Fn(&[usize]) -> bool,
) -> Result<(Vec<f32>, Vec<usize>), Problem> {
    let dataset = find(file, key, needs)?;
    let shape = dataset.shape();
    match type_of(&dataset, key)? {
        Ok(TypeDescriptor::Float(FloatSize::U4 | FloatSize::U8)) => {}
        other => return Err(wrong_type(key, other, "32- or 64-bit floats")),
    }
    if !fits(&shape) {
        return Err(Problem::Rank { key, shape, needs });
    }
    if shape.contains(&0) {
        return Err(Problem::Empty { key, shape });
    }
    let values: Vec<f32> = dataset
        .read_raw()
        .map_err(|error| damaged(&format!("`{key}`"), &error))?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok((values, shape)),
        Some(i) => {
            let columns = shape.iter().skip(1).product::<usize>();
            let index = if columns == 1 {
                vec![i]
            } else {
                vec![i / columns, i % columns]
            };
            Err(Problem::NonFinite {
                key,
                index,
                value: values[i],
            })
        }
    }
}

fn flags(file: &hdf5::File, key: &'static str, rows: usize) -> Result<Vec<bool>, Problem> {
    let needs = "a bool array (N)";
    let dataset = find(file, key, needs)?;
    match type_of(&dataset, key)? {
        Ok(
            TypeDescriptor::Boolean
            | TypeDescriptor::Enum(_)
            | TypeDescriptor::Integer(_)
            | TypeDescriptor::Unsigned(_),
        ) => {}
        other => return Err(wrong_type(key, other, "bool or 8-bit integers")),
    }
    let shape = dataset.shape();
    if !is_column(&shape) {
        return Err(Problem::Rank { key, shape, needs });
    }
    same_length(key, shape[0], rows)?;
    // As integers: a byte that is neither 0 nor 1 must not become a `bool`.
    let values: Vec<i64> = dataset
        .read_raw()
        .map_err(|error| damaged(&format!("`{key}`"), &error))?;
    match values.iter().position(|value| !matches!(value, 0 | 1)) {
        None => Ok(values.into_iter().map(|value| value == 1).collect()),
        Some(row) => Err(Problem::NotAFlag {
            key,
            row,
            value: values[row],
        }),
    }
}

/// (N) or (N, 1).
fn is_column(shape: &[usize]) -> bool {
    matches!(shape, [_] | [_, 1])
}

fn same_length(key: &'static str, rows: usize, expected: usize) -> Result<(), Problem> {
    if rows == expected {
        Ok(())
    } else {
        Err(Problem::Length {
            key,
            rows,
            expected,
        })
    }
}

fn find(
    file: &hdf5::File,
    key: &'static str,
    needs: &'static str,
) -> Result<hdf5::Dataset, Problem> {
    if !file.link_exists(key) {
        return Err(Problem::Missing { key, needs });
    }
    file.dataset(key)
        .map_err(|error| damaged(&format!("`{key}`"), &error))
}

/// The type of a dataset; the inner error describes one that has no counterpart here.
fn type_of(dataset: &hdf5::Dataset, key: &str) -> Result<Result<TypeDescriptor, String>, Problem> {
    let dtype = dataset
        .dtype()
        .map_err(|error| damaged(&format!("`{key}`"), &error))?;
    Ok(dtype.to_descriptor().map_err(|error| first_line(&error)))
}

fn wrong_type(
    key: &'static str,
    found: Result<TypeDescriptor, String>,
    needs: &'static str,
) -> Problem {
    let found = found.map_or_else(|unknown| unknown, |known| known.to_string());
    Problem::Type { key, found, needs }
}

fn damaged(what: &str, error: &hdf5::Error) -> Problem {
    Problem::Damaged {
        what: what.into(),
        detail: first_line(error),
    }
}

/// HDF5 reports a whole stack of calls; its first line says what happened.
fn first_line(error: &hdf5::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().into()
}

fn text_attribute(file: &hdf5::File, name: &str) -> Option<String> {
    let attribute = file.attr(name).ok()?;
    attribute
        .read_scalar::<VarLenUnicode>()
        .ok()
        .map(|text| text.to_string())
}

/// Gymnasium's name of an environment as `--env` takes it.
fn environment_name(gymnasium: &str) -> String {
    match gymnasium.to_lowercase().as_str() {
        "pendulum-v1" => "pendulum".into(),
        other => other.into(),
    }
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
