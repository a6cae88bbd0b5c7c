//! Axes with round numbers on them.

use super::text::{num, thousands};

/// A range of numbers along a side of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    /// Numbers to mark, with their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Over `values` with a margin, wide enough to tell where a single one is, and about `n` ticks.
    pub fn around(values: impl IntoIterator<Item = f64>, n: usize) -> Self {
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        let margin = match (high - low, high.abs()) {
            (0.0, 0.0) => 0.5,
            (0.0, size) => 0.05 * size,
            (span, size) => f64::max(0.05 * span, 1e-9 * f64::max(size, 1.0)),
        };
        Self::linear(low - margin, high + margin, n)
    }

    /// From `low` to `high` with about `n` ticks.
    pub fn linear(low: f64, high: f64, n: usize) -> Self {
        let step = round_step((high - low) / n as f64);
        let decimals = f64::max(-step.log10().floor(), 0.0) as usize;
        let label = |x: f64| match step {
            1.0.. => thousands(x),
            _ if decimals <= 6 => format!("{x:.decimals$}").replace('-', "−"),
            _ => num(x),
        };
        let ticks = ((low / step).ceil() as i64..=(high / step).floor() as i64)
            .map(|i| i as f64 * step)
            .map(|x| (x, label(x)))
            .collect();
        Self {
            low,
            high,
            is_log: false,
            ticks,
        }
    }

    /// Of losses: logarithmic, but linear where some are negative. One that is 0 has no place on the former.
    pub fn losses(values: impl Iterator<Item = f64> + Clone, n: usize) -> Self {
        match values.clone().any(|value| value < 0.0) {
            false => Self::log(values),
            true => Self::around(values, n),
        }
    }

    /// Whether it is logarithmic.
    pub fn is_log(&self) -> bool {
        self.is_log
    }

    /// Logarithmic over positive `values`, others left out; ticks at 1, 2 and 5, or at powers of ten.
    pub fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|v| *v > 0.0);
        let (low, high) = extent(positive).unwrap_or((0.1, 1.0));
        let (low, high) = (low / 1.15, high * 1.15);
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let many = high / low > 300.0;
        let within = |x: &f64| (low..=high).contains(x);
        let digits: &[f64] = if many { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks: Vec<f64> = decades
            .flat_map(|k| digits.iter().map(move |d| d * 10f64.powi(k)))
            .filter(within)
            .collect();
        if ticks.len() < 2 {
            ticks = Self::linear(low, high, 5)
                .ticks
                .iter()
                .map(|t| t.0)
                .collect();
        }
        Self {
            low,
            high,
            is_log: true,
            ticks: ticks.into_iter().map(|x| (x, short(x))).collect(),
        }
    }

    /// A row for each name, the first at the high end.
    pub fn rows(names: &[&str]) -> Self {
        let n = names.len();
        let ticks = names.iter().enumerate();
        Self {
            low: 0.0,
            high: std::cmp::max(n, 1) as f64,
            is_log: false,
            ticks: ticks
                .map(|(i, name)| (n as f64 - i as f64 - 0.5, (*name).to_owned()))
                .collect(),
        }
    }

    /// The same axis with these whole numbers marked instead.
    #[must_use]
    pub fn marked(self, at: impl IntoIterator<Item = f64>) -> Self {
        let ticks = at.into_iter().map(|x| (x, thousands(x))).collect();
        Self { ticks, ..self }
    }

    /// Where `x` lies, 0 at the low end and 1 at the high one.
    pub fn at(&self, x: f64) -> f64 {
        if self.is_log {
            (x / self.low).ln() / (self.high / self.low).ln()
        } else {
            (x - self.low) / (self.high - self.low)
        }
    }

    /// Both ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

/// Lowest and highest finite value; none if there is none.
pub fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|v| v.is_finite());
    finite.fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((f64::min(low, v), f64::max(high, v))),
    })
}

/// 1, 2 or 5 times a power of ten, at least `step`.
pub fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|d| d * power >= step * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * power
}

/// 0.002 rather than 0.0020000000000000005.
fn short(x: f64) -> String {
    let rounded = format!("{x:.2e}").parse::<f64>().unwrap_or(x);
    match rounded {
        1000.0.. => thousands(rounded),
        0.0001.. => rounded.to_string(),
        _ => format!("{rounded:e}").replace('-', "−"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::linear(-1710.0, 20.0, 5);
        assert_eq!(labels(&axis), ["−1,500", "−1,000", "−500", "0"]);
        assert_eq!(
            labels(&Axis::linear(0.0, 0.5, 5)),
            ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]
        );
        assert_eq!(
            labels(&Axis::log([0.02, 0.4])),
            ["0.02", "0.05", "0.1", "0.2"]
        );
        assert_eq!(
            labels(&Axis::log([1e-5, 0.2])),
            ["1e−5", "0.0001", "0.001", "0.01", "0.1"]
        );
    }

    #[test]
    fn losses_are_linear_once_one_is_negative() {
        assert!(Axis::losses([0.02, 0.4].into_iter(), 5).is_log());
        assert!(Axis::losses([0.0, 0.02, 0.4].into_iter(), 5).is_log());
        let axis = Axis::losses([0.5, -0.5].into_iter(), 5);
        assert!(!axis.is_log());
        for value in [-0.5, 0.5] {
            assert!((0.0..=1.0).contains(&axis.at(value)), "{axis:?}");
        }
    }

    #[test]
    fn axes_have_extent_whatever_the_values() {
        for values in [&[][..], &[0.0], &[-3.0, -3.0], &[1e12], &[f64::NAN]] {
            for axis in [
                Axis::around(values.iter().copied(), 5),
                Axis::log(values.iter().copied()),
            ] {
                let (low, high) = axis.ends();
                assert!(low < high && axis.ticks.len() < 20, "{axis:?}");
                assert_eq!((axis.at(low), axis.at(high)), (0.0, 1.0));
                let labels = axis.ticks.iter().map(|(_, label)| label);
                let told_apart: BTreeSet<_> = labels.collect();
                assert!(!told_apart.is_empty(), "{axis:?}");
                assert_eq!(told_apart.len(), axis.ticks.len(), "{axis:?}");
            }
        }
    }
}
