//! Minari's HDF5 form: a folder with one file of all episodes, and their description beside it.
//!
//! `main_data.hdf5` has a group `episode_N` per episode, of T steps:
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `observations` | (T + 1, state_dim) | float | before each action, and the last one |
//! | | (T + 1, height, width[, channels]) | 8-bit integer | images |
//! | | (T + 1) | integer | one of several places |
//! | `actions` | (T, act_dim) | float | |
//! | | (T) | integer | one of several choices |
//! | `rewards` | (T) | float | |
//! | `terminations` | (T) | bool | the step ended in a terminal state |
//! | `truncations` | (T) | bool | the step was the last one before a limit |
//!
//! `metadata.json` names environment and algorithm, describes the two spaces and says how many episodes and steps there
//! should be. Minari before 0.5 wrote the same as attributes of the file; without either, nothing is known of them.
//! Everything else, `infos` among it, is ignored.

use std::path::{Path, PathBuf};

use hdf5::Group;
use serde::Deserialize;
use serde_json::Value;

use super::h5::{self, Arrays};
use super::{
    Column, DataError, Dataset, Episode, Problem, Reading, Source, digest, environment_name, join,
};

const LAYOUT: &str = "a Minari episode";
const DATA: &str = "main_data.hdf5";
const METADATA: &str = "metadata.json";

/// The folder of the two files: `folder` itself or, as Minari stores a data set, `data` in it.
pub fn locate(folder: &Path) -> Option<PathBuf> {
    [folder.to_owned(), folder.join("data")]
        .into_iter()
        .find(|folder| folder.join(DATA).exists() || folder.join(METADATA).exists())
}

/// Whether a file is the one of a Minari folder that holds the episodes.
pub fn is_main_data(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == DATA)
}

/// Reads the episodes of a folder, or of the `main_data.hdf5` in it.
///
/// # Errors
/// [`DataError`] names the file, the field and what to do; see [`Problem`].
pub fn read(path: &Path, _reading: &Reading) -> Result<Dataset, DataError> {
    let folder = match path.parent() {
        Some(folder) if is_main_data(path) => folder,
        _ => path,
    };
    let folder = locate(folder).ok_or_else(|| DataError::new(path, Problem::NotMinari))?;
    let [data, metadata] = [DATA, METADATA].map(|name| folder.join(name));
    let about = Metadata::read(&metadata).map_err(|problem| DataError::new(&metadata, problem))?;
    let source = |sha256| Source {
        path: path.into(),
        sha256,
        ..Source::default()
    };
    let sha256 =
        digest(&data).map_err(|error| DataError::new(&data, Problem::Unreadable(error)))?;
    parse(&data, about, source(sha256)).map_err(|problem| DataError::new(&data, problem))
}

/// What Minari says about a data set. Every field is optional: none is needed to read it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    total_episodes: Option<usize>,
    total_steps: Option<usize>,
    data_format: Option<String>,
    algorithm_name: Option<String>,
    env_spec: Option<Value>,
    observation_space: Option<Value>,
    action_space: Option<Value>,
}

impl Metadata {
    fn read(path: &Path) -> Result<Self, Problem> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Problem::Unreadable(error)),
        };
        let metadata: Self = serde_json::from_slice(&text).map_err(|error| Problem::Damaged {
            what: "the file".into(),
            detail: error.to_string(),
        })?;
        match metadata.data_format {
            Some(form) if form != "hdf5" => Err(Problem::MinariForm(form)),
            _ => Ok(metadata),
        }
    }

    /// Takes what it lacks from the attributes of the file.
    fn or_attributes(mut self, file: &Group) -> Self {
        let text = |name| h5::text_attribute(file, name);
        let or = |field: Option<Value>, name| field.or_else(|| text(name).map(Value::String));
        self.env_spec = or(self.env_spec, "env_spec");
        self.observation_space = or(self.observation_space, "observation_space");
        self.action_space = or(self.action_space, "action_space");
        self.algorithm_name = self.algorithm_name.or_else(|| text("algorithm_name"));
        self
    }

    fn env(&self) -> Option<String> {
        let spec = unpacked(self.env_spec.as_ref()?)?;
        Some(environment_name(spec.get("id")?.as_str()?))
    }

    /// The two spaces.
    fn spaces(&self) -> [Described; 2] {
        [
            ("observations", &self.observation_space),
            ("actions", &self.action_space),
        ]
        .map(|(of, space)| Described {
            of,
            space: space.as_ref().and_then(unpacked).unwrap_or_default(),
        })
    }
}

/// Gymnasium's description of a space, as Minari serializes it; null if there is none.
struct Described {
    of: &'static str,
    space: Value,
}

impl Described {
    /// Refuses what is easier to tell from here than from how it is stored.
    fn check(&self) -> Result<(), Problem> {
        let key = self.of.to_owned();
        match self.space.get("subspaces") {
            None => Ok(()),
            Some(Value::Object(named)) => {
                let entries = named.keys().cloned().collect::<Vec<_>>().join(", ");
                Err(Problem::Dictionary { key, entries })
            }
            Some(other) => {
                let entries = format!("{} of them", other.as_array().map_or(0, Vec::len));
                Err(Problem::Dictionary { key, entries })
            }
        }
    }

    /// Minari stores large images as JPEG files: bytes that are neither vectors nor pixels.
    fn as_jpeg(&self, problem: Problem) -> Problem {
        let shape = self.space["shape"].as_array();
        if self.space["dtype"] != "uint8" || shape.is_none_or(|shape| shape.len() < 2) {
            return problem;
        }
        match problem {
            Problem::Images { key, .. } | Problem::Type { key, .. } => Problem::Images {
                key,
                found: format!("JPEG files, shape {}", self.space["shape"]),
            },
            other => other,
        }
    }

    /// Adds to a column what the description knows of it.
    fn complete(&self, key: String, column: &mut Column) -> Result<(), Problem> {
        let number = |name| self.space[name].as_u64().map(|n| n as usize);
        match column {
            Column::Box { low, high, .. } => {
                for (name, bounds) in [("low", low), ("high", high)] {
                    let named = self.space[name].as_array().into_iter().flatten();
                    let named: Vec<f32> = named
                        .filter_map(|bound| Some(bound.as_f64()? as f32))
                        .collect();
                    if named.len() == bounds.len() {
                        *bounds = named;
                    }
                }
            }
            Column::Discrete { n, values } => {
                let first = number("start").unwrap_or(0) as u32;
                let count = number("n");
                for (row, choice) in values.iter_mut().enumerate() {
                    let value = i64::from(*choice);
                    match choice.checked_sub(first) {
                        Some(index) if count.is_none_or(|n| (index as usize) < n) => {
                            *choice = index
                        }
                        _ => return Err(Problem::NotAChoice { key, row, value }),
                    }
                }
                *n = count.unwrap_or(*n);
            }
            Column::Image { .. } => {}
        }
        Ok(())
    }
}

/// Minari keeps JSON in strings inside JSON.
fn unpacked(value: &Value) -> Option<Value> {
    match value {
        Value::String(json) => serde_json::from_str(json).ok(),
        other => Some(other.clone()),
    }
}

fn parse(path: &Path, about: Metadata, source: Source) -> Result<Dataset, Problem> {
    let file = h5::open(path)?;
    let about = about.or_attributes(&file);
    let spaces = about.spaces();
    spaces.iter().try_for_each(Described::check)?;
    let names = episode_names(&file)?;
    complete("episodes", names.len(), about.total_episodes)?;

    let source = Source {
        env: about.env(),
        policy: about.algorithm_name,
        ..source
    };
    let mut data: Option<Dataset> = None;
    for name in &names {
        let group = file
            .group(name)
            .map_err(|error| h5::damaged(&format!("`{name}`"), &error))?;
        let whole = Whole::read(&group, &spaces)?;
        let data = data.get_or_insert_with(|| whole.none(source.clone()));
        whole.add_to(data, &group)?;
    }
    let data = data.expect("at least one name");
    let rows = data.len() + data.sources[0].unfinished;
    complete("steps", rows, about.total_steps)?;
    if data.episodes.is_empty() {
        return Err(Problem::NoEpisodeEnd {
            rows,
            flags: "`terminations` and `truncations`",
            set: "truncations",
        });
    }
    Ok(data)
}

fn complete(what: &'static str, found: usize, expected: Option<usize>) -> Result<(), Problem> {
    match expected {
        Some(expected) if expected != found => Err(Problem::Incomplete {
            what,
            found,
            expected,
        }),
        _ => Ok(()),
    }
}

/// The groups `episode_N`, by N.
fn episode_names(file: &Group) -> Result<Vec<String>, Problem> {
    let number = |name: &str| name.strip_prefix("episode_")?.parse::<u64>().ok();
    let mut names = file
        .member_names()
        .map_err(|error| h5::damaged("the file", &error))?;
    names.retain(|name| number(name).is_some());
    if names.is_empty() {
        return Err(Problem::Missing {
            key: "episode_0".into(),
            layout: "Minari's main_data.hdf5",
            needs: "a group per episode",
        });
    }
    names.sort_by_key(|name| number(name));
    Ok(names)
}

/// One episode as it is in the file.
struct Whole {
    observations: Column,
    last_observation: Column,
    actions: Column,
    rewards: Vec<f32>,
    /// None: it has no end.
    terminated: Option<bool>,
}

impl Whole {
    fn read(group: &Group, spaces: &[Described; 2]) -> Result<Self, Problem> {
        let arrays = Arrays {
            layout: LAYOUT,
            group,
        };
        let [of_observations, of_actions] = spaces;
        let elements = |space: &Described, needs| {
            let mut column = arrays
                .elements(space.of, needs)
                .map_err(|problem| space.as_jpeg(problem))?;
            space.complete(arrays.key(space.of), &mut column)?;
            Ok(column)
        };
        let mut observations = elements(of_observations, "a float array (T + 1, state_dim)")?;
        let actions = elements(of_actions, "a float array (T, act_dim)")?;
        let rewards = arrays.column("rewards", "a float array (T)")?;
        let steps = rewards.len();
        arrays.same_length("actions", actions.len(), "rewards", steps)?;
        if observations.len() != steps + 1 {
            return Err(Problem::Length {
                key: arrays.key("observations"),
                rows: observations.len(),
                other: arrays.key("rewards"),
                other_rows: steps,
                rule: "Minari's observations have one row more, the one after the last step",
            });
        }
        let mut ends = Vec::new();
        for name in ["terminations", "truncations"] {
            let flags = arrays.flags(name, steps, "rewards")?;
            if let Some(step) = flags[..steps - 1].iter().position(|&end| end) {
                let key = arrays.key(name);
                return Err(Problem::EndInside { key, step, steps });
            }
            ends.push(flags[steps - 1]);
        }
        Ok(Self {
            last_observation: observations.split_off(steps),
            observations,
            actions,
            rewards,
            terminated: (ends != [false, false]).then(|| ends[0]),
        })
    }

    /// Data of the same spaces, without an episode yet.
    fn none(&self, source: Source) -> Dataset {
        Dataset {
            observations: self.observations.emptied(),
            actions: self.actions.emptied(),
            rewards: Vec::new(),
            episodes: Vec::new(),
            last_observations: self.observations.emptied(),
            sources: vec![source],
        }
    }

    /// Appends the episode; its steps alone are counted if it has no end.
    fn add_to(self, data: &mut Dataset, group: &Group) -> Result<(), Problem> {
        let start = data.len();
        let rows = start..start + self.rewards.len();
        let Some(terminated) = self.terminated else {
            data.sources[0].unfinished += rows.len();
            return Ok(());
        };
        let key = |name| format!("{}/{name}", group.name().trim_start_matches('/'));
        let first = "the first episode";
        join(
            key("observations"),
            &mut data.observations,
            self.observations,
            first,
        )?;
        join(key("actions"), &mut data.actions, self.actions, first)?;
        join(
            key("observations"),
            &mut data.last_observations,
            self.last_observation,
            first,
        )?;
        data.rewards.extend(self.rewards);
        data.episodes.push(Episode {
            rows,
            terminated,
            last: Some(data.episodes.len()),
            source: 0,
        });
        Ok(())
    }
}
