//! The page: what is at the top, and the sections in order.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::gather::{Gathered, RunData};
use super::returns::swatch;
use super::text::{count, duration, kib, mean_std, num, plural, target};
use super::{cost, curves, quantization, returns, scores, theme};
use crate::run::records::ExportRecord;

/// A section: where it is linked to, its heading, what is in it.
type Section = (&'static str, &'static str, Markup);

/// The whole page.
pub fn page(all: &Gathered) -> Markup {
    let title = title(all);
    let sections: [Section; 7] = [
        ("runs", "Runs", runs(all)),
        (
            "returns",
            "Achieved against target return",
            returns::achieved(all),
        ),
        ("learning", "Learning curves", curves::figures(all)),
        ("episodes", "Episode returns", returns::histograms(all)),
        (
            "scores",
            "Scores beside published ones",
            scores::section(all),
        ),
        ("quantization", "Quantization", quantization::section(all)),
        ("cost", "Cost on the controller", cost::section(all)),
    ];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(theme::page())) }
            }
            body {
                header {
                    p.kind { "Decision Transformer, training report" }
                    h1 { (title) }
                    (lead(all))
                    (tiles(all))
                    nav aria-label="Sections" {
                        @for (id, heading, _) in &sections { a href={ "#" (id) } { (heading) } }
                        a href="#recipes" { "Recipes" }
                    }
                    @if all.runs.len() > 1 { (legend(all)) }
                }
                main {
                    @for (id, heading, content) in &sections {
                        section id=(id) aria-labelledby={ (id) "-heading" } {
                            h2 id={ (id) "-heading" } { (heading) }
                            (content)
                        }
                    }
                    (recipes(all))
                }
                footer { "Written by dt-train " (env!("CARGO_PKG_VERSION")) ". Every number is of the runs above unless it says otherwise." }
            }
        }
    }
}

fn title(all: &Gathered) -> String {
    let envs: Vec<&str> = all
        .by_env()
        .into_iter()
        .map(|(env, _)| returns::name(env))
        .collect();
    match all.runs.as_slice() {
        [only] => format!("{}: {}", envs.join(", "), only.name),
        several => format!("{}: {}", envs.join(", "), plural(several.len(), "run")),
    }
}

/// The run with the highest return at its default target, and out of how many. Evaluations in the course of training
/// are of few episodes: they count only where there are no others.
fn best<'a>(all: &'a Gathered, members: &[usize]) -> Option<(&'a RunData, usize)> {
    let headlines = members.iter().filter_map(|&i| {
        let (policy, achieved) = all.runs[i].headline()?;
        Some((&all.runs[i], policy.in_training, achieved.mean))
    });
    let headlines: Vec<_> = headlines.collect();
    let in_training = headlines.iter().all(|(_, in_training, _)| *in_training);
    let compared = headlines
        .iter()
        .filter(|headline| headline.1 == in_training);
    let of = compared.clone().count();
    let best = compared.max_by(|a, b| a.2.total_cmp(&b.2))?;
    Some((best.0, of))
}

/// The result in a sentence per environment.
fn lead(all: &Gathered) -> Markup {
    html! {
        @for (_, members) in all.by_env() {
            @if let Some((run, of)) = best(all, &members) { @if let Some((policy, achieved)) = run.headline() {
                @let info = &run.run.info;
                p.lead {
                    "Asked for a return of " (target(achieved.target)) ", " b { (run.name) } " as " (policy.dtype) " after update " (count(policy.update)) " achieves "
                    b { (mean_std(achieved.mean, achieved.std)) } " over " (plural(achieved.episodes, "episode"))
                    @if policy.in_training { " in training" }
                    @if of > 1 { ", the highest mean of " (of) " runs" }
                    ". The data it learned from have a mean return of " (num(info.return_mean)) " and a best of " (num(info.return_max)) "."
                }
            } } @else {
                p.lead { "Nothing has been evaluated yet." }
            }
        }
    }
}

/// Key figures of the best run, where there is one environment only.
fn tiles(all: &Gathered) -> Markup {
    let by_env = all.by_env();
    let [(env, members)] = by_env.as_slice() else {
        return html! {};
    };
    let Some((run, _)) = best(all, members) else {
        return html! {};
    };
    let mut tiles: Vec<(&str, String, String)> = Vec::new();
    if let Some((_, achieved)) = run.headline() {
        let note = format!("asked for {}", target(achieved.target));
        tiles.push(("Mean return", num(achieved.mean), note));
        if let Some(score) = all.score(env, achieved.mean) {
            tiles.push((
                "Normalized score",
                format!("{score:.1}").replace('-', "−"),
                "0 random, 100 expert".into(),
            ));
        }
    }
    let quantized = |export: &&ExportRecord| export.dtype != "f32";
    if let Some(export) = run.exports.iter().find(quantized).or(run.exports.first()) {
        let note = format!("policy file, {}", export.dtype);
        tiles.push(("Flash", kib(export.flash_bytes as u64), note));
        tiles.push((
            "RAM",
            kib(export.arena_bytes as u64),
            "all state of the policy".into(),
        ));
    }
    if run.seconds() > 0.0 {
        let note = format!("{} updates", count(run.updates()));
        tiles.push(("Training", duration(run.seconds()), note));
    }
    html! {
        dl.tiles aria-label={ "Key figures of " (run.name) } {
            @for (what, value, note) in &tiles { div { dt { (what) } dd { b { (value) } span { (note) } } } }
        }
    }
}

fn legend(all: &Gathered) -> Markup {
    html! {
        ul.legend aria-label="Colours of the runs" {
            @for (i, run) in all.runs.iter().enumerate() { li { (swatch(i)) (run.name) } }
        }
    }
}

/// The summary table.
fn runs(all: &Gathered) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Runs" {
            table {
                thead { tr {
                    th scope="col" { "run" } th scope="col" { "data" } th scope="col" { "model" } th.n scope="col" { "parameters" }
                    th scope="col" { "exported" } th.n scope="col" { "updates" }
                    th.n scope="col" { "final return" } th.n scope="col" { "best return" } th.n scope="col" { "time" }
                } }
                tbody { @for (i, run) in all.runs.iter().enumerate() { (row(i, run)) } }
            }
        }
        (returns::over_seeds(all))
        p.fact {
            "Final and best return: evaluations in the course of training, as f32, at the first target of the recipe. Time: of the updates, evaluation not counted. "
            "Model: layers × width, context length, attention or other method."
        }
    }
}

fn row(index: usize, run: &RunData) -> Markup {
    let (info, algorithm) = (&run.run.info, &run.run.recipe.algorithm);
    let evaluated: Vec<_> = run
        .records
        .iter()
        .filter_map(|record| Some((record.update, *record.eval.first()?)))
        .collect();
    let last = evaluated.last();
    let best = evaluated.iter().reduce(|best, other| {
        if other.1.mean_return > best.1.mean_return {
            other
        } else {
            best
        }
    });
    let exported: Vec<&str> = run
        .exports
        .iter()
        .map(|export| export.dtype.as_str())
        .collect();
    let missing = html! { span.again { "none" } };
    html! {
        tr {
            th scope="row" { (swatch(index)) (run.name) br; span.again { (returns::name(&info.env)) ", seed " (run.run.recipe.train.seed) } }
            td { (scores::file_names(&info.dataset)) br; span.again { (plural(info.transitions, "step")) ", " (plural(info.episodes, "episode")) } }
            td { (algorithm.size()) br; span.again { (algorithm.variety()) } }
            td.n { (count(run.run.parameters())) }
            td { @if exported.is_empty() { (missing) } @else { (exported.join(", ")) } }
            td.n { (count(run.updates())) @if run.updates() < run.run.recipe.train.updates { br; span.again { "of " (count(run.run.recipe.train.updates)) } } }
            td.n { @match last { Some((_, eval)) => (mean_std(eval.mean_return, eval.std_return)), None => (missing) } }
            td.n { @match best {
                Some((update, eval)) => { (mean_std(eval.mean_return, eval.std_return)) br; span.again { "update " (count(*update)) } },
                None => (missing),
            } }
            td.n { @if run.seconds() > 0.0 { (duration(run.seconds())) } @else { (missing) } }
        }
    }
}

/// What it takes to train the runs again.
fn recipes(all: &Gathered) -> Markup {
    html! {
        section id="recipes" aria-labelledby="recipes-heading" {
            h2 id="recipes-heading" { "Recipes" }
            @for (i, run) in all.runs.iter().enumerate() {
                details {
                    summary { (swatch(i)) (run.name) }
                    p.fact { "Data: " code { (run.run.info.dataset) } ", SHA-256 " code.long { (run.run.info.dataset_sha256) } }
                    pre tabindex="0" { (run.run.recipe.to_toml()) }
                }
            }
        }
    }
}
