//! Set-up, tests and firmware of this workspace; `cargo xtask help` lists the commands.

mod demo;
mod examples;
mod firmware;
mod package;
mod process;
mod python;
mod results;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about, disable_help_subcommand = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what a fresh Debian or Ubuntu machine with rustup and python3 lacks; a second run changes nothing
    Setup {
        /// Where the compiler for the controllers comes from; by default rustup, else the distribution
        #[arg(long, value_enum)]
        cortex_m: Option<setup::cortex_m::Toolchain>,
        /// Simulators that are installed only when asked for
        #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,…")]
        with: Vec<setup::extras::Extra>,
    },
    /// The main job end to end on Pendulum, ending on the emulated microcontroller; writes ./demo
    Demo {
        /// Replace ./demo even if it holds something else than an earlier demo
        #[arg(long)]
        force: bool,
    },
    /// Check formatting, lints, documentation and all tests, the emulated controllers included
    Test {
        /// Also what takes too long for every change: exp and tanh of version 1 on all inputs, 30 minutes of each fuzzer
        #[arg(long)]
        long: bool,
    },
    /// Run the examples of `dt-core` and `dt-control`, on the host and on an emulated controller
    Examples,
    /// Check that `dt-core` can be published: it packages, builds from the package, and compiles with the oldest compiler
    Package,
    /// Build the Python package as a wheel, and test it beside Gymnasium's environments
    Python,
    /// Remake a table of docs/results, from training to Markdown; without a name the tables are listed
    Results(results::Arguments),
    /// Build, measure or run the controller's images
    #[command(subcommand)]
    Firmware(firmware::Command),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Setup { cortex_m, with } => setup::run(cortex_m, &with)?,
        Command::Demo { force } => demo::run(force)?,
        Command::Test { long } => test::run(long)?,
        Command::Examples => examples::check()?,
        Command::Package => package::check()?,
        Command::Python => python::check()?,
        Command::Results(arguments) => results::run(arguments)?,
        Command::Firmware(command) => firmware::run(command)?,
    }
    Ok(())
}
