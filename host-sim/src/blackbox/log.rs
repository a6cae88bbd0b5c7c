//! A black box as training data: HDF5 as D4RL lays it out, which `dt-train train --data` reads.
//!
//! A transition needs its reward, which comes with the next reading, and the state after it; so of each piece of an
//! episode the last step is left out. Actions are those that were applied. A fault or the end of the ring is no terminal
//! state of the environment: pieces end by `timeouts`.

use std::io;
use std::path::Path;

use hdf5::types::VarLenUnicode;

use super::BlackBox;
use crate::atomic::{OutputError, Staged};

/// Why there are no data to be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The robot does not measure rewards, or no step is followed by another.
    #[error(
        "the black box has {steps} steps, but no reward came with any next reading, so there is nothing to learn from; let the robot report rewards (`Reading::reward`)"
    )]
    NoRewards {
        /// How many it has.
        steps: usize,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Steps as D4RL has them.
#[derive(Default)]
struct Transitions {
    observations: Vec<f32>,
    actions: Vec<f32>,
    rewards: Vec<f32>,
    next_observations: Vec<f32>,
    timeouts: Vec<bool>,
}

/// Writes what was recorded in `env` (as `--env` takes it; empty: unknown) to `path`, and returns the number of
/// transitions. `choices`: actions are indices.
///
/// # Errors
/// [`LogError`]; nothing is left half-written.
pub fn write(
    log: &BlackBox<'_>,
    env: &str,
    choices: bool,
    path: &Path,
    force: bool,
) -> Result<usize, LogError> {
    let transitions = transitions(log);
    let rows = transitions.rewards.len();
    if rows == 0 {
        let steps = log.pieces().into_iter().flatten().count();
        return Err(LogError::NoRewards { steps });
    }
    let staged = Staged::new(path, force)?;
    fill(staged.temporary_path(), &transitions, env, choices)
        .map_err(|error| io::Error::other(error.to_string()))
        .map_err(OutputError::io(path))?;
    staged.commit()?;
    Ok(rows)
}

fn transitions(log: &BlackBox<'_>) -> Transitions {
    let mut all = Transitions::default();
    for piece in log.pieces() {
        let before = all.rewards.len();
        for pair in log.entries()[piece].windows(2) {
            let [step, next] = pair else { continue };
            let Some(reward) = next.reward else {
                // What comes after the gap does not follow on what is before it.
                all.end_since(before);
                continue;
            };
            all.observations.extend(step.observation());
            all.actions.extend(step.applied());
            all.rewards.push(reward);
            all.next_observations.extend(next.observation());
            all.timeouts.push(false);
        }
        all.end_since(before);
    }
    all
}

impl Transitions {
    /// Ends the sequence that has at least the row `first`, if there is one.
    fn end_since(&mut self, first: usize) {
        if let Some(last) = self.timeouts.get_mut(first..).and_then(<[bool]>::last_mut) {
            *last = true;
        }
    }
}

fn fill(path: &Path, transitions: &Transitions, env: &str, choices: bool) -> hdf5::Result<()> {
    let file = hdf5::File::create(path)?;
    let rows = transitions.rewards.len();
    for (key, values) in [
        ("observations", &transitions.observations),
        ("next_observations", &transitions.next_observations),
        ("actions", &transitions.actions),
    ] {
        if key == "actions" && choices {
            let indices: Vec<i64> = values.iter().map(|&index| index as i64).collect();
            dataset::<i64>(&file, key, &[rows])?.write_raw(&indices)?;
        } else {
            dataset::<f32>(&file, key, &[rows, values.len() / rows])?.write_raw(values)?;
        }
    }
    dataset::<f32>(&file, "rewards", &[rows])?.write_raw(&transitions.rewards)?;
    dataset::<bool>(&file, "terminals", &[rows])?.write_raw(&vec![false; rows])?;
    dataset::<bool>(&file, "timeouts", &[rows])?.write_raw(&transitions.timeouts)?;
    for (name, value) in [("env", env), ("policy", "a controller's black box")] {
        if let (false, Ok(value)) = (value.is_empty(), value.parse::<VarLenUnicode>()) {
            file.new_attr::<VarLenUnicode>()
                .create(name)?
                .write_scalar(&value)?;
        }
    }
    file.close()
}

fn dataset<T: hdf5::H5Type>(
    file: &hdf5::File,
    key: &str,
    shape: &[usize],
) -> hdf5::Result<hdf5::Dataset> {
    // The same steps give the same bytes.
    let new = file.new_dataset::<T>().obj_track_times(false);
    new.shape(shape).create(key)
}
