//! Charts as SVG that takes its colours from a style sheet: the page's, or a picture's.
//!
//! A chart is a [`Frame`], which knows where numbers lie, and a body drawn with its help. [`Frame::figure`] puts both on
//! the page; [`Picture`](super::picture::Picture) makes a file of several.

use std::fmt::Write;

use maud::{Markup, html};

use super::axis::Axis;
use super::theme::COLOURS;

/// Units of a chart's width on the page: the same in all, so that text has the same size in each, on a phone as well.
pub const WIDTH: f64 = 400.0;
/// Width of a digit, the widest character of most labels, in a wide font.
const CHARACTER: f64 = 7.3;
/// Above, right of and below what is drawn.
const TOP: f64 = 10.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 40.0;

/// What a chart shows, in words.
pub struct Caption {
    /// Unique on the page.
    pub id: String,
    /// The heading of the figure.
    pub title: String,
    /// How to read it; also what a screen reader reads.
    pub note: String,
}

/// The coordinate system of a chart.
pub struct Frame {
    /// Horizontal.
    pub x: Axis,
    /// Vertical.
    pub y: Axis,
    /// Below the horizontal axis.
    pub x_label: String,
    width: f64,
    height: f64,
    left: f64,
    /// Whether the lines through the chart mark numbers of the horizontal axis instead of the vertical one.
    upright: bool,
}

impl Frame {
    /// A chart with these axes, `height` units high with all labels.
    pub fn new(x: Axis, y: Axis, x_label: impl Into<String>, height: f64) -> Self {
        let longest = y.ticks.iter().map(|(_, label)| label.chars().count()).max();
        Self {
            left: 9.0 + CHARACTER * longest.unwrap_or(0) as f64,
            x,
            y,
            x_label: x_label.into(),
            width: WIDTH,
            height,
            upright: false,
        }
    }

    /// A chart with a row for each name (the ticks of its vertical axis) and lines at numbers of the horizontal axis.
    pub fn of_rows(x: Axis, names: &[&str], x_label: impl Into<String>) -> Self {
        const ROW: f64 = 17.0;
        let height = TOP + ROW * names.len() as f64 + BOTTOM;
        Self {
            upright: true,
            ..Self::new(x, Axis::rows(names), x_label, height)
        }
    }

    /// The same chart so many units wide.
    #[must_use]
    pub fn wide(self, width: f64) -> Self {
        Self { width, ..self }
    }

    /// Lets charts that stand below each other begin at the same place.
    pub fn align(frames: &mut [&mut Self]) {
        let left = frames.iter().map(|frame| frame.left).fold(0.0, f64::max);
        for frame in frames {
            frame.left = left;
        }
    }

    /// Units of its height, labels included.
    pub fn height(&self) -> f64 {
        self.height
    }

    /// Horizontal place of a value.
    pub fn px(&self, x: f64) -> f64 {
        self.left + self.x.at(x) * (self.width - RIGHT - self.left)
    }

    /// Vertical place of a value.
    pub fn py(&self, y: f64) -> f64 {
        TOP + (1.0 - self.y.at(y)) * (self.height - TOP - BOTTOM)
    }

    /// A path through points, interrupted where one has no place: NaN, or 0 on a logarithmic axis.
    pub fn line(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        let places = points.into_iter().map(|(x, y)| (self.px(x), self.py(y)));
        let places: Vec<_> = places.collect();
        let is_place = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        for joined in places.split(|place| !is_place(place)) {
            // A line to itself would not be seen.
            if let [(x, y)] = joined {
                let _ = write!(path, "M{:.1} {y:.1}h8", x - 4.0);
                continue;
            }
            let mut command = 'M';
            for (x, y) in joined {
                let _ = write!(path, "{command}{x:.1} {y:.1}");
                command = 'L';
            }
        }
        path
    }

    /// A path along `low` and back along `high`.
    pub fn band(&self, points: &[(f64, f64, f64)]) -> String {
        let low = points.iter().map(|p| (p.0, p.1));
        let high = points.iter().rev().map(|p| (p.0, p.2));
        self.line(low.chain(high)) + "Z"
    }

    /// A path of dots: strokes without length, which round caps make visible.
    pub fn dots(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "M{:.1} {:.1}h0", self.px(x), self.py(y));
        }
        path
    }

    /// A line from left to right at a value.
    pub fn across(&self, y: f64) -> String {
        let (low, high) = self.x.ends();
        self.line([(low, y), (high, y)])
    }

    /// A line from bottom to top at a value.
    pub fn along(&self, x: f64) -> String {
        let (low, high) = self.y.ends();
        self.line([(x, low), (x, high)])
    }

    /// The line on which both values are the same; none where the axes have no value in common.
    pub fn diagonal(&self) -> Option<String> {
        let (x, y) = (self.x.ends(), self.y.ends());
        let (low, high) = (f64::max(x.0, y.0), f64::min(x.1, y.1));
        (low < high).then(|| self.line([(low, low), (high, high)]))
    }

    /// Mean and spread at each place, of a `g` that has the colour: points (x, mean, spread, what a pointer that rests
    /// on it is told).
    pub fn means(&self, points: impl IntoIterator<Item = (f64, f64, f64, String)>) -> Markup {
        html! {
            @for (x, mean, spread, title) in points {
                path.whisker d=(self.line([(x, mean - spread), (x, mean + spread)])) {}
                circle.mark cx=(px(self.px(x))) cy=(px(self.py(mean))) r="4.2" { title { (title) } }
            }
        }
    }

    /// Axes, and `body` clipped to what lies between them and half a mark beside the last number; `id` is unique in the document.
    pub fn inside(&self, id: &str, body: &Markup) -> Markup {
        let (bottom, top) = (self.height - BOTTOM, TOP);
        let (left, right) = (self.left, self.width - RIGHT);
        html! {
            g.grid {
                @for (y, label) in &self.y.ticks {
                    @let at = self.py(*y);
                    @if !self.upright { line x1=(px(left)) x2=(px(right)) y1=(px(at)) y2=(px(at)) {} }
                    text x=(px(left - 7.0)) y=(px(at + 4.0)) text-anchor="end" { (label) }
                }
                line.axis x1=(px(left)) x2=(px(right)) y1=(px(bottom)) y2=(px(bottom)) {}
                @for (x, label) in &self.x.ticks {
                    @let at = self.px(*x);
                    @if self.upright { line x1=(px(at)) x2=(px(at)) y1=(px(top)) y2=(px(bottom)) {} }
                    @else { line.axis x1=(px(at)) x2=(px(at)) y1=(px(bottom)) y2=(px(bottom + 4.0)) {} }
                    text x=(px(at)) y=(px(bottom + 17.0)) text-anchor="middle" { (label) }
                }
                text.label x=(px(right)) y=(px(self.height - 5.0)) text-anchor="end" { (self.x_label) }
            }
            clipPath id={ (id) "-clip" } {
                rect x=(px(left)) y=(px(top - 4.0)) width=(px(right + 5.0 - left)) height=(px(bottom - top + 4.0)) {}
            }
            g clip-path={ "url(#" (id) "-clip)" } { (body) }
        }
    }

    /// The chart on the page, with `body` drawn in it: heading, picture, note.
    pub fn figure(&self, caption: &Caption, body: &Markup) -> Markup {
        let Caption { id, title, note } = caption;
        html! {
            figure {
                h3 { (title) }
                svg viewBox={ "0 0 " (self.width) " " (self.height) } role="img"
                    aria-labelledby={ (id) "-title " (id) "-note" } {
                    title id={ (id) "-title" } { (title) }
                    (self.inside(id, body))
                }
                figcaption id={ (id) "-note" } { (note) }
            }
        }
    }
}

/// A coordinate as SVG needs it.
pub fn px(x: f64) -> String {
    format!("{x:.1}")
}

/// The class that gives a run its colour; beyond the number of colours, lines are dashed too.
pub fn colour(run: usize) -> String {
    let dashed = if run >= COLOURS { " dashed" } else { "" };
    format!("c{}{dashed}", run % COLOURS)
}

/// At most `most` points: the means of as many neighbours as it takes, and how many that are.
pub fn thin(points: &[(f64, f64)], most: usize) -> (Vec<(f64, f64)>, usize) {
    let each = std::cmp::max(points.len().div_ceil(most), 1);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        let sum = chunk
            .iter()
            .fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        (sum.0 / n, sum.1 / n)
    };
    (points.chunks(each).map(mean).collect(), each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_mean_and_short_curves() {
        let points: Vec<_> = (0..10)
            .map(|i| (f64::from(i), 2.0 * f64::from(i)))
            .collect();
        assert_eq!(thin(&points, 10), (points.clone(), 1));
        let (thinned, each) = thin(&points, 5);
        assert_eq!((thinned[0], thinned.len(), each), ((0.5, 1.0), 5, 2));
        assert_eq!(thin(&[], 5).0, []);
    }

    fn square() -> Frame {
        let axis = || Axis::linear(0.0, 1.0, 2);
        Frame::new(axis(), axis(), "x", 200.0)
    }

    #[test]
    fn places_run_from_left_to_right_and_bottom_to_top() {
        let frame = square();
        assert!(frame.px(0.0) < frame.px(1.0) && frame.py(0.0) > frame.py(1.0));
        assert_eq!(frame.px(1.0), WIDTH - RIGHT);
        let line = frame.line([(1.0, 1.0), (1.0, 0.0)]);
        assert_eq!(line, "M384.0 10.0L384.0 160.0");
    }

    #[test]
    fn lines_are_interrupted_where_a_point_has_no_place() {
        let frame = square();
        let points = |y| [(1.0, 1.0), (1.0, y), (1.0, 0.0)];
        assert_eq!(frame.line(points(f64::NAN)), "M380.0 10.0h8M380.0 160.0h8");
        assert_eq!(
            frame.line(points(1.0)),
            "M384.0 10.0L384.0 10.0L384.0 160.0"
        );
        let log = Frame::new(Axis::linear(0.0, 1.0, 2), Axis::log([0.1, 1.0]), "x", 200.0);
        assert!(!log.line([(0.0, 0.0), (1.0, 0.5)]).contains("inf"));
    }

    #[test]
    fn the_diagonal_is_where_both_axes_are() {
        assert_eq!(
            square().diagonal(),
            Some(square().line([(0.0, 0.0), (1.0, 1.0)]))
        );
        let apart = Frame::new(
            Axis::linear(0.0, 1.0, 2),
            Axis::linear(2.0, 3.0, 2),
            "x",
            200.0,
        );
        assert_eq!(apart.diagonal(), None);
    }

    #[test]
    fn frames_are_aligned_to_the_widest_labels() {
        let (mut narrow, mut wide) = (square(), square());
        wide.left = 90.0;
        Frame::align(&mut [&mut narrow, &mut wide]);
        assert_eq!((narrow.left, wide.left), (90.0, 90.0));
    }

    #[test]
    fn rows_stand_below_each_other_in_order() {
        let names = ["first", "second"];
        let frame = Frame::of_rows(Axis::log([0.1, 1.0]), &names, "error");
        let at: Vec<f64> = frame
            .y
            .ticks
            .iter()
            .map(|(row, _)| frame.py(*row))
            .collect();
        assert_eq!(at, [TOP + 8.5, TOP + 25.5]);
    }
}
