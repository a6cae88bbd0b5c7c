//! The HDF5 layout of D4RL: flat arrays, one row per step, episodes one after the other.
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `observations` | (N, state_dim) | number | before the action |
//! | | (N, height, width[, channels]) | 8-bit integer | images |
//! | | (N) or (N, 1) | integer | one of several places, counted from 0 |
//! | | a group of arrays (N) or (N, dim) | number | those that [`Reading::observation_keys`] names, joined |
//! | `actions` | (N, act_dim) | float | |
//! | | (N) or (N, 1) | integer | one of several choices, counted from 0 |
//! | `rewards` | (N) or (N, 1) | number | |
//! | `terminals`, `terminations` or `terminated` | (N) or (N, 1) | bool or number | the step ended in a terminal state |
//! | `timeouts`, `truncations` or `truncated` | (N) or (N, 1) | bool or number | the step was the last one before a time limit |
//! | `dones`, `done` or `episode_terminals` | (N) or (N, 1) | bool or number | the step was the last one, for either reason |
//! | `next_observations` | (N, state_dim) | number | after the action; optional |
//!
//! Floats have 16, 32 or 64 bits; whole numbers are read exactly or refused. Of the three flags, one of the first two
//! can be missing where the third is there, which alone tells ends but not which of them are terminal.
//! [`Reading::max_episode_steps`] stands in for time-outs: a file without them is refused otherwise, since episodes cut
//! off by a time limit would silently become one. So is one whose `next_observations` shows ends that no flag marks. Of
//! `next_observations` the last of each episode is kept; the others should be the observations of the next row, and
//! where they are not the file is said to be odd. Attributes `env` (or `env_id`, `env_name`) and `policy` are read where
//! present, and `unfinished_steps`: as many rows at the end are of episodes that were still going on, of several
//! environments perhaps. Every other group or dataset is ignored.

pub(super) mod ends;

use std::io;
use std::path::Path;

use hdf5::types::VarLenUnicode;
use ndarray::Array4;

use self::ends::{After, Flags};
use super::frames::Frames;
use super::h5::{self, Arrays};
use super::{DataError, Dataset, Problem, Reading, Source, dictionary, environment_name, hashed};
use crate::atomic::{OutputError, Staged};

const LAYOUT: &str = "the D4RL layout";

/// The arrays without which there is nothing to learn, and what they should be.
const ARRAYS: [(&str, &str); 3] = [
    ("observations", "a float array (N, state_dim)"),
    ("actions", "a float array (N, act_dim)"),
    ("rewards", "a float array (N)"),
];
const FLAGS: &str = "a bool array (N)";

/// Attribute: rows after the last end of an episode.
const UNFINISHED: &str = "unfinished_steps";

/// Whether a file is of this layout, complete or not.
pub fn is_layout(file: &hdf5::Group) -> bool {
    ARRAYS.iter().any(|(name, _)| file.link_exists(name))
}

/// Reads the finished episodes of a file.
///
/// # Errors
/// [`DataError`] names the field and what to do; see [`Problem`].
pub fn read(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    hashed(path, || read_arrays(path, reading))
}

/// Steps as they were taken, to be written to a file. One entry (or one row of them) per step in each list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Observation before the action, (N, state_dim); empty where there are frames.
    pub observations: Vec<f32>,
    /// Observations that are images, (N).
    pub frames: Option<Frames>,
    /// Action, (N, act_dim); the index of a choice, (N).
    pub actions: Vec<f32>,
    /// Reward, (N).
    pub rewards: Vec<f32>,
    /// Observation after the action, (N, state_dim); empty where there are frames.
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
    /// Actions are indices of choices, to be written as integers.
    pub choices: bool,
}

/// Writes `recording` (at least one step) to `path`, compressed.
///
/// # Errors
/// There is no step, the output exists and `force` is not given, or it cannot be written; nothing is left half-written.
pub fn write(
    path: &Path,
    force: bool,
    recording: &Recording,
    metadata: &Metadata,
) -> Result<(), OutputError> {
    if recording.rewards.is_empty() {
        let nothing = io::Error::new(io::ErrorKind::InvalidInput, "no step was recorded");
        return Err(OutputError::io(path)(nothing));
    }
    let staged = Staged::new(path, force)?;
    fill(staged.temporary_path(), recording, metadata)
        .map_err(|error| io::Error::other(h5::first_line(&error)))
        .map_err(OutputError::io(path))?;
    staged.commit()
}

fn read_arrays(path: &Path, reading: &Reading) -> Result<Dataset, Problem> {
    let file = h5::open(path)?;
    let arrays = Arrays {
        layout: LAYOUT,
        group: &file,
    };
    let limit = reading.max_episode_steps;
    let flags = Flags::find(&arrays, limit)?;
    not_transposed(&arrays)?;
    let [(_, of_states), (_, of_actions), (_, of_rewards)] = ARRAYS;
    let observations = dictionary::or_array(
        &arrays,
        "observations",
        of_states,
        &reading.observation_keys,
    )?;
    let rows = observations.len();
    let actions = arrays.unchecked_elements("actions", of_actions)?;
    arrays.same_length("actions", actions.len(), "observations", rows)?;
    let rewards = arrays.unchecked_column("rewards", of_rewards)?;
    arrays.same_length("rewards", rewards.len(), "observations", rows)?;
    let mut data = Dataset {
        last_observations: observations.emptied(),
        observations,
        actions,
        rewards,
        episodes: Vec::new(),
        sources: vec![Source {
            path: path.into(),
            env: h5::first_text(&file, &["env", "env_id", "env_name"])
                .map(|env| environment_name(&env)),
            policy: h5::text_attribute(&file, "policy"),
            ..Source::default()
        }],
    };
    let bad = bad_rows(&data, reading.skip_bad_episodes)?;

    let mut notes = Vec::new();
    let mut marks = flags.read(&arrays, rows)?;
    if let Some(steps) = h5::count_attribute(&file, UNFINISHED) {
        marks.leave_out(steps);
    }
    let after = After::read(&arrays, &data.observations, &marks.ends, &mut notes)?;
    if let Some(after) = &after {
        notes.extend(after.unmarked_ends(&mut marks, limit)?);
    }
    data.episodes = marks.episodes(limit);
    let Some(finished) = data.episodes.last().map(|last| last.rows.end) else {
        let flags = flags.words();
        return Err(Problem::NoMarkedEnd { rows, flags, limit });
    };
    notes.extend(flags.notes(&marks, &data.episodes, limit));
    notes.extend(after.and_then(|after| after.add_last(&mut data)));
    data.observations.truncate(finished);
    data.actions.truncate(finished);
    data.rewards.truncate(finished);
    notes.extend(drop_episodes(&mut data, &bad)?);
    data.sources[0].unfinished = rows - finished;
    data.sources[0].notes = notes;
    Ok(data)
}

/// Refuses observations or actions with a column per step; `rewards` tells how many steps there are.
fn not_transposed(arrays: &Arrays<'_>) -> Result<(), Problem> {
    let shape = |name| {
        let dataset = arrays.group.dataset(name);
        dataset.map(|dataset| dataset.shape()).unwrap_or_default()
    };
    let (&[rows] | &[1, rows] | &[rows, 1]) = shape("rewards").as_slice() else {
        return Ok(());
    };
    for key in ["observations", "actions"] {
        match *shape(key) {
            [other, steps] if steps == rows && other != rows => {
                let shape = vec![other, steps];
                return Err(Problem::Transposed { key, shape, rows });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Rows with a number that is not finite, ascending; an error about the first one unless they may be skipped.
fn bad_rows(data: &Dataset, skip: bool) -> Result<Vec<usize>, Problem> {
    let mut bad = Vec::new();
    for (key, values, width) in [
        (
            "observations",
            data.observations.vectors(),
            data.state_dim(),
        ),
        ("actions", data.actions.vectors(), data.act_dim()),
        ("rewards", Some(&data.rewards[..]), 1),
    ] {
        let values = values.unwrap_or_default();
        match h5::finite_numbers(key.into(), values, width) {
            Ok(()) => {}
            Err(problem) if !skip => return Err(Problem::BadEpisode(Box::new(problem))),
            Err(_) => {
                let is_bad = |row: &[f32]| row.iter().any(|value| !value.is_finite());
                let rows = values.chunks_exact(width).enumerate();
                bad.extend(rows.filter(|(_, row)| is_bad(row)).map(|(row, _)| row));
            }
        }
    }
    bad.sort_unstable();
    Ok(bad)
}

/// Drops the episodes that have one of these rows. Returns how many, in words.
fn drop_episodes(data: &mut Dataset, bad: &[usize]) -> Result<Option<String>, Problem> {
    let is_good = |&i: &usize| {
        let rows = &data.episodes[i].rows;
        let first = bad.partition_point(|&row| row < rows.start);
        bad.get(first).is_none_or(|&row| row >= rows.end)
    };
    let episodes = data.episodes.len();
    let good: Vec<usize> = (0..episodes).filter(is_good).collect();
    if good.len() == episodes {
        return Ok(None);
    }
    if good.is_empty() {
        bad_rows(data, false)?;
    }
    data.keep(&good);
    let bad = episodes - good.len();
    Ok(Some(format!(
        "{bad} of {episodes} episodes are left out: they have numbers that are not finite"
    )))
}

fn fill(path: &Path, recording: &Recording, metadata: &Metadata) -> hdf5::Result<()> {
    let file = hdf5::File::create(path)?;
    let rows = recording.rewards.len();
    for (key, values) in [
        ("observations", &recording.observations),
        ("actions", &recording.actions),
        ("next_observations", &recording.next_observations),
    ] {
        if key == "actions" && metadata.choices {
            let choices: Vec<i64> = values.iter().map(|&choice| choice as i64).collect();
            dataset::<i64>(&file, key, &[rows])?.write_raw(&choices)?;
            continue;
        }
        match &recording.frames {
            Some(frames) if key == "observations" => images(&file, key, frames)?,
            Some(_) if key == "next_observations" => {}
            _ => dataset::<f32>(&file, key, &[rows, values.len() / rows])?.write_raw(values)?,
        }
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
    let ends = recording.terminals.iter().zip(&recording.timeouts);
    let unfinished = ends.rev().take_while(|(fell, cut)| !(**fell || **cut));
    let unfinished = unfinished.count() as u64;
    for (name, value) in [
        ("seed", metadata.seed),
        ("steps", rows as u64),
        (UNFINISHED, unfinished),
    ] {
        file.new_attr::<u64>().create(name)?.write_scalar(&value)?;
    }
    file.close()
}

/// Pixels (N, height, width, channels), compressed a few frames at a time, as they are read.
fn images(file: &hdf5::File, key: &str, frames: &Frames) -> hdf5::Result<()> {
    const TOGETHER: usize = 16;
    let [height, width, channels] = frames.shape();
    let rows = frames.len();
    let dataset = file
        .new_dataset::<u8>()
        .deflate(4)
        .obj_track_times(false)
        .chunk((std::cmp::min(TOGETHER, rows), height, width, channels))
        .shape((rows, height, width, channels))
        .create(key)?;
    for first in (0..rows).step_by(TOGETHER) {
        let block = first..std::cmp::min(first + TOGETHER, rows);
        let shape = (block.len(), height, width, channels);
        let wanted: Vec<_> = block.clone().map(Some).collect();
        let mut pixels = vec![0; block.len() * frames.frame_len()];
        frames.gather(&wanted, &mut pixels);
        let pixels = Array4::from_shape_vec(shape, pixels).expect("as many bytes as pixels");
        dataset.write_slice(&pixels, (block, .., .., ..))?;
    }
    Ok(())
}

/// Numbers (N) or (N, width), compressed some rows at a time: who reads rows, or all of them, holds little beside them.
fn dataset<T: hdf5::H5Type>(
    file: &hdf5::File,
    key: &str,
    shape: &[usize],
) -> hdf5::Result<hdf5::Dataset> {
    /// Bytes of a chunk, at most: larger ones compress no better.
    const CHUNK: usize = 1 << 17;
    let mut chunk = shape.to_vec();
    let row = size_of::<T>() * shape[1..].iter().product::<usize>();
    chunk[0] = (CHUNK / row).clamp(1, shape[0]);
    file.new_dataset::<T>()
        .deflate(4)
        // The same steps give the same bytes.
        .obj_track_times(false)
        .chunk(chunk)
        .shape(shape)
        .create(key)
}
