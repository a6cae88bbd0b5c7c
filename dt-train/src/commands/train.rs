//! `dt-train train`: trains a Decision Transformer, or one of its rivals.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use host_sim::console;
use host_sim::plant::EnvironmentArgs;

use super::env_name;
use crate::config::{Recipe, Source};
use crate::run::seeds::{self, Seeds};
use crate::run::train::{self, Options};
use crate::run::{self, Existing, Run};

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
    /// Folder of the run; with --seeds: of their runs
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Environment to evaluate in; default: the one the data name; none: train without evaluation
    #[command(flatten)]
    pub env: EnvironmentArgs,
    /// What is trained, whatever the recipe says: dt, a Decision Transformer; bc, behaviour cloning, or
    /// bc-transformer; td3bc, iql, awr or cql, rivals that learn what actions are worth
    #[arg(long, value_name = "ALGO")]
    pub algo: Option<String>,
    /// Recipe: a TOML file, or one of those that are shipped: default, paper, gym-short, bc, td3bc, iql, awr, cql,
    /// pendulum, cartpole, graph, key-to-door, minatar, atari, atari-paper. A file may begin with
    /// extends = "gym-short": it is then that recipe but for its own keys
    #[arg(long, value_name = "C.toml|NAME")]
    pub config: Option<PathBuf>,
    /// Override one configuration key; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of initialization, sampling and dropout
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Train with each of these seeds, into RUN/seed-N: 0..5 are 0, 1, 2, 3, 4; 0,1,7 is a list. Then the mean over seeds
    #[arg(long, value_name = "A..B", conflicts_with = "seed")]
    pub seeds: Option<Seeds>,
    /// With --seeds: so many at once, each with its share of the cores and its own copy of the data
    #[arg(long, value_name = "N", requires = "seeds", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Write an event file for TensorBoard into the run's folder as well: `tensorboard --logdir RUN`
    #[arg(long)]
    pub tensorboard: bool,
    /// Continue the run in --out where it stopped; a finished one with more train.updates. What is logged, saved and evaluated
    /// may change, what the updates so far followed from may not
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Start from the newest weights of another run instead of random ones, with its recipe unless --config gives one; states,
    /// actions and returns stay in that run's units, so that the network begins as the same policy
    #[arg(long, value_name = "RUN")]
    pub init_from: Option<PathBuf>,
    /// Replace the run in --out
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Bad configuration or data, an output folder with another run in it, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let device = train::device(&args.device)?;
    if let Some(Seeds(seeds)) = &args.seeds {
        return run_seeds(&args, seeds);
    }
    let existing = existing(args.resume, args.force);
    let recipe = recipe(&args, &args.out, args.seed)?;
    run::check_folder(&args.out, existing)?;
    let data = super::load(&args.data, &recipe.data.reading())?;
    let options = Options {
        out: args.out,
        existing,
        recipe,
        env: env_name(&args.env)?,
        device,
        init_from: args.init_from,
    };
    let run = train::train(data, options)?;
    console::line(train::summary(&run)?)?;
    Ok(())
}

/// One process per seed, each with its recipe in full.
fn run_seeds(args: &Args, seeds: &[u64]) -> anyhow::Result<()> {
    let recipes = tempfile::tempdir().context("no folder for temporary files")?;
    let written = |seed: u64| recipes.path().join(format!("seed-{seed}.toml"));
    // Everything that can be refused is refused before the work.
    if args.out.join(run::CONFIG).exists() {
        bail!(
            "{} is a run, and --seeds makes a folder of runs; choose another folder",
            args.out.display()
        );
    }
    for &seed in seeds {
        let out = seeds::folder(&args.out, seed);
        let recipe = recipe(args, &out, Some(seed))?;
        run::check_folder(&out, existing(args.resume, args.force))?;
        std::fs::write(written(seed), recipe.to_toml())?;
    }
    let env = env_name(&args.env)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let command = |seed: u64| {
        let mut command = Command::new(&program);
        command.arg("train").arg("--data").args(&args.data);
        command.arg("--out").arg(seeds::folder(&args.out, seed));
        command.arg("--config").arg(written(seed));
        command.args(["--device", &args.device]);
        command.args(env.iter().flat_map(|env| ["--env", env]));
        if let Some(run) = &args.init_from {
            command.arg("--init-from").arg(run);
        }
        command.args(args.resume.then_some("--resume"));
        command.args(args.force.then_some("--force"));
        command
    };
    let done = seeds::run(seeds, args.jobs as usize, command)?;
    let of = |success: bool| {
        let each = seeds.iter().zip(&done);
        each.filter(move |(_, status)| status.success() == success)
            .map(|(&seed, _)| seed)
    };
    let finished: Vec<_> = of(true)
        .map(|seed| seeds::folder(&args.out, seed))
        .collect();
    if !finished.is_empty() {
        console::print(seeds::summary(&finished)?)?;
    }
    let failed: Vec<_> = of(false).map(|seed| seed.to_string()).collect();
    if !failed.is_empty() {
        bail!(
            "{} of {} seeds failed ({}); what each said stands above. Once that is mended, the same command with --resume \
             trains them and leaves the others as they are",
            failed.len(),
            seeds.len(),
            failed.join(", ")
        );
    }
    Ok(())
}

pub(super) fn existing(resume: bool, force: bool) -> Existing {
    match (resume, force) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Replace,
        _ => Existing::Refuse,
    }
}

/// The recipe of the run in `out`, with all that the command line says about it.
fn recipe(args: &Args, out: &Path, seed: Option<u64>) -> anyhow::Result<Recipe> {
    let mut settings = Vec::new();
    if args.delayed_reward {
        settings.push("data.delayed_reward=true".to_owned());
        // Unless --set asks for an external one.
        settings.push("control.reward=constant".to_owned());
    }
    settings.extend(args.algo.iter().map(|name| format!("algo={name}")));
    settings.extend(args.reading.settings());
    settings.extend(
        args.tensorboard
            .then(|| "train.tensorboard=true".to_owned()),
    );
    settings.extend(args.set.iter().cloned());
    settings.extend(seed.map(|seed| format!("train.seed={seed}")));
    // `:?` keeps the point that makes it a float.
    settings.extend(args.top_percent.map(|x| format!("data.top_percent={x:?}")));
    let given = match (&args.config, &args.init_from) {
        (Some(config), _) => Some(Source::new(config)),
        (None, Some(run)) => Some(Source::File(Run::open(run)?.dir.join(run::CONFIG))),
        (None, None) => None,
    };
    run::recipe(out, existing(args.resume, args.force), given, &settings)
}
