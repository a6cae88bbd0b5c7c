//! Mean and standard deviation of observations, which checkpoints do not carry: from a file, or of published data by name.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// What is subtracted from observations, and what they are divided by.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Statistics {
    /// (state_dim)
    #[serde(alias = "state_mean")]
    pub mean: Vec<f32>,
    /// (state_dim), above 0.
    #[serde(alias = "state_std")]
    pub std: Vec<f32>,
}

/// What was trained with published data is, by the paper's recipe, run with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conventions {
    /// The environment that the data were recorded in; of those there are, the nearest.
    pub env: &'static str,
    /// Returns-to-go are divided by it.
    pub return_scale: f32,
    /// Timesteps in the window.
    pub context_len: u32,
    /// Return to ask for.
    pub target_return: f32,
}

/// As the nine published checkpoints, {hopper, halfcheetah, walker2d}-{medium, medium-replay, expert}, have them on their model
/// cards. Version 4 gives the healthy reward for the last step as well, as D4RL's own did.
const CONVENTIONS: [(&str, Conventions); 3] = [
    ("hopper", conventions("hopper-v4", 3600.0)),
    ("halfcheetah", conventions("halfcheetah-v4", 12000.0)),
    ("walker2d", conventions("walker2d-v4", 5000.0)),
];

const fn conventions(env: &'static str, target_return: f32) -> Conventions {
    Conventions {
        env,
        return_scale: 1000.0,
        context_len: 20,
        target_return,
    }
}

fn published() -> BTreeMap<String, Statistics> {
    toml::from_str(include_str!("statistics.toml")).expect("a file of this program")
}

impl Statistics {
    /// Of published data by their name, such as `hopper-medium`, or else of a JSON file: `{"mean": […], "std": […]}`.
    ///
    /// # Errors
    /// No such name or file, or numbers that nothing can be divided by.
    pub fn load(name: &str) -> anyhow::Result<(Self, Option<Conventions>)> {
        if let Some(statistics) = published().remove(name) {
            let env = name.split('-').next();
            let mut known = CONVENTIONS.iter();
            let conventions = known.find(|(prefix, _)| env == Some(prefix));
            return Ok((statistics, conventions.map(|(_, conventions)| *conventions)));
        }
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).with_context(|| {
            let names: Vec<_> = published().into_keys().collect();
            format!(
                "--statistics {name}: no such file; give a JSON file, {{\"mean\": […], \"std\": […]}}, or published data by \
                 name: {}",
                names.join(", ")
            )
        })?;
        let expected = "expected {\"mean\": […], \"std\": […]}";
        let statistics: Self = serde_json::from_str(&text)
            .with_context(|| format!("{name} holds no statistics; {expected}"))?;
        Ok((statistics, None))
    }

    /// Refuses those of another width than `state_dim`, and what nothing can be divided by.
    ///
    /// # Errors
    /// Names the field and the observation.
    pub fn check(&self, state_dim: usize) -> anyhow::Result<()> {
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            ensure!(
                values.len() == state_dim,
                "the statistics' `{field}` has {} numbers, the model's states have {state_dim}; give those of the data that \
                 it was trained on",
                values.len()
            );
            let wrong = |x: &f32| !x.is_finite() || (field == "std" && *x <= 0.0);
            if let Some(i) = values.iter().position(wrong) {
                bail!(
                    "the statistics' `{field}[{i}]` is {}; it must be finite{}",
                    values[i],
                    match field {
                        "std" =>
                            " and above 0 (a feature that never varied has what training divided it by, such as 1e-6)",
                        _ => "",
                    }
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_data_are_known_by_name() {
        let names = published();
        assert_eq!(names.len(), 12);
        for name in names.keys() {
            let (statistics, conventions) = Statistics::load(name).unwrap();
            let conventions = conventions.unwrap();
            let width = match conventions.env {
                "hopper-v4" => 11,
                _ => 17,
            };
            statistics.check(width).unwrap();
        }
        let (hopper, conventions) = Statistics::load("hopper-medium").unwrap();
        assert_eq!((hopper.mean[0], hopper.std[10]), (1.311279, 5.6072536));
        assert_eq!(conventions.unwrap().target_return, 3600.0);
    }

    #[test]
    fn bad_statistics_say_what_is_wrong() {
        let statistics = |mean: &[f32], std: &[f32]| Statistics {
            mean: mean.into(),
            std: std.into(),
        };
        let error = |statistics: Statistics| statistics.check(2).unwrap_err().to_string();
        assert!(error(statistics(&[0.0], &[1.0; 2])).contains("`mean` has 1 numbers"));
        assert!(error(statistics(&[0.0; 2], &[1.0; 3])).contains("`std` has 3 numbers"));
        assert!(error(statistics(&[0.0; 2], &[1.0, 0.0])).contains("`std[1]` is 0"));
        assert!(error(statistics(&[f32::NAN, 0.0], &[1.0; 2])).contains("`mean[0]` is NaN"));
        statistics(&[-1.0; 2], &[1e-6; 2]).check(2).unwrap();
        let error = format!("{:#}", Statistics::load("hoper").unwrap_err());
        assert!(
            error.contains("no such file") && error.contains("hopper-medium, "),
            "{error}"
        );
    }
}
