//! The commands of `host-sim`, one per file: its arguments and its main path.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use host_sim::plant::EnvironmentArgs;
use host_sim::policy_file::PolicyFile;
use host_sim::{Blueprint, MakeError};

mod blackbox;
#[cfg(feature = "monitor")]
mod monitor;
mod plant;
mod replay;
mod rollout;
mod upload;
#[cfg(feature = "draw")]
mod view;

/// Run policy files in simulated environments.
///
/// Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage
/// or not built yet.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a policy file in an environment and report its returns
    Rollout(rollout::Args),
    /// Show a policy file in an environment, in a window and in real time
    #[cfg(feature = "draw")]
    View(view::Args),
    /// Replay a controller's black box with its policy file, to the bit; draw it; make training data of it
    Blackbox(blackbox::Args),
    /// Give a controller another policy, which runs after a restart
    Upload(upload::Args),
    /// Watch a controller in a terminal: mode, faults, slack, and with --env its observations and actions
    #[cfg(feature = "monitor")]
    Monitor(monitor::Args),
    /// Serve an environment to another program, by the plant protocol
    Plant(plant::Args),
    /// Print what an environment does from a given state under given actions
    Replay(replay::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever the command reports; [`UsageError`] where it was called wrongly.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Rollout(args) => rollout::run(&args),
            #[cfg(feature = "draw")]
            Command::View(args) => view::run(&args),
            Command::Blackbox(args) => blackbox::run(&args),
            Command::Upload(args) => upload::run(&args),
            #[cfg(feature = "monitor")]
            Command::Monitor(args) => monitor::run(&args),
            Command::Plant(args) => plant::run(&args),
            Command::Replay(args) => replay::run(&args),
        }
    }
}

/// Which environment.
#[derive(clap::Args, Debug)]
struct Environment {
    #[command(flatten)]
    which: EnvironmentArgs,
    /// Folder of Gymnasium's MuJoCo model files, instead of those that set-up installed
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
}

impl Environment {
    /// Whether there is any.
    #[cfg(feature = "monitor")]
    fn is_named(&self) -> bool {
        self.which.env.is_some() || self.which.plant.is_some()
    }

    /// Loads it. An unknown name is wrong usage; a broken file is not.
    fn load(&self) -> anyhow::Result<Blueprint> {
        let name = self.which.name().map_err(MakeError::Usage);
        let name = name.map_err(UsageError::Env)?;
        let name = name.ok_or(UsageError::NoEnv)?;
        Blueprint::new(&name, self.assets.as_deref()).map_err(|error| {
            if error.is_wrong_usage() {
                UsageError::Env(error).into()
            } else {
                error.into()
            }
        })
    }

    /// Loads it with a policy that can act in it.
    fn load_with(&self, policy: &Path) -> anyhow::Result<(Blueprint, PolicyFile)> {
        let blueprint = self.load()?;
        let file = PolicyFile::load(policy)?;
        file.check_env(&blueprint.make().spec())
            .with_context(|| format!("{}", policy.display()))?;
        Ok((blueprint, file))
    }
}

/// Wrong usage, or something specified that this version does not have; exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// There is no such environment.
    #[error("--env")]
    Env(#[from] MakeError),
    /// None is named.
    #[error("name an environment: --env E, or --plant CMD for a simulator of your own")]
    NoEnv,
    /// Two results would replace each other.
    #[error("--json and --record name the same file; give each its own")]
    SameFile,
    /// Likewise.
    #[error("two of --out, --save, --png and --json name the same file; give each its own")]
    SameOutput,
    /// No device of that name.
    #[error("DEV: {0}")]
    Device(String),
    /// The name of a picture's file.
    #[cfg(feature = "draw")]
    #[error("--render")]
    Render(#[from] host_sim::film::FilmError),
    /// An image for something that is not emulated.
    #[error("--image is of use with --controller qemu only")]
    Image,
    /// It needs a policy, and this command has none.
    #[error(
        "start the emulated Pico with `cargo xtask firmware pico --policy F.dtb`, and give its socket"
    )]
    PicoElsewhere,
    /// Specified, but not in this build.
    #[cfg(not(all(feature = "draw", feature = "hdf5")))]
    #[error("{0}")]
    NotBuiltYet(&'static str),
}
