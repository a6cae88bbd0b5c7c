//! The HDF5 layout of d3rlpy's replay buffers, version 2: numbered arrays, four per episode.
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `observations_N` | (T, state_dim) | number | before each action |
//! | `actions_N` | (T, act_dim) | float | |
//! | | (T, 1) | integer | one of several choices |
//! | `rewards_N` | (T, 1) | number | |
//! | `terminated_N` | () | bool | the episode ended in a terminal state, not at a limit |
//! | `num_episodes` | () | integer | how many there are; N counts from 0 |
//!
//! Version 1 is the layout of [`d4rl`](super::d4rl), with `episode_terminals` for every end of an episode.

use std::path::Path;

use hdf5::Group;

use super::gather::{Gathering, Whole};
use super::h5::{self, Arrays};
use super::{DataError, Dataset, Problem, Reading, Source, dictionary, hashed};

const LAYOUT: &str = "a replay buffer of d3rlpy";
const COUNT: &str = "num_episodes";
const OBSERVATIONS: &str = "a float array (T, state_dim)";

/// Whether a file is of this layout.
pub fn is_layout(file: &Group) -> bool {
    [COUNT, "actions_0"]
        .iter()
        .all(|name| file.link_exists(name))
}

/// Reads the episodes of a file.
///
/// # Errors
/// [`DataError`] names the file, the field and what to do; see [`Problem`].
pub fn read(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    hashed(path, || parse(path, reading))
}

fn parse(path: &Path, reading: &Reading) -> Result<Dataset, Problem> {
    let file = h5::open(path)?;
    let arrays = Arrays {
        layout: LAYOUT,
        group: &file,
    };
    let source = Source {
        path: path.into(),
        ..Source::default()
    };
    let count = arrays.whole_number(COUNT)?;
    // Before any of them is read: how many there are is a number in the file, which may be wrong.
    if let Some(last) = count.checked_sub(1) {
        arrays.require(&[(&format!("observations_{last}"), OBSERVATIONS)])?;
    }
    let mut episodes = Gathering::new(source, reading);
    for number in 0..count {
        let whole = episode(&arrays, number, &reading.observation_keys);
        episodes.add(|array| format!("{array}_{number}"), whole)?;
    }
    episodes.finish("`terminated`", "terminated")
}

fn episode(arrays: &Arrays<'_>, number: u64, keys: &[String]) -> Result<Whole, Problem> {
    let [of_states, of_actions, of_rewards, end] =
        ["observations", "actions", "rewards", "terminated"].map(|of| format!("{of}_{number}"));
    let needed = [
        (&*of_states, OBSERVATIONS),
        (&*of_actions, "a float array (T, act_dim)"),
        (&*of_rewards, "a float array (T, 1)"),
        (&*end, "a bool"),
    ];
    arrays.require(&needed)?;
    let observations = dictionary::or_array(arrays, &of_states, needed[0].1, keys)?;
    h5::finite(arrays.key(&of_states), &observations)?;
    let actions = arrays.elements(&of_actions, needed[1].1)?;
    let rewards = arrays.column(&of_rewards, needed[2].1)?;
    arrays.same_length(&of_states, observations.len(), &of_rewards, rewards.len())?;
    arrays.same_length(&of_actions, actions.len(), &of_rewards, rewards.len())?;
    Ok(Whole {
        observations,
        last_observation: None,
        actions,
        rewards,
        terminated: Some(arrays.whole_number(&end)? != 0),
    })
}
