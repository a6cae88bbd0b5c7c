//! Achieved against target return: how far a policy can be told what to achieve.

use anyhow::anyhow;
use host_sim::evaluation::Evaluation;
use plotters::prelude::*;

use crate::report::learning_curve::{
    GRID, INK, MUTED, PALETTE, Panel, register_fonts, style, thousands,
};
use crate::stats::pearson;

/// Pixels of the picture at scale 1.
const WIDTH: u32 = 760;
const HEIGHT: u32 = 560;

/// Mean returns of one policy.
#[derive(Clone, Debug)]
pub struct Series {
    name: String,
    /// Target, mean, standard deviation; by ascending target.
    points: Vec<(f64, f64, f64)>,
}

impl Series {
    /// The evaluations of a policy, called `name` in the legend.
    pub fn new(name: impl Into<String>, evaluations: &[Evaluation]) -> Self {
        let mut points: Vec<_> = evaluations
            .iter()
            .map(|e| (e.target_return, e.mean_return, e.std_return))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self {
            name: name.into(),
            points,
        }
    }

    /// What the legend calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Correlation of target and mean achieved return; none where either does not vary.
    pub fn correlation(&self) -> Option<f64> {
        let pairs: Vec<_> = self.points.iter().map(|p| (p.0, p.1)).collect();
        pearson(&pairs)
    }
}

/// The picture as a PNG file.
///
/// # Errors
/// The drawing library's.
pub fn png(series: &[Series]) -> anyhow::Result<Vec<u8>> {
    crate::report::learning_curve::png(WIDTH, HEIGHT, |area, scale| checked(&area, scale, series))
}

/// The picture as an SVG file.
///
/// # Errors
/// The drawing library's.
pub fn svg(series: &[Series]) -> anyhow::Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
    checked(&area, 1.0, series)?;
    drop(area);
    Ok(svg)
}

fn checked<B: DrawingBackend>(
    area: &Panel<'_, B>,
    scale: f64,
    series: &[Series],
) -> anyhow::Result<()> {
    register_fonts();
    draw(area, scale, series).map_err(|error| anyhow!("cannot draw the returns: {error}"))
}

fn draw<B: DrawingBackend>(
    area: &Panel<'_, B>,
    scale: f64,
    series: &[Series],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let px = |n: f64| (n * scale) as u32;
    let points = || series.iter().flat_map(|series| &series.points);
    let (x_low, x_high) = extent(points().map(|p| p.0));
    let (y_low, y_high) = extent(points().flat_map(|p| [p.1 - p.2, p.1 + p.2]));
    // Room for the legend.
    let y_high = y_high + (0.06 + 0.045 * series.len() as f64) * (y_high - y_low);
    let mut chart = ChartBuilder::on(area)
        .caption(
            "Achieved against target return",
            ("sans-serif", 20.0 * scale, FontStyle::Bold)
                .into_font()
                .color(&INK),
        )
        .margin(px(18.0))
        .x_label_area_size(px(48.0))
        .y_label_area_size(px(78.0))
        .build_cartesian_2d(x_low..x_high, y_low..y_high)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("target return")
        .y_desc("achieved return, mean ± std")
        .x_label_formatter(&|x| thousands(*x))
        .y_label_formatter(&|y| thousands(*y))
        .light_line_style(TRANSPARENT);
    style(&mut mesh, scale);
    mesh.draw()?;
    let (low, high) = (f64::max(x_low, y_low), f64::min(x_high, y_high));
    if low < high {
        let diagonal = [(low, low), (high, high)];
        chart
            .draw_series(DashedLineSeries::new(
                diagonal,
                px(6.0),
                px(5.0),
                MUTED.stroke_width(px(1.2)),
            ))?
            .label("achieved = target")
            .legend(move |(x, y)| legend_line(x, y, scale, MUTED));
    }
    for (series, color) in series.iter().zip(PALETTE.into_iter().cycle()) {
        let line = series.points.iter().map(|&(x, y, _)| (x, y));
        chart
            .draw_series(LineSeries::new(line.clone(), color.stroke_width(px(2.0))))?
            .label(series.name.clone())
            .legend(move |(x, y)| legend_line(x, y, scale, color));
        chart.draw_series(line.map(|point| Circle::new(point, px(3.0), color.filled())))?;
        chart.draw_series(series.points.iter().map(|&(x, y, std)| {
            PathElement::new([(x, y - std), (x, y + std)], color.stroke_width(px(1.0)))
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(px(12.0))
        .legend_area_size(px(30.0))
        .label_font(("sans-serif", 12.0 * scale).into_font().color(&INK))
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .draw()?;
    area.present()
}

fn legend_line<B: DrawingBackend>(
    x: i32,
    y: i32,
    scale: f64,
    color: RGBColor,
) -> DynElement<'static, B, (i32, i32)> {
    let style = color.stroke_width((2.0 * scale) as u32);
    PathElement::new([(x, y), (x + (22.0 * scale) as i32, y)], style).into_dyn()
}

/// The range of `values` with a margin; never empty, for an axis without extent would never end.
fn extent(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0.0, 1.0);
    }
    let margin = f64::max(0.06 * (high - low), 1.0);
    (low - margin, high + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(f64, f64, f64)]) -> Series {
        Series {
            name: "medium".into(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn axes_have_extent() {
        assert_eq!(extent([].into_iter()), (0.0, 1.0));
        assert_eq!(extent([3.0].into_iter()), (2.0, 4.0));
        assert_eq!(extent([0.0, 100.0].into_iter()), (-6.0, 106.0));
    }

    #[test]
    fn correlation_is_that_of_targets_and_means() {
        let r = |points: &[(f64, f64, f64)]| series(points).correlation();
        assert!(
            (r(&[(0.0, 1.0, 9.0), (1.0, 3.0, 9.0), (2.0, 5.0, 9.0)]).unwrap() - 1.0).abs() < 1e-12
        );
        // Sums of products: xy −1, xx 2, yy 14/3.
        let falling = r(&[(0.0, 2.0, 0.0), (1.0, -1.0, 0.0), (2.0, 1.0, 0.0)]).unwrap();
        assert!((falling + 1.0 / (2.0_f64 * 14.0 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(r(&[(0.0, 1.0, 0.0), (1.0, 1.0, 0.0)]), None);
        assert_eq!(r(&[(0.0, 1.0, 0.0)]), None);
    }

    #[test]
    fn pictures_name_what_they_show() {
        for points in [
            &[(-300.0, -280.0, 20.0), (-150.0, -150.0, 30.0)][..],
            &[(0.0, -150.0, 0.0)],
            &[],
        ] {
            let svg = svg(&[series(points)]).unwrap();
            for text in ["target return", "achieved return", "medium"] {
                assert!(svg.contains(text), "no {text:?} in the picture");
            }
            png(&[series(points)]).unwrap();
        }
    }
}
