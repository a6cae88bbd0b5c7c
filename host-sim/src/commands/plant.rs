//! `host-sim plant`: an environment of this program as a plant for another.

use std::io::{stdin, stdout};
use std::net::TcpListener;

use anyhow::Context;
use host_sim::plant::{listen, serve};

use super::Environment;

/// Arguments of `host-sim plant`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    env: Environment,
    /// Serve everyone who connects here, instead of who started this program, over stdin and stdout
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Unknown environment, an address that is taken.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let blueprint = args.env.load()?;
    let make = move || blueprint.make();
    let Some(address) = &args.listen else {
        return Ok(serve(make, stdin().lock(), stdout().lock())?);
    };
    let listener = TcpListener::bind(address).with_context(|| format!("--listen {address}"))?;
    eprintln!("listening on {}", listener.local_addr()?);
    Ok(listen(&listener, make)?)
}
