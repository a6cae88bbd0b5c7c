//! Set-up, tests and firmware of this workspace; `cargo xtask help` lists the commands.

mod process;
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
    },
    /// Check formatting, lints, documentation and all tests, the emulated controllers included
    Test,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Setup { cortex_m } => setup::run(cortex_m)?,
        Command::Test => test::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
