//! Charts as inline SVG that takes its colours from the page.
//!
//! All are [`WIDTH`] units wide, so that text has the same size in each, on a phone as well.

use std::fmt::Write;

use maud::{Markup, html};

use super::axis::Axis;

/// Units of a chart's width.
pub const WIDTH: f64 = 400.0;
/// Mean width of a character of a tick label.
const CHARACTER: f64 = 6.3;
/// Colours that the style sheet has for runs.
pub const COLOURS: usize = 8;

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
    height: f64,
    left: f64,
}

const TOP: f64 = 10.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 40.0;

impl Frame {
    /// A chart with these axes.
    pub fn new(x: Axis, y: Axis, x_label: impl Into<String>, height: f64) -> Self {
        let longest = y.ticks.iter().map(|(_, label)| label.chars().count()).max();
        Self {
            left: 12.0 + CHARACTER * longest.unwrap_or(0) as f64,
            x,
            y,
            x_label: x_label.into(),
            height,
        }
    }

    /// Horizontal place of a value.
    pub fn px(&self, x: f64) -> f64 {
        self.left + self.x.at(x) * (WIDTH - RIGHT - self.left)
    }

    /// Vertical place of a value.
    pub fn py(&self, y: f64) -> f64 {
        TOP + (1.0 - self.y.at(y)) * (self.height - TOP - BOTTOM)
    }

    /// A path through points.
    pub fn line(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.px(x), self.py(y));
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

    /// The figure with `body` drawn in it.
    pub fn figure(&self, caption: &Caption, body: &Markup) -> Markup {
        let (low, high) = self.y.ends();
        let (bottom, top) = (self.py(low), self.py(high));
        let (left, right) = (self.left, WIDTH - RIGHT);
        let inside = html! {
            g.grid {
                @for (y, label) in &self.y.ticks {
                    @let at = self.py(*y);
                    line x1=(px(left)) x2=(px(right)) y1=(px(at)) y2=(px(at)) {}
                    text x=(px(left - 7.0)) y=(px(at + 4.0)) text-anchor="end" { (label) }
                }
                line.axis x1=(px(left)) x2=(px(right)) y1=(px(bottom)) y2=(px(bottom)) {}
                @for (x, label) in &self.x.ticks {
                    @let at = self.px(*x);
                    line.axis x1=(px(at)) x2=(px(at)) y1=(px(bottom)) y2=(px(bottom + 4.0)) {}
                    text x=(px(at)) y=(px(bottom + 17.0)) text-anchor="middle" { (label) }
                }
                text.label x=(px(right)) y=(px(self.height - 5.0)) text-anchor="end" { (self.x_label) }
            }
            clipPath id={ (caption.id) "-clip" } {
                rect x=(px(left)) y=(px(top - 4.0)) width=(px(right - left)) height=(px(bottom - top + 4.0)) {}
            }
            g clip-path={ "url(#" (caption.id) "-clip)" } { (body) }
        };
        figure(caption, self.height, &inside)
    }
}

/// A figure: heading, picture, note.
pub fn figure(caption: &Caption, height: f64, inside: &Markup) -> Markup {
    let Caption { id, title, note } = caption;
    html! {
        figure {
            h3 { (title) }
            svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img"
                aria-labelledby={ (id) "-title " (id) "-note" } {
                title id={ (id) "-title" } { (title) }
                (inside)
            }
            figcaption id={ (id) "-note" } { (note) }
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

    #[test]
    fn places_run_from_left_to_right_and_bottom_to_top() {
        let frame = Frame::new(
            Axis::linear(0.0, 1.0, 2),
            Axis::linear(0.0, 1.0, 2),
            "x",
            200.0,
        );
        assert!(frame.px(0.0) < frame.px(1.0) && frame.py(0.0) > frame.py(1.0));
        assert_eq!(frame.px(1.0), WIDTH - RIGHT);
        let line = frame.line([(1.0, 1.0), (1.0, 0.0)]);
        assert_eq!(line, "M384.0 10.0L384.0 160.0");
    }
}
