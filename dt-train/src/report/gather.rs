//! What run folders and evaluations say.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, ensure};
use dt_core::config::Dtype;
use host_sim::evaluation::Evaluation;

use super::owner::owner;
use crate::commands::compare;
use crate::data::select::describe;
use crate::deploy::training_data;
use crate::run::records::{DTYPES, ExportRecord, dtype_name, load_evaluations};
use crate::run::{METRICS, Run};
use crate::run::{Record, check_metrics};
use crate::stats::{mean, population_deviation};

/// Everything that a report shows.
pub struct Gathered {
    /// In the order given.
    pub runs: Vec<RunData>,
    /// D4RL's reference returns (random, expert) by environment.
    pub score_ranges: HashMap<String, (f64, f64)>,
}

/// Which of a run's evaluated checkpoints leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leading {
    /// The newest that was evaluated.
    #[default]
    Last,
    /// That of `best.safetensors`.
    Best,
    /// The one after this update.
    Update(u64),
}

impl FromStr for Leading {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "last" => Ok(Self::Last),
            "best" => Ok(Self::Best),
            update => match update.parse() {
                Ok(update) => Ok(Self::Update(update)),
                Err(_) => Err("give `last`, `best` or a number of updates"),
            },
        }
    }
}

/// One run.
pub struct RunData {
    /// Its folder's name, or the path where several folders have that name.
    pub name: String,
    /// Recipe and data description.
    pub run: Run,
    /// What it was trained for, with version; of a run that does not know it, what it was evaluated in; empty: neither.
    pub env: String,
    /// The update whose evaluations lead, where there are any.
    leading: Option<u64>,
    /// Runs of the same data and recipe but for the seed have the same number.
    pub group: usize,
    /// Training metrics.
    pub records: Vec<Record>,
    /// Exports, f32 first.
    pub exports: Vec<ExportRecord>,
    /// What was evaluated: the run's own environment first, then f32 first, then the oldest first.
    pub policies: Vec<Policy>,
    /// Returns of the episodes it was trained on, or why they are not known.
    pub data_returns: Result<Vec<f64>, String>,
}

/// A checkpoint in one dtype and one environment.
pub struct Policy {
    /// Where it was evaluated, with version: returns of different versions are never put together.
    pub env: String,
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
    /// Standard deviation of these episodes, over n as in the JSON of `eval`.
    pub std: f64,
    /// Of each episode; empty: not recorded.
    pub returns: Vec<f64>,
}

/// Returns by environment, dtype and update; target; and seed.
type Found = BTreeMap<(String, usize, u64), BTreeMap<Target, BTreeMap<u64, f64>>>;

impl Gathered {
    /// Reads runs, their data, and evaluations of their policies.
    ///
    /// # Errors
    /// Names the file that cannot be read, an evaluation that is of none of the runs, or a run that was evaluated, but not
    /// after the update to lead with.
    pub fn read(
        dirs: &[PathBuf],
        evaluations: &[PathBuf],
        leading: Leading,
    ) -> anyhow::Result<Self> {
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
            let mut policies = policies(found, &records, &versioned(&run.info.env), leading);
            let env = match (run.info.env.as_str(), policies.first()) {
                ("", Some(policy)) => policy.env.clone(),
                (env, _) => versioned(env),
            };
            policies.sort_by_key(|policy| policy.env != env);
            let key = describe(&run.info.dataset_sha256, &run.recipe.data);
            let data_returns = data
                .entry(key)
                .or_insert_with(|| training_data(&run).map(|data| data.returns()))
                .clone();
            runs.push(RunData {
                name,
                group,
                leading: leading_update(&records, &policies, &env, leading)
                    .with_context(|| run.dir.display().to_string())?,
                policies,
                env,
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

    /// The environments that runs were trained for, in order of appearance, with their runs.
    pub fn by_env(&self) -> Vec<(&str, Vec<usize>)> {
        group(self.runs.iter().map(|run| run.env.as_str()).enumerate())
    }

    /// The environments that policies were evaluated in, in order of appearance, with the policies' runs.
    pub fn by_evaluated_env(&self) -> Vec<(&str, Vec<usize>)> {
        let own = self.runs.iter().map(|run| run.env.as_str()).enumerate();
        let others = self.runs.iter().enumerate();
        let others = others.flat_map(|(i, run)| run.policies.iter().map(move |p| (i, &*p.env)));
        group(own.chain(others))
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

    /// The leading checkpoint in the run's own environment, as a controller would run it (else as f32), at the default
    /// target, or the one nearest to it.
    pub fn headline(&self) -> Option<(&Policy, &Achieved)> {
        self.headline_in(&self.env)
    }

    /// The same in another version of it; none if the leading checkpoint was not evaluated there.
    pub fn headline_in(&self, env: &str) -> Option<(&Policy, &Achieved)> {
        let leads = |policy: &&Policy| policy.env == env && Some(policy.update) == self.leading;
        let policies = self.policies.iter().filter(leads);
        let policy = policies.min_by_key(|policy| policy.dtype == "f32")?;
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
        .entry((versioned(&evaluation.env), dtype, update))
        .or_default()
        .entry(Target(evaluation.target_return))
        .or_default();
    for episode in &evaluation.episodes {
        episodes.insert(episode.seed, episode.total_reward);
    }
}

/// `hopper-v5` of `hopper`: a bare name means the newest version.
fn versioned(env: &str) -> String {
    let newest = format!("{env}-v5");
    match host_sim::registry::NAMES.contains(&newest.as_str()) {
        true => newest,
        false => env.to_owned(),
    }
}

/// Places by name, in order of appearance, each once.
fn group<'a>(named: impl Iterator<Item = (usize, &'a str)>) -> Vec<(&'a str, Vec<usize>)> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (i, name) in named {
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, members)) if members.contains(&i) => {}
            Some((_, members)) => members.push(i),
            None => groups.push((name, vec![i])),
        }
    }
    groups
}

/// The update to lead with, of those evaluated in the run's own environment.
fn leading_update(
    records: &[Record],
    policies: &[Policy],
    env: &str,
    leading: Leading,
) -> anyhow::Result<Option<u64>> {
    let mut updates: Vec<u64> = policies
        .iter()
        .filter(|policy| policy.env == env)
        .map(|policy| policy.update)
        .collect();
    updates.sort_unstable();
    updates.dedup();
    let Some(newest) = updates.last() else {
        return Ok(None);
    };
    let wanted = match leading {
        Leading::Last => *newest,
        Leading::Best => best_update(records).with_context(|| {
            format!(
                "{METRICS} has no evaluation, so no checkpoint is the best; leave --checkpoint out"
            )
        })?,
        Leading::Update(update) => update,
    };
    let known = updates.iter().map(u64::to_string).collect::<Vec<_>>();
    ensure!(
        updates.contains(&wanted),
        "not evaluated after update {wanted}, only after {}; evaluate that checkpoint, or leave --checkpoint out",
        known.join(", ")
    );
    Ok(Some(wanted))
}

/// The update of `best.safetensors`: the first with the highest return at the first target.
fn best_update(records: &[Record]) -> Option<u64> {
    let evaluated = records
        .iter()
        .filter_map(|record| Some((record.update, record.eval.first()?.mean_return)));
    let best = evaluated.reduce(|best, other| if other.1 > best.1 { other } else { best });
    Some(best?.0)
}

fn policies(found: Found, records: &[Record], env: &str, leading: Leading) -> Vec<Policy> {
    let mut policies: Vec<Policy> = found
        .into_iter()
        .map(|((env, dtype, update), targets)| Policy {
            env,
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
    let mut evaluated = records.iter().filter(|record| !record.eval.is_empty());
    let evaluated = match leading {
        Leading::Last => evaluated.next_back(),
        Leading::Best => best_update(records).and_then(|u| evaluated.find(|r| r.update == u)),
        Leading::Update(update) => evaluated.find(|record| record.update == update),
    };
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
            env: env.to_owned(),
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
        Self {
            target,
            episodes: returns.len(),
            mean: mean(&returns),
            std: population_deviation(&returns),
            returns,
        }
    }
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
            versioned(&run.info.env),
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
    let own = runs.iter().map(|run| &run.env);
    let others = runs.iter().flat_map(|run| &run.policies);
    let mut envs: Vec<&String> = own.chain(others.map(|policy| &policy.env)).collect();
    envs.sort_unstable();
    envs.dedup();
    let range = |env: &String| Some((env.clone(), host_sim::make(env).ok()?.spec().score_range?));
    envs.into_iter().filter_map(range).collect()
}
