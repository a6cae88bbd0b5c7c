//! The progress bar of a training run, on stderr.

use indicatif::{ProgressBar, ProgressStyle};

use super::checkpoint::Progress;
use super::metrics::Record;
use super::{Run, Sink};

/// A progress bar; invisible where stderr is no terminal, which then gets a line per evaluation.
pub(super) struct Bar {
    bar: ProgressBar,
    evaluation: String,
}

impl Bar {
    pub(super) fn new(updates: u64, progress: &Progress) -> Self {
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
        let validation = record
            .validation_loss
            .zip(record.fit_loss)
            .map_or_else(String::new, |(held_out, fit)| {
                format!(" (held out {held_out:.5}, fit {fit:.5})")
            });
        let loss = format!("loss {:.5}{validation}", record.loss);
        if let Some(first) = record.eval.first() {
            self.evaluation = format!(
                "  return {:.1} ± {:.1} (target {})",
                first.mean_return, first.std_return, first.target_return
            );
            let line = format!("update {}  {loss}{}", record.update, self.evaluation);
            if self.bar.is_hidden() {
                eprintln!("{line}");
            } else {
                self.bar.println(line);
            }
        }
        self.bar.set_message(format!("{loss}{}", self.evaluation));
        Ok(())
    }

    fn finish(&mut self) {
        self.bar.finish();
    }
}
