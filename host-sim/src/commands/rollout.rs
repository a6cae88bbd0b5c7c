//! `host-sim rollout`: returns of a policy file in an environment.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use anyhow::bail;
use host_sim::atomic;
use host_sim::console;
use host_sim::controller::check_targets;
use host_sim::critic::Opinions;
use host_sim::env::EnvSpec;
use host_sim::evaluation::{Evaluation, Table, losses, to_json, whole};
#[cfg(feature = "draw")]
use host_sim::film::{self, Actions, Format, Scene};
use host_sim::link::{Client, Connection, Place, Remote, Shared};
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::{Episode, Plan, Recorder, rollout};
use host_sim::trace::{self, Tape};
use host_sim::{Blueprint, progress};

use super::{Environment, UsageError};

/// Arguments of `host-sim rollout`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Policy file, as `dt-train export` writes it
    #[arg(value_name = "F.dtb")]
    policy: PathBuf,
    #[command(flatten)]
    env: Environment,
    /// Target returns, separated by commas [default: the policy's]
    #[arg(
        long,
        value_name = "R,…",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    target_return: Vec<f32>,
    /// Episodes per target
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of the first episode; episode i uses S + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Where the policy runs: host, or in lock step on a board that runs firmware's `robot` program with this policy:
    /// qemu[:BOARD], an emulated one (m4f, m7, m3, m0plus, m33 or m55), pico, an emulated Raspberry Pi Pico (in the project's
    /// folder), or serial:DEV[@BAUD], DEV being a serial device, a
    /// pseudo-terminal or a Unix socket. Boards send actions and not what they predict: the JSON has no `critic` then
    #[arg(long, value_name = "WHERE", default_value = "host")]
    controller: Location,
    /// With --controller qemu, the image that the board runs [default: where `cargo xtask firmware build --bin robot`
    /// leaves it]
    #[arg(long, value_name = "ELF")]
    image: Option<PathBuf>,
    /// Write the result as JSON; - is stdout (the table then goes to stderr)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write observations, actions and rewards, for a controller to replay
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Draw the first episode, as an animation or as six moments of it
    #[arg(long, value_name = "OUT.gif|OUT.png")]
    render: Option<PathBuf>,
    /// Worker threads, 0 for one per core; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Replace existing --json, --record and --render files
    #[arg(long)]
    force: bool,
}

/// Where the policy runs.
#[derive(Clone, Debug)]
enum Location {
    Host,
    Board(Place),
}

impl FromStr for Location {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            _ => match text.parse() {
                Ok(place) => Ok(Self::Board(place)),
                Err(error) if text.starts_with("qemu") || text.starts_with("serial") => Err(error),
                Err(_) => Err("expected host, qemu, qemu:BOARD, pico or serial:DEV".into()),
            },
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Unknown environment, unusable policy, failed episodes, outputs that exist or cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    check_usage(args)?;
    check_targets(&args.target_return)?;
    let (blueprint, policy) = args.env.load_with(&args.policy)?;
    let env = blueprint.make();
    let targets = match args.target_return.as_slice() {
        [] => &[policy.blob().manifest().target_return],
        targets => targets,
    };
    for output in [&args.json, &args.record, &args.render]
        .into_iter()
        .flatten()
    {
        if !is_stdout(output) {
            atomic::check(output, args.force)?;
        }
    }
    let remote = remote(args, &policy)?;
    let evaluations = match &args.record {
        None => evaluate::<()>(args, targets, &blueprint, &policy, remote.as_ref())?.0,
        Some(file) => {
            let (evaluations, tapes) =
                evaluate::<Tape>(args, targets, &blueprint, &policy, remote.as_ref())?;
            let bytes = recording(&env.spec(), &policy, &evaluations, &tapes)?;
            atomic::write(file, args.force, &bytes)?;
            evaluations
        }
    };
    if let Some(remote) = remote {
        let mut remote = remote.into_inner().unwrap_or_else(PoisonError::into_inner);
        remote.stop()?;
        eprintln!("{}: {}", remote.greeting().board, remote.round_trips());
    }
    let losses = losses(&evaluations);
    let has_any = |e: &Evaluation| whole(&e.episodes).next().is_some();
    let evaluations: Vec<Evaluation> = evaluations.into_iter().filter(has_any).collect();
    if !evaluations.is_empty() {
        print(args, &evaluations)?;
    }
    if let Some(losses) = losses {
        bail!("{losses}");
    }
    #[cfg(feature = "draw")]
    draw(args, targets[0], &blueprint, &policy)?;
    Ok(())
}

/// The first episode once more, for its actions, and then its pictures.
#[cfg(feature = "draw")]
fn draw(
    args: &Args,
    target_return: f32,
    blueprint: &Blueprint,
    policy: &PolicyFile,
) -> anyhow::Result<()> {
    let Some(path) = &args.render else {
        return Ok(());
    };
    let plan = Plan {
        target_return,
        episodes: 1,
        seed: args.seed,
        threads: 1,
    };
    let done = rollout::<_, Actions>(&plan, || blueprint.make(), policy.controllers(), |_| {})?;
    for (episode, actions) in &done {
        let scene = Scene {
            blueprint,
            seed: episode.seed,
            target_return,
            actions,
        };
        let bar = progress::pictures(film::pictures(&scene, path)? as u64);
        film::write(&scene, path, args.force, || bar.inc(1))?;
        bar.finish_and_clear();
    }
    Ok(())
}

fn check_usage(args: &Args) -> Result<(), UsageError> {
    let emulated = matches!(args.controller, Location::Board(Place::Qemu { .. }));
    if args.image.is_some() && !emulated {
        return Err(UsageError::Image);
    }
    if args.json.is_some() && args.json == args.record {
        return Err(UsageError::SameFile);
    }
    #[cfg(feature = "draw")]
    if let Some(path) = &args.render {
        Format::of(path)?;
    }
    #[cfg(not(feature = "draw"))]
    if args.render.is_some() {
        return Err(UsageError::NotBuiltYet(
            "--render draws episodes, which this program was built without; build it with --features draw",
        ));
    }
    Ok(())
}

/// The board, with this very policy, where there is one.
fn remote(args: &Args, policy: &PolicyFile) -> anyhow::Result<Option<Mutex<Remote>>> {
    let mut place = match &args.controller {
        Location::Host => return Ok(None),
        Location::Board(place) => place.clone(),
    };
    match &mut place {
        Place::Qemu { image, .. } => image.clone_from(&args.image),
        Place::Pico { policy } => policy.clone_from(&args.policy),
        Place::Serial { .. } => {}
    }
    let client = Client::new(Connection::open(&place)?)?;
    if let Place::Qemu { machine, .. } = place {
        machine.check(&client.greeting().board)?;
    }
    Ok(Some(Mutex::new(Remote::new(client, policy)?)))
}

/// All targets' episodes, with what was recorded of each.
fn evaluate<R: Recorder + Default + Send>(
    args: &Args,
    targets: &[f32],
    blueprint: &Blueprint,
    policy: &PolicyFile,
    remote: Option<&Mutex<Remote>>,
) -> anyhow::Result<(Vec<Evaluation>, Vec<R>)> {
    let env = blueprint.make();
    let threads = blueprint.threads(args.threads);
    let bar = progress::bar(targets.len() as u64 * u64::from(args.episodes));
    let (mut evaluations, mut recorded) = (Vec::new(), Vec::new());
    for &target_return in targets {
        let plan = Plan {
            target_return,
            episodes: args.episodes,
            seed: args.seed,
            // There is one board.
            threads: if remote.is_some() { 1 } else { threads },
        };
        let make_env = || blueprint.make();
        let done = match remote {
            None => rollout(&plan, make_env, policy.controllers(), |_| bar.inc(1))?,
            Some(remote) => rollout(&plan, make_env, || Shared::new(remote), |_| bar.inc(1))?,
        };
        let (episodes, records): (Vec<Episode>, Vec<(Opinions, R)>) = done.into_iter().unzip();
        let (opinions, records): (Vec<Opinions>, Vec<R>) = records.into_iter().unzip();
        let name = args.policy.display().to_string();
        let evaluation = Evaluation::new(&env.spec(), name, target_return, episodes);
        evaluations.push(evaluation.with_opinions(&opinions));
        recorded.extend(records);
    }
    bar.finish_and_clear();
    Ok((evaluations, recorded))
}

fn recording(
    spec: &EnvSpec<'_>,
    policy: &PolicyFile,
    evaluations: &[Evaluation],
    tapes: &[Tape],
) -> Result<Vec<u8>, trace::TraceError> {
    let header = trace::Header {
        env: spec.id,
        policy_crc: policy.crc(),
        state_dim: spec.state_dim(),
        act_dim: spec.act_dim(),
    };
    let starts = evaluations.iter().flat_map(|evaluation| {
        // Was an f32 before it went into the report.
        let target_return = evaluation.target_return as f32;
        let seeds = evaluation.episodes.iter().map(|episode| episode.seed);
        seeds.map(move |seed| (seed, target_return))
    });
    let episodes = starts.zip(tapes);
    trace::emit(
        &header,
        episodes.map(|((seed, target), tape)| (seed, target, tape)),
    )
}

fn print(args: &Args, evaluations: &[Evaluation]) -> anyhow::Result<()> {
    let table = Table(evaluations);
    match &args.json {
        Some(file) if is_stdout(file) => {
            write!(io::stderr(), "{table}")?;
            console::print(to_json(evaluations)?)?;
        }
        Some(file) => {
            console::print(table)?;
            atomic::write(file, args.force, to_json(evaluations)?.as_bytes())?;
        }
        None => console::print(table)?,
    }
    Ok(())
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}
