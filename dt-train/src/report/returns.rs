//! Returns: achieved against asked for, and how they are distributed.

use maud::{Markup, html};

use super::axis::{Axis, extent, round_step};
use super::chart::{Caption, Frame, WIDTH, colour, px};
use super::gather::{Achieved, Gathered, Policy, RunData};
use super::text::{mean_std, num, plural, target};
use crate::stats::{
    Estimate, Interval, Statistic, mean, pearson, population_deviation, sample_deviation,
    stratified_bootstrap,
};

const HEIGHT: f64 = 330.0;
const HISTOGRAM_HEIGHT: f64 = 200.0;
/// Episodes per target that are drawn as dots, and policies beyond which none are.
const MOST_DOTS: usize = 50;
const MOST_CLOUDS: usize = 4;
/// Bars of a histogram, about.
const BARS: f64 = 28.0;
/// Rows of a table that is open from the start.
const OPEN_ROWS: usize = 14;

/// A policy of a run.
#[derive(Clone, Copy)]
struct Series<'a> {
    /// Its run's place among all.
    index: usize,
    run: &'a RunData,
    policy: &'a Policy,
}

/// Achieved against target return, a figure and a table per environment.
pub fn achieved(all: &Gathered) -> Markup {
    html! {
        @for run in all.runs.iter().filter(|run| run.policies.is_empty()) {
            p.missing { (run.name) " has not been evaluated. " code { "dt-train eval " (run.run.dir.display()) " --env … --target-return R1,R2,… --episodes N" }
            " keeps its results in the run folder; " code { "--eval FILE.json" } " adds those of its exported policies." }
        }
        @for (env, members) in all.by_evaluated_env() {
            @let series = series(all, env, &members);
            @if !series.is_empty() {
                div.beside {
                    (achieved_figure(env, &series))
                    (achieved_table(all, env, &series))
                }
            }
        }
    }
}

fn series<'a>(all: &'a Gathered, env: &str, members: &[usize]) -> Vec<Series<'a>> {
    let of_run = |&index: &usize| {
        let run = &all.runs[index];
        let here = run.policies.iter().filter(|policy| policy.env == env);
        here.map(move |policy| Series { index, run, policy })
    };
    members.iter().flat_map(of_run).collect()
}

fn achieved_figure(env: &str, series: &[Series<'_>]) -> Markup {
    let info = |s: &Series<'_>| s.run.run.info.clone();
    let points = || series.iter().flat_map(|s| &s.policy.achieved);
    let dots = if series.len() > MOST_CLOUDS {
        0
    } else {
        MOST_DOTS
    };
    let shown = |a: &Achieved| a.returns.iter().copied().take(dots).collect::<Vec<_>>();
    let xs = points()
        .map(|a| a.target)
        .chain(series.iter().map(|s| info(s).return_max));
    let ys = points()
        .flat_map(|a| shown(a).into_iter().chain([a.mean - a.std, a.mean + a.std]))
        .chain(series.iter().map(|s| info(s).return_mean));
    let frame = Frame::new(
        Axis::around(xs, 4),
        Axis::around(ys, 6),
        "target return",
        HEIGHT,
    );
    let (x, y) = (frame.x.ends(), frame.y.ends());
    // Policies at the same target stand side by side, within the axes.
    let room = points()
        .map(|a| frame.px(a.target))
        .map(|at| f64::min(at - frame.px(x.0), frame.px(x.1) - at))
        .fold(30.0, f64::min);
    let width = f64::min(6.0, 2.0 * room / series.len() as f64);
    let aside = |i: usize| width * (i as f64 - (series.len() - 1) as f64 / 2.0);
    let body = html! {
        @if let Some(diagonal) = frame.diagonal() {
            path.rule.dashes d=(diagonal) { title { "achieved = target" } }
        }
        @for s in data_sets(series) {
            @let info = &s.run.run.info;
            @let colour = if data_sets(series).len() > 1 { colour(s.index) } else { "plain".to_owned() };
            path.rule.dots.(colour) d=(frame.along(info.return_max)) { title { "best return in the data: " (num(info.return_max)) } }
            path.rule.dots.(colour) d=(frame.across(info.return_mean)) { title { "mean return of the data: " (num(info.return_mean)) } }
        }
        @if data_sets(series).len() == 1 {
            @let info = info(&series[0]);
            @let best = frame.px(info.return_max);
            text.remark x=(px(best - 5.0)) y=(px(frame.py(y.0) - 6.0)) text-anchor="end" { "best in the data" }
            text.remark x=(px(frame.px(x.0) + 4.0)) y=(px(frame.py(info.return_mean) - 5.0)) { "mean of the data" }
        }
        @for (i, s) in series.iter().enumerate() {
            g.(colour(s.index)).(s.policy.dtype) transform={ "translate(" (px(aside(i))) " 0)" } {
                path.cloud d=(frame.dots(s.policy.achieved.iter().flat_map(|a| shown(a).into_iter().map(|r| (a.target, r))))) {}
                path.thread d=(frame.line(s.policy.achieved.iter().map(|a| (a.target, a.mean)))) {}
                (frame.means(s.policy.achieved.iter().map(|a| (a.target, a.mean, a.std, told(s, series, a)))))
            }
        }
    };
    let drawn = match points().map(|a| a.returns.len()).max().unwrap_or(0) {
        0 => String::new(),
        _ if dots == 0 => String::new(),
        n if n > dots => format!("; faint dots: the first {dots} episodes"),
        _ => "; faint dots: episodes".to_owned(),
    };
    let hollow = if series.iter().any(|s| s.policy.dtype == "f32") {
        " Hollow marks: f32."
    } else {
        ""
    };
    let note = format!(
        "Mean and standard deviation of the achieved return over episodes, per target{drawn}. Dashed: achieved = target. \
         Dotted: best (vertical) and mean return (horizontal) of the data.{hollow}"
    );
    let caption = Caption {
        id: format!("achieved-{}-{env}", series[0].index),
        title: format!("{}: achieved against target return", name(env)),
        note,
    };
    frame.figure(&caption, &body)
}

/// What a pointer that rests on a mean is told.
fn told(s: &Series<'_>, series: &[Series<'_>], a: &Achieved) -> String {
    let (label, asked) = (label(s, series), target(a.target));
    let episodes = plural(a.episodes, "episode");
    format!(
        "{label}, target {asked}: {}, {episodes}",
        mean_std(a.mean, a.std)
    )
}

/// One series of each set of data.
fn data_sets<'a>(series: &[Series<'a>]) -> Vec<Series<'a>> {
    let mut sets: Vec<Series<'a>> = Vec::new();
    for s in series {
        let marks = |s: &Series<'_>| (s.run.run.info.return_mean, s.run.run.info.return_max);
        if sets.iter().all(|other| marks(other) != marks(s)) {
            sets.push(*s);
        }
    }
    sets
}

fn achieved_table(all: &Gathered, env: &str, series: &[Series<'_>]) -> Markup {
    let rows: usize = series.iter().map(|s| s.policy.achieved.len()).sum();
    let scored = all.score(env, 0.0).is_some();
    let table = html! {
        div.scroll tabindex="0" role="region" aria-label={ (name(env)) ": achieved returns" } {
            table {
                thead { tr {
                    th scope="col" { "policy" } th.n scope="col" { "target" } th.n scope="col" { "achieved" }
                    th.n scope="col" { "episodes" } @if scored { th.n scope="col" { "score" } }
                } }
                tbody {
                    @for s in series { @for (i, a) in s.policy.achieved.iter().enumerate() {
                        tr {
                            @if i == 0 {
                                th scope="rowgroup" rowspan=(s.policy.achieved.len()) { (swatch(s.index)) (s.run.name) br; span.again { (variant(s, series)) } }
                            }
                            td.n { (target(a.target)) } td.n { (mean_std(a.mean, a.std)) } td.n { (a.episodes) }
                            @if let Some(score) = all.score(env, a.mean) { td.n { (format!("{score:.1}").replace('-', "−")) } }
                        }
                    } }
                }
            }
        }
    };
    html! {
        div.numbers {
            @for s in series { @if let Some(r) = correlation(&s.policy.achieved) {
                p.fact { (swatch(s.index)) (label(s, series)) ": correlation of achieved with target return (Pearson) "
                    b { (format!("{r:.2}").replace('-', "−")) } " over " (plural(s.policy.achieved.len(), "target")) "." }
            } }
            @if series.iter().any(|s| s.policy.in_training) {
                p.fact { "“In training”: the last evaluation in the course of training, on few episodes; "
                    code { "dt-train eval RUN" } " measures on more." }
            }
            @if rows <= OPEN_ROWS { (table) } @else { details { summary { "All " (rows) " numbers" } (table) } }
        }
    }
}

/// Of mean achieved with target return, over at least three targets.
fn correlation(achieved: &[Achieved]) -> Option<f64> {
    let pairs: Vec<_> = achieved.iter().map(|a| (a.target, a.mean)).collect();
    pearson(&pairs).filter(|_| pairs.len() >= 3)
}

/// Run and variant.
fn label(s: &Series<'_>, series: &[Series<'_>]) -> String {
    format!("{}, {}", s.run.name, variant(s, series))
}

/// The dtype, with the update where the run was evaluated at several.
fn variant(s: &Series<'_>, series: &[Series<'_>]) -> String {
    let several = series
        .iter()
        .any(|other| other.index == s.index && other.policy.update != s.policy.update);
    let update = if several {
        format!(", update {}", s.policy.update)
    } else {
        String::new()
    };
    let training = if s.policy.in_training {
        ", in training"
    } else {
        ""
    };
    format!("{}{update}{training}", s.policy.dtype)
}

/// Final returns of runs that differ by training seed, a line for each recipe that has several.
pub fn over_seeds(all: &Gathered) -> Markup {
    let groups = all.runs.iter().map(|run| run.group + 1).max().unwrap_or(0);
    html! {
        @for group in 0..groups {
            @let members: Vec<&RunData> = all.runs.iter().filter(|run| run.group == group).collect();
            @let returns: Vec<f64> = members.iter().filter_map(|run| final_return(run)).collect();
            @if let Some(deviation) = sample_deviation(&returns) {
                @let names: Vec<&str> = members.iter().map(|run| run.name.as_str()).collect();
                p.fact {
                    "Final return over " (returns.len()) " seeds (" (names.join(", ")) "): " b { (mean_std(mean(&returns), deviation)) }
                    ", sample deviation over runs; " (interquartile(&[returns])) "."
                }
            }
        }
    }
}

fn final_return(run: &RunData) -> Option<f64> {
    let newest = run.records.iter().rev().find_map(|r| r.eval.first());
    Some(newest?.mean_return)
}

/// The interquartile mean of runs by task, in words.
pub fn interquartile(tasks: &[Vec<f64>]) -> String {
    let Estimate { value, interval } = stratified_bootstrap(tasks, Statistic::InterquartileMean);
    let value = format!("interquartile mean {}", num(value));
    match interval {
        Some(Interval { low, high }) => {
            format!(
                "{value} (95 %: {} … {}, stratified bootstrap of runs)",
                num(low),
                num(high)
            )
        }
        None => value,
    }
}

/// The colour of a run.
pub fn swatch(index: usize) -> Markup {
    html! { span.swatch.(colour(index)) aria-hidden="true" {} }
}

/// An environment in a heading.
pub fn name(env: &str) -> &str {
    if env.is_empty() {
        "Unknown environment"
    } else {
        env
    }
}

/// Episode returns of data and policy, a figure per run.
pub fn histograms(all: &Gathered) -> Markup {
    html! {
        div.figures { @for (i, run) in all.runs.iter().enumerate() { (histogram(i, run)) } }
        @for run in &all.runs { @if let Err(reason) = &run.data_returns {
            p.missing { (run.name) ": the returns of the data are not shown, since " (reason)
                ". The report finds them in the folder that training was started in." }
        } }
        @let unknown: Vec<&str> = all.runs.iter().filter(|run| evaluated(run).is_none()).map(|run| run.name.as_str()).collect();
        @if !unknown.is_empty() {
            p.missing { (unknown.join(", ")) ": no policy's episodes are shown, since none were evaluated but in training. See " code { "dt-train eval" } "." }
        }
    }
}

/// What was evaluated episode by episode.
fn evaluated(run: &RunData) -> Option<(&Policy, &Achieved)> {
    run.headline().filter(|(policy, _)| !policy.in_training)
}

fn histogram(index: usize, run: &RunData) -> Markup {
    let info = &run.run.info;
    let asked = f64::from(info.target_return);
    let achieved = evaluated(run);
    let data = run.data_returns.as_deref();
    let data = data.unwrap_or_default();
    let ours = achieved.map_or(&[][..], |(_, achieved)| achieved.returns.as_slice());
    let Some((low, high)) = extent(data.iter().chain(ours).copied()) else {
        return html! {};
    };
    let step = round_step(f64::max(high - low, 1e-6) / BARS);
    let first = (low / step).floor();
    let bars = ((high / step).floor() - first) as usize + 1;
    let share = |returns: &[f64]| -> Vec<f64> {
        let mut counts = vec![0.0; bars];
        for r in returns.iter().filter(|r| r.is_finite()) {
            counts[std::cmp::min((r / step - first) as usize, bars - 1)] +=
                100.0 / returns.len() as f64;
        }
        counts
    };
    let (data_share, our_share) = (share(data), share(ours));
    let highest = data_share
        .iter()
        .chain(&our_share)
        .copied()
        .fold(0.0, f64::max);
    let frame = Frame::new(
        Axis::linear(first * step, (first + bars as f64) * step, 4),
        Axis::linear(0.0, 1.06 * highest, 4),
        "episode return",
        HISTOGRAM_HEIGHT,
    );
    let edge = |i: usize| (first + i as f64) * step;
    let title = |what: &str, i: usize, share: f64| {
        format!(
            "{what}: {share:.1} % from {} to {}",
            num(edge(i)),
            num(edge(i + 1))
        )
    };
    let bar = |class: &str, what: &str, i: usize, share: f64, inset: f64| {
        let (left, right) = (frame.px(edge(i)) + inset, frame.px(edge(i + 1)) - inset);
        let (top, bottom) = (frame.py(share), frame.py(0.0));
        html! { @if share > 0.0 {
            rect class=(class) x=(px(left)) y=(px(top)) width=(px(f64::max(right - left, 1.0))) height=(px(bottom - top)) {
                title { (title(what, i, share)) }
            }
        } }
    };
    let ours_class = format!("policy-bar {}", colour(index));
    let body = html! {
        @for (i, share) in data_share.iter().enumerate() { (bar("data-bar", "data", i, *share, 0.4)) }
        @for (i, share) in our_share.iter().enumerate() { (bar(&ours_class, "policy", i, *share, 0.24 * WIDTH / bars as f64 / 2.0)) }
    };
    let summary = |what: &str, returns: &[f64]| {
        format!(
            "{what}: {} over {}",
            mean_std(mean(returns), population_deviation(returns)),
            plural(returns.len(), "episode")
        )
    };
    let mut note = vec!["Percent of episodes.".to_owned()];
    if let Some((policy, achieved)) = achieved {
        let what = format!(
            "Coloured, {} asked for {}",
            policy.dtype,
            target(achieved.target)
        );
        note.push(summary(&what, ours) + ".");
        if achieved.target != asked {
            note.push(format!(
                "The default target, {}, was not evaluated.",
                target(asked)
            ));
        }
    }
    if !data.is_empty() {
        note.push(summary("Grey, the data", data) + ".");
    }
    let caption = Caption {
        id: format!("histogram-{index}"),
        title: format!("{}: episode returns", run.name),
        note: note.join(" "),
    };
    frame.figure(&caption, &body)
}
