//! Learning curves: loss, gradient norm and returns against updates.

use maud::{Markup, html};

use super::axis::Axis;
use super::chart::{Caption, Frame, colour, px, thin};
use super::gather::{Gathered, RunData};
use super::learning_curve::kind_of_loss;
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
    let mut kinds: Vec<&str> = Vec::new();
    for run in runs {
        let kind = kind_of_loss(&run.run, &run.records);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let loss = Trace {
        id: "loss",
        title: &format!("Loss ({})", kinds.join(" / ")),
        point: "the mean since the one before, with dropout",
        of: |record| Some(record.loss),
        dashed: |_| None,
    };
    let validation = Trace {
        id: "validation",
        title: "Loss on episodes that are not trained on",
        point: "measured after that update, without dropout; dashed: the same on episodes that are trained on",
        of: |record| record.validation_loss,
        dashed: |record| record.fit_loss,
    };
    let norm = Trace {
        id: "gradient",
        title: "Gradient norm before clipping",
        point: "the mean since the one before",
        of: |record| Some(record.grad_norm),
        dashed: |_| None,
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
struct Trace<'a> {
    id: &'static str,
    title: &'a str,
    /// What a point is.
    point: &'static str,
    of: fn(&Record) -> Option<f64>,
    /// What it is to be compared with.
    dashed: fn(&Record) -> Option<f64>,
}

impl Trace<'_> {
    fn is_known(&self, runs: &[RunData]) -> bool {
        let mut records = runs.iter().flat_map(|run| &run.records);
        records.any(|record| (self.of)(record).is_some())
    }

    fn figure(&self, runs: &[RunData]) -> Markup {
        let curves = |of| -> Vec<_> {
            let runs = runs.iter();
            runs.map(|run| metric(&run.records, of, MOST_POINTS))
                .collect()
        };
        let (solid, dashed) = (curves(self.of), curves(self.dashed));
        let all = || solid.iter().chain(&dashed);
        let values = all().flat_map(|(points, _)| points).map(|point| point.1);
        let frame = Frame::new(updates(runs), Axis::losses(values, 5), "updates", HEIGHT);
        let thinned = match all().map(|(_, each)| *each).max() {
            None | Some(1) => String::new(),
            Some(each) => format!(" Means of up to {each} points."),
        };
        let scale = if frame.y.is_log() {
            " Logarithmic."
        } else {
            ""
        };
        let note = format!("Each point is {}.{thinned}{scale}", self.point);
        let path = |points: &[(f64, f64)]| frame.line(points.iter().copied());
        let body = html! {
            @for (i, (run, ((points, _), (beside, _)))) in runs.iter().zip(solid.iter().zip(&dashed)).enumerate() {
                path.line.(colour(i)) d=(path(points)) {
                    title { (run.name) @if let Some(last) = run.records.last().and_then(self.of) { ": " (num(last)) " at the end" } }
                }
                @if !beside.is_empty() { path.line.dashes.(colour(i)) d=(path(beside)) {} }
            }
        };
        frame.figure(&caption(self.id, self.title, &note), &body)
    }
}

/// A metric by update, at most so many points, and how many records make one.
pub(super) fn metric(
    records: &[Record],
    of: fn(&Record) -> Option<f64>,
    most: usize,
) -> (Vec<(f64, f64)>, usize) {
    let point = |record: &Record| Some((record.update as f64, of(record)?));
    let points: Vec<_> = records.iter().filter_map(point).collect();
    thin(&points, most)
}

/// One figure per target that was asked for in training.
fn returns(all: &Gathered, env: &str, members: &[usize]) -> Markup {
    let records = members.iter().flat_map(|&i| &all.runs[i].records);
    html! {
        @for asked in targets(records.flat_map(|record| &record.eval)) {
            (returns_at(all, env, members, asked))
        }
    }
}

fn returns_at(all: &Gathered, env: &str, members: &[usize], asked: f32) -> Markup {
    let curve = |&i: &usize| {
        let run = &all.runs[i];
        let curve = Returns {
            colour: colour(i),
            name: run.name.clone(),
            points: evaluations(&run.records, asked),
        };
        (!curve.points.is_empty()).then_some((i, run, curve))
    };
    let curves: Vec<(usize, &RunData, Returns)> = members.iter().filter_map(curve).collect();
    let with_bands = curves.len() <= MOST_BANDS;
    let behaviour = |run: &RunData| run.run.info.return_mean;
    let values = curves
        .iter()
        .flat_map(|(_, run, curve)| curve.extent(with_bands).chain([behaviour(run)]));
    let y = Axis::around(values.chain([f64::from(asked)]), 5);
    let x = updates(curves.iter().map(|(_, run, _)| *run));
    let frame = Frame::new(x, y, "updates", HEIGHT);
    let points = curves.iter().flat_map(|(.., curve)| &curve.points);
    let episodes = points.map(|(_, eval)| eval.episodes).max();
    let spread = if with_bands { " ± std" } else { "" };
    let note = format!(
        "Mean{spread} over {}. Dashed: the target. Dotted: mean return of the data.",
        plural(episodes.unwrap_or(0) as usize, "episode")
    );
    let env = if env.is_empty() { "Return" } else { env };
    let title = format!("{env}: return when asked for {}", target(asked.into()));
    let body = html! {
        path.rule.dashes d=(frame.across(asked.into())) { title { "target " (target(asked.into())) } }
        @for (_, run, curve) in &curves {
            path.rule.dots.(curve.colour) d=(frame.across(behaviour(run))) {
                title { "mean return of the data of " (run.name) ": " (num(behaviour(run))) }
            }
            @if with_bands { (curve.band(&frame)) }
            (curve.line(&frame))
        }
    };
    let first = curves.first().map_or(0, |(i, ..)| *i);
    let id = format!("returns-{first}-{asked}");
    frame.figure(&caption(&id, &title, &note), &body)
}

/// Evaluations at one target in the course of a training.
pub(super) struct Returns {
    /// The class that has its colour.
    pub colour: String,
    /// Whose they are.
    pub name: String,
    /// By update.
    pub points: Vec<(f64, EvalRecord)>,
}

impl Returns {
    /// What the vertical axis has to span.
    pub fn extent(&self, with_band: bool) -> impl Iterator<Item = f64> {
        self.points.iter().flat_map(move |(_, eval)| {
            let spread = if with_band { eval.std_return } else { 0.0 };
            [eval.mean_return - spread, eval.mean_return + spread]
        })
    }

    /// One standard deviation to either side of the means.
    pub fn band(&self, frame: &Frame) -> Markup {
        let points = self.points.iter().map(|(x, eval)| {
            let (mean, std) = (eval.mean_return, eval.std_return);
            (*x, mean - std, mean + std)
        });
        html! { path.band.(self.colour) d=(frame.band(&points.collect::<Vec<_>>())) {} }
    }

    /// The means, joined.
    pub fn line(&self, frame: &Frame) -> Markup {
        let points = || self.points.iter();
        html! {
            path.line.(self.colour) d=(frame.line(points().map(|(x, eval)| (*x, eval.mean_return)))) {}
            @for (x, eval) in points() {
                circle.(self.colour).dot cx=(px(frame.px(*x))) cy=(px(frame.py(eval.mean_return))) r="3" {
                    title { (self.name) ", update " (x) ": " (mean_std(eval.mean_return, eval.std_return)) }
                }
            }
        }
    }
}

/// The targets that were asked for, in the order of the recipe.
pub(super) fn targets<'a>(evaluations: impl IntoIterator<Item = &'a EvalRecord>) -> Vec<f32> {
    let mut targets = Vec::new();
    for evaluation in evaluations {
        if !targets.contains(&evaluation.target_return) {
            targets.push(evaluation.target_return);
        }
    }
    targets
}

/// Evaluations at one target, by update.
pub(super) fn evaluations(records: &[Record], asked: f32) -> Vec<(f64, EvalRecord)> {
    let at = |record: &Record| {
        let mut evaluations = record.eval.iter();
        let eval = evaluations.find(|eval| eval.target_return == asked)?;
        Some((record.update as f64, *eval))
    };
    records.iter().filter_map(at).collect()
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
