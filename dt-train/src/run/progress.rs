//! How far a training run is, on stderr: a bar on a terminal, a line per record elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};

use super::checkpoint::Progress;
use super::metrics::Record;
use super::{Run, Sink};

/// What suits the stderr there is.
pub(super) fn sink(updates: u64, progress: &Progress) -> Box<dyn Sink> {
    match std::io::stderr().is_terminal() {
        true => Box::new(Bar::new(updates, progress)),
        false => Box::new(Lines {
            updates,
            started: Instant::now(),
            started_at: progress.update,
        }),
    }
}

/// A bar, with a line above it per evaluation.
struct Bar {
    bar: ProgressBar,
    evaluation: String,
}

impl Bar {
    fn new(updates: u64, progress: &Progress) -> Self {
        let template = "{bar:30} {pos}/{len} updates  {per_sec}  {eta} left  {msg}";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar = ProgressBar::new(updates).with_style(style);
        bar.set_position(progress.update);
        bar.reset_eta();
        Self {
            bar,
            evaluation: String::new(),
        }
    }
}

impl Sink for Bar {
    fn advance(&mut self, update: u64) {
        self.bar.set_position(update);
    }

    fn record(&mut self, _: &Run, record: &Record) -> anyhow::Result<()> {
        let loss = losses(record);
        if !record.eval.is_empty() {
            self.evaluation = returns(record);
            self.bar.println(format!(
                "update {}  {loss}{}",
                record.update, self.evaluation
            ));
        }
        self.bar.set_message(format!("{loss}{}", self.evaluation));
        Ok(())
    }

    fn finish(&mut self) {
        self.bar.finish();
    }
}

/// A line per record, for logs: `train.log_every` says how often.
struct Lines {
    /// Of the whole run.
    updates: u64,
    started: Instant,
    /// Updates done then.
    started_at: u64,
}

impl Lines {
    /// The line of `record` when this much time has passed since the start.
    fn line(&self, record: &Record, elapsed: Duration) -> String {
        // Evaluations take time too, so that the updates per second alone would promise too much.
        let done = record.update.saturating_sub(self.started_at);
        let rest = self.updates.saturating_sub(record.update);
        let left = elapsed.mul_f64(rest as f64 / done.max(1) as f64);
        format!(
            "update {}/{}  {}{}  {:.1} updates/s  {} left",
            record.update,
            self.updates,
            losses(record),
            returns(record),
            record.updates_per_second,
            FormattedDuration(left)
        )
    }
}

impl Sink for Lines {
    fn record(&mut self, _: &Run, record: &Record) -> anyhow::Result<()> {
        eprintln!("{}", self.line(record, self.started.elapsed()));
        Ok(())
    }
}

fn losses(record: &Record) -> String {
    let validation = record
        .validation_loss
        .zip(record.fit_loss)
        .map_or_else(String::new, |(held_out, fit)| {
            format!(" (held out {held_out:.5}, fit {fit:.5})")
        });
    let accuracy = record
        .accuracy
        .map_or_else(String::new, |part| format!(", {:.1} % right", 100.0 * part));
    format!("loss {:.5}{validation}{accuracy}", record.loss)
}

/// Those at the first target, after two spaces; nothing without an evaluation.
fn returns(record: &Record) -> String {
    record.eval.first().map_or_else(String::new, |first| {
        format!(
            "  return {:.1} ± {:.1} (target {})",
            first.mean_return, first.std_return, first.target_return
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::EvalRecord;

    #[test]
    fn a_line_tells_update_loss_speed_and_time_left() {
        let lines = Lines {
            updates: 1000,
            started: Instant::now(),
            started_at: 200,
        };
        let mut record = Record {
            update: 400,
            loss: 0.123_456,
            validation_loss: None,
            fit_loss: None,
            accuracy: None,
            validation_accuracy: None,
            grad_norm: 1.0,
            learning_rate: 1e-4,
            updates_per_second: 20.04,
            core_seconds: None,
            eval: Vec::new(),
        };
        // 200 updates in 20 seconds, and 600 more to go; those before the start took none of this time.
        let line = |record: &Record| lines.line(record, Duration::from_secs(20));
        assert_eq!(
            line(&record),
            "update 400/1000  loss 0.12346  20.0 updates/s  00:01:00 left"
        );
        (record.validation_loss, record.fit_loss) = (Some(0.2), Some(0.1));
        record.update = 1000;
        record.eval.push(EvalRecord {
            target_return: -150.0,
            episodes: 2,
            mean_return: -160.04,
            std_return: 3.0,
            engine_mean_return: 0.0,
            torch_mean_return: 0.0,
        });
        assert_eq!(
            line(&record),
            "update 1000/1000  loss 0.12346 (held out 0.20000, fit 0.10000)  return -160.0 ± 3.0 (target -150)  \
             20.0 updates/s  00:00:00 left"
        );
    }
}
