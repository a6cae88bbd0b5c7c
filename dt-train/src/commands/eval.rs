//! `dt-train eval`: returns of a trained policy in an environment.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder, or policy file (which then runs through the engine of the controller)
    #[arg(value_name = "RUN|F.dtb")]
    pub policy: PathBuf,
    /// Environment
    #[arg(long, value_name = "E")]
    pub env: String,
    /// Target returns, separated by commas
    #[arg(
        long,
        value_name = "R,…",
        value_delimiter = ',',
        allow_hyphen_values = true,
        required = true
    )]
    pub target_return: Vec<f32>,
    /// Episodes per target
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Seed of the first episode; episode i uses S + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Also write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Replace an existing --json file
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unreadable policies, environments that do not fit them, failed writes.
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("eval").into())
}
