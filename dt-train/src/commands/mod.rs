//! The commands of `dt-train`, one per file: its arguments and its main path.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use host_sim::MakeError;
use host_sim::console::message;
use host_sim::plant::EnvironmentArgs;
use indicatif::ProgressBar;

use crate::data::{DataError, Dataset, Reading};

pub mod collect;
pub mod compare;
pub mod eval;
pub mod export;
pub mod export_hf;
pub mod finetune;
pub mod import_hf;
pub mod inspect;
pub mod plot;
pub mod plot_demo;
pub mod predict;
pub mod report;
pub mod table;
pub mod train;

/// Collect trajectories, train a Decision Transformer on them, quantize it and export it for a controller.
///
/// Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command with its arguments.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Roll an agent out in an environment (or train one) and write its trajectories
    Collect(collect::Args),
    /// Train a Decision Transformer, or a rival of it, on trajectories
    Train(train::Args),
    /// Train a run further, with streaming attention if it had none, and report both returns
    Finetune(finetune::Args),
    /// Run a trained policy in an environment and report its returns
    Eval(eval::Args),
    /// Quantize a trained run into a policy file for a controller
    Export(export::Args),
    /// Import a Hugging Face Decision Transformer as a run
    ImportHf(import_hf::Args),
    /// Export a run as a Hugging Face Decision Transformer
    ExportHf(export_hf::Args),
    /// Predict the next action of each context in a JSON-lines file
    Predict(predict::Args),
    /// Describe a dataset, a run or a policy file
    Inspect(inspect::Args),
    /// Write an HTML report that compares runs
    Report(report::Args),
    /// Compare two policies' returns in the same episodes
    Compare(compare::Args),
    /// Print the table of results over training seeds that RESULTS.md has
    #[command(hide = true)]
    Table(table::Args),
    /// Draw achieved against target return
    Plot(plot::Args),
    /// Draw the picture of `cargo xtask demo`
    #[command(hide = true)]
    PlotDemo(plot_demo::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever the command reports.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Collect(args) => collect::run(args),
            Command::Train(args) => train::run(args),
            Command::Finetune(args) => finetune::run(args),
            Command::Eval(args) => eval::run(args),
            Command::Export(args) => export::run(args),
            Command::ImportHf(args) => import_hf::run(args),
            Command::ExportHf(args) => export_hf::run(args),
            Command::Predict(args) => predict::run(args),
            Command::Inspect(args) => inspect::run(args),
            Command::Report(args) => report::run(args),
            Command::Compare(args) => compare::run(args),
            Command::Table(args) => table::run(args),
            Command::Plot(args) => plot::run(args),
            Command::PlotDemo(args) => plot_demo::run(args),
        }
    }
}

/// What trajectory files do not say themselves, on the command line.
#[derive(clap::Args, Debug)]
pub struct ReadingArgs {
    /// End episodes after N steps where the files mark no end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_episode_steps: Option<u32>,
    /// Leave out episodes that cannot be used instead of refusing their file
    #[arg(long)]
    pub skip_bad_episodes: bool,
    /// Entries of observations that are dictionaries, joined to one vector in this order
    #[arg(long, value_name = "KEY,…", value_delimiter = ',')]
    pub observation_keys: Vec<String>,
    /// Where observations are images: as many frames, the newest and those before it, make one observation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub frame_stack: Option<u32>,
}

impl ReadingArgs {
    /// The keys of the recipe that they are.
    fn settings(&self) -> Vec<String> {
        let steps = self.max_episode_steps;
        let steps = steps.map(|n| format!("data.max_episode_steps={n}"));
        let skip = self
            .skip_bad_episodes
            .then(|| "data.skip_bad_episodes=true".to_owned());
        let keys = &self.observation_keys;
        let keys = (!keys.is_empty()).then(|| format!("data.observation_keys={keys:?}"));
        let stack = self.frame_stack.map(|n| format!("data.frame_stack={n}"));
        let all: [Option<String>; 4] = [steps, skip, keys, stack];
        all.into_iter().flatten().collect()
    }

    /// As they are typed, each with a space before it.
    fn options(&self) -> String {
        let steps = self.max_episode_steps;
        let steps = steps.map(|n| format!(" --max-episode-steps {n}"));
        let skip = self
            .skip_bad_episodes
            .then(|| " --skip-bad-episodes".into());
        let keys = self.observation_keys.join(",");
        let keys = (!keys.is_empty()).then(|| format!(" --observation-keys {keys}"));
        let stack = self.frame_stack.map(|n| format!(" --frame-stack {n}"));
        let all: [Option<String>; 4] = [steps, skip, keys, stack];
        all.into_iter().flatten().collect()
    }

    /// As the readers take them.
    fn reading(&self) -> Reading {
        Reading {
            max_episode_steps: self.max_episode_steps.map(|n| n as usize),
            skip_bad_episodes: self.skip_bad_episodes,
            observation_keys: self.observation_keys.clone(),
            frame_stack: self.frame_stack.map_or(1, |n| n as usize),
        }
    }
}

/// Reads trajectories, which may take seconds, under a spinner.
fn load(paths: &[PathBuf], reading: &Reading) -> Result<Dataset, DataError> {
    let spinner = ProgressBar::new_spinner().with_message("reading the data");
    spinner.enable_steady_tick(Duration::from_millis(100));
    let data = Dataset::load_as(paths, reading);
    spinner.finish_and_clear();
    data
}

/// Says on stderr what went wrong besides what was asked for.
fn note(consequence: &str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        eprintln!("note: {consequence}: {}", message(error.as_ref()));
    }
}

/// The environment that the command line names.
///
/// # Errors
/// [`MakeError::Usage`].
fn env_name(args: &EnvironmentArgs) -> Result<Option<String>, MakeError> {
    args.name().map_err(MakeError::Usage)
}

/// Arguments that do not go together; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUsage(
    /// What is wrong and what to do.
    pub &'static str,
);
