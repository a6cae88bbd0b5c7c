//! `dt-train predict`: the next action of given contexts.

use std::path::PathBuf;

use super::NotBuiltYet;

/// Arguments of `dt-train predict`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder or policy file
    #[arg(value_name = "RUN|F.dtb")]
    pub policy: PathBuf,
    /// One context per line: `{"returns_to_go":[…],"states":[[…]],"actions":[[…]],"timesteps":[…]}`, normalized and scaled
    #[arg(long, value_name = "IN.jsonl")]
    pub contexts: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Unreadable policies; a bad line, by its number.
pub fn run(_args: Args) -> anyhow::Result<()> {
    Err(NotBuiltYet("predict").into())
}
