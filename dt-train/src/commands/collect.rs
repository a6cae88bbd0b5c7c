//! `dt-train collect`: trajectories from a random, a saved or a freshly trained SAC agent.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use host_sim::Env;

use super::WrongUsage;
use crate::atomic;
use crate::collect::agent_file::{self, Training};
use crate::collect::sac::Config;
use crate::collect::{self, Agent, learn};
use crate::dataset::d4rl::{self, Metadata, Recording};

/// Arguments of `dt-train collect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Environment: pendulum
    #[arg(long, value_name = "E")]
    pub env: String,
    /// `random`, `sac` (train one and keep its whole replay buffer), or a file written by --save-agent
    #[arg(long, value_name = "random|sac|FILE")]
    pub agent: String,
    /// Environment steps to record
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Seed of the environment, the agent and its training
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Trajectory file to write (D4RL layout)
    #[arg(long, value_name = "F.hdf5")]
    pub out: PathBuf,
    /// With --agent sac: write the trained agent here
    #[arg(long, value_name = "FILE")]
    pub save_agent: Option<PathBuf>,
    /// With --agent FILE: always take the most likely action
    #[arg(long)]
    pub deterministic: bool,
    /// Replace existing output files
    #[arg(long)]
    pub force: bool,
}

/// Episodes that the final SAC agent is judged on.
const EVALUATION_EPISODES: u32 = 100;

/// Runs the command.
///
/// # Errors
/// Unknown environments or agents, unreadable agent files, outputs that exist or cannot be written.
pub fn run(args: Args) -> Result<()> {
    // Everything that can be refused is refused before the work.
    if args.save_agent.is_some() && args.agent != "sac" {
        return Err(
            WrongUsage("--save-agent only goes with --agent sac: the others do not learn").into(),
        );
    }
    if args.deterministic && matches!(args.agent.as_str(), "random" | "sac") {
        return Err(
            WrongUsage("--deterministic only goes with a saved agent: --agent FILE").into(),
        );
    }
    let make_env = host_sim::maker(&args.env)?;
    atomic::check(&args.out, args.force)?;
    if let Some(path) = &args.save_agent {
        atomic::check(path, args.force)?;
    }
    let steps = args.steps as usize;
    let recording = match args.agent.as_str() {
        "random" => collect::record(&make_env, Agent::Random, steps, args.seed),
        "sac" => learn_and_save(&args, &make_env)?,
        file => {
            let (actor, _) = agent_file::load(Path::new(file), make_env().spec().id)?;
            let agent = Agent::Trained {
                actor: &actor,
                deterministic: args.deterministic,
            };
            collect::record(&make_env, agent, steps, args.seed)
        }
    };
    // The file's name, not its path: data say nothing about the machine they were made on.
    let policy = Path::new(&args.agent)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let metadata = Metadata {
        env: &args.env,
        policy: &policy,
        seed: args.seed,
    };
    d4rl::write(&args.out, args.force, &recording, &metadata)?;
    summarize(&args.out, &recording);
    Ok(())
}

/// Trains a SAC agent, saves and evaluates it; returns its replay buffer.
fn learn_and_save(args: &Args, make_env: &(impl Fn() -> Box<dyn Env> + Sync)) -> Result<Recording> {
    // The matrices are too small to share between cores: waiting at every barrier costs more than it gains, and
    // one thread gives the same bits however many cores there are.
    tch::set_num_threads(1);
    let config = Config::for_env(&args.env);
    let start = Instant::now();
    let (actor, recording) =
        learn::learn(make_env().as_mut(), &config, args.steps as usize, args.seed);
    let seconds = start.elapsed().as_secs_f64();
    if let Some(path) = &args.save_agent {
        let training = Training {
            steps: args.steps.into(),
            seed: args.seed,
            sac: config,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        agent_file::save(path, args.force, &actor, &training)?;
    }
    // Seeds far from those of rollouts, so that evaluation and data do not share episodes.
    let (mean, std) = collect::evaluate(
        make_env,
        &actor,
        EVALUATION_EPISODES,
        args.seed.wrapping_add(1 << 32),
    );
    println!(
        "trained in {seconds:.1} s ({:.0} steps/s)",
        f64::from(args.steps) / seconds
    );
    println!(
        "final agent: return {mean:.2} ± {std:.2} over {EVALUATION_EPISODES} episodes, most likely actions"
    );
    Ok(recording)
}

fn summarize(path: &Path, recording: &Recording) {
    let mut returns = Vec::new();
    let mut total = 0.0;
    let mut unfinished = 0;
    for (row, &reward) in recording.rewards.iter().enumerate() {
        total += f64::from(reward);
        unfinished += 1;
        if recording.terminals[row] || recording.timeouts[row] {
            returns.push(std::mem::take(&mut total));
            unfinished = 0;
        }
    }
    let steps = recording.rewards.len();
    let mean = returns.iter().sum::<f64>() / returns.len() as f64;
    match returns.len() {
        0 => println!("{}: {steps} steps, no finished episode", path.display()),
        n => println!(
            "{}: {steps} steps, {n} episodes, mean return {mean:.2}",
            path.display()
        ),
    }
    if unfinished > 0 {
        eprintln!(
            "note: the last {unfinished} steps are an unfinished episode, which training leaves out"
        );
    }
}
