//! `dt-train collect`: trajectories from a random, a saved or a freshly trained agent, or by a recipe's name.

mod training;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use host_sim::console;
use host_sim::plant::{EnvironmentArgs, is_command};
use host_sim::{Blueprint, Env, EnvSpec, Space};

use super::WrongUsage;
use crate::algo;
use crate::atomic;
use crate::collect::agent_file::{self, Training};
use crate::collect::learn::{Learner, Next};
use crate::collect::online::Settings;
use crate::collect::recipe::{self, Recipe, Watch};
use crate::collect::{self, Agent, part};
use crate::data::d4rl::{self, Metadata, Recording};

pub use training::TrainingArgs;

/// Arguments of `dt-train collect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Environment, such as pendulum, hopper or gym:LunarLander-v3
    #[command(flatten)]
    pub env: EnvironmentArgs,
    /// `random`, `sac` or `ppo` (train one and keep every step: sac where actions are vectors, ppo where they are choices),
    /// or a file written by --save-agent
    #[arg(
        long,
        value_name = "random|sac|ppo|FILE",
        required_unless_present = "recipe"
    )]
    pub agent: Option<String>,
    /// Make one of the usual offline data sets; trains the agents it needs
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "agent")]
    pub recipe: Option<Recipe>,
    /// With --recipe: steps after which an agent is an expert [default: 20000 for pendulum, 100000 for cartpole, else 1000000]
    #[arg(long, value_name = "N", conflicts_with = "agent", value_parser = clap::value_parser!(u32).range(1..))]
    pub train_steps: Option<u32>,
    /// With --recipe: mean return at which an agent is medium [default: a third of the way from a random to an expert agent,
    /// where the environment has published returns of both]
    #[arg(
        long,
        value_name = "R",
        conflicts_with = "agent",
        allow_negative_numbers = true
    )]
    pub medium_return: Option<f64>,
    /// Environments that are stepped in parallel. Random and saved agents: threads, which change nothing but the time
    /// [default: one per core]. Learning agents: they share one that learns from all of them, so that N changes the result
    /// [default: 1 for sac, 8 for ppo]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub envs: Option<u32>,
    /// Environment steps to record; with --recipe medium-replay: at most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Seed of the environment, the agent and its training
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Trajectory file to write (D4RL layout)
    #[arg(long, value_name = "F.hdf5")]
    pub out: PathBuf,
    /// With --agent sac or ppo: write the trained agent here
    #[arg(long, value_name = "FILE")]
    pub save_agent: Option<PathBuf>,
    /// With --agent FILE: always take the most likely action
    #[arg(long)]
    pub deterministic: bool,
    /// Where agents are trained: go on from the last 10000 steps before training was stopped
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace existing output files
    #[arg(long)]
    pub force: bool,
    /// How agents are trained, where they are: last, since its heading holds for all that follows
    #[command(flatten)]
    pub training: TrainingArgs,
}

/// Episodes that the final agent is judged on.
const EVALUATION_EPISODES: u32 = 100;

/// Training steps between two saves.
const SAVE_EVERY: usize = 10_000;

/// Who acts, as `--agent` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named<'a> {
    Random,
    /// An algorithm that learns in its environment, by its name.
    Learner(&'static str),
    File(&'a Path),
}

impl<'a> Named<'a> {
    fn new(name: &'a str) -> Result<Self> {
        if name == "random" {
            return Ok(Self::Random);
        }
        match algo::registry().iter().find(|entry| entry.name == name) {
            None => Ok(Self::File(Path::new(name))),
            Some(entry) if entry.defaults().is_none() => Ok(Self::Learner(entry.name)),
            Some(entry) => bail!(
                "{} ({name}) learns from data, and this collects data; use `dt-train train --algo {name}`",
                entry.about
            ),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Unknown environments or agents, unreadable agent files, outputs that exist or cannot be written.
pub fn run(args: Args) -> Result<()> {
    // Everything that can be refused is refused before the work.
    let agent = args.agent.as_deref().map(Named::new).transpose()?;
    let learns = matches!(agent, Some(Named::Learner(_)));
    let trains = learns || args.recipe.is_some_and(|recipe| recipe != Recipe::Random);
    if args.save_agent.is_some() && !learns {
        return Err(WrongUsage(
            "--save-agent only goes with --agent sac or ppo: the others do not learn",
        )
        .into());
    }
    if args.deterministic && !matches!(agent, Some(Named::File(_))) {
        return Err(
            WrongUsage("--deterministic only goes with a saved agent: --agent FILE").into(),
        );
    }
    if args.resume && !trains {
        return Err(WrongUsage(
            "--resume only goes with --agent sac or ppo and recipes that train: the others take seconds",
        )
        .into());
    }
    if !trains && args.training.given().iter().any(|given| !given.is_empty()) {
        return Err(WrongUsage(
            "--learning-starts, --updates-per-step, --learning-rate, --batch-size, --discount, --hidden, --horizon and \
             --epochs only go with --agent sac or ppo and recipes that train",
        )
        .into());
    }
    if args.medium_return.is_some_and(|medium| !medium.is_finite()) {
        return Err(WrongUsage("--medium-return must be a finite return").into());
    }
    args.training.check()?;
    let env = super::env_name(&args.env)?.ok_or(WrongUsage(
        "name an environment: --env E, or --plant CMD for a simulator of your own",
    ))?;
    let blueprint = Blueprint::new(&env, None)?;
    let make_env = || blueprint.make();
    let (choices, settings) = {
        let env = make_env();
        let spec = env.spec();
        refuse_other_spaces(&spec)?;
        if let Some(Named::Learner(name)) = agent {
            refuse_other_learner(name, &spec)?;
        }
        if trains && matches!(spec.observation, Space::Image { .. }) {
            refuse_large_images(&spec)?;
            if args.resume {
                bail!(
                    "environment `{}` shows images, of which a training keeps nothing on the way; start it anew without \
                     --resume",
                    spec.id
                );
            }
        }
        let settings = args.training.settings(&spec)?;
        (matches!(spec.action, Space::Discrete { .. }), settings)
    };
    atomic::check(&args.out, args.force)?;
    if let Some(path) = &args.save_agent {
        atomic::check(path, args.force)?;
    }
    let part = part::path(&args.out);
    if trains && part.exists() && !args.resume && !args.force {
        bail!(
            "{} is the part of a collection that was stopped; go on with --resume, or start anew with --force",
            part.display()
        );
    }
    let (steps, threads) = (args.steps as usize, threads(&args, &blueprint));
    let (recording, stopped) = match (args.recipe, agent) {
        (Some(Recipe::Random), _) | (None, None | Some(Named::Random)) => {
            let random = collect::record(make_env, Agent::Random, steps, args.seed, threads);
            (random, false)
        }
        (Some(recipe), _) => by_recipe(&args, recipe, settings, &blueprint)?,
        (None, Some(Named::Learner(_))) => (learn_and_save(&args, settings, &blueprint)?, false),
        (None, Some(Named::File(file))) => {
            let (actor, _) = agent_file::load(file, make_env().spec().id)?;
            let agent = Agent::Trained {
                actor: &actor,
                deterministic: args.deterministic,
            };
            let sampled = collect::record(make_env, agent, steps, args.seed, threads);
            (sampled, false)
        }
    };
    let collected = recording.rewards.len();
    if collected == 0 {
        // A note has had its words.
        bail!(
            "the plant was lost before its first step; nothing was written to {}",
            args.out.display()
        );
    }
    let lost = collected < steps && !stopped;
    let name = args.recipe.and_then(|recipe| recipe.to_possible_value());
    // The file's name, not its path: data say nothing about the machine they were made on.
    let policy = match &name {
        Some(recipe) => recipe.get_name().into(),
        None => Path::new(args.agent.as_deref().unwrap_or_default())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy(),
    };
    // As it was called; a plant as it calls itself, since a command is no name.
    let named = if is_command(&env) {
        make_env().spec().id.to_owned()
    } else {
        env
    };
    let metadata = Metadata {
        env: &named,
        policy: &policy,
        seed: args.seed,
        choices,
    };
    d4rl::write(&args.out, args.force, &recording, &metadata)?;
    let resumes = trains && part.exists();
    if resumes && !lost {
        std::fs::remove_file(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    summarize(&args.out, &recording)?;
    if lost {
        let remedy = match resumes {
            true => "; once it is mended, move that file and go on with --resume",
            false => "",
        };
        bail!(
            "the plant was lost: {} has the {collected} steps before that, of {steps}{remedy}",
            args.out.display()
        );
    }
    Ok(())
}

/// Agents read vectors or images and give vectors or choices, and so does the file format.
fn refuse_other_spaces(spec: &EnvSpec<'_>) -> Result<()> {
    if !matches!(spec.observation, Space::Image { .. }) {
        let bounds = spec.observation_bounds();
        bounds.map_err(|error| anyhow!("{error}"))?;
    }
    if !matches!(spec.action, Space::Discrete { .. }) {
        let bounds = spec.action_bounds();
        bounds.map_err(|error| anyhow!("{error}"))?;
    }
    Ok(())
}

/// The networks of agents that learn have no convolutions: each pixel is an input.
fn refuse_large_images(spec: &EnvSpec<'_>) -> Result<()> {
    /// Pixels of the largest of MinAtar's images, several times.
    const MOST: usize = 4096;
    if spec.observation.len() > MOST {
        bail!(
            "the observations of environment `{}` are {}, and agents learn from images of at most {MOST} pixels; collect with \
             --agent random, or from an agent of your own as HDF5 in the D4RL layout",
            spec.id,
            spec.observation
        );
    }
    Ok(())
}

/// Each algorithm is for actions of one kind.
fn refuse_other_learner(name: &str, spec: &EnvSpec<'_>) -> Result<()> {
    let fitting = Settings::for_env(spec).name();
    if name != fitting {
        bail!(
            "the actions of environment `{}` are {}, from which {name} does not learn; use --agent {fitting}",
            spec.id,
            spec.action,
        );
    }
    Ok(())
}

/// Data of agents that are trained for them, and whether they are complete however few they are.
fn by_recipe(
    args: &Args,
    recipe: Recipe,
    settings: Settings,
    blueprint: &Blueprint,
) -> Result<(Recording, bool)> {
    let make_env = &|| blueprint.make();
    let env = make_env();
    let spec = env.spec();
    let medium = args.medium_return.or_else(|| recipe::medium_return(&spec));
    let medium = medium.with_context(|| {
        format!(
            "nobody says what a medium agent is: environment `{}` has no published returns (`score_range` of a described \
             one); pass --medium-return R, the mean return at which training stops",
            spec.id
        )
    })?;
    let train_steps = match recipe {
        Recipe::MediumReplay => args.steps,
        _ => args
            .train_steps
            .unwrap_or_else(|| recipe::expert_steps(&spec)),
    };
    let until_expert = recipe == Recipe::MediumExpert;
    let mut learner = learner(args, settings, make_env, train_steps)?;
    let mut watch = Watch::new(medium, until_expert, evaluation_seed(args), &learner);
    let judges = blueprint.threads(0);
    learn(args, &mut learner, |learner| {
        watch.next(learner, make_env, judges)
    })?;
    let (done, lost) = (learner.done(), learner.lost().is_some());
    let (last, kept, replay) = learner.into_parts();
    match watch.reached() {
        Some(steps) => console::line(format_args!(
            "medium agent (mean return of {medium:.2}): after {steps} steps of training"
        ))?,
        // It was reached before training was stopped and resumed.
        None if kept.is_some() => {}
        None if recipe == Recipe::MediumReplay && lost => {}
        None if recipe == Recipe::MediumReplay => {
            eprintln!(
                "note: the agent is not medium yet (mean return of {medium:.2}); it takes more --steps"
            );
        }
        None => bail!(
            "after {done} steps the agent is not medium yet (mean return of {medium:.2}); it takes more --train-steps"
        ),
    }
    let (steps, threads) = (args.steps as usize, threads(args, blueprint));
    let data = match recipe {
        Recipe::MediumReplay => return Ok((replay, !lost)),
        Recipe::MediumExpert => {
            let medium = kept.as_ref().unwrap_or(&last);
            recipe::medium_expert(make_env, medium, &last, steps, args.seed, threads)
        }
        _ => {
            let agent = Agent::Trained {
                actor: &last,
                deterministic: false,
            };
            collect::record(make_env, agent, steps, args.seed, threads)
        }
    };
    Ok((data, false))
}

/// Trains an agent, saves and evaluates it; returns every step it took.
fn learn_and_save(args: &Args, settings: Settings, blueprint: &Blueprint) -> Result<Recording> {
    let make_env = || blueprint.make();
    let start = Instant::now();
    let mut learner = learner(args, settings.clone(), make_env, args.steps)?;
    let before = learner.done();
    learn(args, &mut learner, |_| Next::Learn)?;
    let lost = learner.lost().is_some();
    let (actor, _, recording) = learner.into_parts();
    let seconds = start.elapsed().as_secs_f64();
    if !actor.weights.iter().all(|weight| weight.is_finite()) {
        bail!(
            "training diverged: the agent's weights are no numbers any more; nothing was written, use a smaller --learning-rate"
        );
    }
    if let Some(path) = &args.save_agent {
        let training = Training {
            steps: args.steps.into(),
            seed: args.seed,
            settings,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        agent_file::save(path, args.force, &actor, &training)?;
    }
    if lost {
        return Ok(recording);
    }
    let threads = blueprint.threads(0);
    let seed = evaluation_seed(args);
    let evaluated = collect::evaluate(make_env, &actor, EVALUATION_EPISODES, seed, threads);
    console::line(format_args!(
        "trained in {seconds:.1} s ({:.0} steps/s)",
        (f64::from(args.steps) - before as f64) / seconds
    ))?;
    let Some((mean, std)) = evaluated else {
        return Ok(recording);
    };
    console::line(format_args!(
        "final agent: return {mean:.2} ± {std:.2} over {EVALUATION_EPISODES} episodes, most likely actions"
    ))?;
    Ok(recording)
}

/// Far from the seeds of rollouts, so that evaluation and data do not share episodes.
fn evaluation_seed(args: &Args) -> u64 {
    args.seed.wrapping_add(1 << 32)
}

/// Threads of random and saved agents; 0: one per core.
fn threads(args: &Args, blueprint: &Blueprint) -> usize {
    blueprint.threads(args.envs.map_or(0, |envs| envs as usize))
}

/// A learner at its beginning, or where it was stopped.
fn learner(
    args: &Args,
    settings: Settings,
    make_env: impl Fn() -> Box<dyn Env>,
    steps: u32,
) -> Result<Learner> {
    // The matrices are too small to share between cores: waiting at every barrier costs more than it gains, and
    // one thread gives the same bits however many cores there are.
    tch::set_num_threads(1);
    let envs = args.envs.map_or(settings.envs(), |envs| envs as usize);
    let first = settings.first_lesson(envs);
    if settings.depends_on_steps() && first > steps.into() {
        bail!(
            "--steps {steps}: PPO learns from {first} steps at a time, --horizon of them in each of {envs} environments; ask for \
             more steps or a shorter horizon"
        );
    }
    let mut learner = Learner::new(make_env, envs, &settings, steps as usize, args.seed);
    let part = part::path(&args.out);
    if args.resume && part.exists() {
        part::restore(&part, &mut learner)?;
    }
    Ok(learner)
}

/// Trains, and saves the state now and then, but not at the end: the data are about to be written.
fn learn(
    args: &Args,
    learner: &mut Learner,
    mut after_episode: impl FnMut(&Learner) -> Next,
) -> Result<()> {
    let part = part::path(&args.out);
    let mut saved = learner.done() / SAVE_EVERY;
    learner.learn(|learner| {
        let next = after_episode(learner);
        let unfinished = next == Next::Learn && learner.done() < learner.steps();
        // Of images it would be gigabytes each time.
        let is_saved = learner.actor().shape.image.is_none();
        if learner.done() / SAVE_EVERY > saved && unfinished && is_saved {
            saved = learner.done() / SAVE_EVERY;
            part::save(&part, learner)?;
        }
        Ok::<_, anyhow::Error>(next)
    })?;
    if let Some(words) = learner.lost() {
        eprintln!("note: the plant was lost: {words}");
    }
    Ok(())
}

fn summarize(path: &Path, recording: &Recording) -> Result<()> {
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
    let mean = crate::stats::mean(&returns);
    match returns.len() {
        0 => console::line(format_args!(
            "{}: {steps} steps, no finished episode",
            path.display()
        ))?,
        n => console::line(format_args!(
            "{}: {steps} steps, {n} episodes, mean return {mean:.2}",
            path.display()
        ))?,
    }
    if unfinished > 0 {
        eprintln!(
            "note: the last {unfinished} steps are of unfinished episodes, which training leaves out"
        );
    }
    Ok(())
}
