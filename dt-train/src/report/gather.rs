//! What run folders and evaluations say.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::Context;
use dt_core::config::Dtype;
use host_sim::evaluation::Evaluation;

use super::owner::owner;
use crate::commands::compare;
use crate::data::select::describe;
use crate::deploy::training_data;
use crate::run::records::{DTYPES, ExportRecord, dtype_name, load_evaluations};
use crate::run::{METRICS, Run};
use crate::run::{Record, check_metrics};

/// Everything that a report shows.
pub struct Gathered {
    /// In the order given.
    pub runs: Vec<RunData>,
    /// D4RL's reference returns (random, expert) by environment.
    pub score_ranges: HashMap<String, (f64, f64)>,
}

/// One run.
pub struct RunData {
    /// Its folder's name, or the path where several folders have that name.
    pub name: String,
    /// Recipe and data description.
    pub run: Run,
    /// Runs of the same data and recipe but for the seed have the same number.
    pub group: usize,
    /// Training metrics.
    pub records: Vec<Record>,
    /// Exports, f32 first.
    pub exports: Vec<ExportRecord>,
    /// What was evaluated, f32 first.
    pub policies: Vec<Policy>,
    /// Returns of the episodes it was trained on, or why they are not known.
    pub data_returns: Result<Vec<f64>, String>,
}

/// A checkpoint in one dtype.
pub struct Policy {
    /// `f32`, `int8` or `int4`.
    pub dtype: &'static str,
    /// Updates of the checkpoint.
    pub update: u64,
    /// Evaluated in the course of training, on few episodes.
    pub in_training: bool,
    /// By ascending target.
    pub achieved: Vec<Achieved>,
}

/// Returns at one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Achieved {
    /// Return asked for.
    pub target: f64,
    /// Episodes.
    pub episodes: usize,
    /// Mean return.
    pub mean: f64,
    /// Standard deviation over episodes (ddof 0).
    pub std: f64,
    /// Of each episode; empty: not recorded.
    pub returns: Vec<f64>,
}

/// Returns by dtype and update, target, and seed.
type Found = BTreeMap<(usize, u64), BTreeMap<Target, BTreeMap<u64, f64>>>;

impl Gathered {
    /// Reads runs, their data, and evaluations of their policies.
    ///
    /// # Errors
    /// Names the file that cannot be read, or an evaluation that is of none of the runs.
    pub fn read(dirs: &[PathBuf], evaluations: &[PathBuf]) -> anyhow::Result<Self> {
        let opened: Vec<Run> = dirs
            .iter()
            .map(|dir| Run::open(dir))
            .collect::<Result<_, _>>()?;
        let mut found: Vec<Found> = Vec::new();
        for run in &opened {
            let mut of_run = Found::new();
            for saved in load_evaluations(run)? {
                add(&mut of_run, 0, saved.update, &saved.evaluation);
            }
            found.push(of_run);
        }
        let exports: Vec<Vec<ExportRecord>> = opened
            .iter()
            .map(ExportRecord::load_all)
            .collect::<Result<_, _>>()?;
        for path in evaluations {
            for evaluation in compare::read(path)? {
                let (index, dtype, update) = owner(&opened, &exports, &evaluation)
                    .with_context(|| path.display().to_string())?;
                if let Some(of_run) = found.get_mut(index) {
                    add(of_run, dtype, update, &evaluation);
                }
            }
        }
        let names = names(&opened);
        let groups = groups(&opened);
        let mut data = HashMap::new();
        let mut runs = Vec::new();
        for ((((run, found), exports), name), group) in opened
            .into_iter()
            .zip(found)
            .zip(exports)
            .zip(names)
            .zip(groups)
        {
            let records = check_metrics(&run.dir.join(METRICS))?;
            let key = describe(&run.info.dataset_sha256, &run.recipe.data);
            let data_returns = data
                .entry(key)
                .or_insert_with(|| training_data(&run).map(|data| data.returns()))
                .clone();
            runs.push(RunData {
                name,
                group,
                policies: policies(found, &records),
                records,
                exports,
                data_returns,
                run,
            });
        }
        Ok(Self {
            score_ranges: score_ranges(&runs),
            runs,
        })
    }

    /// The environments, in order of appearance, with their runs.
    pub fn by_env(&self) -> Vec<(&str, Vec<usize>)> {
        let mut envs: Vec<(&str, Vec<usize>)> = Vec::new();
        for (i, run) in self.runs.iter().enumerate() {
            let env = run.run.info.env.as_str();
            match envs.iter_mut().find(|(name, _)| *name == env) {
                Some((_, members)) => members.push(i),
                None => envs.push((env, vec![i])),
            }
        }
        envs
    }

    /// D4RL's normalized score, where the environment has one.
    pub fn score(&self, env: &str, mean: f64) -> Option<f64> {
        let (random, expert) = self.score_ranges.get(env)?;
        Some(100.0 * (mean - random) / (expert - random))
    }
}

impl RunData {
    /// Updates done, as far as recorded.
    pub fn updates(&self) -> u64 {
        self.records.last().map_or(0, |record| record.update)
    }

    /// What a controller would run (else f32, else as measured in training) at the default target, or the one nearest to it.
    pub fn headline(&self) -> Option<(&Policy, &Achieved)> {
        let rank = |policy: &&Policy| (policy.in_training, policy.dtype == "f32");
        let policy = self.policies.iter().min_by_key(rank)?;
        Some((policy, policy.nearest(self.run.info.target_return.into())?))
    }

    /// Time of all updates in seconds, evaluation not counted.
    pub fn seconds(&self) -> f64 {
        let mut before = 0;
        let mut seconds = 0.0;
        for record in &self.records {
            seconds += record.update.saturating_sub(before) as f64 / record.updates_per_second;
            before = record.update;
        }
        seconds
    }
}

impl Policy {
    /// The results at `target`, or else at the target nearest to it.
    pub fn nearest(&self, target: f64) -> Option<&Achieved> {
        let distance = |a: &&Achieved| (a.target - target).abs();
        self.achieved
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

/// Adds episodes; those of a seed that is there already take its place.
fn add(found: &mut Found, dtype: usize, update: u64, evaluation: &Evaluation) {
    let episodes = found
        .entry((dtype, update))
        .or_default()
        .entry(Target(evaluation.target_return))
        .or_default();
    for episode in &evaluation.episodes {
        episodes.insert(episode.seed, episode.total_reward);
    }
}

fn policies(found: Found, records: &[Record]) -> Vec<Policy> {
    let mut policies: Vec<Policy> = found
        .into_iter()
        .map(|((dtype, update), targets)| Policy {
            dtype: DTYPES[dtype],
            update,
            in_training: false,
            achieved: targets
                .into_iter()
                .map(|(target, episodes)| Achieved::of(target.0, episodes.into_values().collect()))
                .collect(),
        })
        .collect();
    // What training measured by itself stands in where nothing else did.
    let evaluated = records.iter().rfind(|record| !record.eval.is_empty());
    if let (true, Some(record)) = (policies.is_empty(), evaluated) {
        let mut achieved: Vec<Achieved> = record
            .eval
            .iter()
            .map(|eval| Achieved {
                target: eval.target_return.into(),
                episodes: eval.episodes as usize,
                mean: eval.mean_return,
                std: eval.std_return,
                returns: Vec::new(),
            })
            .collect();
        achieved.sort_by(|a, b| a.target.total_cmp(&b.target));
        policies.push(Policy {
            dtype: dtype_name(Dtype::F32),
            update: record.update,
            in_training: true,
            achieved,
        });
    }
    policies
}

impl Achieved {
    fn of(target: f64, returns: Vec<f64>) -> Self {
        let (mean, std) = mean_std(&returns);
        Self {
            target,
            episodes: returns.len(),
            mean,
            std,
            returns,
        }
    }
}

/// Mean and standard deviation (ddof 0).
pub fn mean_std(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (mean, (squares / n).sqrt())
}

/// A target return, ordered as a number.
#[derive(Clone, Copy, Debug)]
struct Target(f64);

impl Ord for Target {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Target {}

fn names(runs: &[Run]) -> Vec<String> {
    let short = |run: &Run| {
        let dir = std::fs::canonicalize(&run.dir).unwrap_or_else(|_| run.dir.clone());
        dir.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let all: Vec<_> = runs.iter().map(short).collect();
    let name = |(run, name): (&Run, &Option<String>)| match name {
        Some(name) if all.iter().filter(|n| n.as_ref() == Some(name)).count() == 1 => name.clone(),
        _ => run.dir.display().to_string(),
    };
    runs.iter().zip(&all).map(name).collect()
}

fn groups(runs: &[Run]) -> Vec<usize> {
    let recipe = |run: &Run| {
        let mut config = run.recipe.clone();
        config.train.seed = 0;
        (
            run.info.env.clone(),
            run.info.dataset_sha256.clone(),
            config,
        )
    };
    let mut seen = Vec::new();
    let group = |run| {
        let recipe = recipe(run);
        seen.iter()
            .position(|other| *other == recipe)
            .unwrap_or_else(|| {
                seen.push(recipe);
                seen.len() - 1
            })
    };
    runs.iter().map(group).collect()
}

/// Of an environment that cannot be opened here no scores are shown.
fn score_ranges(runs: &[RunData]) -> HashMap<String, (f64, f64)> {
    let range = |run: &RunData| {
        let env = &run.run.info.env;
        let range = host_sim::make(env).ok()?.spec().score_range?;
        Some((env.clone(), range))
    };
    runs.iter().filter_map(range).collect()
}
