//! A black box as a picture: observations, actions and slack over time, faults marked.

use std::path::Path;

use plotters::prelude::{
    BitMapBackend, ChartBuilder, DrawingArea, IntoDrawingArea, LineSeries, PathElement,
};
use plotters::style::{BLACK, Color, FontStyle, Palette, Palette99, RED, WHITE, register_font};

use super::{BlackBox, seconds};
use crate::atomic;
use crate::film::FilmError;
use crate::stage::DrawError;

/// Pixels.
const WIDTH: u32 = 1000;
const HEIGHT: u32 = 900;

/// Draws the steps of a black box and writes them to `path`, a PNG.
///
/// # Errors
/// [`FilmError`]; nothing half-written is left.
pub fn write(log: &BlackBox<'_>, path: &Path, force: bool) -> Result<(), FilmError> {
    // Registering again replaces the font by itself.
    let _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    let mut pixels = vec![0; (3 * WIDTH * HEIGHT) as usize];
    draw(log, &mut pixels).map_err(DrawError::Plot)?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_raw(WIDTH, HEIGHT, pixels)
        .expect("of that size")
        .write_to(&mut bytes, image::ImageOutputFormat::Png)
        .map_err(|error| FilmError::Encode(error.to_string()))?;
    Ok(atomic::write(path, force, &bytes.into_inner())?)
}

/// One line of a panel, in pieces: nothing is drawn where nothing is known.
type Line = Vec<Vec<(f64, f64)>>;

fn draw(log: &BlackBox<'_>, pixels: &mut [u8]) -> Result<(), String> {
    let root = BitMapBackend::with_buffer(pixels, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| error.to_string())?;
    let times = seconds(log);
    let end = times.last().copied().unwrap_or(0.0);
    let faults: Vec<f64> = log
        .faults()
        .iter()
        .map(|(place, _)| times[*place])
        .collect();
    let (state, action) = (log.identity().state_dim, log.identity().action_len);
    let lines = |of: &dyn Fn(usize) -> Vec<f32>, count: u32| -> Vec<Line> {
        let component = |c: usize| {
            let mut line = Line::new();
            let mut before = None;
            for (place, &time) in times.iter().enumerate() {
                let value = of(place).get(c).copied().filter(|value| value.is_finite());
                if let Some(value) = value {
                    if before.is_none() {
                        line.push(Vec::new());
                    }
                    let piece = line.last_mut().expect("just begun");
                    piece.push((time, f64::from(value)));
                }
                before = value;
            }
            line
        };
        (0..count as usize).map(component).collect()
    };
    let entries = log.entries();
    let deadline = f64::from(log.identity().deadline_us);
    let per_us = f64::from(log.identity().clock_hz) / 1e6;
    let slack = |place: usize| {
        let latency = f64::from(entries[place].latency) / per_us;
        let left = (deadline - latency) as f32;
        Vec::from_iter(entries[place].timestep.is_some().then_some(left))
    };
    let wanted = |place: usize| {
        let step = entries[place].timestep;
        Vec::from_iter(step.is_some().then_some(entries[place].return_to_go))
    };
    let panels: [(&str, Vec<Line>); 4] = [
        (
            "observation",
            lines(&|place| entries[place].observation().collect(), state),
        ),
        (
            "applied action",
            lines(&|place| entries[place].applied().collect(), action),
        ),
        ("return-to-go", lines(&wanted, 1)),
        ("slack, µs", lines(&slack, 1)),
    ];
    for (area, (name, lines)) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        panel(area, name, end, &lines, &faults).map_err(|error| error.to_string())?;
    }
    root.present().map_err(|error| error.to_string())
}

fn panel(
    area: &DrawingArea<BitMapBackend<'_>, plotters::coord::Shift>,
    name: &str,
    end: f64,
    lines: &[Line],
    faults: &[f64],
) -> Result<(), Box<dyn std::error::Error>> {
    let values = || lines.iter().flatten().flatten().map(|point| point.1);
    let (low, high) = (
        values().fold(f64::MAX, f64::min),
        values().fold(f64::MIN, f64::max),
    );
    // Room around the lines, and something to show where there are none.
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    let margin = f64::max(0.05 * (high - low), 1e-3 * f64::max(high.abs(), 1.0));
    let (low, high) = (low - margin, high + margin);
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..f64::max(end, 1e-3), low..high)?;
    chart
        .configure_mesh()
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    for (i, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(i).stroke_width(1);
        for piece in line {
            chart.draw_series(LineSeries::new(piece.iter().copied(), colour))?;
        }
    }
    chart.draw_series(
        faults
            .iter()
            .map(|&at| PathElement::new(vec![(at, low), (at, high)], RED.stroke_width(2))),
    )?;
    Ok(())
}
