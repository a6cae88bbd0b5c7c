//! `dt-train eval`: returns of a trained policy in an environment.

use std::path::{Path, PathBuf};

use host_sim::console;
use host_sim::controller::check_targets;
use host_sim::evaluation::{Evaluation, Table, to_json};
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::Plan;
use host_sim::{atomic, progress};
use tch::Device;

use super::export::Which;
use crate::algo::Engine;
use crate::evaluate;
use crate::run::checkpoint::Checkpoint;
use crate::run::records::save_evaluations;
use crate::run::{self, Run};

/// Arguments of `dt-train eval`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder (exported as f32 in memory) or policy file; the engine of the controller runs it, but not the baseline
    /// of behaviour cloning, which has no policy file. Results of a run are kept in its folder as well, for `report`
    #[arg(value_name = "RUN|F.dtb")]
    pub policy: PathBuf,
    /// Environment
    #[arg(long, value_name = "E")]
    pub env: String,
    /// Target returns, separated by commas; behaviour cloning ignores them
    #[arg(
        long,
        value_name = "R,…",
        value_delimiter = ',',
        allow_hyphen_values = true,
        required = true
    )]
    pub target_return: Vec<f32>,
    /// Episodes per target
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Seed of the first episode; episode i uses S + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Which checkpoint of a run
    #[arg(long, value_enum, default_value_t = Which::Last)]
    pub checkpoint: Which,
    /// Write the result as JSON; - is stdout (the table then goes to stderr)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Replace an existing --json file
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unreadable policies, environments that do not fit them, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    check_targets(&args.target_return)?;
    let env = host_sim::make(&args.env)?;
    let json = args.json.as_deref();
    if let Some(path) = json.filter(|path| !is_stdout(path)) {
        atomic::check(path, args.force)?;
    }
    let trained = match args.policy.is_dir() {
        true => Some(open_run(&args)?),
        false => None,
    };
    let policy = match &trained {
        Some((run, checkpoint)) => run.recipe.algorithm.policy(run, checkpoint)?,
        None => Box::new(Engine::new(PolicyFile::load(&args.policy)?)),
    };
    if !policy.is_conditioned() {
        let title = trained
            .as_ref()
            .map(|(run, _)| run.recipe.algorithm.title());
        eprintln!(
            "note: {} knows no return: --target-return changes nothing",
            title.unwrap_or("this policy")
        );
    }
    let bar = progress::bar(args.target_return.len() as u64 * u64::from(args.episodes));
    let mut evaluations = Vec::new();
    for &target_return in &args.target_return {
        let plan = Plan {
            target_return,
            episodes: args.episodes,
            seed: args.seed,
            threads: 0,
        };
        let policy = policy.as_ref();
        let episodes = evaluate::episodes(policy, &args.env, &plan, |_| bar.inc(1))?;
        let check = evaluate::cross_check(policy, Device::Cpu, &args.env, &plan, &episodes)?;
        if let Some((ours, torch)) = check {
            eprintln!(
                "target {target_return}, first {} episode(s): {} {ours}, libtorch {torch}",
                std::cmp::min(plan.episodes, evaluate::TORCH_EPISODES),
                policy.runner(),
            );
        }
        let name = args.policy.display().to_string();
        evaluations.push(Evaluation::new(&env.spec(), name, target_return, episodes));
    }
    bar.finish_and_clear();
    let table = Table(&evaluations);
    match json {
        Some(path) if is_stdout(path) => {
            eprint!("{table}");
            console::print(to_json(&evaluations)?)?;
        }
        Some(path) => {
            console::print(table)?;
            atomic::write(path, args.force, to_json(&evaluations)?.as_bytes())?;
        }
        None => console::print(table)?,
    }
    if let Some((run, checkpoint)) = &trained {
        super::note(
            "`dt-train report` will lack these results",
            save_evaluations(run, checkpoint.progress.update, &evaluations),
        );
    }
    Ok(())
}

fn open_run(args: &Args) -> anyhow::Result<(Run, Checkpoint)> {
    let run = Run::open(&args.policy)?;
    let which = match args.checkpoint {
        Which::Last => run::Which::Last,
        Which::Best => run::Which::Best,
    };
    let checkpoint = run.checkpoint(which)?;
    Ok((run, checkpoint))
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}
