//! `dt-train table`: results over training seeds as the markdown tables of RESULTS.md.
//!
//! ```toml
//! policies = ["int8", "f32"]  # headings; the first is told in full, each other one beside it
//!
//! [[row]]
//! name = "Walker2d, mixed"
//! data = "2612, 4180"         # copied; optional
//! seeds = [100, 101, 102]     # of training
//! # One per policy, from the folder of this file: results at one target return, in the same episodes.
//! files = ["walker2d-mixed-{seed}/int8.json", "walker2d-mixed-{seed}/f32.json"]
//! before = [3111, 2528, 2646] # means by seed of an earlier table; optional
//! ```
//!
//! With many policies, `line_per_policy = true` makes a table of each row instead, a line per policy; `more = ["updates"]` heads
//! further columns of these, whose cells each row brings, policy by policy: `more = [["2000"], ["6400"]]`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use host_sim::console;
use host_sim::evaluation::Evaluation;
use serde::Deserialize;

use super::compare::{Results, differences, points_per_return};
use crate::stats::{
    Estimate, Interval, Statistic, clustered, mean, sample_deviation, stratified_bootstrap, welch,
};

/// Arguments of `dt-train table`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which results make which row, in TOML: see the source of this command
    #[arg(value_name = "FILE.toml")]
    pub description: PathBuf,
    /// Leave out training seeds whose results are not there
    #[arg(long)]
    pub partial: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    policies: Vec<String>,
    #[serde(default)]
    line_per_policy: bool,
    #[serde(default)]
    more: Vec<String>,
    row: Vec<RowDescription>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowDescription {
    name: String,
    #[serde(default)]
    data: String,
    seeds: Vec<u64>,
    files: Vec<String>,
    #[serde(default)]
    before: Vec<f64>,
    #[serde(default)]
    more: Vec<Vec<String>>,
}

/// A row with its results.
struct Row {
    description: RowDescription,
    target: f32,
    /// By policy, then training seed.
    policies: Vec<Vec<Evaluation>>,
    /// Points of score per unit of return, where the environment has a score.
    points: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// Unreadable descriptions or results, results of a row in other episodes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let name = args.description.display();
    let text = std::fs::read_to_string(&args.description)
        .with_context(|| format!("cannot read {name}"))?;
    let description: Description =
        toml::from_str(&text).with_context(|| format!("{name}: not a description of a table"))?;
    ensure!(
        !description.policies.is_empty(),
        "{name}: `policies` names none"
    );
    let folder = args.description.parent().unwrap_or(Path::new(""));
    let mut rows = Vec::new();
    for row in description.row {
        ensure!(
            row.files.len() == description.policies.len(),
            "{name}: row `{}` has {} files for {} policies",
            row.name,
            row.files.len(),
            description.policies.len()
        );
        let cells = row.more.iter().map(Vec::len);
        ensure!(
            description.more.is_empty() && row.more.is_empty()
                || description.line_per_policy
                    && row.more.len() == description.policies.len()
                    && cells.clone().all(|cells| cells == description.more.len()),
            "{name}: row `{}` needs `line_per_policy = true` and, for each of {} policies, {} cells in `more`",
            row.name,
            description.policies.len(),
            description.more.len()
        );
        rows.extend(Row::read(row, folder, args.partial)?);
    }
    ensure!(!rows.is_empty(), "{name}: no row has results");
    let names = &description.policies;
    console::print(match description.line_per_policy {
        true => by_policy(names, &description.more, &rows),
        false => by_row(names, &rows),
    })?;
    Ok(())
}

impl Row {
    /// None if no seed has results.
    fn read(row: RowDescription, folder: &Path, partial: bool) -> anyhow::Result<Option<Self>> {
        let mut policies = vec![Vec::new(); row.files.len()];
        let mut first: Option<Results> = None;
        for seed in &row.seeds {
            let path = |file: &String| folder.join(file.replace("{seed}", &seed.to_string()));
            let paths: Vec<PathBuf> = row.files.iter().map(path).collect();
            if let (true, Some(missing)) = (partial, paths.iter().find(|path| !path.exists())) {
                eprintln!("note: {}, seed {seed}: no {}", row.name, missing.display());
                continue;
            }
            for (policy, path) in policies.iter_mut().zip(&paths) {
                let results = Results::read(path)?;
                ensure!(
                    results.evaluations.len() == 1,
                    "{}: results at {} target returns; a row is of one",
                    path.display(),
                    results.evaluations.len()
                );
                policy.extend(results.evaluations.iter().cloned());
                match &first {
                    Some(first) => first.check_alike(&results)?,
                    None => first = Some(results),
                }
            }
        }
        let Some(first) = &first else {
            return Ok(None);
        };
        Ok(Some(Self {
            description: row,
            target: first.evaluations[0].target_return as f32,
            policies,
            points: points_per_return(&first.evaluations[0].env),
        }))
    }

    /// Mean return of each training seed.
    fn means(&self, policy: usize) -> Vec<f64> {
        self.policies[policy]
            .iter()
            .map(|e| e.mean_return)
            .collect()
    }

    fn returns(&self, policy: usize) -> Vec<Vec<f64>> {
        let of = |e: &Evaluation| e.episodes.iter().map(|e| e.total_reward).collect();
        self.policies[policy].iter().map(of).collect()
    }

    /// Of the first policy and another, by training seed and episode, in points where there is a score.
    fn differences(&self, other: usize) -> Vec<Vec<f64>> {
        let scale = self.points.unwrap_or(1.0);
        let pairs = self.policies[0].iter().zip(&self.policies[other]);
        pairs
            .map(|(a, b)| differences(a, b).iter().map(|d| scale * d).collect())
            .collect()
    }

    fn scores(&self, policy: usize) -> Option<Vec<f64>> {
        self.policies[policy]
            .iter()
            .map(|e| e.normalized_score)
            .collect()
    }
}

/// The first policy in full, each other one beside it.
fn by_row(names: &[String], rows: &[Row]) -> String {
    let has_data = rows.iter().any(|row| !row.description.data.is_empty());
    let has_before = rows.iter().any(|row| !row.description.before.is_empty());
    let first = &names[0];
    let mut columns = vec![String::new()];
    columns.extend(has_data.then(|| "data: mean, best".to_owned()));
    columns.push("target".to_owned());
    columns.push(format!("{first}, mean of each training seed"));
    columns.push("mean of these ± sample deviation".to_owned());
    columns.push("interquartile mean of all episodes (95 %, over seeds)".to_owned());
    columns.push("score".to_owned());
    for other in &names[1..] {
        columns.push(other.clone());
        columns.push(format!("{first} − {other}, points (95 %, over seeds)"));
    }
    if has_before {
        columns.push("before".to_owned());
        columns.push("change (95 %, over seeds)".to_owned());
    }
    let mut out = format!("| {} |\n|---|", columns.join(" | "));
    out += &"---:|".repeat(columns.len() - 1);
    out.push('\n');
    for row in rows {
        let mut cells = vec![row.description.name.clone()];
        cells.extend(has_data.then(|| row.description.data.clone()));
        cells.push(row.target.to_string());
        let means = row.means(0);
        let each: Vec<String> = means.iter().map(|m| whole(*m)).collect();
        cells.push(each.join("; "));
        cells.push(over_seeds(&means, "**"));
        let middle = clustered(&row.returns(0), Statistic::InterquartileMean);
        cells.push(with_interval(middle, whole));
        cells.push(row.scores(0).map_or("–".to_owned(), |s| tenths(mean(&s))));
        for other in 1..names.len() {
            cells.push(over_seeds(&row.means(other), ""));
            let difference = clustered(&row.differences(other), Statistic::Mean);
            let unit = if row.points.is_some() {
                ""
            } else {
                ", in returns"
            };
            cells.push(with_interval(difference, tenths) + unit);
        }
        if has_before {
            let before = &row.description.before;
            match before.is_empty() {
                true => cells.extend(["–".to_owned(), "–".to_owned()]),
                false => {
                    cells.push(over_seeds(before, ""));
                    cells.push(with_interval(welch(&means, before), whole));
                }
            }
        }
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out + &summary(names, rows)
}

/// A table of each row; every policy in full, compared with the first.
fn by_policy(names: &[String], more: &[String], rows: &[Row]) -> String {
    let first = &names[0];
    let mut out = String::new();
    for row in rows {
        let description = &row.description;
        let _ = write!(out, "**{}**, asked for {}", description.name, row.target);
        if !description.data.is_empty() {
            let _ = write!(out, " (data: mean, best: {})", description.data);
        }
        let unit = row.points.map_or("returns", |_| "points");
        let mut columns = vec![
            String::new(),
            "mean of each training seed".into(),
            "mean of these ± sample deviation".into(),
            "interquartile mean of all episodes (95 %, over seeds)".into(),
            "score".into(),
            format!("{first} − it, {unit} (95 %, over seeds)"),
        ];
        columns.extend_from_slice(more);
        let _ = write!(out, "\n\n| {} |\n|---|", columns.join(" | "));
        out += &"---:|".repeat(columns.len() - 1);
        out.push('\n');
        for (policy, name) in names.iter().enumerate() {
            let means = row.means(policy);
            let each: Vec<String> = means.iter().map(|m| whole(*m)).collect();
            let middle = clustered(&row.returns(policy), Statistic::InterquartileMean);
            let difference = || clustered(&row.differences(policy), Statistic::Mean);
            let mut cells = vec![
                name.clone(),
                each.join("; "),
                over_seeds(&means, "**"),
                with_interval(middle, whole),
                row.scores(policy)
                    .map_or("–".to_owned(), |s| tenths(mean(&s))),
                match policy {
                    0 => "–".into(),
                    _ => with_interval(difference(), tenths),
                },
            ];
            cells.extend(description.more.get(policy).into_iter().flatten().cloned());
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
        out.push('\n');
    }
    // Which begins with an empty line.
    out.truncate(out.trim_end().len() + 1);
    out + &summary(names, rows)
}

/// Scores over rows and seeds, where there are several rows, all with scores.
fn summary(names: &[String], rows: &[Row]) -> String {
    let mut out = String::new();
    if rows.len() < 2 {
        return out;
    }
    for (policy, name) in names.iter().enumerate() {
        let Some(tasks) = rows
            .iter()
            .map(|row| row.scores(policy))
            .collect::<Option<Vec<_>>>()
        else {
            return out;
        };
        let runs: usize = tasks.iter().map(Vec::len).sum();
        let middle = stratified_bootstrap(&tasks, Statistic::InterquartileMean);
        let how = match middle.interval {
            Some(_) => "95 % by stratified bootstrap of runs",
            None => "no interval, since a row has a single run",
        };
        let _ = write!(
            out,
            "\n{name}: interquartile mean of the scores of {runs} runs, {} rows: {}; {how}.",
            rows.len(),
            with_interval(middle, tenths)
        );
        if policy > 0 {
            let of_runs = |row: &Row| row.differences(policy).iter().map(|d| mean(d)).collect();
            let tasks: Vec<Vec<f64>> = rows.iter().map(of_runs).collect();
            let difference = with_interval(stratified_bootstrap(&tasks, Statistic::Mean), tenths);
            let _ = write!(
                out,
                " {} − {name}: {difference} points on average.",
                names[0]
            );
        }
        out.push('\n');
    }
    out
}

/// Mean ± sample deviation; of one seed the mean alone.
fn over_seeds(means: &[f64], emphasis: &str) -> String {
    let value = format!("{emphasis}{}{emphasis}", whole(mean(means)));
    match sample_deviation(means) {
        None => value,
        Some(deviation) => format!("{value} ± {}", whole(deviation)),
    }
}

fn with_interval(estimate: Estimate, number: fn(f64) -> String) -> String {
    let value = number(estimate.value);
    match estimate.interval {
        None => value,
        Some(Interval { low, high }) => format!("{value} ({} … {})", number(low), number(high)),
    }
}

fn whole(x: f64) -> String {
    minus(format!("{x:.0}"))
}

fn tenths(x: f64) -> String {
    minus(format!("{x:.1}"))
}

/// What rounds to zero has no sign.
fn minus(number: String) -> String {
    match number.trim_start_matches(['-', '0', '.']) {
        "" => number.trim_start_matches('-').to_owned(),
        _ => number.replace('-', "−"),
    }
}
