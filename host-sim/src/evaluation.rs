//! Results of an evaluation: statistics, the JSON of `eval` and `rollout`, and a readable table.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::critic::{Critic, Opinions};
use crate::env::{EnvSpec, Fault};
use crate::rollout::Episode;

/// Episodes of one policy in one environment at one target return, with their statistics.
///
/// As JSON, floats are printed so that they read back as the same number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Environment.
    pub env: String,
    /// What acted, such as the path of a policy file.
    pub policy: String,
    /// What it aimed at, raw units.
    pub target_return: f64,
    /// In the order of their seeds, those among them whose plant was lost ([`Fault::is_loss`](crate::Fault::is_loss)), which
    /// have no part in the statistics.
    pub episodes: Vec<Episode>,
    /// Mean of the returns.
    pub mean_return: f64,
    /// Standard deviation of the returns, over n rather than n − 1.
    pub std_return: f64,
    /// D4RL's 100·(mean − random) / (expert − random), where the environment has these returns.
    pub normalized_score: Option<f64>,
    /// Where the policy predicts returns: how well it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critic: Option<Critic>,
}

impl Evaluation {
    /// Computes the statistics. Of no episodes at all, they are NaN.
    #[must_use]
    pub fn new(
        spec: &EnvSpec<'_>,
        policy: impl Into<String>,
        target_return: f32,
        episodes: Vec<Episode>,
    ) -> Self {
        let returns: Vec<f64> = whole(&episodes).map(|e| e.total_reward).collect();
        let mean = mean(&returns);
        Self {
            env: spec.id.into(),
            policy: policy.into(),
            target_return: target_return.into(),
            mean_return: mean,
            std_return: population_deviation(&returns),
            normalized_score: spec
                .score_range
                .map(|(random, expert)| 100.0 * (mean - random) / (expert - random)),
            episodes,
            critic: None,
        }
    }

    /// The same with what the policy thought in each episode.
    #[must_use]
    pub fn with_opinions(mut self, opinions: &[Opinions]) -> Self {
        self.critic = Critic::of(self.target_return as f32, opinions);
        self
    }

    /// Lowest, median and highest return. NaN if there are no episodes.
    #[must_use]
    pub fn min_median_max(&self) -> (f64, f64, f64) {
        let mut returns: Vec<f64> = whole(&self.episodes).map(|e| e.total_reward).collect();
        returns.sort_by(f64::total_cmp);
        let at = |index: usize| returns.get(index).copied().unwrap_or(f64::NAN);
        let n = returns.len();
        let median = 0.5 * (at(n.saturating_sub(1) / 2) + at(n / 2));
        (at(0), median, at(n.saturating_sub(1)))
    }
}

/// Those that came to an end of their own.
pub fn whole(episodes: &[Episode]) -> impl Iterator<Item = &Episode> {
    let lost = |episode: &Episode| episode.fault.as_ref().is_some_and(Fault::is_loss);
    episodes.iter().filter(move |episode| !lost(episode))
}

/// What to say, and fail with, when all that could be saved has been: that plants were lost, how many, and the last words of
/// the first one.
#[must_use]
pub fn losses(evaluations: &[Evaluation]) -> Option<String> {
    let all = evaluations.iter().flat_map(|e| &e.episodes);
    let lost = all
        .clone()
        .filter(|e| e.fault.as_ref().is_some_and(Fault::is_loss));
    let first = lost.clone().next()?;
    let (lost, all) = (lost.count(), all.count());
    Some(format!(
        "{lost} of {all} episode(s) ended with their plant, the first with seed {} after {} step(s): {}",
        first.seed,
        first.length,
        first.fault.as_ref()?
    ))
}

/// Mean; NaN of none.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation over n rather than n − 1: it describes these values and estimates nothing. NaN of none.
#[must_use]
pub fn population_deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (squares / values.len() as f64).sqrt()
}

/// The JSON of `--json`: one object, or an array of them for several target returns.
///
/// # Errors
/// Returns must be finite: JSON has no other numbers.
pub fn to_json(evaluations: &[Evaluation]) -> Result<String, NotFinite> {
    let finite = |e: &Evaluation| e.mean_return.is_finite() && e.std_return.is_finite();
    if let Some(bad) = evaluations.iter().find(|e| !finite(e)) {
        return Err(NotFinite {
            target_return: bad.target_return,
        });
    }
    let json = match evaluations {
        [one] => serde_json::to_string_pretty(one),
        several => serde_json::to_string_pretty(several),
    };
    Ok(json.expect("plain data") + "\n")
}

/// A return is NaN or infinite, so that an evaluation cannot be written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "a return at target {target_return} is not finite, which JSON cannot express; see the episodes in the table"
)]
pub struct NotFinite {
    /// Which evaluation.
    pub target_return: f64,
}

/// Evaluations as a table for people, one line per target return.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(pub &'a [Evaluation]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else {
            return Ok(());
        };
        let n = first.episodes.len();
        let per_target = if self.0.len() > 1 { " per target" } else { "" };
        write!(
            f,
            "{} in {}: {n} episode(s){per_target}",
            first.policy, first.env
        )?;
        if let (Some(low), Some(high)) = (first.episodes.first(), first.episodes.last()) {
            write!(f, ", seeds {} to {}", low.seed, high.seed)?;
        }
        let scored = self.0.iter().any(|e| e.normalized_score.is_some());
        write!(
            f,
            "\n{:>10} {:>12} {:>10} {:>10} {:>10} {:>10} {:>8}",
            "target", "mean return", "± std", "min", "median", "max", "length"
        )?;
        if scored {
            write!(f, " {:>8}", "score")?;
        }
        writeln!(f)?;
        for e in self.0 {
            let (min, median, max) = e.min_median_max();
            let lengths: Vec<f64> = whole(&e.episodes).map(|e| f64::from(e.length)).collect();
            let length = mean(&lengths);
            write!(
                f,
                "{:>10} {:>12.2} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>8.1}",
                // As it was typed: in f64 an f32 has a long tail of digits.
                e.target_return as f32,
                e.mean_return,
                e.std_return,
                min,
                median,
                max,
                length
            )?;
            if let Some(score) = e.normalized_score {
                write!(f, " {score:>8.2}")?;
            }
            writeln!(f)?;
        }
        for (e, critic) in self.0.iter().filter_map(|e| Some((e, e.critic?))) {
            let Critic {
                steps,
                rmse,
                asked_rmse,
                correlation,
            } = critic;
            write!(
                f,
                "critic at target {}: off by {rmse:.2} RMS over {steps} steps, the return asked for by {asked_rmse:.2}",
                e.target_return as f32
            )?;
            match correlation {
                Some(correlation) => {
                    writeln!(f, "; correlation with what was earned {correlation:.3}")?
                }
                None => writeln!(f)?,
            }
        }
        let episodes = self.0.iter().flat_map(|e| &e.episodes);
        let mut faults = episodes.filter_map(|e| Some((e.seed, e.length, e.fault.as_ref()?)));
        if let Some((seed, length, fault)) = faults.next() {
            let others = faults.count();
            write!(
                f,
                "the simulation broke down at step {length} of seed {seed}: {fault}"
            )?;
            if others > 0 {
                write!(f, "; and in {others} more episode(s)")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pendulum;

    /// Without the returns that would give it a score.
    const SPEC: EnvSpec<'static> = EnvSpec {
        score_range: None,
        ..pendulum::SPEC
    };

    fn evaluation(returns: &[f64], spec: &EnvSpec<'_>) -> Evaluation {
        let episodes = (40..).zip(returns).map(|(seed, &total_reward)| Episode {
            seed,
            total_reward,
            length: 200,
            fault: None,
        });
        Evaluation::new(spec, "p.dtb", -150.0, episodes.collect())
    }

    #[test]
    fn statistics_by_hand() {
        let e = evaluation(&[-1.0, -4.0, -10.0, -1.0], &SPEC);
        assert_eq!(e.mean_return, -4.0);
        assert_eq!(e.std_return, (54.0_f64 / 4.0).sqrt());
        assert_eq!(e.min_median_max(), (-10.0, -2.5, -1.0));
        assert_eq!(evaluation(&[3.0, 1.0, 2.0], &SPEC).min_median_max().1, 2.0);
        assert_eq!(e.normalized_score, None);
        let random = evaluation(&[-1228.31], &pendulum::SPEC);
        assert_eq!(random.normalized_score, Some(0.0));
        let hopper = EnvSpec {
            score_range: Some((-20.272305, 3234.3)),
            ..SPEC
        };
        let expert = evaluation(&[3234.3, 3234.3], &hopper);
        assert_eq!(expert.normalized_score, Some(100.0));
    }

    #[test]
    fn json_has_the_fixed_fields_and_reads_back_exactly() {
        let e = evaluation(&[-0.1 - 0.2, -1.0 / 3.0], &SPEC);
        let json = to_json(std::slice::from_ref(&e)).unwrap();
        assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), e);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut fields: Vec<_> = value.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "env",
                "episodes",
                "mean_return",
                "normalized_score",
                "policy",
                "std_return",
                "target_return"
            ]
        );
        assert!(value["normalized_score"].is_null());
        assert_eq!(value["episodes"][1]["seed"], 41);
        assert_eq!(value["episodes"][1]["return"], -1.0 / 3.0);
        assert_eq!(value["episodes"][1]["length"], 200);
    }

    #[test]
    fn several_targets_are_an_array() {
        let e = evaluation(&[-1.0], &SPEC);
        let json = to_json(&[e.clone(), e.clone()]).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<Evaluation>>(&json).unwrap(),
            [e.clone(), e]
        );
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        let bad = evaluation(&[f64::NAN], &SPEC);
        assert_eq!(to_json(&[bad]).unwrap_err().target_return, -150.0);
    }

    #[test]
    fn a_critic_has_a_line_and_a_key() {
        let mut e = evaluation(&[-1.0, -4.0], &SPEC);
        e.critic = Some(Critic {
            steps: 398,
            rmse: 1.5,
            asked_rmse: 20.25,
            correlation: Some(0.75),
        });
        let text = Table(std::slice::from_ref(&e)).to_string();
        let line = "critic at target -150: off by 1.50 RMS over 398 steps, the return asked for by 20.25; correlation with what was \
                    earned 0.750\n";
        assert!(text.ends_with(line), "{text}");
        let json = to_json(std::slice::from_ref(&e)).unwrap();
        assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), e);
    }

    #[test]
    fn the_table_is_readable() {
        let text = Table(&[evaluation(&[-1.0, -4.0, -10.0, -1.0], &SPEC)]).to_string();
        let expected = "\
p.dtb in pendulum: 4 episode(s), seeds 40 to 43
    target  mean return      ± std        min     median        max   length
      -150        -4.00       3.67     -10.00      -2.50      -1.00    200.0
";
        assert_eq!(text, expected);
    }
}
