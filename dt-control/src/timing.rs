//! How punctual the loop is.

/// Statistics of the ticks in which the loop acted by the policy. Spans are counts of the processor's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timing {
    /// From the tick until the loop began: how late it was woken.
    pub jitter: Spans,
    /// From the action being out until the deadline; 0 if it was late.
    pub slack: Spans,
    /// How many actions were out in which eighth of the time until the deadline, by what was left: the first counts
    /// slacks of less than an eighth, late actions included, the last those of seven eighths and more.
    pub slack_eighths: [u32; 8],
    /// From the tick until all was done, with what was computed ahead.
    pub busy: Spans,
    /// Ticks that passed unserved while acting.
    pub missed_ticks: u32,
    /// Actions that were not out at the deadline.
    pub late_actions: u32,
}

impl Timing {
    /// Adds the slack of one action.
    pub(crate) fn add_slack(&mut self, slack: u64, deadline: u64) {
        self.slack.add(slack);
        let mut bound = deadline;
        for (eighth, count) in (1..=8u32).zip(&mut self.slack_eighths) {
            if slack.saturating_mul(8) < bound || eighth == 8 {
                *count = count.saturating_add(1);
                return;
            }
            bound = bound.saturating_add(deadline);
        }
    }
}

/// Minimum, mean and maximum of a clocked span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Spans {
    /// How many were added. Does not go beyond the largest value: minimum and maximum are still kept then,
    /// the mean is that of the first ones.
    pub len: u32,
    /// Shortest.
    pub min: u64,
    /// Longest.
    pub max: u64,
    total: u64,
}

impl Spans {
    /// Adds one.
    pub fn add(&mut self, span: u64) {
        self.merge(Self {
            len: 1,
            min: span,
            max: span,
            total: span,
        });
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: Self) {
        if other.len > 0 {
            self.min = if self.len == 0 {
                other.min
            } else {
                self.min.min(other.min)
            };
            self.max = self.max.max(other.max);
            let sums = (
                self.len.checked_add(other.len),
                self.total.checked_add(other.total),
            );
            if let (Some(len), Some(total)) = sums {
                (self.len, self.total) = (len, total);
            }
        }
    }

    /// Mean, rounded to nearest; 0 of none.
    pub fn mean(&self) -> u64 {
        let len = u64::from(self.len);
        self.total
            .saturating_add(len / 2)
            .checked_div(len)
            .unwrap_or(0)
    }

    /// The same spans in a unit of which `factor` make `divisor` of these; rounded down.
    #[must_use]
    pub fn scaled(self, factor: u32, divisor: u32) -> Self {
        let scaled = |span: u64| {
            let product = u128::from(span) * u128::from(factor);
            product.checked_div(divisor.into()).unwrap_or(product) as u64
        };
        Self {
            len: self.len,
            min: scaled(self.min),
            max: scaled(self.max),
            total: scaled(self.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_summed_exactly() {
        let mut spans = Spans::default();
        assert_eq!((spans.min, spans.mean(), spans.max), (0, 0, 0));
        for span in [7, 3, 4] {
            spans.add(span);
        }
        assert_eq!(
            (spans.len, spans.min, spans.mean(), spans.max),
            (3, 3, 5, 7)
        );
        let mut merged = Spans::default();
        merged.merge(spans);
        merged.merge(Spans::default());
        assert_eq!(merged, spans);
        let scaled = spans.scaled(125, 4);
        // 437 / 3: the factor is applied before rounding.
        assert_eq!((scaled.min, scaled.mean(), scaled.max), (93, 146, 218));
    }

    #[test]
    fn slacks_are_counted_in_eighths_of_the_deadline() {
        let mut timing = Timing::default();
        for slack in [0, 124, 125, 499, 500, 874, 875, 1000] {
            timing.add_slack(slack, 1000);
        }
        assert_eq!(timing.slack_eighths, [2, 1, 0, 1, 1, 0, 1, 2]);
        assert_eq!((timing.slack.len, timing.slack.max), (8, 1000));
    }

    /// 49 days of ticks at 1 kHz, and then some.
    #[test]
    fn the_mean_stays_where_no_more_can_be_counted() {
        let mut spans = Spans {
            len: u32::MAX,
            min: 5,
            max: 5,
            total: 5 * u64::from(u32::MAX),
        };
        spans.add(1000);
        spans.add(2);
        assert_eq!(
            (spans.len, spans.min, spans.mean(), spans.max),
            (u32::MAX, 2, 5, 1000)
        );
    }
}
