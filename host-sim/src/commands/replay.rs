//! `host-sim replay`: states and rewards for given actions.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context;
use host_sim::replay::{ReplayError, replay};

use super::Environment;

/// Arguments of `host-sim replay`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    env: Environment,
    /// First line {"qpos":[…],"qvel":[…]}, then one {"action":[…]} per line; - is stdin
    #[arg(value_name = "IN.jsonl")]
    input: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Unknown environment, unreadable input, a bad line.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut env = args.env.load()?.make_reference();
    let (name, input) = open(&args.input)?;
    let output = BufWriter::new(io::stdout().lock());
    replay(env.as_mut(), input, output).map_err(|error| match error {
        // `FILE:line 3: …`, and nothing of the file where the output is at fault.
        ReplayError::Write(_) => error.into(),
        _ => anyhow::anyhow!("{name}: {error}"),
    })
}

fn open(path: &Path) -> anyhow::Result<(String, Box<dyn BufRead>)> {
    if path == Path::new("-") {
        return Ok(("stdin".into(), Box::new(io::stdin().lock())));
    }
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    Ok((name, Box::new(BufReader::new(file))))
}
