//! `host-sim view`: a policy file in an environment, to look at while it runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use host_sim::console;
use host_sim::controller::check_targets;
use host_sim::evaluation::{Evaluation, Table, losses};
use host_sim::rollout::{EpisodeError, buffer_len, episode};
use host_sim::stage::Stage;
use host_sim::view::{SIZE, ViewError, Viewer, Window};

use super::Environment;

/// The last picture of an episode stays for that long.
const PAUSE: Duration = Duration::from_secs(2);

/// Arguments of `host-sim view`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Policy file, as `dt-train export` writes it
    #[arg(value_name = "POLICY.dtb")]
    policy: PathBuf,
    #[command(flatten)]
    env: Environment,
    /// Target return [default: the policy's]
    #[arg(long, value_name = "R", allow_hyphen_values = true)]
    target_return: Option<f32>,
    /// Episodes, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of the first episode; episode i uses S + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

/// Runs the command: the episodes that were shown to their end are reported as `rollout` reports them.
///
/// # Errors
/// Unknown environment, unusable policy, failed episodes, no display.
pub fn run(args: &Args) -> anyhow::Result<()> {
    check_targets(args.target_return.as_slice())?;
    let (blueprint, policy) = args.env.load_with(&args.policy)?;
    let own = policy.blob().manifest().target_return;
    let target_return = args.target_return.unwrap_or(own);
    let mut env = blueprint.make();
    let spec = env.spec();
    let title = format!(
        "{} in {} | drag: turn, right button: shift, wheel: zoom, space: pause, Esc: close",
        args.policy.display(),
        spec.id
    );
    let window = Window::open(&title)?;
    let stage = Stage::new(&blueprint, SIZE)?;
    let period = Duration::from_micros(spec.control_period_us.into());
    let mut buffer = vec![0.0; buffer_len(spec.state_dim(), spec.act_dim())];
    let mut viewer = Viewer::new(policy.controllers()(), stage, window, period);
    let mut episodes = Vec::new();
    for i in 0..args.episodes {
        let seed = args.seed.wrapping_add(i.into());
        let env = env.as_mut();
        match episode(env, &mut viewer, &mut (), seed, target_return, &mut buffer) {
            Ok(done) => episodes.push(done),
            Err(EpisodeError {
                source: ViewError::Closed,
                ..
            }) => break,
            Err(error) => return Err(anyhow::anyhow!("{error}")),
        }
        match viewer.linger(PAUSE) {
            Ok(()) => {}
            Err(ViewError::Closed) => break,
            Err(error) => return Err(anyhow::anyhow!("{error}")),
        }
    }
    if !episodes.is_empty() {
        let name = args.policy.display().to_string();
        let evaluation = Evaluation::new(&env.spec(), name, target_return, episodes);
        let evaluations = [evaluation];
        console::print(Table(&evaluations))?;
        if let Some(losses) = losses(&evaluations) {
            bail!("{losses}");
        }
    }
    Ok(())
}
