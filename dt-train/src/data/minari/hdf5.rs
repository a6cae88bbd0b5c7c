//! Minari's HDF5 form: one file of all episodes.
//!
//! `main_data.hdf5` has a group `episode_N` per episode, of T steps:
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `observations` | (T + 1, state_dim) | float | before each action, and the last one |
//! | | (T + 1, height, width[, channels]) | 8-bit integer | images |
//! | | (T + 1) | integer | one of several places |
//! | | a group of such | | a dictionary; a tuple has entries `_index_N` |
//! | `actions` | (T, act_dim) | float | |
//! | | (T) | integer | one of several choices |
//! | `rewards` | (T) | float | |
//! | `terminations` | (T) | bool | the step ended in a terminal state |
//! | `truncations` | (T) | bool | the step was the last one before a limit |
//!
//! Everything else, `infos` among it, is ignored.

use std::path::Path;

use hdf5::Group;

use super::description::{Described, Description};
use super::{EPISODE, complete, last_flag};
use crate::data::gather::{Gathering, Whole};
use crate::data::h5::{self, Arrays};
use crate::data::{Column, Dataset, Problem, Reading, Source, dictionary, digest};

const LAYOUT: &str = "a Minari episode";

/// Reads the episodes of a file, of which the folder says what is `about` it.
///
/// # Errors
/// See [`Problem`].
pub fn read(
    path: &Path,
    about: Description,
    source: Source,
    reading: &Reading,
) -> Result<Dataset, Problem> {
    let sha256 = digest(path).map_err(Problem::Unreadable)?;
    let file = h5::open(path)?;
    let about = about.or_attributes(|name| h5::text_attribute(&file, name));
    let names = h5::numbered(&file, EPISODE);
    if names.is_empty() {
        return Err(Problem::Missing {
            key: "episode_0".into(),
            layout: "Minari's main_data.hdf5",
            needs: "a group per episode",
        });
    }
    complete("episodes", names.len(), about.total_episodes)?;
    let source = about.describe(Source { sha256, ..source });
    let spaces = [about.observations(), about.actions()];
    let mut episodes = Gathering::new(source, reading);
    for name in &names {
        let group = file.group(name);
        let whole = group
            .map_err(|error| h5::damaged(&format!("`{name}`"), &error))
            .and_then(|group| episode(&group, &spaces, &reading.observation_keys));
        episodes.add(|array| format!("{name}/{array}"), whole)?;
    }
    if !episodes.has_left_out() {
        complete("steps", episodes.steps(), about.total_steps)?;
    }
    episodes.finish("`terminations` and `truncations`", "truncations")
}

/// One episode as it is in the file.
fn episode(
    group: &Group,
    [of_observations, of_actions]: &[Described; 2],
    keys: &[String],
) -> Result<Whole, Problem> {
    const OBSERVATIONS: &str = "observations";
    let arrays = Arrays {
        layout: LAYOUT,
        group,
    };
    let complete = |of: &Described, name: &str, mut column| {
        of.complete(arrays.key(name), &mut column)?;
        Ok(column)
    };
    let elements = |of: &Described, name, needs| {
        let column = arrays.elements(name, needs);
        complete(of, name, column.map_err(|problem| of.as_jpeg(problem))?)
    };
    let mut observations: Column = if group.group(OBSERVATIONS).is_ok() {
        dictionary::read(&arrays, OBSERVATIONS, keys, |entry, column| {
            let name = format!("{OBSERVATIONS}/{entry}");
            complete(&of_observations.entry(entry), &name, column)
        })?
    } else if keys.is_empty() {
        let needs = "a float array (T + 1, state_dim)";
        elements(of_observations, OBSERVATIONS, needs)?
    } else {
        let key = arrays.key(OBSERVATIONS);
        return Err(Problem::NotADictionary { key });
    };
    if let Ok(entries) = group.group("actions") {
        return Err(Problem::DictionaryActions {
            key: arrays.key("actions"),
            entries: dictionary::list(&dictionary::entries(&entries)),
        });
    }
    let actions = elements(of_actions, "actions", "a float array (T, act_dim)")?;
    let rewards = arrays.column("rewards", "a float array (T)")?;
    let steps = rewards.len();
    arrays.same_length("actions", actions.len(), "rewards", steps)?;
    if observations.len() != steps + 1 {
        return Err(Problem::Length {
            key: arrays.key(OBSERVATIONS),
            rows: observations.len(),
            other: arrays.key("rewards"),
            other_rows: steps,
            rule: "Minari's observations have one row more, the one after the last step",
        });
    }
    let last = |name| last_flag(arrays.key(name), &arrays.flags(name, steps, "rewards")?);
    let ends = [last("terminations")?, last("truncations")?];
    Ok(Whole {
        last_observation: Some(observations.split_off(steps)),
        observations,
        actions,
        rewards,
        terminated: (ends != [false, false]).then(|| ends[0]),
    })
}
