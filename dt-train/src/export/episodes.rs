//! Control steps to try an exported policy on: logged ones where the data are at hand, else
//! random ones in their range.

use std::path::Path;

use dt_core::policy::{centre, half};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::dataset::Dataset;
use crate::predict::Context;
use crate::run::Run;
use crate::train::prepare::{normalize, scale_actions};

/// Episodes that errors are measured on, and their steps at most.
const MEASURED: (usize, usize) = (16, 200);

/// Consecutive control steps in the environment's units.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// Return-to-go of each step.
    pub returns_to_go: Vec<f32>,
    /// (steps, state_dim)
    pub observations: Vec<Vec<f32>>,
    /// (steps, act_dim), as applied.
    pub actions: Vec<Vec<f32>>,
}

/// Where the steps come from.
pub enum Source<'a> {
    /// The run's data.
    Logged(&'a Dataset),
    /// Uniform in the data's range.
    Random,
}

/// The data a run was trained on, if its files are still there and still the same.
///
/// # Errors
/// Why not, for a note to the user.
pub fn training_data(run: &Run) -> Result<Dataset, String> {
    let paths: Vec<&Path> = run.info.dataset.split(',').map(Path::new).collect();
    if let Some(missing) = paths.iter().find(|path| !path.is_file()) {
        return Err(format!("{} is not there", missing.display()));
    }
    let data = Dataset::load(&paths).map_err(|error| error.to_string())?;
    let digest: String = data
        .sha256()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if digest != run.info.dataset_sha256 {
        return Err(format!("{} has changed since", run.info.dataset));
    }
    Ok(data)
}

impl Source<'_> {
    /// Steps for the golden vectors: 2K + 3 in a row, so that the ring wraps, then extreme inputs.
    pub fn golden(&self, run: &Run) -> Steps {
        let n = 2 * run.config.model.context_len as usize + 3;
        let mut steps = match self {
            Self::Logged(data) => logged(data, 0, n),
            Self::Random => random(run, n, 0),
        };
        steps.push_extremes(run);
        steps
    }

    /// Episodes to measure errors on.
    pub fn measured(&self, run: &Run) -> Vec<Steps> {
        let (episodes, steps) = MEASURED;
        match self {
            Self::Logged(data) => {
                let n = std::cmp::min(episodes, data.episodes.len());
                let length = |i: usize| std::cmp::min(steps, data.episodes[i].rows.len());
                let spread = (0..n).map(|i| i * data.episodes.len() / n);
                spread.map(|i| logged(data, i, length(i))).collect()
            }
            Self::Random => (1..=episodes as u64)
                .map(|seed| random(run, steps, seed))
                .collect(),
        }
    }
}

impl Steps {
    /// The steps as the network reads them, from timestep 0.
    pub fn context(&self, run: &Run) -> Context {
        let info = &run.info;
        let bounds = || info.action_low.iter().zip(&info.action_high);
        let centre: Vec<f32> = bounds().map(|(&low, &high)| centre(low, high)).collect();
        let half: Vec<f32> = bounds().map(|(&low, &high)| half(low, high)).collect();
        let state = |o: &Vec<f32>| normalize(o, &info.state_mean, &info.state_std);
        let action = |a: &Vec<f32>| scale_actions(a, &centre, &half);
        let scale = run.config.data.return_scale;
        Context {
            returns_to_go: self.returns_to_go.iter().map(|r| r / scale).collect(),
            states: self.observations.iter().map(state).collect(),
            actions: self.actions.iter().map(action).collect(),
            timesteps: (0..self.observations.len() as u32).collect(),
        }
    }

    /// The steps as records of a policy file, expected actions still 0.
    pub fn golden(&self) -> Vec<f32> {
        let mut golden = Vec::new();
        for ((return_to_go, observation), action) in self
            .returns_to_go
            .iter()
            .zip(&self.observations)
            .zip(&self.actions)
        {
            golden.push(*return_to_go);
            golden.extend(observation);
            golden.extend(action);
            golden.resize(golden.len() + action.len(), 0.0);
        }
        golden
    }

    /// The corners of what the guard lets through, with returns far from any in the data.
    fn push_extremes(&mut self, run: &Run) {
        let info = &run.info;
        let far = 10.0 * run.config.data.return_scale;
        let corners = [
            (info.target_return + far, &info.state_low, &info.action_low),
            (
                info.target_return - far,
                &info.state_high,
                &info.action_high,
            ),
            (0.0, &info.state_mean, &info.safe_action),
        ];
        for (return_to_go, observation, action) in corners {
            self.returns_to_go.push(return_to_go);
            self.observations.push(observation.clone());
            self.actions.push(action.clone());
        }
    }
}

/// The first `n` steps from the start of an episode; the rows after a short one follow it.
fn logged(data: &Dataset, episode: usize, n: usize) -> Steps {
    let returns_to_go = data.returns_to_go();
    let first = data.episodes[episode].rows.start;
    let rows = || (0..n).map(|t| (first + t) % data.len());
    let take = |table: &[f32], width: usize| -> Vec<Vec<f32>> {
        rows()
            .map(|row| table[row * width..][..width].to_vec())
            .collect()
    };
    Steps {
        returns_to_go: rows().map(|row| returns_to_go[row]).collect(),
        observations: take(&data.observations, data.state_dim),
        actions: take(&data.actions, data.act_dim),
    }
}

fn random(run: &Run, n: usize, seed: u64) -> Steps {
    let info = &run.info;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut within = |low: &[f32], high: &[f32]| -> Vec<f32> {
        let bounds = low.iter().zip(high);
        bounds
            .map(|(low, high)| low + (high - low) * rng.random::<f32>())
            .collect()
    };
    Steps {
        returns_to_go: (0..n)
            .map(|t| info.target_return * (1.0 - t as f32 / n as f32))
            .collect(),
        observations: (0..n)
            .map(|_| within(&info.state_low, &info.state_high))
            .collect(),
        actions: (0..n)
            .map(|_| within(&info.action_low, &info.action_high))
            .collect(),
    }
}
