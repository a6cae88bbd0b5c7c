//! The HDF5 layout of D4RL: flat arrays, one row per step, episodes one after the other.
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `observations` | (N, state_dim) | float | before the action |
//! | | (N, height, width[, channels]) | 8-bit integer | images |
//! | | (N) or (N, 1) | integer | one of several places, counted from 0 |
//! | `actions` | (N, act_dim) | float | |
//! | | (N) or (N, 1) | integer | one of several choices, counted from 0 |
//! | `rewards` | (N) or (N, 1) | float | |
//! | `terminals` | (N) or (N, 1) | bool or integer | the step ended in a terminal state |
//! | `timeouts` | (N) or (N, 1) | bool or integer | the step was the last one before a time limit |
//! | `next_observations` | (N, state_dim) | float | after the action; optional |
//!
//! `timeouts` is required even where all of it is 0: without it, episodes cut off by a time limit would silently
//! become one. Of `next_observations` the last of each episode is kept; the others should be the observations of the
//! next row, and where they are not the file is said to be odd. Attributes `env` and `policy` are read where present;
//! every other group or dataset is ignored.

use std::io;
use std::path::Path;

use hdf5::types::VarLenUnicode;

use super::h5::{self, Arrays};
use super::{
    Column, DataError, Dataset, Episode, Problem, Reading, Source, digest, environment_name,
};
use crate::atomic::{OutputError, Staged};

const LAYOUT: &str = "the D4RL layout";

/// Reads the finished episodes of a file.
///
/// # Errors
/// [`DataError`] names the field and what to do; see [`Problem`].
pub fn read(path: &Path, _reading: &Reading) -> Result<Dataset, DataError> {
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
    // Hashing takes as long as reading: both at once, the file is in memory only once.
    let (sha256, data) = std::thread::scope(|scope| {
        let hash = scope.spawn(|| digest(path));
        let data = read_arrays(path);
        (hash.join().expect("`digest` does not panic"), data)
    });
    let sha256 = sha256.map_err(Problem::Unreadable)?;
    let mut data = data?;
    data.sources[0].sha256 = sha256;
    Ok(data)
}

fn read_arrays(path: &Path) -> Result<Dataset, Problem> {
    let file = h5::open(path)?;
    let arrays = Arrays {
        layout: LAYOUT,
        group: &file,
    };
    let mut observations = arrays.elements("observations", "a float array (N, state_dim)")?;
    let rows = observations.len();
    let mut actions = arrays.elements("actions", "a float array (N, act_dim)")?;
    arrays.same_length("actions", actions.len(), "observations", rows)?;
    let mut rewards = arrays.column("rewards", "a float array (N)")?;
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
                ..Episode::default()
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
    observations.truncate(start);
    actions.truncate(start);
    rewards.truncate(start);
    let mut data = Dataset {
        last_observations: observations.emptied(),
        observations,
        actions,
        rewards,
        episodes,
        sources: vec![Source {
            path: path.into(),
            env: h5::text_attribute(&file, "env").map(|env| environment_name(&env)),
            policy: h5::text_attribute(&file, "policy"),
            unfinished: rows - start,
            ..Source::default()
        }],
    };
    let note = read_ends(&arrays, rows, &mut data)?;
    data.sources[0].notes.extend(note);
    Ok(data)
}

/// Adds what came after the last action of each episode, where the file has it. Returns what is odd about it.
fn read_ends(
    arrays: &Arrays<'_>,
    rows: usize,
    data: &mut Dataset,
) -> Result<Option<String>, Problem> {
    const KEY: &str = "next_observations";
    if !arrays.group.link_exists(KEY) {
        return Ok(None);
    }
    let Some(observations) = data.observations.vectors() else {
        return Ok(Some(format!(
            "`{KEY}` is read with vectors alone: left out"
        )));
    };
    let width = data.observations.width();
    let Some(blocks) = arrays.blocks(KEY, [rows, width]) else {
        let needed = [rows, width];
        return Ok(Some(format!(
            "`{KEY}` is no float array {needed:?}: left out"
        )));
    };
    let mut lasts = Vec::with_capacity(data.episodes.len() * width);
    let (mut ends, mut different) = (data.episodes.iter().map(|e| e.rows.end - 1).peekable(), 0);
    for block in blocks {
        let (first, values) = block?;
        for (row, next) in (first..data.len()).zip(values.chunks_exact(width)) {
            if ends.next_if_eq(&row).is_some() {
                lasts.extend_from_slice(next);
            } else if next != &observations[(row + 1) * width..][..width] {
                different += 1;
            }
        }
    }
    drop(ends);
    if let Some(i) = lasts.iter().position(|value| !value.is_finite()) {
        let row = data.episodes[i / width].rows.end - 1;
        return Ok(Some(format!(
            "`{KEY}`[{row}] is not finite: all of it is left out"
        )));
    }
    let last_rows = data.episodes.iter_mut().enumerate();
    last_rows.for_each(|(row, episode)| episode.last = Some(row));
    data.last_observations = Column::unbounded(width, lasts);
    let inside = data.len() - data.episodes.len();
    Ok((different > 0).then(|| {
        format!("`{KEY}` differs from the observation of the next row in {different} of {inside} steps inside episodes")
    }))
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
