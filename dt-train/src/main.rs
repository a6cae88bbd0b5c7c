//! The `dt-train` command line: parses the arguments, runs one command, turns its result into an exit code.

use std::process::ExitCode;

use clap::Parser;
use dt_train::commands::{Cli, NotBuiltYet, WrongUsage};

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `{:#}` joins the causes with ": ": one message, one line.
            eprintln!("error: {error:#}");
            if error.is::<NotBuiltYet>() || error.is::<WrongUsage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
