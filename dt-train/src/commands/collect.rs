//! `dt-train collect`: trajectories from a random, a saved or a freshly trained SAC agent.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train collect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Environment: pendulum
    #[arg(long, value_name = "E")]
    pub env: String,
    /// `random`, `sac` (train one and keep its whole replay buffer), or a file written by --save-agent
    #[arg(long, value_name = "random|sac|FILE")]
    pub agent: String,
    /// Environment steps to record
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Seed of the environment, the agent and its training
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Trajectory file to write (D4RL layout)
    #[arg(long, value_name = "F.hdf5")]
    pub out: PathBuf,
    /// With --agent sac: write the trained agent here
    #[arg(long, value_name = "FILE")]
    pub save_agent: Option<PathBuf>,
    /// Replace existing output files
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unknown environments or agents, unreadable agent files, outputs that exist or cannot be written.
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("collect").into())
}
