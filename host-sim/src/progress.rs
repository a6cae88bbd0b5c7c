//! The progress bar of long rollouts.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `episodes` steps on stderr; nothing is drawn where that is not a terminal.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "the template is a literal")]
pub fn bar(episodes: u64) -> ProgressBar {
    let style = "{bar:40} {pos}/{len} episodes, {per_sec}, {eta} left";
    ProgressBar::new(episodes)
        .with_style(ProgressStyle::with_template(style).expect("a valid template"))
}
