//! What `dt-train inspect` says about trajectory files.

use std::fmt::Write;

use serde::Serialize;

use super::{Column, Dataset, power_of_ten, round};
use crate::stats::{mean, population_deviation, quantile};

/// Summary of a [`Dataset`]; its JSON form is the output of `inspect --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// `dataset`.
    pub kind: &'static str,
    /// Environment, if the files name one.
    pub env: Option<String>,
    /// Agent, if the file names one.
    pub policy: Option<String>,
    /// Numbers of an observation: the dimension of a vector, 1 for a choice.
    pub state_dim: usize,
    /// Numbers of an action: the dimension of a vector, 1 for a choice.
    pub act_dim: usize,
    /// What observations are, in words.
    pub observation_space: String,
    /// What actions are, in words.
    pub action_space: String,
    /// Steps in the file, those of an unfinished last episode included.
    pub transitions: usize,
    /// Finished episodes.
    pub episodes: usize,
    /// Steps of the unfinished last episode, which training leaves out.
    pub unfinished_steps: usize,
    /// Episodes that ended in a terminal state.
    pub terminated: usize,
    /// Episodes of which the observation after the last action is known.
    pub last_observations: usize,
    /// Steps of the shortest episode.
    pub length_min: usize,
    /// Steps of the longest episode.
    pub length_max: usize,
    /// Mean return of the finished episodes.
    pub return_mean: f64,
    /// Standard deviation (ddof 0) of the returns.
    pub return_std: f64,
    /// Smallest return.
    pub return_min: f64,
    /// Largest return.
    pub return_max: f64,
    /// Return that a tenth of the episodes stay below.
    pub return_p10: f64,
    /// Median return.
    pub return_p50: f64,
    /// Return that nine tenths of the episodes stay below.
    pub return_p90: f64,
    /// Target returns to train and evaluate with: the best, and what a tenth and half of the episodes reach; rounded.
    pub suggested_target_returns: Vec<f64>,
    /// Scale to divide returns-to-go by: [`Dataset::return_scale`].
    pub suggested_return_scale: f64,
    /// Of each observation feature; empty where observations are no vectors.
    pub state_mean: Vec<f64>,
    /// Of each observation feature, + 1e-6; empty where observations are no vectors.
    pub state_std: Vec<f64>,
    /// Smallest value of each observation feature; of images: of all pixels.
    pub state_low: Vec<f64>,
    /// Largest value of each observation feature; of images: of all pixels.
    pub state_high: Vec<f64>,
    /// Smallest value of each action.
    pub action_low: Vec<f64>,
    /// Largest value of each action.
    pub action_high: Vec<f64>,
    /// How often each choice was made; empty where actions are no choices.
    pub action_counts: Vec<usize>,
    /// What is odd about the files, a sentence each.
    pub notes: Vec<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Of each finished episode, in order, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub episode_returns: Vec<f64>,
    #[serde(skip)]
    returns: Vec<f64>,
}

impl Summary {
    /// The same with the return of every episode.
    #[must_use]
    pub fn with_episodes(mut self) -> Self {
        self.episode_returns.clone_from(&self.returns);
        self
    }

    /// Summarizes `data`, of which `notes` say what is odd.
    pub fn new(data: &Dataset, notes: Vec<String>) -> Self {
        let returns = data.returns();
        let lengths = data.episodes.iter().map(|episode| episode.rows.len());
        let mut ranked = returns.clone();
        ranked.sort_by(f64::total_cmp);
        let [p10, p50, p90] = [0.1, 0.5, 0.9].map(|fraction| quantile(&ranked, fraction));
        let (lowest, best) = (ranked[0], ranked[ranked.len() - 1]);
        let stats = data.state_stats();
        let [state_low, state_high] = match &stats {
            Some(stats) => [&stats.low, &stats.high].map(|values| exact(values)),
            None => low_and_high(&data.observations),
        };
        let [state_mean, state_std] = match &stats {
            Some(stats) => [&stats.mean, &stats.std].map(|values| exact(values)),
            None => [Vec::new(), Vec::new()],
        };
        let [action_low, action_high] = low_and_high(&data.actions);
        let unfinished_steps = data.sources.iter().map(|source| source.unfinished).sum();
        Self {
            kind: "dataset",
            env: data.env().map(Into::into),
            policy: data.sources[0].policy.clone(),
            state_dim: data.state_dim(),
            act_dim: data.act_dim(),
            observation_space: space(&data.observations),
            action_space: space(&data.actions),
            transitions: data.len() + unfinished_steps,
            episodes: data.episodes.len(),
            unfinished_steps,
            terminated: data
                .episodes
                .iter()
                .filter(|episode| episode.terminated)
                .count(),
            last_observations: data.last_observations.len(),
            length_min: lengths.clone().min().unwrap_or_default(),
            length_max: lengths.max().unwrap_or_default(),
            return_mean: mean(&returns),
            return_std: population_deviation(&returns),
            return_min: lowest,
            return_max: best,
            return_p10: p10,
            return_p50: p50,
            return_p90: p90,
            suggested_target_returns: suggested_targets(&returns),
            suggested_return_scale: data.return_scale(),
            state_mean,
            state_std,
            state_low,
            state_high,
            action_low,
            action_high,
            action_counts: counts(&data.actions),
            notes,
            sha256: data
                .sha256()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            episode_returns: Vec::new(),
            returns,
        }
    }

    /// A table for people, with a histogram of the returns.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let unknown = || "(not named)".to_owned();
        let length = if self.length_min == self.length_max {
            format!("{} steps each", self.length_min)
        } else {
            format!("{}…{} steps", self.length_min, self.length_max)
        };
        let unfinished = match self.unfinished_steps {
            0 => String::new(),
            n => format!(" ({n} of an unfinished episode, left out of training)"),
        };
        let known = match self.last_observations {
            0 => String::new(),
            n if n == self.episodes => ", the last observation known".to_owned(),
            n => format!(", the last observation known of {n}"),
        };
        for (name, value) in [
            ("environment", self.env.clone().unwrap_or_else(unknown)),
            ("agent", self.policy.clone().unwrap_or_else(unknown)),
            ("observations", self.observation_space.clone()),
            ("actions", self.action_space.clone()),
            ("transitions", format!("{}{unfinished}", self.transitions)),
            (
                "episodes",
                format!(
                    "{}, {length}, {} terminated{known}",
                    self.episodes, self.terminated
                ),
            ),
            (
                "return",
                format!(
                    "{:.2} ± {:.2}, {:.2}…{:.2}",
                    self.return_mean, self.return_std, self.return_min, self.return_max
                ),
            ),
            (
                "quantiles",
                format!(
                    "10 %: {:.2}, 50 %: {:.2}, 90 %: {:.2}",
                    self.return_p10, self.return_p50, self.return_p90
                ),
            ),
            ("sha256", self.sha256.clone()),
        ] {
            let _ = writeln!(out, "{name:<12} {value}");
        }
        for note in &self.notes {
            let _ = writeln!(out, "{:<12} {note}", "note");
        }
        let _ = writeln!(
            out,
            "\n{:<12} {:>11} {:>11} {:>11} {:>11}",
            "feature", "mean", "std", "min", "max"
        );
        let vectors = [
            ("state", &self.state_low, &self.state_high),
            ("action", &self.action_low, &self.action_high),
        ];
        let described = if self.action_counts.is_empty() { 2 } else { 1 };
        for (name, low, high) in &vectors[..described] {
            for (i, (low, high)) in low.iter().zip(*high).enumerate() {
                let of_states = |values: &[f64]| match (*name, values.get(i)) {
                    ("state", Some(value)) => format!("{value:.4}"),
                    _ => String::new(),
                };
                let _ = writeln!(
                    out,
                    "{:<12} {:>11} {:>11} {low:>11.4} {high:>11.4}",
                    format!("{name} {i}"),
                    of_states(&self.state_mean),
                    of_states(&self.state_std),
                );
            }
        }
        if !self.action_counts.is_empty() {
            let _ = writeln!(out, "\n{:>12}  steps", "choice");
            let choices = self.action_counts.iter().enumerate();
            out.push_str(&bars(choices.map(|(i, &count)| (i.to_string(), count))));
        }
        let _ = writeln!(out, "\n{:>12}  episodes", "return from");
        out.push_str(&histogram(&self.returns, self.return_min, self.return_max));
        let _ = writeln!(
            out,
            "\nsuggested    --set data.return_scale={:?} --set 'eval.target_returns={:?}'",
            self.suggested_return_scale, self.suggested_target_returns
        );
        out
    }
}

/// Target returns to ask for where episodes had these returns, the highest first: the best, and what a tenth and half of
/// the episodes reach; rounded. None of none.
pub fn suggested_targets(returns: &[f64]) -> Vec<f64> {
    let mut ranked = returns.to_vec();
    ranked.sort_by(f64::total_cmp);
    let (Some(&lowest), Some(&best)) = (ranked.first(), ranked.last()) else {
        return Vec::new();
    };
    targets(
        &[best, quantile(&ranked, 0.9), quantile(&ranked, 0.5)],
        lowest,
    )
}

/// Returns rounded to hundredths of the data's range, so that nobody takes them for exact, without repetition.
fn targets(returns: &[f64], lowest: f64) -> Vec<f64> {
    let range = returns[0] - lowest;
    // A single return has no range.
    let step = power_of_ten(if range > 0.0 { range } else { returns[0].abs() }) / 100.0;
    // Adding 0 turns -0 into 0.
    let mut targets: Vec<f64> = returns.iter().map(|r| round(*r, step) + 0.0).collect();
    targets.dedup();
    targets
}

/// A column's space in words. Files in the D4RL layout name no bounds, which is not to say that there are none.
fn space(column: &Column) -> String {
    let words = column.space().to_string();
    match words.strip_suffix("unbounded") {
        Some(kind) => format!("{kind}no bounds named"),
        None => words,
    }
}

/// Smallest and largest value of each component.
fn low_and_high(column: &Column) -> [Vec<f64>; 2] {
    let range = column.range();
    [0, 1].map(|end| range.iter().map(|bounds| bounds[end]).collect())
}

/// How often each choice is in a column of them.
fn counts(column: &Column) -> Vec<usize> {
    let Column::Discrete { n, values, .. } = column else {
        return Vec::new();
    };
    let mut counts = vec![0; *n];
    values
        .iter()
        .for_each(|&choice| counts[choice as usize] += 1);
    counts
}

/// As f64, which JSON shows in full.
fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// One line per bin: where it starts, a bar, a count.
fn histogram(values: &[f64], low: f64, high: f64) -> String {
    // A single value needs a single bin.
    let bins = if low < high { 12 } else { 1 };
    let mut counts = vec![0; bins];
    for value in values {
        let bin = if low < high {
            ((value - low) / (high - low) * bins as f64) as usize
        } else {
            0
        };
        counts[std::cmp::min(bin, bins - 1)] += 1;
    }
    let start = |bin: usize| low + (high - low) * bin as f64 / bins as f64;
    let counts = counts.iter().enumerate();
    bars(counts.map(|(bin, &count)| (format!("{:.2}", start(bin)), count)))
}

/// One line per count: its name, a bar, itself.
fn bars(counts: impl Iterator<Item = (String, usize)> + Clone) -> String {
    const WIDTH: usize = 48;
    let most = counts.clone().map(|(_, count)| count).max().unwrap_or(1);
    let mut out = String::new();
    for (name, count) in counts {
        // Rounded up, so that nothing is invisible that is not 0.
        let bar = "█".repeat((count * WIDTH).div_ceil(std::cmp::max(most, 1)));
        let _ = writeln!(out, "{name:>12}  {bar} {count}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_every_value_once() {
        let out = histogram(&[0.0, 1.0, 1.0, 12.0], 0.0, 12.0);
        let counts: Vec<&str> = out
            .lines()
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect();
        assert_eq!(
            counts,
            ["1", "2", "0", "0", "0", "0", "0", "0", "0", "0", "0", "1"]
        );
        assert_eq!(histogram(&[3.0, 3.0], 3.0, 3.0).lines().count(), 1);
    }

    #[test]
    fn suggestions_are_round_and_differ() {
        assert_eq!(
            targets(&[3213.37, 1204.9, 312.2], 12.8),
            [3210.0, 1200.0, 310.0]
        );
        assert_eq!(
            targets(&[-1.23, -80.4, -201.7], -1503.1),
            [0.0, -80.0, -200.0]
        );
        assert_eq!(targets(&[0.8768, 0.8768, 0.1], 0.0), [0.877, 0.1]);
        assert_eq!(targets(&[5.0, 5.0, 5.0], 5.0), [5.0]);
        assert_eq!(targets(&[0.0, 0.0, 0.0], 0.0), [0.0]);
    }
}
