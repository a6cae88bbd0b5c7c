//! `dt-train import-hf`: a Hugging Face Decision Transformer as a run.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train import-hf`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of the Hugging Face model
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Folder of the run to write
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Always [`NotBuiltYet`].
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("import-hf").into())
}
