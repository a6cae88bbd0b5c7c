//! The demo's picture: returns during training, and one episode of the pendulum.

use maud::html;

use super::axis::Axis;
use super::chart::Frame;
use super::learning_curve::ReturnsByTarget;
use super::picture::{CHART_WIDTH, Picture};
use crate::run::{Record, Run};

/// Units of the height of a chart of the episode.
const HEIGHT: f64 = 170.0;
/// Seconds between two steps of the pendulum.
const STEP: f64 = 0.05;

/// One step of the pendulum.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// From upright, in degrees, −180…180.
    pub angle: f64,
    /// In newton metres, −2…2.
    pub torque: f64,
}

impl Moment {
    /// From an observation `[cos θ, sin θ, θ̇]` and the action taken on it.
    pub fn new(observation: &[f32], action: &[f32]) -> Self {
        let (cos, sin) = (f64::from(observation[0]), f64::from(observation[1]));
        Self {
            angle: sin.atan2(cos).to_degrees(),
            torque: f64::from(action[0]),
        }
    }
}

/// Above, evaluation returns against updates; below, angle and torque of the episode.
pub fn picture(run: &Run, records: &[Record], episode: &[Moment]) -> Picture {
    let mut angle = Signal {
        heading: "angle from upright, in degrees: one episode of the int8 policy",
        frame: over_time(
            episode,
            Axis::linear(-189.0, 189.0, 4).marked([-180.0, -90.0, 0.0, 90.0, 180.0]),
        ),
        lines: without_jumps(episode.iter().map(|moment| moment.angle), 180.0),
    };
    let mut torque = Signal {
        heading: "torque in the same episode, in Nm",
        frame: over_time(episode, Axis::linear(-2.1, 2.1, 5)),
        lines: without_jumps(episode.iter().map(|moment| moment.torque), f64::INFINITY),
    };
    let mut picture = Picture::new("Pendulum: training, and one episode of the policy", "");
    let mut frames = vec![&mut angle.frame, &mut torque.frame];
    let mut returns = ReturnsByTarget::of(run, records);
    frames.extend(returns.as_mut().map(|returns| &mut returns.frame));
    Frame::align(&mut frames);
    if let Some(returns) = &returns {
        returns.draw(&mut picture);
    }
    angle.draw(&mut picture);
    torque.draw(&mut picture);
    picture
}

/// Something measured over the time of an episode.
struct Signal {
    heading: &'static str,
    frame: Frame,
    /// Points (seconds, value).
    lines: Vec<Vec<(f64, f64)>>,
}

impl Signal {
    fn draw(&self, picture: &mut Picture) {
        let body = html! {
            path.rule.dots d=(self.frame.across(0.0)) {}
            @for line in &self.lines { path.line.c0 d=(self.frame.line(line.iter().copied())) {} }
        };
        picture.chart(self.heading, &[], &self.frame, &body);
    }
}

fn over_time(episode: &[Moment], y: Axis) -> Frame {
    let seconds = STEP * std::cmp::max(episode.len(), 1) as f64;
    Frame::new(Axis::linear(0.0, seconds, 10), y, "time, s", HEIGHT).wide(CHART_WIDTH)
}

/// Cuts the line through `values` where two neighbours are further apart than `jump`: a swing through the downward
/// position goes from one edge of the panel to the other.
fn without_jumps(values: impl Iterator<Item = f64>, jump: f64) -> Vec<Vec<(f64, f64)>> {
    let points: Vec<(f64, f64)> = values
        .enumerate()
        .map(|(i, value)| (STEP * i as f64, value))
        .collect();
    points
        .chunk_by(|a, b| (a.1 - b.1).abs() <= jump)
        .map(<[_]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hanging_down_is_180_degrees_and_upright_0() {
        let angle = |cos, sin| Moment::new(&[cos, sin, 0.0], &[0.5]).angle;
        assert_eq!(
            [angle(1.0, 0.0), angle(0.0, 1.0), angle(-1.0, 0.0)],
            [0.0, 90.0, 180.0]
        );
        assert_eq!(Moment::new(&[1.0, 0.0, 0.0], &[0.5]).torque, 0.5);
    }

    #[test]
    fn lines_are_cut_at_jumps() {
        let lines = without_jumps([170.0, 179.0, -179.0, -170.0].into_iter(), 180.0);
        let values: Vec<Vec<f64>> = lines
            .iter()
            .map(|line| line.iter().map(|point| point.1).collect())
            .collect();
        assert_eq!(values, [[170.0, 179.0], [-179.0, -170.0]]);
        assert_eq!(lines[1][0].0, 2.0 * STEP);
    }
}
