//! `dt-train finetune`: trains a run further on other data, with another kind of attention if asked for, and measures both.
//!
//! It is `train --init-from` with a recipe for few updates: the run's own weights, units and keys but for those below.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dt_core::config::{Attention, Dtype};
use host_sim::console;
use host_sim::evaluation::Table;
use host_sim::plant::EnvironmentArgs;

use super::compare::{self, Results};
use super::eval::{self, Target, evaluate};
use super::{WrongUsage, train::existing};
use crate::config::Source;
use crate::run::train::{self, Options};
use crate::run::{self, Run, Which};

/// What a network that is trained already takes: a short warm-up, since its optimizer knows nothing of it, and a learning rate
/// that ends low, since the last update's policy is the result. docs/results/import-parity.md has a policy tuned so.
const DEFAULTS: [&str; 6] = [
    "train.updates=1000",
    "train.learning_rate=3e-4",
    "train.learning_rate_final=0.05",
    "train.warmup_updates=50",
    "train.log_every=50",
    "eval.every=0",
];

/// Arguments of `dt-train finetune`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder, trained or imported. States, actions and returns stay in its units
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Trajectory files, as `train` takes them
    #[arg(long, value_name = "F.hdf5,…", value_delimiter = ',', num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// What the files do not say
    #[command(flatten)]
    pub reading: super::ReadingArgs,
    /// Attention of the tuned policy: streaming computes 3 new tokens per control step where window computes all of K timesteps;
    /// default: as it is
    #[arg(long, value_name = "streaming|window", value_parser = ["streaming", "window"], hide_possible_values = true)]
    pub attention: Option<String>,
    /// Folder of the tuned run; default: RUN-finetuned
    #[arg(long, value_name = "RUN2")]
    pub out: Option<PathBuf>,
    /// Environment to measure both in; default: the one the data name, or else RUN's; none: do not measure
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
    /// Target returns to measure both at, separated by commas; auto: as `eval RUN` has it
    #[arg(
        long,
        value_name = "auto|R,…",
        value_delimiter = ',',
        allow_hyphen_values = true,
        default_value = "auto"
    )]
    pub target_return: Vec<Target>,
    /// Episodes per target and run; both have the same. A window policy computes twenty times as much per step as a streaming one
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Override one key of RUN's recipe; may be repeated. Without: train.updates=1000, train.learning_rate=3e-4 that falls to a
    /// twentieth, train.warmup_updates=50; sequences as long as the new kind of attention needs
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of sampling and dropout
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Continue the tuned run where it stopped
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace the tuned run
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unreadable runs and data, data that do not fit the run, an output folder with another run in it.
pub fn run(args: Args) -> anyhow::Result<()> {
    let device = train::device(&args.device)?;
    let before = Run::open(&args.run)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => beside(&args.run)?,
    };
    if let Some(env) = &args.env {
        host_sim::plant::allow(env);
    }
    let existing = existing(args.resume, args.force);
    let recipe = Source::File(before.dir.join(run::CONFIG));
    let recipe = run::recipe(&out, existing, Some(recipe), &settings(&args, &before))?;
    run::check_folder(&out, existing)?;
    let data = super::load(&args.data, &recipe.data.reading())?;
    let options = Options {
        out,
        existing,
        recipe,
        env: args.env.clone(),
        device,
        init_from: Some(args.run.clone()),
    };
    let tuned = train::train(data, options)?;
    // Where there is none, or none of this version's or that only who types it may start, training has said so.
    let env = tuned.info.env_to_make();
    match env.filter(|env| host_sim::make(env).is_ok()) {
        Some(env) => measure(&args, env, &before, &tuned),
        None => Ok(console::line(train::summary(&tuned)?)?),
    }
}

/// `RUN-finetuned`.
fn beside(run: &Path) -> anyhow::Result<PathBuf> {
    let name = run.file_name().ok_or(WrongUsage(
        "the run's folder has no name to put another beside; name one with --out",
    ))?;
    let mut name = name.to_owned();
    name.push("-finetuned");
    Ok(run.with_file_name(name))
}

/// What is laid over the recipe of `before`.
fn settings(args: &Args, before: &Run) -> Vec<String> {
    let mut settings: Vec<_> = DEFAULTS.map(str::to_owned).into();
    if let Some(attention) = &args.attention {
        settings.push(format!("dt.attention={attention}"));
        let now = match before.network(Dtype::F32).map(|network| network.attention) {
            Some(Attention::Streaming) => "streaming",
            Some(Attention::Window) => "window",
            None => "",
        };
        if now != attention {
            // A sequence of K shows the one nothing but what the other does.
            settings.push("dt.sequence_len=0".into());
            settings.push("dt.burn_in=0".into());
        }
    }
    let targets = args.target_return.iter().map(|target| match target {
        Target::At(target) => Some(format!("{target:?}")),
        Target::Auto => None,
    });
    // Where one is auto, the recipe's own are meant, too.
    if let Some(targets) = targets.collect::<Option<Vec<_>>>() {
        settings.push(format!("eval.target_returns=[{}]", targets.join(", ")));
    }
    settings.extend(args.reading.settings());
    settings.extend(args.set.iter().cloned());
    settings.extend(args.seed.map(|seed| format!("train.seed={seed}")));
    settings
}

/// Both in the same episodes, and the difference.
fn measure(args: &Args, env: &str, before: &Run, tuned: &Run) -> anyhow::Result<()> {
    // What knows no return is measured once, by `eval`'s own choice.
    let is_conditioned = before.recipe.algorithm.learns_from_rewards();
    let target_return = args.target_return.iter().flat_map(|target| match *target {
        Target::Auto if is_conditioned => before
            .target_returns()
            .into_iter()
            .map(Target::At)
            .collect(),
        target => vec![target],
    });
    let asked = eval::Args {
        policy: PathBuf::new(),
        env: EnvironmentArgs {
            env: Some(env.to_owned()),
            ..EnvironmentArgs::default()
        },
        target_return: target_return.collect(),
        episodes: args.episodes,
        seed: 0,
        checkpoint: Which::Last,
        json: None,
        force: false,
    };
    let of = |run: &Run| -> anyhow::Result<Results> {
        let evaluations = evaluate(&run.dir, &asked)
            .with_context(|| format!("cannot measure {}", run.dir.display()))?;
        Ok(Results {
            path: run.dir.clone(),
            evaluations,
        })
    };
    let (before, tuned) = (of(before)?, of(tuned)?);
    console::print(format_args!(
        "before: {}after: {}A after, B before\n{}",
        Table(&before.evaluations),
        Table(&tuned.evaluations),
        compare::table(&[(&tuned, &before)]),
    ))?;
    Ok(())
}
