//! The HDF5 layout of robomimic: a group per demonstration, observations a dictionary of several arrays.
//!
//! The group `data` has a group `demo_N` per episode, of T steps:
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `obs/NAME` | (T) or (T, dim) | number | before each action; [`Reading::observation_keys`] names those to join |
//! | `next_obs/NAME` | as above | number | after each action; optional |
//! | `actions` | (T, act_dim) | float | |
//! | `rewards` | (T) | number | |
//! | `dones` | (T) | bool or number | the last one tells whether the episode ended in a terminal state |
//!
//! The environment's name is in `env_args`, an attribute of `data`. All demonstrations are read, whatever split `mask`
//! makes of them; everything else is ignored.

use std::path::Path;

use hdf5::Group;
use serde_json::Value;

use super::gather::{Gathering, Whole};
use super::h5::{self, Arrays};
use super::{DataError, Dataset, Problem, Reading, Source, dictionary, environment_name, hashed};

const LAYOUT: &str = "a demonstration of robomimic";
const DEMO: &str = "demo_";

/// Whether a file is of this layout.
pub fn is_layout(file: &Group) -> bool {
    file.group("data")
        .is_ok_and(|data| !h5::numbered(&data, DEMO).is_empty())
}

/// Reads the demonstrations of a file.
///
/// # Errors
/// [`DataError`] names the file, the field and what to do; see [`Problem`].
pub fn read(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    hashed(path, || parse(path, reading))
}

fn parse(path: &Path, reading: &Reading) -> Result<Dataset, Problem> {
    let file = h5::open(path)?;
    let group = |name: &str| {
        let group = file.group(name);
        group.map_err(|error| h5::damaged(&format!("`{name}`"), &error))
    };
    let data = group("data")?;
    let source = Source {
        path: path.into(),
        env: environment(&data),
        ..Source::default()
    };
    let mut episodes = Gathering::new(source, reading);
    for name in h5::numbered(&data, DEMO) {
        let name = format!("data/{name}");
        let key = |array: &str| match array {
            "observations" => format!("{name}/obs"),
            other => format!("{name}/{other}"),
        };
        let whole = group(&name).and_then(|demo| demonstration(&demo, &reading.observation_keys));
        episodes.add(key, whole)?;
    }
    episodes.finish("`dones`", "dones")
}

fn environment(data: &Group) -> Option<String> {
    let about: Value = serde_json::from_str(&h5::text_attribute(data, "env_args")?).ok()?;
    Some(environment_name(about.get("env_name")?.as_str()?))
}

fn demonstration(group: &Group, keys: &[String]) -> Result<Whole, Problem> {
    let arrays = Arrays {
        layout: LAYOUT,
        group,
    };
    let (of_states, of_actions, of_rewards) = (
        "a group of arrays (T, dim)",
        "a float array (T, act_dim)",
        "numbers (T)",
    );
    arrays.require(&[
        ("obs", of_states),
        ("actions", of_actions),
        ("rewards", of_rewards),
        ("dones", "a bool array (T)"),
    ])?;
    let observations = |name| {
        let column = dictionary::or_array(&arrays, name, of_states, keys)?;
        h5::finite(arrays.key(name), &column)?;
        Ok(column)
    };
    let states = observations("obs")?;
    let actions = arrays.elements("actions", of_actions)?;
    let rewards = arrays.column("rewards", of_rewards)?;
    let steps = rewards.len();
    arrays.same_length("obs", states.len(), "rewards", steps)?;
    arrays.same_length("actions", actions.len(), "rewards", steps)?;
    let dones = arrays.flags("dones", steps, "rewards")?;
    let last_observation = match group.link_exists("next_obs") {
        true => {
            let mut next = observations("next_obs")?;
            arrays.same_length("next_obs", next.len(), "rewards", steps)?;
            Some(next.split_off(steps - 1))
        }
        false => None,
    };
    Ok(Whole {
        observations: states,
        last_observation,
        actions,
        rewards,
        terminated: Some(dones[steps - 1]),
    })
}
