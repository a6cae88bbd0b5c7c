//! Learning curves: loss, gradient norm and returns against updates.

use maud::{Markup, html};

use super::axis::Axis;
use super::chart::{Caption, Frame, colour, px, thin};
use super::gather::{Gathered, RunData};
use super::text::{mean_std, num, plural, target};
use crate::run::{EvalRecord, Record};

const HEIGHT: f64 = 250.0;
/// Points of a curve, so that long runs do not make the page large.
const MOST_POINTS: usize = 200;
/// Runs in one chart whose spread over episodes is drawn; more would hide each other.
const MOST_BANDS: usize = 2;

/// The section's figures.
pub fn figures(all: &Gathered) -> Markup {
    let runs = &all.runs;
    if runs.iter().all(|run| run.records.is_empty()) {
        return html! { p.missing { "No run has training metrics: " code { "metrics.jsonl" }
        " is missing or empty in each folder." } };
    }
    let loss = Trace {
        id: "loss",
        title: "Loss (mean squared error)",
        of: |record| Some(record.loss),
    };
    let validation = Trace {
        id: "validation",
        title: "Loss on episodes that are not trained on",
        of: |record| record.validation_loss,
    };
    let norm = Trace {
        id: "gradient",
        title: "Gradient norm before clipping",
        of: |record| Some(record.grad_norm),
    };
    html! {
        @for run in runs.iter().filter(|run| run.records.is_empty()) {
            p.missing { (run.name) " has no training metrics: its " code { "metrics.jsonl" } " is missing or empty." }
        }
        div.figures {
            (loss.figure(runs))
            @if validation.is_known(runs) { (validation.figure(runs)) }
            (norm.figure(runs))
            @for (env, members) in all.by_env() { (returns(all, env, &members)) }
        }
        @if runs.iter().all(|run| run.records.iter().all(|record| record.eval.is_empty())) {
            p.missing { "No run was evaluated in training, so there is no curve of returns. Training evaluates where the "
            "environment is known (" code { "--env" } ") and " code { "eval.every" } " says so." }
        }
    }
}

/// A training metric.
struct Trace {
    id: &'static str,
    title: &'static str,
    of: fn(&Record) -> Option<f64>,
}

impl Trace {
    fn is_known(&self, runs: &[RunData]) -> bool {
        let mut records = runs.iter().flat_map(|run| &run.records);
        records.any(|record| (self.of)(record).is_some())
    }

    fn figure(&self, runs: &[RunData]) -> Markup {
        let mut each = 1;
        let mut curves = Vec::new();
        for run in runs {
            let points: Vec<_> = run
                .records
                .iter()
                .filter_map(|record| Some((record.update as f64, (self.of)(record)?)))
                .collect();
            let (points, n) = thin(&points, MOST_POINTS);
            each = std::cmp::max(each, n);
            curves.push(points);
        }
        let values = curves.iter().flatten().map(|point| point.1);
        let frame = Frame::new(updates(runs), Axis::log(values), "updates", HEIGHT);
        let note = match each {
            1 => "Each point is the mean since the one before. Logarithmic.".to_owned(),
            n => format!("Each point is the mean of up to {n} log intervals. Logarithmic."),
        };
        let body = html! {
            @for (i, (run, points)) in runs.iter().zip(&curves).enumerate() {
                path.line.(colour(i)) d=(frame.line(points.iter().copied())) {
                    title { (run.name) @if let Some(last) = run.records.last().and_then(self.of) { ": " (num(last)) " at the end" } }
                }
            }
        };
        frame.figure(&caption(self.id, self.title, &note), &body)
    }
}

/// One figure per target that was asked for in training.
fn returns(all: &Gathered, env: &str, members: &[usize]) -> Markup {
    let mut targets: Vec<f32> = Vec::new();
    for record in members.iter().flat_map(|&i| &all.runs[i].records) {
        for eval in &record.eval {
            if !targets.contains(&eval.target_return) {
                targets.push(eval.target_return);
            }
        }
    }
    html! {
        @for asked in targets {
            (returns_at(all, env, members, asked))
        }
    }
}

fn returns_at(all: &Gathered, env: &str, members: &[usize], asked: f32) -> Markup {
    let curves: Vec<(usize, Vec<(f64, EvalRecord)>)> = members
        .iter()
        .map(|&i| (i, evaluations(&all.runs[i], asked)))
        .filter(|(_, curve)| !curve.is_empty())
        .collect();
    let with_bands = curves.len() <= MOST_BANDS;
    let mut values = vec![f64::from(asked)];
    for (i, curve) in &curves {
        values.push(all.runs[*i].run.info.return_mean);
        for (_, eval) in curve {
            let spread = if with_bands { eval.std_return } else { 0.0 };
            values.extend([eval.mean_return - spread, eval.mean_return + spread]);
        }
    }
    let members: Vec<&RunData> = curves.iter().map(|(i, _)| &all.runs[*i]).collect();
    let frame = Frame::new(updates(members), Axis::around(values, 5), "updates", HEIGHT);
    let episodes = curves
        .iter()
        .flat_map(|(_, curve)| curve)
        .map(|(_, eval)| eval.episodes)
        .max();
    let spread = if with_bands { " ± std" } else { "" };
    let note = format!(
        "Mean{spread} over {}. Dashed: the target. Dotted: mean return of the data.",
        plural(episodes.unwrap_or(0) as usize, "episode")
    );
    let env = if env.is_empty() { "Return" } else { env };
    let title = format!("{env}: return when asked for {}", target(asked.into()));
    let body = html! {
        path.rule.dashes d=(frame.across(asked.into())) { title { "target " (target(asked.into())) } }
        @for (i, curve) in &curves {
            @let run = &all.runs[*i];
            path.rule.dots.(colour(*i)) d=(frame.across(run.run.info.return_mean)) {
                title { "mean return of the data of " (run.name) ": " (num(run.run.info.return_mean)) }
            }
            @if with_bands {
                path.band.(colour(*i)) d=(frame.band(&band(curve))) {}
            }
            path.line.(colour(*i)) d=(frame.line(curve.iter().map(|(x, eval)| (*x, eval.mean_return)))) {}
            @for (x, eval) in curve {
                circle.(colour(*i)).dot cx=(px(frame.px(*x))) cy=(px(frame.py(eval.mean_return))) r="3" {
                    title { (run.name) ", update " (x) ": " (mean_std(eval.mean_return, eval.std_return)) }
                }
            }
        }
    };
    let id = format!("returns-{}", curves.first().map_or(0, |(i, _)| *i));
    frame.figure(&caption(&format!("{id}-{asked}"), &title, &note), &body)
}

fn band(curve: &[(f64, EvalRecord)]) -> Vec<(f64, f64, f64)> {
    let around = |(x, e): &(f64, EvalRecord)| {
        (
            *x,
            e.mean_return - e.std_return,
            e.mean_return + e.std_return,
        )
    };
    curve.iter().map(around).collect()
}

/// Evaluations at one target, by update.
fn evaluations(run: &RunData, asked: f32) -> Vec<(f64, EvalRecord)> {
    let at = |record: &Record| {
        let eval = record
            .eval
            .iter()
            .find(|eval| eval.target_return == asked)?;
        Some((record.update as f64, *eval))
    };
    run.records.iter().filter_map(at).collect()
}

fn updates<'a>(runs: impl IntoIterator<Item = &'a RunData>) -> Axis {
    let last = runs.into_iter().map(RunData::updates).max().unwrap_or(0);
    Axis::linear(0.0, std::cmp::max(last, 1) as f64, 4)
}

fn caption(id: &str, title: &str, note: &str) -> Caption {
    Caption {
        id: id.to_owned(),
        title: title.to_owned(),
        note: note.to_owned(),
    }
}
