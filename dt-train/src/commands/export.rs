//! `dt-train export`: a run as a policy file for a controller.

use std::path::PathBuf;

use clap::ValueEnum;

use super::NotBuiltYet;

/// Arguments of `dt-train export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Policy file to write; policy.rs, the matching constants, goes beside it
    #[arg(long, value_name = "F.dtb")]
    pub out: PathBuf,
    /// Number format of the weights
    #[arg(long, value_enum, default_value_t = Dtype::Int8)]
    pub dtype: Dtype,
    /// Which checkpoint of the run
    #[arg(long, value_enum, default_value_t = Which::Last)]
    pub checkpoint: Which,
    /// Replace existing output files
    #[arg(long)]
    pub force: bool,
}

/// Number formats of a policy file.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 8-bit weights, 16-bit activations
    Int8,
    /// 4-bit weights
    Int4,
    /// The reference
    F32,
}

/// Checkpoints of a run.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest
    Last,
    /// The one with the best evaluation
    Best,
}

/// Runs the command.
///
/// # Errors
/// Unreadable runs, a quantized policy that does not match the trained one, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.dtype == Dtype::Int4 {
        return Err(NotBuiltYet("export --dtype int4").into());
    }
    Err(NotBuiltYet("export").into())
}
