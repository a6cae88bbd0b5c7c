//! `dt-train train`: trains a Decision Transformer.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train train`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Trajectory files, separated by commas
    #[arg(long, value_name = "F.hdf5,…", value_delimiter = ',', required = true)]
    pub data: Vec<PathBuf>,
    /// Folder of the run
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Environment to evaluate in; default: the one the data names
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "C.toml")]
    pub config: Option<PathBuf>,
    /// Override one configuration key; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of initialization, sampling and dropout
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Continue the run in --out where it stopped
    #[arg(long)]
    pub resume: bool,
    /// Replace the run in --out
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Bad configuration or data, an output folder with another run in it, failed writes.
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("train").into())
}
