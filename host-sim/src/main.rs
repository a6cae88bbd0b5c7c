//! The `host-sim` command line: parses the arguments, runs one command, turns its result into an
//! exit code.
// Which panics when nobody reads it any more.
#![deny(clippy::print_stdout)]

mod commands;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use commands::{Cli, UsageError};
use host_sim::console::message;
use host_sim::plant::Farewell;

fn main() -> ExitCode {
    let _farewell = Farewell;
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough, as in `host-sim … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(error.as_ref()));
            if error.is::<UsageError>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
