//! `dt-train report`: an HTML page that compares runs.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train report`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Page to write
    #[arg(long, value_name = "report.html")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Always [`NotBuiltYet`].
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("report").into())
}
