//! What Minari says about a data set: `metadata.json`, or the attributes that files before 0.5 have in its place.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::data::environment::SaidEnvironment;
use crate::data::{Column, Problem, Source, environment_name};

/// Every field is optional: none is needed to read the episodes.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Description {
    pub total_episodes: Option<usize>,
    pub total_steps: Option<usize>,
    pub data_format: Option<String>,
    pub algorithm_name: Option<String>,
    pub env_spec: Option<Value>,
    pub observation_space: Option<Value>,
    pub action_space: Option<Value>,
}

impl Description {
    /// Reads `metadata.json`; if there is none, nothing is known.
    ///
    /// # Errors
    /// It cannot be read, or is no JSON of this form.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Problem::Unreadable(error)),
        };
        let text = String::from_utf8_lossy(&text);
        serde_json::from_str(&strict(&text)).map_err(|error| Problem::Damaged {
            what: "the file".into(),
            detail: error.to_string(),
        })
    }

    /// How the episodes are stored.
    pub fn form(&self) -> &str {
        self.data_format.as_deref().unwrap_or("hdf5")
    }

    /// Takes what it lacks from attributes of a file.
    pub fn or_attributes(mut self, text: impl Fn(&str) -> Option<String>) -> Self {
        let or = |field: Option<Value>, name| field.or_else(|| text(name).map(Value::String));
        self.env_spec = or(self.env_spec, "env_spec");
        self.observation_space = or(self.observation_space, "observation_space");
        self.action_space = or(self.action_space, "action_space");
        self.algorithm_name = self.algorithm_name.or_else(|| text("algorithm_name"));
        self
    }

    /// Adds what it knows of the origin.
    pub fn describe(&self, source: Source) -> Source {
        let spec = self.env_spec.as_ref().and_then(unpacked);
        let name = spec.as_ref().and_then(|spec| spec["id"].as_str());
        let said = SaidEnvironment {
            action_bounds: self.actions().bounds(),
            ..SaidEnvironment::from_gymnasium(&spec.clone().unwrap_or_default())
        };
        Source {
            env: name.map(environment_name),
            policy: self.algorithm_name.clone(),
            said_environment: Some(said),
            ..source
        }
    }

    /// The space of the observations.
    pub fn observations(&self) -> Described {
        Described(
            self.observation_space
                .as_ref()
                .and_then(unpacked)
                .unwrap_or_default(),
        )
    }

    /// The space of the actions.
    pub fn actions(&self) -> Described {
        Described(
            self.action_space
                .as_ref()
                .and_then(unpacked)
                .unwrap_or_default(),
        )
    }
}

/// Gymnasium's description of a space, as Minari serializes it; null if there is none.
pub struct Described(Value);

impl Described {
    /// The space of the entry `a/b` of a dictionary; of `_index_1` in a tuple.
    pub fn entry(&self, path: &str) -> Self {
        let inner = path.split('/').try_fold(&self.0, |space, name| {
            let subspaces = &space["subspaces"];
            let index = || {
                name.strip_prefix("_index_")
                    .unwrap_or(name)
                    .parse::<usize>()
                    .ok()
            };
            subspaces.get(name).or_else(|| subspaces.get(index()?))
        });
        Self(inner.cloned().unwrap_or_default())
    }

    /// Minari stores large images as JPEG files: bytes that are neither vectors nor pixels.
    pub fn as_jpeg(&self, problem: Problem) -> Problem {
        let shape = self.0["shape"].as_array();
        if self.0["dtype"] != "uint8" || shape.is_none_or(|shape| shape.len() < 2) {
            return problem;
        }
        match problem {
            Problem::Images { key, .. } | Problem::Type { key, .. } => Problem::Images {
                key,
                found: format!("JPEG files, shape {}", self.0["shape"]),
            },
            other => other,
        }
    }

    /// Height, width and channels, if the elements are images.
    pub fn image(&self) -> Option<[usize; 3]> {
        let size = |size: &Value| Some(size.as_u64()? as usize);
        let shape: Option<Vec<usize>> = self.0["shape"].as_array()?.iter().map(size).collect();
        match shape?[..] {
            _ if self.0["dtype"] != "uint8" => None,
            [height, width] => Some([height, width, 1]),
            [height, width, channels] => Some([height, width, channels]),
            _ => None,
        }
    }

    /// Lowest and highest value of each component of a Box of vectors; where it names none, −∞ and ∞.
    pub fn bounds(&self) -> Option<[Vec<f32>; 2]> {
        let bounds = |name, none: f32| -> Option<Vec<f32>> {
            let bound = |bound: &Value| match bound {
                Value::Number(bound) => bound.as_f64().map(|bound| bound as f32),
                Value::Null => Some(none),
                _ => None,
            };
            self.0[name].as_array()?.iter().map(bound).collect()
        };
        Some([
            bounds("low", f32::NEG_INFINITY)?,
            bounds("high", f32::INFINITY)?,
        ])
    }

    /// Adds to a column what the description knows of it.
    ///
    /// # Errors
    /// A choice is none of those described.
    pub fn complete(&self, key: String, column: &mut Column) -> Result<(), Problem> {
        let number = |name| self.0[name].as_u64().map(|n| n as usize);
        match column {
            Column::Box { low, high, .. } => {
                if let Some([lowest, highest]) = self.bounds()
                    && [lowest.len(), highest.len()] == [low.len(); 2]
                {
                    (*low, *high) = (lowest, highest);
                }
            }
            Column::Discrete {
                n,
                declared,
                values,
            } => {
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
                *declared = count.is_some();
            }
            Column::Image(_) => {}
        }
        Ok(())
    }
}

/// Minari keeps JSON in strings inside JSON.
fn unpacked(value: &Value) -> Option<Value> {
    match value {
        Value::String(json) => serde_json::from_str(&strict(json)).ok(),
        other => Some(other.clone()),
    }
}

/// Python's `json` writes numbers that JSON does not have, for bounds that are none among others; here as null.
fn strict(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    let (mut quoted, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        let number = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|number| !quoted && rest.starts_with(number));
        if let Some(number) = number {
            out.push_str("null");
            rest = &rest[number.len()..];
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_takes_for_numbers_is_null_outside_strings() {
        let json = r#"{"a": [-Infinity, NaN, 1], "NaN \" Infinity": "\\", "b": Infinity}"#;
        let value: Value = serde_json::from_str(&strict(json)).unwrap();
        let expected =
            serde_json::json!({"a": [null, null, 1], "NaN \" Infinity": "\\", "b": null});
        assert_eq!(value, expected);
    }

    #[test]
    fn bounds_that_are_none_are_infinite() {
        let json = r#"{"low": [-Infinity, -1.0], "high": [2.0, Infinity]}"#;
        let space = Described(unpacked(&Value::String(json.into())).unwrap());
        let expected = [vec![f32::NEG_INFINITY, -1.0], vec![2.0, f32::INFINITY]];
        assert_eq!(space.bounds(), Some(expected));
        assert_eq!(Described(Value::Null).bounds(), None);
    }

    #[test]
    fn entries_are_found_by_their_paths() {
        let space = Described(serde_json::json!({"subspaces": {"a": {"subspaces": [
            {"n": 1}, {"n": 2}
        ]}}}));
        assert_eq!(space.entry("a/_index_1").0["n"], 2);
        assert_eq!(space.entry("a/1").0["n"], 2);
        assert_eq!(space.entry("b").0, Value::Null);
    }
}
