//! The `dt-train` command line: parses the arguments, runs one command, turns its result into an exit code.

use std::process::ExitCode;

use clap::Parser;
use dt_train::commands::{Cli, WrongUsage};
use host_sim::MakeError;
use host_sim::console::message;
use host_sim::plant::Farewell;

fn main() -> ExitCode {
    let _farewell = Farewell;
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(error.as_ref()));
            let unknown_env = |error: &MakeError| error.is_wrong_usage();
            let usage = error.is::<WrongUsage>() || error.downcast_ref().is_some_and(unknown_env);
            if usage {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
