//! Random policies that act in an environment, and recordings of what they do on the host.

use dt_core::blob::{Manifest, RewardMode};
use dt_core::config::{Actions, Config};
use dt_core::{Policy, golden};
use host_sim::env::EnvSpec;
use host_sim::pendulum::SPEC;
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::{Episode, Plan, Recorder, Transition, rollout};
use host_sim::space::Space;
use host_sim::trace::{self, Tape, Trace};

use crate::{Random, Sample};

/// A policy with random weights that acts on the pendulum, with golden vectors.
///
/// # Panics
/// If `dt-core` refuses it.
pub fn policy(config: Config, reward: RewardMode, seed: u64) -> PolicyFile {
    policy_with(config, reward, seed, |_| {})
}

/// The same policy, its golden records (as in the file) changed by `spoil`.
///
/// # Panics
/// If `dt-core` refuses it.
pub fn policy_with(
    config: Config,
    reward: RewardMode,
    seed: u64,
    spoil: impl FnOnce(&mut [f32]),
) -> PolicyFile {
    policy_in(&SPEC, config, reward, seed, spoil)
}

/// Such a policy that acts in any environment.
///
/// # Panics
/// If `dt-core` refuses it.
pub fn policy_in(
    spec: &EnvSpec<'_>,
    config: Config,
    reward: RewardMode,
    seed: u64,
    spoil: impl FnOnce(&mut [f32]),
) -> PolicyFile {
    proven(&sample_in(spec, config, reward, seed), spec.id, seed, spoil)
}

/// Such a policy before it is a file.
///
/// # Panics
/// If observations or continuous actions are no vectors.
pub fn sample_in(spec: &EnvSpec<'_>, config: Config, reward: RewardMode, seed: u64) -> Sample {
    let config = Config {
        state_dim: spec.state_dim() as u32,
        act_dim: match spec.action {
            Space::Discrete { n } => n as u32,
            Space::Box { .. } | Space::Image { .. } => spec.act_dim() as u32,
        },
        ..config
    };
    let mut sample = Sample::random(config, seed);
    sample.reward = reward;
    sample.return_scale = 1000.0;
    let [state_low, state_high] = spec.observation_bounds().expect("vectors");
    if state_low.iter().all(|low| low.is_finite()) {
        sample.state[2] = state_low.to_vec();
        sample.state[3] = state_high.to_vec();
    }
    if config.actions == Actions::Continuous {
        let [low, high] = spec.action_bounds().expect("vectors");
        sample.action = [low.to_vec(), high.to_vec(), vec![0.0; spec.act_dim()]];
    }
    sample
}

/// The policy file for `env`, with golden vectors that it reproduces unless `spoil` changes them.
///
/// # Panics
/// If `dt-core` refuses it.
pub fn proven(sample: &Sample, env: &str, seed: u64, spoil: impl FnOnce(&mut [f32])) -> PolicyFile {
    let config = &sample.config;
    let golden_steps = 2 * config.context_len + 3;
    let manifest = Manifest {
        env,
        golden_steps,
        ..sample.manifest()
    };

    let mut random = Random::new(seed);
    let record = manifest.golden_record_len();
    let mut golden = random.around(0.0, 0.5, golden_steps as usize * record);
    if config.actions == Actions::Discrete {
        let applied = 1 + config.state_dim as usize;
        for record in golden.chunks_exact_mut(record) {
            record[applied] = random.below(config.act_dim) as f32;
        }
    }
    let unproven = sample.emit_as(&manifest, &golden);
    let blob = unproven.blob();
    let mut policy = Policy::new(&blob, vec![0; config.arena_words()]).expect("enough memory");
    golden::record(&mut policy, &blob, &mut golden).expect("golden steps");
    spoil(&mut golden);
    sample.emit_as(&manifest, &golden)
}

/// What a policy did on the host: a `host_sim::trace` file.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The bytes, aligned.
    words: Vec<u32>,
}

impl Recording {
    /// Rolls the policy out in the environment that it names; also gives the episodes' results.
    ///
    /// # Panics
    /// If there is no such environment or the policy fails.
    pub fn new(policy: &PolicyFile, plan: &Plan) -> (Self, Vec<Episode>) {
        let make_env = host_sim::maker(policy.blob().manifest().env).expect("an environment");
        let done = rollout(plan, make_env, policy.controllers(), |_| {}).expect("a rollout");
        let (episodes, tapes): (Vec<Episode>, Vec<Tape>) = done.into_iter().unzip();
        let starts = episodes.iter().map(|e| (e.seed, plan.target_return));
        let blob = policy.blob();
        let header = trace::Header {
            env: blob.manifest().env,
            policy_crc: policy.crc(),
            state_dim: blob.manifest().config.state_dim as usize,
            act_dim: blob.manifest().config.action_len() as usize,
        };
        (Self::emit(&header, starts.zip(&tapes)), episodes)
    }

    /// The recording with other actions in it: `alter` gets the number of the episode, the number of the
    /// step, and its action.
    #[must_use]
    pub fn altered(&self, alter: impl FnMut(usize, usize, &mut [f32])) -> Self {
        self.remade(alter, |seed| seed)
    }

    /// The recording as if each episode had had another seed.
    #[must_use]
    pub fn reseeded(&self, seed: impl Fn(u64) -> u64) -> Self {
        self.remade(|_, _, _| {}, seed)
    }

    fn remade(
        &self,
        mut alter: impl FnMut(usize, usize, &mut [f32]),
        seed: impl Fn(u64) -> u64,
    ) -> Self {
        let trace = self.trace();
        let mut tapes = Vec::new();
        for (i, episode) in trace.iter().enumerate() {
            let mut tape = Tape::default();
            for (step, record) in episode.iter().enumerate() {
                let mut action = record.action.to_vec();
                alter(i, step, &mut action);
                tape.record(&Transition {
                    predicted_return: None,
                    observation: record.observation,
                    action: &action,
                    reward: record.reward.into(),
                    next_observation: &[],
                    terminated: false,
                    truncated: false,
                });
            }
            tapes.push(tape);
        }
        let starts = trace.iter().map(|e| (seed(e.seed), e.target_return));
        let header = trace::Header {
            env: trace.env,
            policy_crc: trace.policy_crc,
            state_dim: trace.state_dim,
            act_dim: trace.act_dim,
        };
        Self::emit(&header, starts.zip(&tapes))
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// The recording, parsed.
    ///
    /// # Panics
    /// Never: it has just been written.
    pub fn trace(&self) -> Trace<'_> {
        Trace::parse(self.bytes()).expect("a trace")
    }

    /// The recording of these episodes: seed, target return and steps of each.
    ///
    /// # Panics
    /// If the header does not fit the episodes.
    pub fn emit<'t>(
        header: &trace::Header<'_>,
        tapes: impl IntoIterator<Item = ((u64, f32), &'t Tape)>,
    ) -> Self {
        let episodes = tapes
            .into_iter()
            .map(|((seed, target), tape)| (seed, target, tape));
        let bytes = trace::emit(header, episodes).expect("a trace");
        let mut words = vec![0; bytes.len() / 4];
        bytemuck::cast_slice_mut(&mut words).copy_from_slice(&bytes);
        Self { words }
    }
}
