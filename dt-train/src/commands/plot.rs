//! `dt-train plot`: achieved against target return, the Decision Transformer paper's figure 4, and their correlation.

use std::path::PathBuf;

use host_sim::console;

use super::compare::read;
use crate::atomic;
use crate::report::targets::{Series, picture};

/// Arguments of `dt-train plot`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Results at several target returns, as `--json` of `eval` or `host-sim rollout` writes them
    #[arg(value_name = "EVAL.json", required = true)]
    pub results: Vec<PathBuf>,
    /// Picture to write; the ending chooses the format
    #[arg(long, value_name = "OUT.png|svg")]
    pub out: PathBuf,
    /// Replace an existing picture
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unreadable results, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    atomic::check(&args.out, args.force)?;
    let mut series = Vec::new();
    for path in &args.results {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        series.push(Series::new(name, &read(path)?));
    }
    picture(&series).write(&args.out, args.force)?;
    for series in &series {
        if let Some(r) = series.correlation() {
            console::line(format_args!(
                "{}: Pearson correlation of target and mean achieved return {r:.3}",
                series.name()
            ))?;
        }
    }
    Ok(())
}
