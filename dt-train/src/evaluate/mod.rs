//! Returns of a policy in an environment: by the engine that the controller runs, and by libtorch.
//!
//! Both run in [`host_sim`]'s rollout loop.

mod torch;

use anyhow::Context;
use dt_core::config::{Dtype, Mixer};
use host_sim::evaluation::Evaluation;
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::{self, Episode, Plan};
use tch::Device;

pub use torch::TorchPolicy;

use crate::algo::bc;
use crate::deploy::{Trained, emit_bytes};
use crate::nn::transformer::{self, DecisionTransformer};
use crate::run::EvalRecord;
use crate::run::Run;
use crate::run::checkpoint::Checkpoint;

/// First seed of evaluations during training: far from the small seeds that results are reported
/// on, since these episodes choose the best checkpoint.
const TRAINING_SEED: u64 = 1 << 32;

/// Episodes per target that libtorch runs as well, as a check on the engine.
pub const TORCH_EPISODES: u32 = 2;

/// Episodes run by the engine, in order; `finished` is called after each, from any thread.
///
/// # Errors
/// If there is no such environment, the policy is of another, or it fails in an episode.
pub fn engine(
    policy: &PolicyFile,
    env: &str,
    plan: &Plan,
    finished: impl Fn(&Episode) + Sync,
) -> anyhow::Result<Vec<Episode>> {
    policy.check_env(&host_sim::make(env)?.spec())?;
    let outcomes = rollout::rollout(plan, host_sim::maker(env)?, policy.controllers(), finished)?;
    Ok(outcomes.into_iter().map(|(episode, ())| episode).collect())
}

/// The same episodes run by libtorch, one after the other.
///
/// # Errors
/// If there is no such environment.
pub fn torch(
    run: &Run,
    model: &DecisionTransformer,
    device: Device,
    env: &str,
    plan: &Plan,
) -> anyhow::Result<Vec<Episode>> {
    let mut env = host_sim::make(env)?;
    let mut controller = TorchPolicy::new(run, model, device);
    let mut buffer = vec![0.0; rollout::buffer_len(run.info.state_dim, run.info.act_dim)];
    let (env, target) = (env.as_mut(), plan.target_return);
    let seeds = (0..plan.episodes).map(|i| plan.seed.wrapping_add(i.into()));
    let run_one = |seed| {
        rollout::episode(env, &mut controller, &mut (), seed, target, &mut buffer)
            .unwrap_or_else(|error| match error.source {})
    };
    Ok(seeds.map(run_one).collect())
}

/// Mean return of a few of the plan's episodes by the engine (given) and by libtorch.
///
/// # Errors
/// As [`torch`].
pub fn cross_check(
    run: &Run,
    model: &DecisionTransformer,
    device: Device,
    env: &str,
    plan: &Plan,
    by_engine: &[Episode],
) -> anyhow::Result<(f64, f64)> {
    let by_torch = torch(run, model, device, env, &few(plan))?;
    Ok((mean(&by_engine[..by_torch.len()]), mean(&by_torch)))
}

/// The f32 policy file of a checkpoint, in memory.
///
/// # Errors
/// If checkpoint and run do not belong together.
pub fn policy_file(run: &Run, checkpoint: &Checkpoint) -> anyhow::Result<PolicyFile> {
    let trained = Trained {
        run,
        weights: &checkpoint.weights,
        update: checkpoint.progress.update,
    };
    Ok(emit_bytes(&trained, Dtype::F32, Mixer::Attention, &[])?)
}

/// The network of a checkpoint, in libtorch on the CPU.
///
/// # Errors
/// If checkpoint and run do not belong together.
pub fn network(run: &Run, checkpoint: &Checkpoint) -> anyhow::Result<DecisionTransformer> {
    let network = run.network(Dtype::F32);
    let mut parameters = transformer::initialize(&network, 0.0, 0, Device::Cpu);
    transformer::load(&mut parameters, &checkpoint.weights)
        .with_context(|| format!("{}", run.dir.display()))?;
    Ok(DecisionTransformer::bind(&network, parameters.frozen()))
}

/// One record per target return of the recipe, for a checkpoint and the same network in libtorch.
pub(crate) fn training_records(
    run: &Run,
    env: &str,
    checkpoint: &Checkpoint,
    model: &DecisionTransformer,
    device: Device,
) -> anyhow::Result<Vec<EvalRecord>> {
    let policy = policy_file(run, checkpoint)?;
    let targets = match run.config.eval.target_returns.as_slice() {
        [] => vec![run.info.target_return],
        targets => targets.to_vec(),
    };
    let mut records = Vec::new();
    for target_return in targets {
        let plan = training_plan(run, target_return);
        let episodes = engine(&policy, env, &plan, |_| {})?;
        let means = cross_check(run, model, device, env, &plan, &episodes)?;
        records.push(record(env, &plan, episodes, means)?);
    }
    Ok(records)
}

/// The one record of a behaviour cloning run, which no target return changes.
pub(crate) fn bc_record(
    run: &Run,
    env: &str,
    checkpoint: &Checkpoint,
) -> anyhow::Result<EvalRecord> {
    let policy = bc::Policy::new(run, &checkpoint.weights)?;
    let plan = training_plan(run, run.info.target_return);
    let episodes = policy.episodes(env, &plan, |_| {})?;
    let means = bc_cross_check(&policy, env, &plan, &episodes)?;
    record(env, &plan, episodes, means)
}

/// As [`cross_check`], for behaviour cloning, whose own arithmetic stands for the engine's.
///
/// # Errors
/// If there is no such environment.
pub fn bc_cross_check(
    policy: &bc::Policy<'_>,
    env: &str,
    plan: &Plan,
    episodes: &[Episode],
) -> anyhow::Result<(f64, f64)> {
    let by_torch = policy.torch_episodes(env, &few(plan))?;
    Ok((mean(&episodes[..by_torch.len()]), mean(&by_torch)))
}

fn training_plan(run: &Run, target_return: f32) -> Plan {
    Plan {
        target_return,
        episodes: run.config.eval.episodes,
        seed: TRAINING_SEED,
        threads: 0,
    }
}

fn record(
    env: &str,
    plan: &Plan,
    episodes: Vec<Episode>,
    (engine_mean_return, torch_mean_return): (f64, f64),
) -> anyhow::Result<EvalRecord> {
    let all = Evaluation::new(
        &host_sim::make(env)?.spec(),
        "",
        plan.target_return,
        episodes,
    );
    Ok(EvalRecord {
        target_return: plan.target_return,
        episodes: plan.episodes,
        mean_return: all.mean_return,
        std_return: all.std_return,
        engine_mean_return,
        torch_mean_return,
    })
}

fn few(plan: &Plan) -> Plan {
    Plan {
        episodes: std::cmp::min(plan.episodes, TORCH_EPISODES),
        ..*plan
    }
}

fn mean(episodes: &[Episode]) -> f64 {
    let sum: f64 = episodes.iter().map(|episode| episode.total_reward).sum();
    sum / episodes.len() as f64
}
