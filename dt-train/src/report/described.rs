//! Charts that a file describes, for figures whose numbers several commands have measured.

use anyhow::ensure;
use maud::{Markup, html};
use serde::Deserialize;

use super::axis::{Axis, extent};
use super::chart::{Frame, colour, px};
use super::picture::{CHART_WIDTH, Key, Picture, Sample};
use super::text::num;

/// What such a file looks like, for `dt-train plot --help`.
pub const EXAMPLE: &str = r#"title = "Ways to the goal"
subtitle = "20 nodes"              # optional

[[chart]]
title = "share of start nodes, %"  # what is counted upwards
x = "edges walked"
bars = ["1", "2", "none"]          # a group of bars for each; without it, lines
y = [0.0, 100.0]                   # ends of the vertical axis; optional

[[chart.series]]
name = "random walks"
y = [40.0, 35.0, 25.0]

[[chart]]
title = "predicted return"
x = "step"

[[chart.series]]
name = "with the key"
x = [0.0, 10.0, 20.0]              # of lines alone
y = [0.1, 0.8, 0.9]
dashed = true                      # optional, likewise

[[chart.mark]]                     # a line upwards
name = "the key is taken"
x = 7.0
"#;

/// Units of a chart's height.
const HEIGHT: f64 = 300.0;
/// Part of a group's place that its bars take.
const FILLED: f64 = 0.8;

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    title: String,
    #[serde(default)]
    subtitle: String,
    chart: Vec<Chart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chart {
    title: String,
    x: String,
    #[serde(default)]
    bars: Vec<String>,
    y: Option<[f64; 2]>,
    series: Vec<Series>,
    #[serde(default)]
    mark: Vec<Mark>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    name: String,
    y: Vec<f64>,
    #[serde(default)]
    x: Vec<f64>,
    #[serde(default)]
    dashed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    name: String,
    x: f64,
}

impl Description {
    /// The charts, one below the other.
    ///
    /// # Errors
    /// A series with too few or too many numbers, by name.
    pub fn picture(&self) -> anyhow::Result<Picture> {
        let mut picture = Picture::new(&self.title, &self.subtitle);
        for chart in &self.chart {
            for series in &chart.series {
                let (places, of) = match chart.bars.len() {
                    0 => (series.x.len(), "`x`"),
                    bars => (bars, "`bars`"),
                };
                ensure!(
                    series.y.len() == places,
                    "`y` of series `{}` has {} numbers, {of} {places}",
                    series.name,
                    series.y.len()
                );
            }
            chart.draw(&mut picture);
        }
        Ok(picture)
    }
}

impl Chart {
    fn draw(&self, picture: &mut Picture) {
        let is_bars = !self.bars.is_empty();
        let marks = self.mark.iter().map(|mark| mark.x);
        let xs = self.series.iter().flat_map(|series| series.x.clone());
        let (low, high) = extent(xs.chain(marks)).unwrap_or((0.0, 1.0));
        let mut x = match is_bars {
            true => Axis::linear(-0.5, self.bars.len() as f64 - 0.5, 1),
            false => Axis::linear(low, high, 10),
        };
        if is_bars {
            let labels = self.bars.iter().enumerate();
            x.ticks = labels.map(|(i, label)| (i as f64, label.clone())).collect();
        }
        let ys = self.series.iter().flat_map(|series| series.y.clone());
        let y = match self.y {
            Some([low, high]) => Axis::linear(low, high, 5),
            None => Axis::around(ys.chain(is_bars.then_some(0.0)), 6),
        };
        let frame = Frame::new(x, y, &self.x, HEIGHT).wide(CHART_WIDTH);
        let dashed = |i: usize, series: &Series| {
            let more = if series.dashed { " dashed" } else { "" };
            colour(i) + more
        };
        let mut key: Vec<Key> = Vec::new();
        for (i, series) in self.series.iter().enumerate() {
            let sample = match series.dashed {
                true => Sample::Dashes,
                false => Sample::Line,
            };
            key.push(Key::new(colour(i), sample, &series.name));
        }
        for mark in &self.mark {
            key.push(Key::new("plain", Sample::Dots, &mark.name));
        }
        let body = html! {
            @for mark in &self.mark { path.rule.dots d=(frame.along(mark.x)) {} }
            @for (i, series) in self.series.iter().enumerate() {
                @if is_bars { (self.bars_of(i, series, &frame)) }
                @else {
                    g.(dashed(i, series)) {
                        path.line d=(frame.line(series.x.iter().copied().zip(series.y.iter().copied()))) {}
                    }
                }
            }
        };
        picture.chart(&self.title, &key, &frame, &body);
    }

    fn bars_of(&self, i: usize, series: &Series, frame: &Frame) -> Markup {
        let width = FILLED / self.series.len() as f64;
        let left = |place: usize| place as f64 - FILLED / 2.0 + width * i as f64;
        let base = frame.py(f64::max(frame.y.ends().0, 0.0));
        html! {
            g.(colour(i)) {
                @for (place, &y) in series.y.iter().enumerate().filter(|(_, y)| y.is_finite()) {
                    @let (from, to) = (frame.px(left(place)), frame.px(left(place) + width));
                    rect.policy-bar x=(px(from)) y=(px(frame.py(y))) width=(px(to - from - 1.0)) height=(px(base - frame.py(y))) {
                        title { (series.name) ", " (self.bars[place]) ": " (num(y)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(text: &str) -> anyhow::Result<Picture> {
        toml::from_str::<Description>(text)?.picture()
    }

    const BARS: &str = r#"
        title = "Ways"
        [[chart]]
        title = "share"
        x = "edges"
        bars = ["1", "2", "none"]
        [[chart.series]]
        name = "walks"
        y = [10.0, 20.0, 70.0]
        [[chart.series]]
        name = "optimum"
        y = [60.0, 40.0, 0.0]
    "#;

    #[test]
    fn the_example_is_such_a_file() {
        let svg = picture(EXAMPLE).unwrap().svg();
        for part in ["random walks", "with the key", "the key is taken"] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn bars_stand_beside_each_other_as_high_as_their_numbers() {
        let svg = picture(BARS).unwrap().svg();
        let bars: Vec<[f64; 3]> = svg
            .split("<rect class=\"policy-bar\" ")
            .skip(1)
            .map(|bar| {
                ["x=\"", "width=\"", "height=\""].map(|name| {
                    let (_, rest) = bar.split_once(name).unwrap();
                    rest.split_once('"').unwrap().0.parse().unwrap()
                })
            })
            .collect();
        assert_eq!(bars.len(), 6);
        assert!((bars[1][2] / bars[0][2] - 2.0).abs() < 0.02, "{bars:?}");
        assert!((bars[3][2] / bars[0][2] - 6.0).abs() < 0.05, "{bars:?}");
        // The second series begins where the first one ends, a unit apart.
        assert!((bars[3][0] - bars[0][0] - bars[0][1] - 1.0).abs() < 0.2);
        for text in ["walks", "optimum", "none", "edges", "Ways"] {
            assert!(svg.contains(text), "no {text:?}");
        }
        picture(BARS).unwrap().png().unwrap();
    }

    #[test]
    fn lines_and_marks_are_drawn_where_they_are_told() {
        let text = r#"
            title = "Hope"
            subtitle = "of a return"
            [[chart]]
            title = "predicted"
            x = "step"
            y = [0.0, 1.0]
            [[chart.series]]
            name = "with key"
            x = [0.0, 10.0]
            y = [0.0, 1.0]
            [[chart.series]]
            name = "without"
            dashed = true
            x = [0.0, 10.0]
            y = [0.0, 0.0]
            [[chart.mark]]
            name = "key taken"
            x = 5.0
        "#;
        let svg = picture(text).unwrap().svg();
        assert_eq!(svg.matches("<path class=\"line\"").count(), 2);
        assert_eq!(svg.matches("c1 dashed").count(), 1);
        for text in ["of a return", "with key", "key taken"] {
            assert!(svg.contains(text), "no {text:?}");
        }
    }

    #[test]
    fn a_series_of_another_length_is_named() {
        let short = BARS.replace("[10.0, 20.0, 70.0]", "[10.0, 20.0]");
        let refused = picture(&short).err().unwrap().to_string();
        assert_eq!(refused, "`y` of series `walks` has 2 numbers, `bars` 3");
        let unknown = BARS.replace("edges\"", "edges\"\nz = 1");
        assert!(format!("{:#}", picture(&unknown).err().unwrap()).contains("unknown field `z`"));
    }
}
