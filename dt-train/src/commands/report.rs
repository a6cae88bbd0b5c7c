//! `dt-train report`: an HTML page that compares runs.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;

use host_sim::console;

use crate::atomic;
use crate::report::{Gathered, Leading, html};
use crate::run::seeds::runs_of;

/// Arguments of `dt-train report`.
///
/// The page shows what the folders hold: training metrics; results that `dt-train eval RUN` left
/// there; sizes and errors that `dt-train export RUN` left there. Results of exported policies, of
/// `eval F.dtb --json` or `host-sim rollout --json`, come with `--eval`; the policy file named in
/// them says which run they belong to. What is missing, the page names.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folders, or folders of runs as `train --seeds` makes them; those that differ only in train.seed count as repetitions
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Page to write: one file that loads nothing else
    #[arg(long, value_name = "report.html")]
    pub out: PathBuf,
    /// Results of the runs' exported policies, as `--json` of `eval` or `host-sim rollout` writes them
    #[arg(long, value_name = "FILE.json", num_args = 1..)]
    pub eval: Vec<PathBuf>,
    /// Which evaluated checkpoint of each run leads: the newest, that of the best evaluation in training, or the one after
    /// this many updates
    #[arg(long, value_name = "last|best|UPDATE", default_value = "last")]
    pub checkpoint: Leading,
    /// Replace an existing page
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unreadable runs, evaluations of other policies or environments, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    atomic::check(&args.out, args.force)?;
    let spinner = ProgressBar::new_spinner().with_message("reading the runs and their data");
    spinner.enable_steady_tick(Duration::from_millis(100));
    let runs: Vec<PathBuf> = args.runs.iter().flat_map(|path| runs_of(path)).collect();
    let gathered = Gathered::read(&runs, &args.eval, args.checkpoint);
    spinner.finish_and_clear();
    let page = html(&gathered?);
    atomic::write(&args.out, args.force, page.as_bytes())?;
    console::line(format_args!("wrote {}", args.out.display()))?;
    Ok(())
}
