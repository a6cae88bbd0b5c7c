//! `dt-train plot-demo`: the picture that `cargo xtask demo` ends with.

use std::path::PathBuf;

use anyhow::{Context, anyhow, ensure};
use host_sim::trace::Trace;

use crate::atomic;
use crate::report::demo::{self, Moment};
use crate::run::read_metrics;
use crate::run::{self, Run};

/// Arguments of `dt-train plot-demo`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder of a policy for the pendulum
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Its episodes, as `host-sim rollout --record` writes them; the first is drawn
    #[arg(long, value_name = "FILE")]
    pub recording: PathBuf,
    /// Picture to write; the ending chooses the format
    #[arg(long, value_name = "OUT.png|svg")]
    pub out: PathBuf,
    /// Replace an existing picture
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
///
/// # Errors
/// Unreadable runs or recordings, recordings of another robot, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    atomic::check(&args.out, args.force)?;
    let run = Run::open(&args.run)?;
    let records = read_metrics(&run.dir.join(run::METRICS));
    let name = args.recording.display();
    let bytes = std::fs::read(&args.recording).with_context(|| format!("cannot read {name}"))?;
    // A recording is read in place, so its bytes must be aligned.
    let mut words = vec![0u32; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    let trace = Trace::parse(&bytemuck::cast_slice(&words)[..bytes.len()])
        .map_err(|error| anyhow!("{name}: {error}"))?;
    ensure!(
        (trace.state_dim, trace.act_dim) == (3, 1),
        "{name}: recorded in {}, not in the pendulum",
        trace.env
    );
    let episode = trace
        .iter()
        .next()
        .with_context(|| format!("{name}: no episode"))?;
    let moments: Vec<Moment> = episode
        .iter()
        .map(|record| Moment::new(record.observation, record.action))
        .collect();
    demo::picture(&run, &records, &moments).write(&args.out, args.force)
}
