//! `learning-curve.svg` and `.png`: loss and evaluation returns of a run against updates.

use maud::html;

use super::axis::Axis;
use super::chart::{Frame, colour};
use super::curves::{Returns, evaluations, metric, targets};
use super::picture::{CHART_WIDTH, Key, Picture, Sample};
use super::text::{target, thousands};
use crate::run::{Record, Run};

/// Units of the charts' heights.
const LOSS_HEIGHT: f64 = 220.0;
const RETURNS_HEIGHT: f64 = 320.0;

/// Draws the records of a run into its folder.
///
/// # Errors
/// The file system's.
pub fn learning_curve(run: &Run, records: &[Record]) -> anyhow::Result<()> {
    let picture = picture(run, records);
    picture.write(&run.dir.join("learning-curve.png"), true)?;
    picture.write(&run.dir.join("learning-curve.svg"), true)
}

fn picture(run: &Run, records: &[Record]) -> Picture {
    let info = &run.info;
    let name = run.dir.file_name().unwrap_or_default().to_string_lossy();
    let title = match info.env.as_str() {
        "" => format!("Training of {name}"),
        env => format!("Training of {name} on {env}"),
    };
    let subtitle = format!(
        "data: {} transitions in {} episodes, mean return {:.1}, best {:.1}",
        thousands(info.transitions as f64),
        thousands(info.episodes as f64),
        info.return_mean,
        info.return_max
    );
    let mut picture = Picture::new(&title, &subtitle.replace('-', "−"));
    let mut loss = Loss::of(run, records);
    match ReturnsByTarget::of(run, records) {
        Some(mut returns) => {
            Frame::align(&mut [&mut loss.frame, &mut returns.frame]);
            loss.draw(&mut picture);
            returns.draw(&mut picture);
        }
        None => loss.draw(&mut picture),
    }
    picture
}

/// What the loss of a run is. Choices alone are right or wrong.
pub(super) fn kind_of_loss(run: &Run, records: &[Record]) -> &'static str {
    if run.recipe.algorithm.has_critics() {
        "sum over the networks"
    } else if records.iter().any(|record| record.accuracy.is_some()) {
        "cross-entropy"
    } else {
        "mean squared error"
    }
}

/// Losses by update.
struct Loss {
    frame: Frame,
    title: String,
    /// As trained, with dropout.
    training: Vec<(f64, f64)>,
    /// Without dropout, on episodes that are trained on and on others; empty: not measured.
    fit: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
}

impl Loss {
    fn of(run: &Run, records: &[Record]) -> Self {
        // More points than units of width would not be seen.
        let curve = |of| metric(records, of, CHART_WIDTH as usize).0;
        let training = curve(|record| Some(record.loss));
        let fit = curve(|record| record.fit_loss);
        let validation = curve(|record| record.validation_loss);
        let all = [&training, &fit, &validation];
        let values = all.into_iter().flatten().map(|point| point.1);
        let frame = Frame::new(
            updates(records),
            Axis::losses(values, 5),
            "updates",
            LOSS_HEIGHT,
        );
        Self {
            frame: frame.wide(CHART_WIDTH),
            title: format!("loss ({})", kind_of_loss(run, records)),
            training,
            fit,
            validation,
        }
    }

    fn draw(&self, picture: &mut Picture) {
        let path = |points: &[(f64, f64)]| self.frame.line(points.iter().copied());
        let body = html! {
            path.line.c0 d=(path(&self.training)) {}
            @if !self.fit.is_empty() { path.line.c1 d=(path(&self.fit)) {} }
            @if !self.validation.is_empty() { path.line.dashes.c1 d=(path(&self.validation)) {} }
        };
        let mut key = Vec::new();
        if !(self.fit.is_empty() && self.validation.is_empty()) {
            key.push(Key::new("c0", Sample::Line, "as trained, with dropout"));
        }
        if !self.fit.is_empty() {
            let text = "without dropout, on episodes that are trained on";
            key.push(Key::new("c1", Sample::Line, text));
        }
        if !self.validation.is_empty() {
            key.push(Key::new("c1", Sample::Dashes, "on others"));
        }
        picture.chart(&self.title, &key, &self.frame, &body);
    }
}

/// Evaluations in the course of training, a curve and a colour for each target.
pub(super) struct ReturnsByTarget {
    pub(super) frame: Frame,
    targets: Vec<f32>,
    curves: Vec<Returns>,
    /// Mean return of the data.
    behaviour: f64,
}

impl ReturnsByTarget {
    /// None if the run was not evaluated.
    pub(super) fn of(run: &Run, records: &[Record]) -> Option<Self> {
        let targets = targets(records.iter().flat_map(|record| &record.eval));
        let curve = |(i, asked): (usize, &f32)| Returns {
            colour: colour(i),
            name: format!("target {}", target(f64::from(*asked))),
            points: evaluations(records, *asked),
        };
        let curves: Vec<Returns> = targets.iter().enumerate().map(curve).collect();
        let behaviour = run.info.return_mean;
        let lines = targets
            .iter()
            .map(|asked| f64::from(*asked))
            .chain([behaviour]);
        let values = lines.chain(curves.iter().flat_map(|curve| curve.extent(true)));
        let y = Axis::around(values, 7);
        let frame = Frame::new(updates(records), y, "updates", RETURNS_HEIGHT).wide(CHART_WIDTH);
        (!curves.is_empty()).then_some(Self {
            frame,
            targets,
            curves,
            behaviour,
        })
    }

    pub(super) fn draw(&self, picture: &mut Picture) {
        let frame = &self.frame;
        let body = html! {
            @for curve in &self.curves { (curve.band(frame)) }
            path.rule.dots d=(frame.across(self.behaviour)) {}
            @for (curve, asked) in self.curves.iter().zip(&self.targets) {
                path.rule.dashes.(curve.colour) d=(frame.across(f64::from(*asked))) {}
                (curve.line(frame))
            }
        };
        let curves = self.curves.iter();
        let curve = |c: &Returns| {
            let text = format!("{} (dashed): mean ± std", c.name);
            Key::new(c.colour.clone(), Sample::Line, text)
        };
        let mut key: Vec<Key> = curves.map(curve).collect();
        key.push(Key::new("plain", Sample::Dots, "mean of the data"));
        picture.chart("episode return", &key, frame, &body);
    }
}

fn updates(records: &[Record]) -> Axis {
    let last = records.last().map_or(0, |record| record.update);
    Axis::linear(0.0, std::cmp::max(last, 1) as f64, 8)
}

#[cfg(test)]
mod tests;
