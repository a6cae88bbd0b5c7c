//! The demo's picture: returns during training, and one episode of the pendulum.

use anyhow::anyhow;
use plotters::prelude::*;

use crate::report::learning_curve::{Curve, GRID, INK, PALETTE, Panel, png, register_fonts, style};
use crate::run::Record;
use crate::run::Run;

/// Pixels.
const WIDTH: u32 = 900;
const HEIGHT: u32 = 760;

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

/// A PNG file: above, evaluation returns against updates; below, angle and torque of the episode.
///
/// # Errors
/// The drawing library's.
pub fn picture(run: &Run, records: &[Record], episode: &[Moment]) -> anyhow::Result<Vec<u8>> {
    png(WIDTH, HEIGHT, |area, scale| {
        register_fonts();
        draw(&area, scale, &Curve { run, records }, episode)
            .map_err(|error| anyhow!("cannot draw the demo: {error}"))
    })
}

fn draw<B: DrawingBackend>(
    area: &Panel<'_, B>,
    scale: f64,
    curve: &Curve<'_>,
    episode: &[Moment],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let px = |n: f64| (n * scale) as i32;
    let heading = |text: &'static str, y: f64| {
        let style = ("sans-serif", 18.0 * scale, FontStyle::Bold)
            .into_font()
            .color(&INK);
        area.draw(&Text::new(text, (px(24.0), px(y)), style))
    };
    let areas = area.split_by_breakpoints([0i32; 0], [px(44.0), px(360.0), px(404.0), px(580.0)]);
    let updates = curve
        .records
        .last()
        .map_or(1.0, |record| record.update as f64);
    curve.returns(&areas[1], scale, 0.0..updates)?;
    let angles: Vec<f64> = episode.iter().map(|moment| moment.angle).collect();
    let torques: Vec<f64> = episode.iter().map(|moment| moment.torque).collect();
    let angles = Signal {
        name: "angle from upright, °",
        limit: 180.0,
        lines: without_jumps(&angles, 180.0),
    };
    let torques = Signal {
        name: "torque, Nm",
        limit: 2.0,
        lines: without_jumps(&torques, f64::INFINITY),
    };
    let seconds = STEP * episode.len() as f64;
    over_time(&areas[3], scale, seconds, &angles, "")?;
    over_time(&areas[4], scale, seconds, &torques, "time, s")?;
    heading("Pendulum: the policy's returns while it was trained", 14.0)?;
    heading("One episode of the int8 policy", 374.0)?;
    area.present()
}

/// Something measured in −limit…limit.
struct Signal {
    name: &'static str,
    limit: f64,
    /// Points (seconds, value).
    lines: Vec<Vec<(f64, f64)>>,
}

/// Cuts the line through `values` where two neighbours are further apart than `jump`: a swing through the downward
/// position goes from one edge of the panel to the other.
fn without_jumps(values: &[f64], jump: f64) -> Vec<Vec<(f64, f64)>> {
    let points: Vec<(f64, f64)> = (0..values.len())
        .map(|i| (STEP * i as f64, values[i]))
        .collect();
    points
        .chunk_by(|a, b| (a.1 - b.1).abs() <= jump)
        .map(<[_]>::to_vec)
        .collect()
}

fn over_time<B: DrawingBackend>(
    panel: &Panel<'_, B>,
    scale: f64,
    seconds: f64,
    signal: &Signal,
    x_label: &str,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let px = |n: f64| (n * scale) as u32;
    let height = 1.05 * signal.limit;
    let mut chart = ChartBuilder::on(panel)
        .margin_left(px(14.0))
        .margin_right(px(28.0))
        .margin_top(px(6.0))
        .x_label_area_size(px(if x_label.is_empty() { 22.0 } else { 46.0 }))
        .y_label_area_size(px(74.0))
        .build_cartesian_2d(0.0..seconds, -height..height)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x_label)
        .y_desc(signal.name)
        .y_labels(5)
        .max_light_lines(1)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}").replace('-', "−"))
        .light_line_style(GRID);
    style(&mut mesh, scale);
    mesh.draw()?;
    for line in &signal.lines {
        let style = PALETTE[0].stroke_width(px(2.0));
        chart.draw_series(LineSeries::new(line.iter().copied(), style))?;
    }
    Ok(())
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
        let lines = without_jumps(&[170.0, 179.0, -179.0, -170.0], 180.0);
        let values: Vec<Vec<f64>> = lines
            .iter()
            .map(|line| line.iter().map(|point| point.1).collect())
            .collect();
        assert_eq!(values, [[170.0, 179.0], [-179.0, -170.0]]);
        assert_eq!(lines[1][0].0, 2.0 * STEP);
    }
}
