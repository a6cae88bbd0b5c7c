//! `dt-train plot`: achieved against target return, the Decision Transformer paper's figure 4, and their correlation; or charts that a
//! file describes.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use host_sim::console;

use super::compare::read;
use crate::atomic;
use crate::report::described::{Description, EXAMPLE};
use crate::report::targets::{Series, picture};

/// Arguments of `dt-train plot`.
#[derive(clap::Args, Debug)]
#[command(after_long_help = format!("A file that describes charts:\n\n{EXAMPLE}"))]
pub struct Args {
    /// Results at several target returns, as `--json` of `eval` or `host-sim rollout` writes them; or a TOML file that describes charts,
    /// as --help shows
    #[arg(value_name = "EVAL.json|CHARTS.toml", required = true)]
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
    if let [path] = args.results.as_slice()
        && path
            .extension()
            .is_some_and(|extension| extension == "toml")
    {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let described = toml::from_str::<Description>(&text);
        let described =
            described.with_context(|| format!("{name}: not a description of charts"))?;
        let picture = described.picture().with_context(|| name.to_string())?;
        return picture.write(&args.out, args.force);
    }
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
