//! `learning-curve.svg` and `.png`: loss and evaluation returns against updates.

use std::ops::Range;
use std::sync::Once;

use anyhow::anyhow;
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;
use plotters::style::{FontTransform, register_font};

use crate::atomic;
use crate::run::Run;
use crate::run::{EvalRecord, Record};

/// Draws the records of a run into its folder.
///
/// # Errors
/// The file system's.
pub fn learning_curve(run: &Run, records: &[Record]) -> anyhow::Result<()> {
    let curve = Curve { run, records };
    let png = curve.png()?;
    let svg = curve.svg()?;
    atomic::write(&run.dir.join("learning-curve.png"), true, &png)?;
    atomic::write(&run.dir.join("learning-curve.svg"), true, svg.as_bytes())?;
    Ok(())
}

/// Pixels of the picture at scale 1.
const WIDTH: u32 = 900;
const HEIGHT: u32 = 620;
const HEIGHT_WITHOUT_RETURNS: u32 = 340;

pub(crate) const INK: RGBColor = RGBColor(38, 50, 56);
pub(crate) const MUTED: RGBColor = RGBColor(110, 122, 130);
pub(crate) const GRID: RGBColor = RGBColor(232, 236, 239);
/// Okabe and Ito's palette, which colour-blind readers can tell apart, with a brown for its yellow and black.
pub(crate) const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 72, 50),
];

/// A run's records as panels.
pub(crate) struct Curve<'a> {
    pub(crate) run: &'a Run,
    pub(crate) records: &'a [Record],
}

pub(crate) type Panel<'a, B> = DrawingArea<B, Shift>;

impl Curve<'_> {
    fn png(&self) -> anyhow::Result<Vec<u8>> {
        png(WIDTH, self.height(), |area, scale| self.draw(area, scale))
    }

    fn svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        let size = (WIDTH, self.height());
        self.draw(
            SVGBackend::with_string(&mut svg, size).into_drawing_area(),
            1.0,
        )?;
        Ok(svg)
    }

    fn height(&self) -> u32 {
        let evaluated = self.records.iter().any(|record| !record.eval.is_empty());
        if evaluated {
            HEIGHT
        } else {
            HEIGHT_WITHOUT_RETURNS
        }
    }

    fn draw<B: DrawingBackend>(&self, area: Panel<'_, B>, scale: f64) -> anyhow::Result<()> {
        register_fonts();
        let failed =
            |e: DrawingAreaErrorKind<B::ErrorType>| anyhow!("cannot draw the learning curve: {e}");
        area.fill(&WHITE).map_err(failed)?;
        let px = |n: f64| (n * scale) as i32;
        let info = &self.run.info;
        let name = self
            .run
            .dir
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
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
        let text = |text: String, y: f64, style: TextStyle<'static>| {
            area.draw(&Text::new(text, (px(24.0), px(y)), style))
                .map_err(failed)
        };
        text(
            title,
            16.0,
            ("sans-serif", 20.0 * scale, FontStyle::Bold)
                .into_font()
                .color(&INK),
        )?;
        text(
            subtitle,
            42.0,
            ("sans-serif", 13.0 * scale).into_font().color(&MUTED),
        )?;
        let (_, body) = area.split_vertically(px(64.0));
        let updates = 0.0..self
            .records
            .last()
            .map_or(1.0, |record| record.update as f64);
        if self.height() == HEIGHT {
            let (top, bottom) = body.split_vertically(px(230.0));
            self.loss(&top, scale, updates.clone(), "")
                .map_err(failed)?;
            self.returns(&bottom, scale, updates).map_err(failed)?;
        } else {
            self.loss(&body, scale, updates, "updates")
                .map_err(failed)?;
        }
        area.present().map_err(failed)
    }

    fn loss<B: DrawingBackend>(
        &self,
        panel: &Panel<'_, B>,
        scale: f64,
        updates: Range<f64>,
        x_label: &str,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let curve = |of: fn(&Record) -> Option<f64>| -> Vec<(f64, f64)> {
            let records = self.records.iter();
            let point = |record: &Record| Some((record.update as f64, of(record)?.max(1e-12)));
            records.filter_map(point).collect()
        };
        let points = curve(|record| Some(record.loss));
        let validation = curve(|record| record.validation_loss);
        let bound = |start: f64, pick: fn(f64, f64) -> f64| {
            let losses = points.iter().chain(&validation).map(|point| point.1);
            losses.fold(start, pick)
        };
        let what = if validation.is_empty() {
            "loss (mean squared error)"
        } else {
            "loss (dashed: validation)"
        };
        // An axis without extent would never end.
        let (low, high) = match points.as_slice() {
            [] => (0.1, 1.0),
            _ => (bound(f64::INFINITY, f64::min), bound(0.0, f64::max)),
        };
        let range = low / 1.15..high * 1.15;
        let px = |n: f64| (n * scale) as u32;
        let mut chart = ChartBuilder::on(panel)
            .margin_left(px(14.0))
            .margin_right(px(28.0))
            .margin_top(px(8.0))
            .x_label_area_size(px(if x_label.is_empty() { 26.0 } else { 46.0 }))
            .y_label_area_size(px(74.0))
            .build_cartesian_2d(updates, range.log_scale())?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(x_label)
            .y_desc(what)
            .x_label_formatter(&|x| thousands(*x))
            .y_label_formatter(&|y| short(*y))
            .light_line_style(TRANSPARENT);
        style(&mut mesh, scale);
        mesh.draw()?;
        let line = PALETTE[0].stroke_width(px(2.0));
        chart.draw_series(LineSeries::new(points, line))?;
        let (dash, gap) = (px(5.0), px(3.0));
        chart.draw_series(DashedLineSeries::new(validation, dash, gap, line))?;
        Ok(())
    }

    /// Evaluation returns against updates.
    pub(crate) fn returns<B: DrawingBackend>(
        &self,
        panel: &Panel<'_, B>,
        scale: f64,
        updates: Range<f64>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let curves = self.by_target();
        let behaviour = self.run.info.return_mean;
        let mut low = behaviour;
        let mut high = behaviour;
        for record in curves.iter().flatten().map(|(_, record)| record) {
            let (mean, std) = (record.mean_return, record.std_return);
            low = low.min(mean - std).min(f64::from(record.target_return));
            high = high.max(mean + std).max(f64::from(record.target_return));
        }
        let margin = 0.06 * f64::max(high - low, 1e-6);
        let px = |n: f64| (n * scale) as u32;
        let mut chart = ChartBuilder::on(panel)
            .margin_left(px(14.0))
            .margin_right(px(28.0))
            .margin_top(px(8.0))
            .margin_bottom(px(6.0))
            .x_label_area_size(px(46.0))
            .y_label_area_size(px(74.0))
            .build_cartesian_2d(updates.clone(), low - margin..high + margin)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("updates")
            .y_desc("episode return")
            .x_label_formatter(&|x| thousands(*x))
            .y_label_formatter(&|y| thousands(*y))
            .light_line_style(TRANSPARENT);
        style(&mut mesh, scale);
        mesh.draw()?;
        let dashed = |y: f64, color: RGBColor| {
            let ends = [(updates.start, y), (updates.end, y)];
            DashedLineSeries::new(ends, px(6.0), px(5.0), color.stroke_width(px(1.2)))
        };
        for (curve, color) in curves.iter().zip(PALETTE.into_iter().cycle()) {
            let at = |side: f64| {
                curve
                    .iter()
                    .map(move |(x, r)| (*x, r.mean_return + side * r.std_return))
            };
            let outline: Vec<(f64, f64)> = at(1.0)
                .chain(at(-1.0).collect::<Vec<_>>().into_iter().rev())
                .collect();
            chart.draw_series([Polygon::new(outline, color.mix(0.13))])?;
        }
        for (curve, color) in curves.iter().zip(PALETTE.into_iter().cycle()) {
            let target = curve[0].1.target_return;
            chart.draw_series(dashed(f64::from(target), color))?;
            chart
                .draw_series(LineSeries::new(
                    curve.iter().map(|(x, r)| (*x, r.mean_return)),
                    color.stroke_width(px(2.0)),
                ))?
                .label(format!("target {target} (dashed): mean ± std"))
                .legend(move |(x, y)| {
                    PathElement::new(
                        [(x, y), (x + px(22.0) as i32, y)],
                        color.stroke_width(px(2.0)),
                    )
                });
            let dots = curve
                .iter()
                .map(|(x, r)| Circle::new((*x, r.mean_return), px(2.5), color.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .draw_series(dashed(behaviour, MUTED))?
            .label("mean of the data")
            .legend(move |(x, y)| {
                PathElement::new(
                    [(x, y), (x + px(22.0) as i32, y)],
                    MUTED.stroke_width(px(1.2)),
                )
            });
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .margin(px(12.0))
            .legend_area_size(px(30.0))
            .label_font(
                ("sans-serif", 12.0 * scale)
                    .into_font()
                    .color(&INK)
                    .transform(FontTransform::None),
            )
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .draw()?;
        Ok(())
    }

    /// Evaluations as (updates, record), one list per target return, in the order of the recipe.
    fn by_target(&self) -> Vec<Vec<(f64, EvalRecord)>> {
        let mut curves: Vec<Vec<(f64, EvalRecord)>> = Vec::new();
        for record in self.records {
            for eval in &record.eval {
                let point = (record.update as f64, *eval);
                match curves
                    .iter_mut()
                    .find(|curve| curve[0].1.target_return == eval.target_return)
                {
                    Some(curve) => curve.push(point),
                    None => curves.push(vec![point]),
                }
            }
        }
        curves
    }
}

/// A PNG file at twice the given size, for screens of high resolution; `draw` gets that factor.
pub(crate) fn png(
    width: u32,
    height: u32,
    draw: impl FnOnce(Panel<'_, BitMapBackend<'_>>, f64) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u8>> {
    let scale = 2;
    let (width, height) = (scale * width, scale * height);
    let mut pixels = vec![0; (width * height * 3) as usize];
    draw(
        BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(),
        f64::from(scale),
    )?;
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_raw(width, height, pixels)
        .expect("three bytes per pixel")
        .write_to(&mut png, image::ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// Gives the axes of a chart the look that all pictures share.
pub(crate) fn style<X: Ranged, Y: Ranged, B: DrawingBackend>(
    mesh: &mut MeshStyle<'_, '_, X, Y, B>,
    scale: f64,
) {
    mesh.bold_line_style(GRID)
        .axis_style(MUTED)
        .label_style(("sans-serif", 12.0 * scale).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 13.0 * scale).into_font().color(&INK));
}

/// The drawing library knows no system fonts; these come with the program.
pub(crate) fn register_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (style, font) in [
            (FontStyle::Normal, dejavu::sans::regular()),
            (FontStyle::Bold, dejavu::sans::bold()),
        ] {
            let _ = register_font("sans-serif", style, font);
        }
    });
}

/// A number to two significant digits, such as the 0.30000000000000004 of a logarithmic axis.
fn short(n: f64) -> String {
    let rounded = format!("{n:.1e}").parse::<f64>().unwrap_or(n);
    rounded.to_string()
}

/// A whole number in groups of three digits.
pub(crate) fn thousands(n: f64) -> String {
    let sign = if n.round() < 0.0 { "−" } else { "" };
    let digits = format!("{:.0}", n.abs());
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

#[cfg(test)]
mod tests;
