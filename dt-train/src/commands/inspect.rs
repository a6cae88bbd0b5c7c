//! `dt-train inspect`: what a dataset, a run or a policy file holds.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::NotBuiltYet;
use crate::dataset::Dataset;
use crate::dataset::inspect::Summary;

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
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.path.is_dir() {
        return Err(NotBuiltYet("inspect of a run").into());
    }
    if is_policy(&args.path) {
        return Err(NotBuiltYet("inspect of a policy file").into());
    }
    let summary = Summary::new(&Dataset::load(&[args.path])?);
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{}", summary.table());
    }
    Ok(())
}

/// Whether the file begins like a policy file; files that cannot be read are left to the readers to report.
fn is_policy(path: &Path) -> bool {
    let mut magic = [0; 8];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && magic == *b"DTPOLICY"
}
