//! Normalized scores beside published ones.

use host_sim::policy_file::unversioned;
use maud::{Markup, html};

use super::gather::{Gathered, RunData};
use super::returns::{interquartile, name};
use super::text::plural;
use crate::stats::{mean, sample_deviation};

/// Scores of one D4RL data set: 100·(return − random) / (expert − random), as published.
struct Published {
    env: &'static str,
    data: &'static str,
    /// In the order of [`METHODS`]; empty: none published.
    scores: [&'static str; 5],
}

/// Decision Transformer, conservative Q-learning and behaviour cloning (of all, of the best tenth) in the Decision Transformer
/// paper (Chen et al. 2021, table 2); Decision Transformer in CORL (Tarasov et al. 2023, last evaluation).
const METHODS: [&str; 5] = ["DT paper", "CQL", "BC", "10 % BC", "CORL DT"];

const PUBLISHED: [Published; 12] = [
    published(
        "halfcheetah",
        "medium",
        ["42.6 ± 0.1", "44.4", "43.1", "42.9", "42.2"],
    ),
    published(
        "hopper",
        "medium",
        ["67.6 ± 1.0", "58.0", "63.9", "65.9", "65.1"],
    ),
    published(
        "walker2d",
        "medium",
        ["74.0 ± 1.4", "79.2", "77.3", "78.8", "67.6"],
    ),
    published("reacher-dt", "medium", ["51.2", "26.0", "48.9", "51.0", ""]),
    published(
        "halfcheetah",
        "medium-replay",
        ["36.6 ± 0.8", "46.2", "4.3", "40.8", "38.9"],
    ),
    published(
        "hopper",
        "medium-replay",
        ["82.7 ± 7.0", "48.6", "27.6", "70.6", "81.8"],
    ),
    published(
        "walker2d",
        "medium-replay",
        ["66.6 ± 3.0", "26.7", "36.9", "70.4", "59.9"],
    ),
    published(
        "reacher-dt",
        "medium-replay",
        ["18.0", "19.0", "5.4", "33.1", ""],
    ),
    published(
        "halfcheetah",
        "medium-expert",
        ["86.8 ± 1.3", "62.4", "59.9", "", "91.6"],
    ),
    published(
        "hopper",
        "medium-expert",
        ["107.6 ± 1.8", "111.0", "79.6", "", "110.4"],
    ),
    published(
        "walker2d",
        "medium-expert",
        ["108.1 ± 0.2", "98.7", "36.6", "", "107.1"],
    ),
    published(
        "reacher-dt",
        "medium-expert",
        ["89.1", "30.6", "73.3", "", ""],
    ),
];

const fn published(env: &'static str, data: &'static str, scores: [&'static str; 5]) -> Published {
    Published { env, data, scores }
}

/// A row of the table.
struct Row {
    data: String,
    ours: Vec<String>,
    scores: [&'static str; 5],
}

/// The section.
pub fn section(all: &Gathered) -> Markup {
    html! {
        @for (env, members) in all.by_evaluated_env() { (of_env(all, env, &members)) }
        (over_tasks(all))
    }
}

/// Over recipes and environments that were each trained with several seeds, as rliable does.
fn over_tasks(all: &Gathered) -> Markup {
    let by_env = all.by_env();
    let tasks = by_env.iter().flat_map(|(env, members)| {
        let groups = groups(all, members);
        groups
            .into_iter()
            .map(|group| scores(all, env, &group))
            .collect::<Vec<_>>()
    });
    let tasks: Vec<Vec<f64>> = tasks.filter(|scores| scores.len() > 1).collect();
    let runs = tasks.iter().map(Vec::len).sum();
    html! { @if tasks.len() > 1 {
        p.fact { "Over " (plural(tasks.len(), "recipe")) " with several seeds, " (plural(runs, "run")) ": " (interquartile(&tasks)) "." }
    } }
}

fn of_env(all: &Gathered, env: &str, members: &[usize]) -> Markup {
    if all.score(env, 0.0).is_none() {
        return html! { p.missing {
            (name(env)) ": no normalized score. The environment names no returns of a random and an expert agent, or it cannot be opened here."
        } };
    }
    let mut rows: Vec<Row> = PUBLISHED
        .iter()
        .filter(|row| row.env == unversioned(env))
        .map(|row| Row {
            data: row.data.to_owned(),
            ours: Vec::new(),
            scores: row.scores,
        })
        .collect();
    let methods = if rows.is_empty() { &[][..] } else { &METHODS };
    let groups = groups(all, members);
    for group in &groups {
        let Some(mut score) = score(all, env, group) else {
            continue;
        };
        if groups.len() > 1 {
            let names: Vec<_> = group.iter().map(|run| run.name.as_str()).collect();
            score = format!("{}: {score}", names.join(", "));
        }
        let files = &group[0].run.info.dataset;
        match rows
            .iter_mut()
            .find(|row| kind(files) == Some(row.data.as_str()))
        {
            Some(row) => row.ours.push(score),
            None => rows.push(Row {
                data: file_names(files),
                ours: vec![score],
                scores: [""; 5],
            }),
        }
    }
    let named_alike = members
        .iter()
        .all(|&i| is_d4rl_name(&all.runs[i].run.info.dataset, env));
    html! {
        h3 { (env) }
        div.scroll tabindex="0" role="region" aria-label={ "Normalized scores on " (env) } {
            table {
                thead { tr {
                    th scope="col" { "data" } th.n scope="col" { "these runs" }
                    @for method in methods { th.n scope="col" { (method) } }
                } }
                tbody { @for row in &rows { tr {
                    th scope="row" { (row.data) }
                    td.n { @if row.ours.is_empty() { "–" } @else { b { (row.ours.join("; ")) } } }
                    @for score in row.scores.iter().take(methods.len()) { td.n { @if score.is_empty() { "–" } @else { (score) } } }
                } } }
            }
        }
        @if !methods.is_empty() { p.fact {
            @if named_alike {
                "The data are named like D4RL's; whether they are the same, the report cannot tell. "
            } @else {
                strong { "The data of these runs are not D4RL's" } " (" (data_of(all, members)) "): a row puts sets of the same kind side by side, and a "
                "difference in it need not be one between methods. "
            }
            "All but the first column of numbers is quoted: DT, CQL, BC and 10 % BC from Chen et al. 2021, CORL from Tarasov et al. 2023."
        } }
        p.fact {
            "Score: 100 · (return − random) / (expert − random), with the returns of a random and an expert agent that the environment names (D4RL's in MuJoCo), at each run's default target. "
            "± is the sample deviation over runs that differ by seed; a single run has none."
        }
    }
}

/// Runs that differ by seed only, together.
fn groups<'a>(all: &'a Gathered, members: &[usize]) -> Vec<Vec<&'a RunData>> {
    let mut groups: Vec<Vec<&RunData>> = Vec::new();
    for run in members.iter().map(|&i| &all.runs[i]) {
        match groups.iter_mut().find(|group| group[0].group == run.group) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}

/// Scores in an environment, each run's at its default target; a run that was not evaluated there has none.
fn scores(all: &Gathered, env: &str, group: &[&RunData]) -> Vec<f64> {
    let achieved = group.iter().filter_map(|run| run.headline_in(env));
    achieved
        .filter_map(|(_, achieved)| all.score(env, achieved.mean))
        .collect()
}

/// What the table says of runs that differ by seed.
fn score(all: &Gathered, env: &str, group: &[&RunData]) -> Option<String> {
    let scores = scores(all, env, group);
    let (policy, _) = group.iter().find_map(|run| run.headline_in(env))?;
    let score = format!("{:.1}", mean(&scores)).replace('-', "−");
    Some(match sample_deviation(&scores) {
        None => format!("{score} ({}, update {})", policy.dtype, policy.update),
        Some(deviation) => format!("{score} ± {deviation:.1} ({})", plural(scores.len(), "run")),
    })
}

fn data_of(all: &Gathered, members: &[usize]) -> String {
    let mut names: Vec<String> = Vec::new();
    for &i in members {
        let name = file_names(&all.runs[i].run.info.dataset);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join("; ")
}

/// Data files without their folders.
pub fn file_names(files: &str) -> String {
    let name = |file: &str| {
        let path = std::path::Path::new(file);
        path.file_name().map_or_else(
            || file.to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    };
    files.split(',').map(name).collect::<Vec<_>>().join(" + ")
}

/// D4RL's kind of data that a file's name speaks of.
fn kind(files: &str) -> Option<&'static str> {
    let name = file_names(files).replace('_', "-");
    let kinds = ["medium-replay", "medium-expert", "medium"];
    let found = kinds.into_iter().find(|kind| name.contains(kind))?;
    (!files.contains(',')).then_some(found)
}

/// `hopper_medium_replay-v2.hdf5` and the like.
fn is_d4rl_name(files: &str, env: &str) -> bool {
    let name = file_names(files).replace('_', "-");
    let Some((stem, _)) = name.rsplit_once(".hdf5") else {
        return false;
    };
    let stem_of = unversioned(stem);
    stem_of != stem
        && stem_of
            .strip_prefix(unversioned(env))
            .is_some_and(|kind| ["-medium", "-medium-replay", "-medium-expert"].contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_data_are_found_in_names() {
        assert_eq!(kind("a/hopper-medium-replay.hdf5"), Some("medium-replay"));
        assert_eq!(
            kind("walker2d_medium_expert-v2.hdf5"),
            Some("medium-expert")
        );
        assert_eq!(kind("medium/hopper-good.hdf5"), None);
        assert_eq!(kind("hopper-medium.hdf5,hopper-good.hdf5"), None);
    }

    #[test]
    fn only_names_like_d4rl_s_pass_for_them() {
        assert!(is_d4rl_name(
            "d4rl/hopper_medium_replay-v2.hdf5",
            "hopper-v4"
        ));
        for other in [
            "hopper-medium.hdf5",
            "walker2d_medium-v2.hdf5",
            "hopper_good-v2.hdf5",
        ] {
            assert!(!is_d4rl_name(other, "hopper-v4"), "{other}");
        }
    }
}
