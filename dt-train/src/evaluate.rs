//! Returns of a policy in an environment.
//!
//! Everything that acts is a [`Policy`] in [`host_sim`]'s rollout loop.

use host_sim::critic::Opinions;
use host_sim::evaluation::{Evaluation, losses, whole};
use host_sim::rollout::{self, Episode, Plan};
use host_sim::{Blueprint, Space};
use tch::Device;

use crate::algo::Policy;
use crate::run::{EvalRecord, Run};

/// First seed of evaluations during training: far from the small seeds that results are reported
/// on, since these episodes choose the best checkpoint.
const TRAINING_SEED: u64 = 1 << 32;

/// Episodes per target that libtorch runs as well, as a check.
pub const TORCH_EPISODES: u32 = 2;

/// Episodes in `env`, in order, on all cores, with what the policy thought in each; `finished` is called after each, from any
/// thread.
///
/// # Errors
/// If there is no such environment, the policy is of another, or it fails in an episode.
pub fn episodes(
    policy: &dyn Policy,
    env: &str,
    plan: &Plan,
    finished: impl Fn(&Episode) + Sync,
) -> anyhow::Result<(Vec<Episode>, Vec<Opinions>)> {
    policy.check_env(&host_sim::make(env)?.spec())?;
    let blueprint = Blueprint::new(env, None)?;
    let plan = &Plan {
        threads: blueprint.threads(plan.threads),
        ..*plan
    };
    let outcomes = rollout::rollout(plan, || blueprint.make(), || policy.controller(), finished)?;
    Ok(outcomes.into_iter().unzip())
}

/// The same episodes by the engine and by libtorch.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// How many.
    pub episodes: u32,
    /// Mean return by the engine.
    pub engine: f64,
    /// By libtorch.
    pub torch: f64,
}

/// The plan's first episodes as given, beside the same by libtorch, one after the other on `device`; none where there is no network
/// to check with, or the plant was lost in all of them.
///
/// # Errors
/// If there is no such environment, or the policy fails in an episode.
pub fn cross_check(
    policy: &dyn Policy,
    device: Device,
    env: &str,
    plan: &Plan,
    episodes: &[Episode],
) -> anyhow::Result<Option<Check>> {
    let Some(mut controller) = policy.reference(device) else {
        return Ok(None);
    };
    let mut env = host_sim::make(env)?;
    let dims = (env.spec().state_dim(), env.spec().act_dim());
    let sees_images = matches!(env.spec().observation, Space::Image { .. });
    let _alone = (!sees_images).then(OneThread::new);
    let mut buffer = vec![0.0; rollout::buffer_len(dims.0, dims.1)];
    let target = plan.target_return;
    let few = std::cmp::min(plan.episodes, TORCH_EPISODES);
    let mut pairs = Vec::new();
    for (i, by_engine) in (0..few).zip(episodes) {
        let seed = plan.seed.wrapping_add(i.into());
        let env = env.as_mut();
        let by_torch = rollout::episode(env, &mut controller, &mut (), seed, target, &mut buffer)?;
        let pair = [by_engine.clone(), by_torch];
        if whole(&pair).count() == 2 {
            pairs.push(pair.map(|episode| episode.total_reward));
        }
    }
    let mean = |of: usize| {
        let sum: f64 = pairs.iter().map(|pair| pair[of]).sum();
        sum / pairs.len() as f64
    };
    Ok((!pairs.is_empty()).then(|| Check {
        episodes: pairs.len() as u32,
        engine: mean(0),
        torch: mean(1),
    }))
}

/// libtorch has one thread while this lives. A step of a vector is too little work to share: the others would spend their time
/// waiting for each other, most of all where something else runs.
struct OneThread {
    before: i32,
}

impl OneThread {
    fn new() -> Self {
        let before = tch::get_num_threads();
        tch::set_num_threads(1);
        Self { before }
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        tch::set_num_threads(self.before);
    }
}

/// One record per target return of the recipe; none where the plant was lost in every episode, or every one that is checked, since
/// training can do without.
pub(crate) fn training_records(
    run: &Run,
    env: &str,
    policy: &dyn Policy,
    device: Device,
) -> anyhow::Result<Vec<EvalRecord>> {
    let targets = match run.recipe.eval.target_returns.as_slice() {
        [first, ..] if !policy.is_conditioned() => vec![*first],
        [] => vec![run.info.target_return],
        targets => targets.to_vec(),
    };
    let record = |target_return| {
        let plan = Plan {
            target_return,
            episodes: run.recipe.eval.episodes,
            seed: TRAINING_SEED,
            threads: 0,
        };
        let (episodes, _) = episodes(policy, env, &plan, |_| {})?;
        let check = cross_check(policy, device, env, &plan, &episodes)?;
        let spec_of = host_sim::make(env)?;
        let all = Evaluation::new(&spec_of.spec(), "", target_return, episodes);
        if let Some(losses) = losses(std::slice::from_ref(&all)) {
            eprintln!("note: {losses}");
        }
        let counted = whole(&all.episodes).count();
        let Some(check) = check.filter(|_| counted > 0) else {
            return Ok(None);
        };
        Ok(Some(EvalRecord {
            target_return,
            episodes: counted as u32,
            mean_return: all.mean_return,
            std_return: all.std_return,
            engine_mean_return: check.engine,
            torch_mean_return: check.torch,
        }))
    };
    let records = targets.into_iter().map(record);
    records.filter_map(Result::transpose).collect()
}
