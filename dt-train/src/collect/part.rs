//! A collection that is not finished: everything a [`Learner`] needs to go on to the same bits as if it had not been
//! stopped. Environments cannot be saved; their episodes are run again from seed and actions, which takes no learning.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::actor::Actor;
use super::learn::Learner;
use super::noise::Position;
use super::online::{Counters, Settings};
use crate::atomic::{self, OutputError};

/// Key of the metadata entry.
const ENTRY: &str = "dt-train collection";

/// Where the unfinished part of an output lies: beside it.
pub fn path(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".part");
    name.into()
}

/// Why a collection cannot be continued.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}; repeat the command it was started with, or start anew with --force")]
pub struct PartError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with the file of an unfinished collection.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be opened.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// It is another kind of file, or damaged.
    #[error("is not the intact part of a collection: {0}")]
    NotAPart(String),
    /// It was started otherwise.
    #[error("was started with {key} {before}, not {now}")]
    Other {
        /// What differs.
        key: &'static str,
        /// There.
        before: String,
        /// Here.
        now: String,
    },
    /// It is longer than asked for.
    #[error("has {done} steps already, more than the {asked} asked for")]
    TooLong {
        /// Steps taken.
        done: usize,
        /// Steps asked for.
        asked: usize,
    },
    /// The same actions lead elsewhere.
    #[error(
        "`{0}` does not repeat the episodes in it: another model file, or another version of the simulator"
    )]
    OtherPhysics(String),
}

#[derive(Serialize, Deserialize)]
struct Entry {
    version: String,
    env: String,
    envs: usize,
    seed: u64,
    config: Settings,
    /// Steps to take in all, where learning depends on how many are still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    /// Seed of each environment's present episode.
    episodes: Vec<u64>,
    noise: Position,
    learned: Counters,
    /// Rows that never were steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    void: Vec<usize>,
}

/// Writes the state of `learner`.
///
/// # Errors
/// The file system's.
pub fn save(path: &Path, learner: &Learner) -> Result<(), OutputError> {
    let entry = Entry {
        version: env!("CARGO_PKG_VERSION").into(),
        env: learner.shape.env.clone(),
        envs: learner.envs(),
        seed: learner.seed,
        config: learner.config.clone(),
        steps: learner.config.depends_on_steps().then_some(learner.steps()),
        episodes: learner.lanes.iter().map(|lane| lane.episode).collect(),
        noise: learner.noise.position(),
        learned: learner.online.counters(),
        void: learner.void.clone(),
    };
    let json = serde_json::to_string(&entry).expect("strings and numbers");
    let tensors = learner.online.tensors().into_iter();
    let mut arrays: Vec<(&str, Vec<f32>)> = tensors
        .map(|(name, tensor)| {
            let mut values = vec![0.0; tensor.numel()];
            tensor.copy_data(&mut values, tensor.numel());
            (name, values)
        })
        .collect();
    arrays.push(("replay", learner.replay.values()));
    if let Some(kept) = &learner.kept {
        arrays.push(("kept", kept.weights.clone()));
    }
    let timeouts: Vec<f32> = learner
        .timeouts
        .iter()
        .map(|&t| f32::from(u8::from(t)))
        .collect();
    arrays.push(("timeouts", timeouts));
    let views = arrays.iter().map(|(name, values)| {
        let bytes = bytemuck::cast_slice(values);
        let view = TensorView::new(Dtype::F32, vec![values.len()], bytes);
        (*name, view.expect("as many values as the shape says"))
    });
    let metadata = HashMap::from([(ENTRY.to_owned(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).expect("few tensors");
    atomic::write(path, true, &bytes)
}

/// Puts a fresh `learner` into the state that [`save`] wrote.
///
/// # Errors
/// [`PartError`] names the file and what to do.
pub fn restore(path: &Path, learner: &mut Learner) -> Result<(), PartError> {
    parse(path, learner).map_err(|problem| PartError {
        path: path.into(),
        problem,
    })
}

fn parse(path: &Path, learner: &mut Learner) -> Result<(), Problem> {
    let bytes = std::fs::read(path).map_err(Problem::Unreadable)?;
    let not_a_part = |error: &dyn std::fmt::Display| Problem::NotAPart(error.to_string());
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| not_a_part(&error))?;
    let entries = metadata.metadata().as_ref();
    let json = entries
        .and_then(|entries| entries.get(ENTRY))
        .ok_or_else(|| not_a_part(&"its metadata is missing"))?;
    let entry: Entry = serde_json::from_str(json).map_err(|error| not_a_part(&error))?;
    let settings = |config: &Settings| serde_json::to_string(config).unwrap_or_default();
    for (key, before, now) in [
        (
            "version",
            entry.version,
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        ("--env", entry.env, learner.shape.env.clone()),
        ("--envs", entry.envs.to_string(), learner.envs().to_string()),
        ("--seed", entry.seed.to_string(), learner.seed.to_string()),
        (
            "--steps",
            entry.steps.unwrap_or(learner.steps()).to_string(),
            learner.steps().to_string(),
        ),
        (
            "settings",
            settings(&entry.config),
            settings(&learner.config),
        ),
    ] {
        if before != now {
            return Err(Problem::Other { key, before, now });
        }
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| not_a_part(&error))?;
    let values = |name: &str, len: usize| {
        let tensor = tensors.tensor(name).map_err(|error| not_a_part(&error))?;
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        if tensor.dtype() != Dtype::F32 || values.len() != len {
            return Err(not_a_part(&format!("`{name}` is not {len} f32 values")));
        }
        Ok(values)
    };
    let done = tensors
        .tensor("timeouts")
        .map_or(0, |tensor| tensor.shape().iter().product());
    if done > learner.steps() {
        let asked = learner.steps();
        return Err(Problem::TooLong { done, asked });
    }
    if done % learner.envs() != 0 || entry.episodes.len() != learner.envs() {
        return Err(not_a_part(
            &"it does not have as many steps of each environment",
        ));
    }
    let timeouts = values("timeouts", done)?;
    let replay = values("replay", done * learner.replay.width())?;
    if tensors.names().contains(&"kept") {
        learner.kept = Some(Actor {
            weights: values("kept", learner.actor.weights.len())?,
            shape: learner.shape.clone(),
        });
    }
    for (name, mut tensor) in learner.online.tensors() {
        tensor.copy_(&Tensor::from_slice(&values(name, tensor.numel())?));
    }
    learner.online.resume(entry.learned);
    learner.online.copy_actor(&mut learner.actor);
    learner.replay.restore(&replay);
    learner.timeouts = timeouts.into_iter().map(|flag| flag == 1.0).collect();
    // The last value of a row is 0 where the task ended.
    let continues = replay.iter().skip(learner.replay.width() - 1);
    let continues = continues.step_by(learner.replay.width());
    let ends = continues.zip(&learner.timeouts);
    learner.ends = ends
        .map(|(&continues, &timeout)| continues == 0.0 || timeout)
        .collect();
    learner.void = entry.void;
    learner.noise.resume(entry.noise);
    if !learner.replay_episodes(&entry.episodes) {
        return Err(Problem::OtherPhysics(learner.shape.env.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use host_sim::{Env, make};

    use super::*;
    use crate::algo::{ppo, sac};
    use crate::collect::learn::Next;
    use crate::data::d4rl::Recording;

    fn pendulum() -> Box<dyn Env> {
        make("pendulum").unwrap()
    }

    fn sac() -> sac::Settings {
        sac::Settings {
            hidden: 16,
            batch_size: 8,
            ..sac::Settings::for_env("pendulum")
        }
    }

    fn config() -> Settings {
        Settings::Sac(sac())
    }

    fn learner(envs: usize, steps: usize) -> Learner {
        Learner::new(pendulum, envs, &config(), steps, 3)
    }

    /// The rest of the steps; the agent is kept after the second episode.
    fn finish(mut learner: Learner) -> (Actor, Option<Actor>, Recording) {
        let Ok(()) = learner.learn(|learner| {
            Ok::<_, Infallible>(if learner.done() == 400 {
                Next::Keep
            } else {
                Next::Learn
            })
        });
        learner.into_parts()
    }

    #[test]
    fn a_resumed_collection_is_the_same_to_the_bit() {
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("out.hdf5"));
        let whole = finish(learner(1, 700));
        assert_eq!(whole.2.rewards.len(), 700);

        for episodes in [1, 2] {
            let mut first = learner(1, 700);
            let Ok(()) = first.learn(|learner| {
                Ok::<_, Infallible>(match learner.done() {
                    done if done == 200 * episodes => Next::Stop,
                    _ => Next::Learn,
                })
            });
            first.kept = (episodes == 2).then(|| first.actor.clone());
            save(&path, &first).unwrap();
            let mut second = learner(1, 700);
            restore(&path, &mut second).unwrap();
            assert_eq!(finish(second), whole, "after {episodes} episodes");
        }
    }

    /// Hopper falls within tens of steps, so that the others are in the middle of an episode when one ends.
    #[test]
    fn episodes_that_were_interrupted_go_on() {
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("out.hdf5"));
        let learner = || {
            let config = Settings::Sac(sac::Settings {
                learning_starts: 40,
                ..sac()
            });
            Learner::new(|| make("hopper").unwrap(), 3, &config, 200, 3)
        };
        let whole = finish(learner());
        let mut first = learner();
        let Ok(()) = first.learn(|learner| {
            Ok::<_, Infallible>(match learner.done() {
                100.. => Next::Stop,
                _ => Next::Learn,
            })
        });
        assert!(first.done() < 200, "nothing is left to do");
        save(&path, &first).unwrap();
        let mut second = learner();
        restore(&path, &mut second).unwrap();
        assert_eq!(finish(second), whole);

        // Episodes that begin elsewhere, as with another simulator.
        first.lanes.iter_mut().for_each(|lane| lane.episode ^= 1);
        save(&path, &first).unwrap();
        let message = restore(&path, &mut learner()).unwrap_err().to_string();
        assert!(
            message.contains("does not repeat the episodes"),
            "{message}"
        );
    }

    /// In the middle of a horizon, with the other environments in the middle of an episode.
    #[test]
    fn ppo_goes_on_from_its_steps_alone() {
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("out.hdf5"));
        let config = Settings::Ppo(ppo::Settings {
            hidden: 16,
            batch_size: 24,
            epochs: 3,
            ..ppo::Settings::default()
        });
        let learner = || Learner::new(|| make("cartpole").unwrap(), 3, &config, 600, 3);
        let whole = finish(learner());
        let mut first = learner();
        let Ok(()) = first.learn(|learner| {
            Ok::<_, Infallible>(match learner.done() {
                250.. => Next::Stop,
                _ => Next::Learn,
            })
        });
        assert!(
            first.done() < 600 && first.done() % 96 != 0,
            "{}",
            first.done()
        );
        save(&path, &first).unwrap();
        let mut second = learner();
        restore(&path, &mut second).unwrap();
        assert_eq!(finish(second), whole);

        // Its learning rate falls until the last step, so another number of steps is another collection.
        let mut longer = Learner::new(|| make("cartpole").unwrap(), 3, &config, 900, 3);
        let message = restore(&path, &mut longer).unwrap_err().to_string();
        assert!(message.contains("--steps 600, not 900"), "{message}");
    }

    #[test]
    fn another_collection_is_not_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let refusal = |learner: &mut Learner| restore(&path, learner).unwrap_err().to_string();
        assert!(refusal(&mut learner(1, 9)).contains("cannot be read"));

        let mut first = learner(1, 300);
        let Ok(()) = first.learn(|_| Ok::<_, Infallible>(Next::Stop));
        save(&path, &first).unwrap();
        let message = refusal(&mut learner(1, 100));
        assert!(
            message.contains("has 200 steps already, more than the 100"),
            "{message}"
        );
        let message = refusal(&mut learner(2, 300));
        assert!(message.contains("--envs 1, not 2"), "{message}");
        let mut other = learner(1, 300);
        other.seed = 4;
        let message = refusal(&mut other);
        assert!(
            message.contains("--seed 3, not 4") && message.contains("--force"),
            "{message}"
        );

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let message = refusal(&mut learner(1, 300));
        assert!(message.contains("not the intact part"), "{message}");
    }
}
