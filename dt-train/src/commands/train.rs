//! `dt-train train`: trains a Decision Transformer, or one of its rivals.

use std::path::PathBuf;

use host_sim::console;

use crate::config::Source;
use crate::run::train::{self, Options};
use crate::run::{self, Existing};

/// Arguments of `dt-train train`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Trajectory files (D4RL's HDF5, Minari folders, parquet), separated by commas or spaces
    #[arg(long, value_name = "F.hdf5,…", value_delimiter = ',', num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// What the files do not say
    #[command(flatten)]
    pub reading: super::ReadingArgs,
    /// Train on the best episodes by return only, as many as fit into X % of the timesteps
    #[arg(long, value_name = "X")]
    pub top_percent: Option<f64>,
    /// Move all reward of each episode to its last step, and hold the return-to-go constant when acting
    #[arg(long)]
    pub delayed_reward: bool,
    /// Folder of the run
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Environment to evaluate in; default: the one the data name
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
    /// What is trained, whatever the recipe says: dt, a Decision Transformer, or bc, behaviour cloning
    #[arg(long, value_name = "ALGO")]
    pub algo: Option<String>,
    /// Recipe: a TOML file, or one of those that are shipped: paper, gym-short, bc, pendulum
    #[arg(long, value_name = "C.toml|NAME")]
    pub config: Option<PathBuf>,
    /// Override one configuration key; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of initialization, sampling and dropout
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Continue the run in --out where it stopped
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace the run in --out
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Bad configuration or data, an output folder with another run in it, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let existing = match (args.resume, args.force) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Replace,
        _ => Existing::Refuse,
    };
    let mut settings = Vec::new();
    if args.delayed_reward {
        settings.push("data.delayed_reward=true".to_owned());
        // Unless --set asks for an external one.
        settings.push("control.reward=constant".to_owned());
    }
    settings.extend(args.algo.map(|name| format!("algo={name}")));
    settings.extend(args.reading.settings());
    settings.extend(args.set);
    settings.extend(args.seed.map(|seed| format!("train.seed={seed}")));
    // `:?` keeps the point that makes it a float.
    settings.extend(args.top_percent.map(|x| format!("data.top_percent={x:?}")));
    let given = args.config.as_deref().map(Source::new);
    let recipe = run::recipe(&args.out, existing, given, &settings)?;
    run::check_folder(&args.out, existing)?;
    let device = train::device(&args.device)?;
    let data = super::load(&args.data, &recipe.data.reading())?;
    let options = Options {
        out: args.out,
        existing,
        recipe,
        env: args.env,
        device,
    };
    let run = train::train(data, options)?;
    console::line(train::summary(&run)?)?;
    Ok(())
}
