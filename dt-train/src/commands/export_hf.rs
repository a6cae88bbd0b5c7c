//! `dt-train export-hf`: a run as a Hugging Face Decision Transformer.

use std::path::PathBuf;

use host_sim::console;

use crate::hf::export::export;
use crate::run::{Run, Which};

/// Arguments of `dt-train export-hf`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Folder of the Hugging Face model to write: config.json, model.safetensors and README.md, the model card
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which checkpoint of the run: the newest, that of the best evaluation, or the one after N updates, if it was kept
    #[arg(long, value_name = "last|best|N", default_value = "last")]
    pub checkpoint: Which,
    /// Replace existing output files
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// As [`export`].
pub fn run(args: Args) -> anyhow::Result<()> {
    let run = Run::open(&args.run)?;
    let exported = export(&run, args.checkpoint, &args.out, args.force)?;
    for note in &exported.notes {
        eprintln!("note: {note}");
    }
    console::line(format_args!("wrote {}", exported.dir.display()))?;
    Ok(())
}
