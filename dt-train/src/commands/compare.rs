//! `dt-train compare`: two policies in the same episodes, or two recipes with several training seeds each.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use host_sim::console;
use host_sim::evaluation::Evaluation;

use super::WrongUsage;
use crate::run::Run;
use crate::run::records::load_evaluations;
use crate::run::seeds::runs_of;
use crate::stats::{Estimate, Interval, Statistic, clustered, independent, mean};

/// Arguments of `dt-train compare`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Results of one policy and of another at the same target returns and seeds, as `--json` of `eval` or `host-sim rollout`
    /// writes them; further pairs are of further training seeds, all in the same episodes. A run's folder stands for what
    /// `eval RUN` measured of its newest evaluated checkpoint; two folders of runs, which `train --seeds` makes, for their runs in pairs
    #[arg(value_names = ["A.json", "B.json"], required = true, num_args = 2..)]
    pub results: Vec<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// An odd number of files, unreadable results, or results of other episodes.
pub fn run(args: Args) -> anyhow::Result<()> {
    if !args.results.len().is_multiple_of(2) {
        return Err(WrongUsage(
            "results come in pairs: A.json B.json [A2.json B2.json …], one pair per training seed",
        )
        .into());
    }
    let read: Vec<Results> = in_pairs(args.results)?
        .iter()
        .map(|path| Results::read(path))
        .collect::<Result<_, _>>()?;
    let pairs: Vec<_> = read
        .chunks_exact(2)
        .map(|pair| (&pair[0], &pair[1]))
        .collect();
    for (i, (a, b)) in pairs.iter().enumerate() {
        a.check_alike(b)?;
        pairs[0].0.check_alike(a)?;
        // A seed that counts twice makes an interval narrower than the data allow.
        ensure!(
            pairs[..i]
                .iter()
                .all(|(c, d)| (&c.path, &d.path) != (&a.path, &b.path)),
            "{} and {} are given twice; each pair must be of another training seed",
            a.path.display(),
            b.path.display()
        );
    }
    console::print(table(&pairs))?;
    Ok(())
}

/// The runs of two folders of runs in pairs of the same seed; anything else as it is.
fn in_pairs(results: Vec<PathBuf>) -> anyhow::Result<Vec<PathBuf>> {
    let [a, b] = results.as_slice() else {
        return Ok(results);
    };
    let [ours, theirs] = [a, b].map(|path| runs_of(path));
    let holds_runs = |path: &PathBuf, runs: &[PathBuf]| runs[0] != *path;
    if !holds_runs(a, &ours) && !holds_runs(b, &theirs) {
        return Ok(results);
    }
    let names = |runs: &[PathBuf]| -> Vec<_> {
        let name = |run: &PathBuf| run.file_name().unwrap_or_default().to_owned();
        runs.iter().map(name).collect()
    };
    ensure!(
        names(&ours) == names(&theirs),
        "{} and {} do not hold runs of the same names, so they cannot be paired; train both with the same --seeds",
        a.display(),
        b.display()
    );
    let pairs = ours.into_iter().zip(theirs);
    Ok(pairs.flat_map(|(ours, theirs)| [ours, theirs]).collect())
}

pub(super) fn table(pairs: &[(&Results, &Results)]) -> String {
    let first = &pairs[0].0.evaluations;
    let points = first.first().and_then(|e| points_per_return(&e.env));
    let mut out = "   target  episodes        A        B    A - B  95 % interval".to_owned();
    if points.is_some() {
        out += "  in points of score";
    }
    out.push('\n');
    for (i, result) in first.iter().enumerate() {
        let at_target: Vec<_> = pairs
            .iter()
            .map(|(a, b)| (&a.evaluations[i], &b.evaluations[i]))
            .collect();
        let differences: Vec<Vec<f64>> = at_target.iter().map(|(a, b)| differences(a, b)).collect();
        let target = result.target_return as f32;
        let mut line = |episodes: usize, a: f64, b: f64, difference: Estimate| {
            let Estimate { value, .. } = difference;
            out += &format!("{target:>9} {episodes:>9} {a:>8.2} {b:>8.2} {value:>8.3}");
            out += &format!("  {}", interval(difference, 3));
            if let Some(points) = points {
                let difference = difference.scaled(points);
                out += &format!("  {:.2} ({})", difference.value, interval(difference, 2));
            }
            out.push('\n');
        };
        for ((a, b), differences) in at_target.iter().zip(&differences) {
            line(
                differences.len(),
                a.mean_return,
                b.mean_return,
                independent(differences),
            );
        }
        if pairs.len() > 1 {
            let of = |side: fn(&(&Evaluation, &Evaluation)) -> f64| {
                mean(&at_target.iter().map(side).collect::<Vec<_>>())
            };
            line(
                differences.iter().map(Vec::len).sum(),
                of(|pair| pair.0.mean_return),
                of(|pair| pair.1.mean_return),
                clustered(&differences, Statistic::Mean),
            );
        }
    }
    out += &match pairs.len() {
        1 => "one policy each: the interval is over its episodes and says nothing of other training seeds; \
              further pairs of files, one per seed, do\n"
            .to_owned(),
        n => format!(
            "per target: each of the {n} pairs with the interval over its episodes, then all; that interval takes training seeds, \
             not episodes, for independent\n"
        ),
    };
    out
}

fn interval(estimate: Estimate, digits: usize) -> String {
    match estimate.interval {
        None => "none".to_owned(),
        Some(Interval { low, high }) => format!("{low:.digits$} … {high:.digits$}"),
    }
}

/// A file of results.
pub(crate) struct Results {
    pub(crate) path: PathBuf,
    /// By target return, at least one.
    pub(crate) evaluations: Vec<Evaluation>,
}

impl Results {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let evaluations = read(path)?;
        ensure!(!evaluations.is_empty(), "{}: no results", path.display());
        Ok(Self {
            path: path.to_owned(),
            evaluations,
        })
    }

    /// Refuses what is of other episodes.
    pub(crate) fn check_alike(&self, other: &Self) -> anyhow::Result<()> {
        let pair = format!("{} and {}", self.path.display(), other.path.display());
        let (ours, theirs) = (&self.evaluations, &other.evaluations);
        ensure!(
            ours.len() == theirs.len(),
            "{pair} hold {} and {} target returns; evaluate both at the same",
            ours.len(),
            theirs.len()
        );
        for (a, b) in ours.iter().zip(theirs) {
            ensure!(
                a.env == b.env && a.target_return == b.target_return,
                "{pair} are of different environments or target returns; evaluate both alike"
            );
            let seeds = |e: &Evaluation| e.episodes.iter().map(|e| e.seed).collect::<Vec<_>>();
            ensure!(
                seeds(a) == seeds(b),
                "{pair} are of different seeds; evaluate both with the same --seed and --episodes"
            );
        }
        Ok(())
    }
}

/// Of the returns of the same episodes.
pub(crate) fn differences(a: &Evaluation, b: &Evaluation) -> Vec<f64> {
    let pairs = a.episodes.iter().zip(&b.episodes);
    pairs
        .map(|(a, b)| a.total_reward - b.total_reward)
        .collect()
}

/// Points of normalized score that a return of 1 is worth; none where the environment has no score, or is not known here.
pub(crate) fn points_per_return(env: &str) -> Option<f64> {
    let (random, expert) = host_sim::make(env).ok()?.spec().score_range?;
    Some(100.0 / (expert - random))
}

/// Reads the results of one or several target returns; of a run's folder, those of its newest evaluated checkpoint.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Evaluation>> {
    let name = path.display();
    if path.is_dir() {
        let saved = load_evaluations(&Run::open(path)?)?;
        let newest = saved.iter().map(|saved| saved.update).max();
        let newest = newest.with_context(|| {
            format!("{name} has not been evaluated; `dt-train eval {name}` does it")
        })?;
        let of_newest = saved.into_iter().filter(|saved| saved.update == newest);
        return Ok(of_newest.map(|saved| saved.evaluation).collect());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let several = if text.trim_start().starts_with('[') {
        serde_json::from_str(&text)
    } else {
        serde_json::from_str(&text).map(|one| vec![one])
    };
    several.with_context(|| {
        format!("{name}: not what `dt-train eval --json` or `host-sim rollout --json` writes")
    })
}
