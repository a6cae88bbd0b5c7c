//! `dt-train export-hf`: a run as a Hugging Face Decision Transformer.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train export-hf`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Folder of the Hugging Face model to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Always [`NotBuiltYet`].
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("export-hf").into())
}
