//! `dt-train eval`: returns of a trained policy in an environment.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use host_sim::console;
use host_sim::controller::check_targets;
use host_sim::evaluation::{Evaluation, Table, losses, to_json, whole};
use host_sim::plant::{EnvironmentArgs, is_command};
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::Plan;
use host_sim::{atomic, progress};
use tch::Device;

use super::WrongUsage;
use crate::algo::Engine;
use crate::evaluate;
use crate::run::checkpoint::Checkpoint;
use crate::run::records::save_evaluations;
use crate::run::seeds::runs_of;
use crate::run::{Run, Which};
use crate::stats::{mean, sample_deviation};

/// Arguments of `dt-train eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder (exported as f32 in memory), folder of runs as `train --seeds` makes it, or policy file; the engine of the controller runs it.
    /// Results of a run are kept in its folder as well, for `report`
    #[arg(value_name = "RUN|F.dtb")]
    pub policy: PathBuf,
    /// Environment; default: the one that the policy was trained for
    #[command(flatten)]
    pub env: EnvironmentArgs,
    /// Target returns, separated by commas; behaviour cloning ignores them. auto: of a run, eval.target_returns of its recipe,
    /// or else the returns of the best episode and those that a tenth and half of its data reach; of a policy file, its own
    #[arg(
        long,
        value_name = "auto|R,…",
        value_delimiter = ',',
        allow_hyphen_values = true,
        default_value = "auto"
    )]
    pub target_return: Vec<Target>,
    /// Episodes per target
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Seed of the first episode; episode i uses S + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Which checkpoint of a run: the newest, that of the best evaluation, or the one after N updates, if it was kept
    #[arg(long, value_name = "last|best|N", default_value = "last")]
    pub checkpoint: Which,
    /// Write the result as JSON; - is stdout (the table then goes to stderr)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Replace an existing --json file
    #[arg(long)]
    pub force: bool,
}

/// One of `--target-return`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Those that the policy suggests.
    Auto,
    /// This one, raw units.
    At(f32),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            number => number
                .parse()
                .map(Self::At)
                .map_err(|_| "give `auto`, or returns in the environment's units"),
        }
    }
}

/// What is evaluated.
enum Subject {
    Trained(Box<(Run, Checkpoint)>),
    File(PolicyFile),
}

impl Subject {
    fn open(path: &Path, which: Which) -> anyhow::Result<Self> {
        if !path.is_dir() {
            return Ok(Self::File(PolicyFile::load(path)?));
        }
        let run = Run::open(path)?;
        let checkpoint = run.checkpoint(which)?;
        Ok(Self::Trained(Box::new((run, checkpoint))))
    }

    /// What opens the environment it was trained for.
    fn env(&self) -> Option<String> {
        match self {
            Self::Trained(trained) => trained.0.info.env_to_make().map(Into::into),
            Self::File(file) => match file.blob().manifest().env {
                // A file may come from anywhere, and commands are run only if they are typed.
                "" => None,
                env if is_command(env) => None,
                env => Some(env.into()),
            },
        }
    }

    /// At least one.
    fn target_returns(&self) -> Vec<f32> {
        match self {
            Self::Trained(trained) => trained.0.target_returns(),
            Self::File(file) => vec![file.blob().manifest().target_return],
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Unreadable policies, environments that do not fit them, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let given = args.target_return.iter().filter_map(|target| match target {
        Target::At(target) => Some(*target),
        Target::Auto => None,
    });
    check_targets(&given.collect::<Vec<_>>())?;
    // Before the policy is looked at: what is typed wrong is said at once.
    let env = super::env_name(&args.env)?;
    env.as_deref().map(host_sim::make).transpose()?;
    let json = args.json.as_deref();
    if let Some(path) = json.filter(|path| !is_stdout(path)) {
        atomic::check(path, args.force)?;
    }
    let mut evaluations = Vec::new();
    let mut tables = String::new();
    let policies = runs_of(&args.policy);
    for path in &policies {
        let of_policy = evaluate(path, &args)?;
        tables += &Table(&of_policy).to_string();
        evaluations.push(of_policy);
    }
    if policies.len() > 1 {
        tables += &over_runs(&evaluations);
    }
    let evaluations = evaluations.concat();
    let losses = losses(&evaluations);
    let has_any = |e: &Evaluation| whole(&e.episodes).next().is_some();
    let evaluations: Vec<Evaluation> = evaluations.into_iter().filter(has_any).collect();
    match json {
        Some(path) if is_stdout(path) => {
            eprint!("{tables}");
            console::print(to_json(&evaluations)?)?;
        }
        Some(path) => {
            console::print(&tables)?;
            atomic::write(path, args.force, to_json(&evaluations)?.as_bytes())?;
        }
        None => console::print(&tables)?,
    }
    if let Some(losses) = losses {
        bail!("{losses}");
    }
    Ok(())
}

/// Evaluates one policy, and leaves what a run reached in its folder.
pub(super) fn evaluate(path: &Path, args: &Args) -> anyhow::Result<Vec<Evaluation>> {
    let subject = Subject::open(path, args.checkpoint)?;
    let env_name = super::env_name(&args.env)?
        .or_else(|| subject.env())
        .ok_or(WrongUsage(
            "the policy does not say which environment it was trained for; name one with --env, or its plant with --plant",
        ))?;
    let env = host_sim::make(&env_name).with_context(|| {
        format!(
            "the policy was trained for `{env_name}`; name the environment to run it in with --env, or --plant for a plant"
        )
    })?;
    let policy = match &subject {
        Subject::Trained(trained) => trained.0.recipe.algorithm.policy(&trained.0, &trained.1)?,
        Subject::File(file) => Box::new(Engine::new(file.clone())),
    };
    let mut targets = Vec::new();
    for target in &args.target_return {
        match *target {
            Target::At(target) => targets.push(target),
            Target::Auto => targets.extend(subject.target_returns()),
        }
    }
    if !policy.is_conditioned() {
        if args.target_return == [Target::Auto] {
            targets.truncate(1);
        } else {
            let title = match &subject {
                Subject::Trained(trained) => trained.0.recipe.algorithm.title(),
                Subject::File(_) => "this policy",
            };
            eprintln!("note: {title} takes no target return: --target-return changes nothing");
        }
    }
    let bar = progress::bar(targets.len() as u64 * u64::from(args.episodes));
    let mut evaluations = Vec::new();
    for target_return in targets {
        let plan = Plan {
            target_return,
            episodes: args.episodes,
            seed: args.seed,
            threads: 0,
        };
        let policy = policy.as_ref();
        let (episodes, opinions) = evaluate::episodes(policy, &env_name, &plan, |_| bar.inc(1))?;
        let check = evaluate::cross_check(policy, Device::Cpu, &env_name, &plan, &episodes)?;
        if let Some(check) = check {
            eprintln!(
                "target {target_return}, first {} episode(s): {} {}, libtorch {}",
                check.episodes,
                policy.runner(),
                check.engine,
                check.torch,
            );
        }
        let name = path.display().to_string();
        let evaluation = Evaluation::new(&env.spec(), name, target_return, episodes);
        evaluations.push(evaluation.with_opinions(&opinions));
    }
    bar.finish_and_clear();
    if let Subject::Trained(trained) = &subject {
        let (run, checkpoint) = trained.as_ref();
        let has_any = |e: &&Evaluation| whole(&e.episodes).next().is_some();
        let whole: Vec<Evaluation> = evaluations.iter().filter(has_any).cloned().collect();
        super::note(
            "`dt-train report` will lack these results",
            save_evaluations(run, checkpoint.progress.update, &whole),
        );
    }
    Ok(evaluations)
}

/// The means of several runs together, a line per target that all of them were asked for.
fn over_runs(evaluations: &[Vec<Evaluation>]) -> String {
    let mut out = format!(
        "{} runs, mean ± sample deviation over them\n",
        evaluations.len()
    );
    for first in evaluations.iter().take(1).flatten() {
        let at_target = |of_run: &Vec<Evaluation>| {
            let same = |e: &&Evaluation| e.target_return == first.target_return;
            Some(of_run.iter().find(same)?.mean_return)
        };
        let means: Option<Vec<f64>> = evaluations.iter().map(at_target).collect();
        if let Some(means) = means {
            let deviation = sample_deviation(&means).unwrap_or(f64::NAN);
            let target = first.target_return as f32;
            out += &format!("{target:>10} {:>12.2} {deviation:>10.2}\n", mean(&means));
        }
    }
    out
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}
