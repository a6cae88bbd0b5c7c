//! Control steps to try an exported policy on: logged ones where the data are at hand, else
//! random ones in their range.

use std::path::Path;

use dt_core::config::{Actions, Attention, Config};
use dt_core::policy::{centre, half};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Trained;
use super::predict::Context;
use crate::data::prepare::{normalize, scale_actions};
use crate::data::{Column, Dataset};
use crate::run::Run;

/// Images that golden vectors show in turn.
const SHOWN: usize = 3;

/// Stretches of episodes that errors are measured on.
const MEASURED: usize = 16;

/// Steps of each such stretch, at most. Window attention recomputes K timesteps per step, so a
/// stretch of it ends soon after the window has begun to slide. A perceptron takes no time worth saving.
fn measured_steps(network: &Config) -> usize {
    match network.attention {
        _ if network.is_mlp() => 200,
        // Convolutions take a hundred times as long as the rest.
        _ if network.image().is_some() => 40,
        Attention::Streaming => 200,
        Attention::Window => network.context_len as usize + 8,
    }
}

/// Consecutive control steps in the environment's units.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// Timestep of the first one.
    pub first_timestep: u32,
    /// Return-to-go of each step.
    pub returns_to_go: Vec<f32>,
    /// (steps, state_dim)
    pub observations: Vec<Vec<f32>>,
    /// (steps, act_dim), as applied; or of a choice its index, (steps, 1).
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
    if run.info.dataset.is_empty() {
        return Err("the run was imported without".to_owned());
    }
    let paths: Vec<&Path> = run.info.dataset.split(',').map(Path::new).collect();
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(format!("{} is not there", missing.display()));
    }
    let mut data =
        Dataset::load_as(&paths, &run.recipe.data.reading()).map_err(|error| error.to_string())?;
    let digest: String = data
        .sha256()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if digest != run.info.dataset_sha256 {
        return Err(format!("{} has changed since", run.info.dataset));
    }
    data.select(&run.recipe.data);
    Ok(data)
}

impl Source<'_> {
    /// Steps for the golden vectors: 2K + 3 in a row, so that the ring wraps, then extreme inputs. Images are large, so that all
    /// steps show a few in turn, from beginning, middle and end of these steps.
    pub fn golden(&self, trained: &Trained<'_>) -> Steps {
        let run = trained.run;
        let n = 2 * trained.network.context_len as usize + 3;
        let mut steps = match self {
            Self::Logged(data) => logged(data, 0, 0, n),
            Self::Random => random(trained, n, 0),
        };
        steps.push_extremes(run);
        if run.info.image.is_some() {
            let shown = [0, n / 2, n - 1].map(|step| steps.observations[step].clone());
            let in_turn = shown.iter().cycle().take(steps.returns_to_go.len());
            steps.observations = in_turn.cloned().collect();
        }
        steps
    }

    /// Stretches of episodes to measure errors on, from beginning, middle and end of episodes.
    pub fn measured(&self, trained: &Trained<'_>) -> Vec<Steps> {
        let steps = measured_steps(&trained.network);
        match self {
            Self::Logged(data) => {
                let n = std::cmp::min(MEASURED, data.episodes.len());
                let stretch = |i: usize| {
                    let episode = i * data.episodes.len() / n;
                    let len = data.episodes[episode].rows.len();
                    let steps = std::cmp::min(steps, len);
                    logged(data, episode, i * (len - steps) / n, steps)
                };
                (0..n).map(stretch).collect()
            }
            Self::Random => (1..=MEASURED as u64)
                .map(|seed| random(trained, steps, seed))
                .collect(),
        }
    }
}

impl Steps {
    /// The steps as the network reads them.
    pub fn context(&self, trained: &Trained<'_>) -> Context {
        let Trained { run, network, .. } = trained;
        let info = &run.info;
        let bounds = || info.action_low.iter().zip(&info.action_high);
        let centre: Vec<f32> = bounds().map(|(&low, &high)| centre(low, high)).collect();
        let half: Vec<f32> = bounds().map(|(&low, &high)| half(low, high)).collect();
        let state = |o: &Vec<f32>| {
            let mut state = o.clone();
            // Pixels stay what they are: see `in_pixels`.
            if info.image.is_none() {
                normalize(&mut state, &info.state_mean, &info.state_std);
            }
            state
        };
        let action = |a: &Vec<f32>| match network.actions {
            Actions::Continuous => {
                let mut action = a.clone();
                scale_actions(&mut action, &centre, &half);
                action
            }
            Actions::Discrete => {
                let mut one_hot = vec![0.0; network.act_dim as usize];
                one_hot[a[0] as usize] = 1.0;
                one_hot
            }
        };
        let scale = run.recipe.data.return_scale;
        Context {
            returns_to_go: self.returns_to_go.iter().map(|r| r / scale).collect(),
            states: self.observations.iter().map(state).collect(),
            actions: self.actions.iter().map(action).collect(),
            timesteps: (self.first_timestep..)
                .take(self.observations.len())
                .collect(),
        }
    }

    /// The steps as records of a policy file, expected actions and logits still 0.
    pub fn golden(&self, network: &Config) -> Vec<f32> {
        let expected =
            (network.action_len() + network.logits_len() + network.predictions_len()) as usize;
        let mut golden = Vec::new();
        for ((return_to_go, observation), action) in self
            .returns_to_go
            .iter()
            .zip(&self.observations)
            .zip(&self.actions)
        {
            golden.push(*return_to_go);
            if network.image().is_none() {
                golden.extend(observation);
            }
            golden.extend(action);
            golden.resize(golden.len() + expected, 0.0);
        }
        golden
    }

    /// The images that records of a policy file show in turn; none where observations are vectors.
    pub fn images(&self, network: &Config) -> Vec<u8> {
        if network.image().is_none() {
            return Vec::new();
        }
        let pixels = self.observations.iter().take(SHOWN).flatten();
        pixels.map(|&pixel| pixel as u8).collect()
    }

    /// The corners of what the guard lets through, with returns far from any in the data.
    fn push_extremes(&mut self, run: &Run) {
        let info = &run.info;
        let far = 10.0 * run.recipe.data.return_scale;
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

/// `n` steps from step `start` of an episode; where it is too short, the rows after it follow.
fn logged(data: &Dataset, episode: usize, start: usize, n: usize) -> Steps {
    let returns_to_go = data.returns_to_go();
    let first = data.episodes[episode].rows.start + start;
    let rows = || (0..n).map(|t| (first + t) % data.len());
    let take = |column: &Column| -> Vec<Vec<f32>> {
        if column.images().is_some() {
            return rows().map(|row| data.image(row)).collect();
        }
        if let Column::Discrete { values, .. } = column {
            return rows().map(|row| vec![values[row] as f32]).collect();
        }
        let table = column.vectors().expect("what a network was trained on");
        let width = column.width();
        rows()
            .map(|row| table[row * width..][..width].to_vec())
            .collect()
    };
    Steps {
        first_timestep: start as u32,
        returns_to_go: rows().map(|row| returns_to_go[row]).collect(),
        observations: take(&data.observations),
        actions: take(&data.actions),
    }
}

fn random(trained: &Trained<'_>, n: usize, seed: u64) -> Steps {
    let (info, network) = (&trained.run.info, &trained.network);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut within = |low: &[f32], high: &[f32]| -> Vec<f32> {
        let bounds = low.iter().zip(high);
        bounds
            .map(|(low, high)| low + (high - low) * rng.random::<f32>())
            .collect()
    };
    Steps {
        first_timestep: 0,
        returns_to_go: (0..n)
            .map(|t| info.target_return * (1.0 - t as f32 / n as f32))
            .collect(),
        observations: match info.image {
            Some(image) => {
                let pixels = image.shape.iter().product();
                let (black, white) = (vec![0.0; pixels], vec![image.scale + 1.0; pixels]);
                let whole = |pixel: f32| pixel.floor();
                let one = |_| within(&black, &white).into_iter().map(whole).collect();
                (0..n).map(one).collect()
            }
            None => (0..n)
                .map(|_| within(&info.state_low, &info.state_high))
                .collect(),
        },
        actions: match network.actions {
            Actions::Continuous => (0..n)
                .map(|_| within(&info.action_low, &info.action_high))
                .collect(),
            Actions::Discrete => (0..n)
                .map(|_| vec![rng.random_range(0..network.act_dim) as f32])
                .collect(),
        },
    }
}
