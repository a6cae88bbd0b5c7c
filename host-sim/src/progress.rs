//! Progress bars of what takes long, on stderr; nothing is drawn where that is not a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `episodes` steps.
#[must_use]
pub fn bar(episodes: u64) -> ProgressBar {
    bar_of(episodes, "episodes")
}

/// The same for pictures.
#[must_use]
pub fn pictures(pictures: u64) -> ProgressBar {
    bar_of(pictures, "pictures")
}

/// The same for a policy of `len` bytes on its way to a controller.
#[must_use]
pub fn upload(len: u64) -> ProgressBar {
    of(Some(len), "{bar:40} {bytes}/{total_bytes} sent, {eta} left")
}

/// The same for what is read of an input of `len` bytes, if that is known. Hidden where results go to the terminal, which
/// show by themselves how it goes on.
#[must_use]
pub fn input(len: Option<u64>) -> ProgressBar {
    if std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match len {
        Some(_) => "{bar:40} {bytes}/{total_bytes} read, {eta} left",
        None => "{bytes} read, {elapsed}",
    };
    of(len, template)
}

fn bar_of(count: u64, what: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{per_sec}}, {{eta}} left");
    of(Some(count), &template)
}

fn of(count: Option<u64>, template: &str) -> ProgressBar {
    let bar = count.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    // Also before the first of few long episodes ends.
    bar.enable_steady_tick(Duration::from_millis(250));
    bar.with_style(ProgressStyle::with_template(template).expect("a valid template"))
}
