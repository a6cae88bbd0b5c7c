//! Achieved against target return: how far a policy can be told what to achieve.

use host_sim::evaluation::Evaluation;
use maud::html;

use super::axis::Axis;
use super::chart::{Frame, colour};
use super::picture::{CHART_WIDTH, Key, Picture, Sample};
use super::text::{mean_std, target};
use crate::stats::pearson;

/// Units of the chart's height.
const HEIGHT: f64 = 440.0;

/// Mean returns of one policy.
#[derive(Clone, Debug)]
pub struct Series {
    name: String,
    /// Target, mean, standard deviation; by ascending target.
    points: Vec<(f64, f64, f64)>,
}

impl Series {
    /// The evaluations of a policy, called `name` in the key.
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

    /// What the key calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Correlation of target and mean achieved return; none where either does not vary.
    pub fn correlation(&self) -> Option<f64> {
        let pairs: Vec<_> = self.points.iter().map(|p| (p.0, p.1)).collect();
        pearson(&pairs)
    }
}

/// The series in one chart, with their correlations.
pub fn picture(series: &[Series]) -> Picture {
    let points = || series.iter().flat_map(|series| &series.points);
    let frame = Frame::new(
        Axis::around(points().map(|p| p.0), 8),
        Axis::around(points().flat_map(|p| [p.1 - p.2, p.1 + p.2]), 8),
        "target return",
        HEIGHT,
    )
    .wide(CHART_WIDTH);
    let mut key: Vec<Key> = Vec::new();
    for (i, s) in series.iter().enumerate() {
        let correlation = s.correlation().map_or_else(String::new, |r| {
            format!(", correlation {r:.3}").replace('-', "−")
        });
        key.push(Key::new(
            colour(i),
            Sample::Line,
            s.name.clone() + &correlation,
        ));
    }
    let diagonal = frame.diagonal();
    if diagonal.is_some() {
        key.push(Key::new("plain", Sample::Dashes, "achieved = target"));
    }
    let body = html! {
        @if let Some(diagonal) = diagonal { path.rule.dashes d=(diagonal) {} }
        @for (i, s) in series.iter().enumerate() {
            g.(colour(i)) {
                path.line d=(frame.line(s.points.iter().map(|p| (p.0, p.1)))) {}
                (frame.means(s.points.iter().map(|&(asked, mean, std)| {
                    (asked, mean, std, format!("{}, target {}: {}", s.name, target(asked), mean_std(mean, std)))
                })))
            }
        }
    };
    let mut picture = Picture::new("Achieved against target return", "");
    picture.chart(
        "achieved return, mean ± std over episodes",
        &key,
        &frame,
        &body,
    );
    picture
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
        for (points, correlated) in [
            (&[(-300.0, -280.0, 20.0), (-150.0, -150.0, 30.0)][..], true),
            (&[(0.0, -150.0, 0.0)], false),
            (&[], false),
        ] {
            let picture = picture(&[series(points)]);
            let svg = picture.svg();
            for text in ["target return", "achieved return", "medium"] {
                assert!(svg.contains(text), "no {text:?} in the picture");
            }
            assert_eq!(svg.contains("medium, correlation 1.000"), correlated);
            // The diagonal crosses the first alone: the others' axes have no value in common.
            assert_eq!(
                svg.contains("achieved = target"),
                correlated || points.is_empty()
            );
            assert_eq!(svg.matches("<circle").count(), points.len());
            picture.png().unwrap();
        }
    }
}
