//! Progress bars of what takes long.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `episodes` steps on stderr; nothing is drawn where that is not a terminal.
#[must_use]
pub fn bar(episodes: u64) -> ProgressBar {
    bar_of(episodes, "episodes")
}

/// The same for pictures.
#[must_use]
pub fn pictures(pictures: u64) -> ProgressBar {
    bar_of(pictures, "pictures")
}

fn bar_of(count: u64, what: &str) -> ProgressBar {
    let style = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{per_sec}}, {{eta}} left");
    ProgressBar::new(count)
        .with_style(ProgressStyle::with_template(&style).expect("a valid template"))
}
