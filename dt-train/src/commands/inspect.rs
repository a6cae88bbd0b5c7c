//! `dt-train inspect`: what a dataset, a run or a policy file holds.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Trajectory file, run folder or policy file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// Paths that are none of the three, or damaged.
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("inspect").into())
}
