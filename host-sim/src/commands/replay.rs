//! `host-sim replay`: states and rewards for given actions.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use host_sim::progress;
use host_sim::replay::{ReplayError, replay};
use indicatif::ProgressBar;

use super::Environment;

/// Arguments of `host-sim replay`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    env: Environment,
    /// First line {"qpos":[…],"qvel":[…]}, then one {"action":[…]} per line, {"action":k} for choices; - is stdin
    #[arg(value_name = "IN.jsonl")]
    input: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Unknown environment, unreadable input, a bad line.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut env = args.env.load()?.make_reference();
    let (name, input, bar) = open(&args.input)?;
    let output = BufWriter::new(io::stdout().lock());
    let result = replay(env.as_mut(), input, output);
    bar.finish_and_clear();
    result.map_err(|error| match error {
        // `FILE:line 3: …`, and nothing of the file where the output is at fault.
        ReplayError::Write(_) => error.into(),
        _ => anyhow::anyhow!("{name}: {error}"),
    })
}

/// The input's name, itself, and the bar that shows how much of it has been read.
fn open(path: &Path) -> anyhow::Result<(String, Box<dyn BufRead>, ProgressBar)> {
    let (name, input, len): (_, Box<dyn Read>, _) = if path == Path::new("-") {
        ("stdin".into(), Box::new(io::stdin().lock()), None)
    } else {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let len = file.metadata().ok().map(|about| about.len());
        (name, Box::new(file), len)
    };
    let bar = progress::input(len);
    let input = BufReader::new(bar.wrap_read(input));
    Ok((name, Box::new(input), bar))
}
