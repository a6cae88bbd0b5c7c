//! Minari's HDF5 form: a folder with one file of all episodes, and their description beside it.
//!
//! `main_data.hdf5` has a group `episode_N` per episode, of T steps:
//!
//! | dataset | shape | type | |
//! |---|---|---|---|
//! | `observations` | (T + 1, state_dim) | float | before each action, and the last one |
//! | `actions` | (T, act_dim) | float | |
//! | `rewards` | (T) | float | |
//! | `terminations` | (T) | bool | the step ended in a terminal state |
//! | `truncations` | (T) | bool | the step was the last one before a limit |
//!
//! `metadata.json` names environment and algorithm and says how many episodes and steps there should be. Minari before
//! 0.5 wrote the same as attributes of the file; without either, nothing is known of them. Everything else, `infos`
//! among it, is ignored.

use std::path::{Path, PathBuf};

use hdf5::Group;
use serde::Deserialize;
use serde_json::Value;

use super::h5::{self, Arrays};
use super::{DataError, Dataset, Episode, Problem, Source, digest, environment_name};

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
pub fn read(path: &Path) -> Result<Dataset, DataError> {
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
        env: None,
        policy: None,
        unfinished: 0,
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
        self.algorithm_name = self.algorithm_name.or_else(|| text("algorithm_name"));
        self
    }

    fn env(&self) -> Option<String> {
        let spec = unpacked(self.env_spec.as_ref()?)?;
        Some(environment_name(spec.get("id")?.as_str()?))
    }

    /// Refuses observations by their kind, which is easier to tell from here than from how they are stored.
    fn check_observations(&self) -> Result<(), Problem> {
        let Some(space) = self.observation_space.as_ref().and_then(unpacked) else {
            return Ok(());
        };
        let key = "observations".to_owned();
        if let Some(entries) = space.get("subspaces") {
            let entries = match entries {
                Value::Object(named) => named.keys().cloned().collect::<Vec<_>>().join(", "),
                other => format!("{} of them", other.as_array().map_or(0, Vec::len)),
            };
            return Err(Problem::Dictionary { key, entries });
        }
        match (&space["dtype"], &space["shape"]) {
            (Value::String(dtype), Value::Array(shape)) if dtype == "uint8" && shape.len() >= 2 => {
                let found = format!("uint8, shape {}", space["shape"]);
                Err(Problem::Images { key, found })
            }
            _ => Ok(()),
        }
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
    about.check_observations()?;
    let names = episode_names(&file)?;
    complete("episodes", names.len(), about.total_episodes)?;

    let mut data = Dataset::of(Source {
        env: about.env(),
        policy: about.algorithm_name,
        ..source
    });
    for name in &names {
        let group = file
            .group(name)
            .map_err(|error| h5::damaged(&format!("`{name}`"), &error))?;
        episode(&group, &mut data)?;
    }
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

/// Appends one episode; its steps alone are counted if it has no end.
fn episode(group: &Group, data: &mut Dataset) -> Result<(), Problem> {
    let arrays = Arrays {
        layout: LAYOUT,
        group,
    };
    let observations = arrays.matrix("observations", "a float array (T + 1, state_dim)")?;
    let actions = arrays.matrix("actions", "a float array (T, act_dim)")?;
    let rewards = arrays.column("rewards", "a float array (T)")?;
    let steps = rewards.len();
    arrays.same_length("actions", actions.rows(), "rewards", steps)?;
    if observations.rows() != steps + 1 {
        return Err(Problem::Length {
            key: arrays.key("observations"),
            rows: observations.rows(),
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
    for (name, dim, columns) in [
        ("observations", &mut data.state_dim, observations.columns),
        ("actions", &mut data.act_dim, actions.columns),
    ] {
        if *dim == 0 {
            *dim = columns;
        } else if *dim != columns {
            return Err(Problem::OtherDimensions {
                key: arrays.key(name),
                got: columns,
                expected: *dim,
                first: "the first episode".into(),
            });
        }
    }
    if ends == [false, false] {
        data.sources[0].unfinished += steps;
        return Ok(());
    }
    let start = data.len();
    data.observations
        .extend(&observations.values[..steps * observations.columns]);
    data.actions.extend(actions.values);
    data.rewards.extend(rewards);
    data.episodes.push(Episode {
        rows: start..start + steps,
        terminated: ends[0],
    });
    Ok(())
}
