//! From logged data to network inputs: normalization, returns-to-go, the limits of the control
//! problem.

use anyhow::{anyhow, bail, ensure};
use dt_core::config::Actions;
use host_sim::{EnvSpec, Space};

use crate::algo::Dims;
use crate::config::{Control, Recipe};
use crate::data::inspect::suggested_targets;
use crate::data::known::Known;
use crate::data::origin::has_sizes;
use crate::data::sampler::{End, Pixels, Trajectories};
use crate::data::{Column, Dataset, Episode, StateStats};
use crate::run::{Image, RunInfo, SCHEMA};

/// Data as networks read them.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What is trained on.
    pub train: Trajectories,
    /// Episodes that are not (`data.validation_percent`), which have no part in the normalization either; empty: none.
    pub validation: Trajectories,
    /// What is trained on in figures, and what a controller needs to know about it.
    pub info: RunInfo,
}

/// What the network trains on, and what a controller needs to know about it. With `units`, states are normalized by the
/// statistics of that run, whose states have the same length, rather than by those of the data.
///
/// # Errors
/// If nobody knows the range of actions or the control period, or a length in the recipe does not fit the data.
pub fn prepare(
    mut data: Dataset,
    env: Option<&EnvSpec<'_>>,
    config: &Recipe,
    units: Option<&RunInfo>,
) -> anyhow::Result<Prepared> {
    data.settle_actions(env, config)?;
    refuse_other_spaces(&data, config)?;
    let (state_dim, act_dim) = (data.state_dim(), data.act_dim());
    if let Some(spec) = env {
        if !matches!(spec.observation, Space::Image { .. }) {
            let bounds = spec.observation_bounds();
            bounds.map_err(|error| anyhow!("{error}"))?;
        }
        if !matches!(spec.action, Space::Discrete { .. }) {
            let bounds = spec.action_bounds();
            bounds.map_err(|error| anyhow!("{error}"))?;
        }
        let dims = (spec.state_dim(), spec.act_dim());
        let remedy = "name the environment the data come from with --env, or train without evaluation with --env none";
        ensure!(
            dims == (state_dim, act_dim),
            "the data have states of length {state_dim} and actions of length {act_dim}, environment `{}` has {} and {}; \
             {}{remedy}",
            spec.id,
            dims.0,
            dims.1,
            stacked(&data, spec)
        );
        ensure!(
            has_sizes(spec, &data),
            "the data have observations {} and actions {}, environment `{}` has {} and {}; {remedy}",
            data.observations.space(),
            data.actions.space(),
            spec.id,
            spec.observation,
            spec.action
        );
    }
    let dims = Dims::of(&data);
    let known = Known::new(&data, env, config)?;
    let (action_low, action_high, control_period_us) = known.all(&data)?;
    let percent = config.data.validation_percent;
    let mut held_out = data.split_off(percent);
    if data.episodes.is_empty() || (percent > 0.0 && held_out.episodes.is_empty()) {
        bail!(
            "data.validation_percent = {percent} of {} episode(s) leaves no episode to validate or to train on; set it to 0",
            data.episodes.len() + held_out.episodes.len()
        );
    }
    // Of the whole data set, as in the reference recipe: a selection changes no units.
    let stats = data.state_stats();
    let image = data.observations.images().map(|frames| Image {
        shape: frames.shape(),
        ..match units.and_then(|theirs| theirs.image) {
            Some(theirs) => theirs,
            None => Image {
                shape: frames.shape(),
                scale: frames.scale(),
                ground: f32::from(frames.median()),
            },
        }
    });
    data.select(&config.data);
    held_out.select(&config.data);
    let [state_mean, state_std, state_low, state_high] = match &stats {
        Some(stats) => {
            let (mean, std) = match units {
                Some(theirs) => (theirs.state_mean.clone(), theirs.state_std.clone()),
                None if config.data.normalize_states => {
                    (stats.mean.clone(), input_scale(stats, config))
                }
                None => (vec![0.0; state_dim], input_scale(stats, config)),
            };
            let (low, high) = state_limits(stats, &std, env, config.control.state_margin);
            [mean, std, low, high]
        }
        // Of pixels all is known.
        None => Default::default(),
    };
    let [half, centre] = [-0.5, 0.5].map(|sign: f32| -> Vec<f32> {
        let pairs = action_low.iter().zip(&action_high);
        pairs.map(|(low, high)| 0.5 * high + sign * low).collect()
    });
    let safe_action = match dims.actions {
        Actions::Continuous => safe_action(&config.control, &action_low, &action_high)?,
        Actions::Discrete => safe_choice(&config.control, dims.act_dim)?,
    };

    let episode_returns = data.returns();
    let return_max = episode_returns
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let target_return = config.eval.target_returns.first().copied();
    let return_range = Some(return_range(&data.returns_to_go(), config));
    let sources = data
        .sources
        .iter()
        .map(|source| source.path.display().to_string());
    let info = RunInfo {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        env: env
            .map_or(data.env().unwrap_or_default(), |spec| spec.id)
            .to_owned(),
        dataset: sources.collect::<Vec<_>>().join(","),
        dataset_sha256: data.sha256().map(|byte| format!("{byte:02x}")).concat(),
        transitions: data.len(),
        episodes: episode_returns.len(),
        return_mean: crate::stats::mean(&episode_returns),
        return_max,
        state_dim,
        act_dim: dims.act_dim,
        choices: dims.actions == Actions::Discrete,
        image,
        state_mean,
        state_std,
        state_low,
        state_high,
        action_low,
        action_high,
        safe_action,
        target_return: target_return.unwrap_or(return_max as f32),
        return_range,
        control_period_us,
        env_file: None,
        suggested_target_returns: suggested_targets(&episode_returns),
        init_from: None,
    };
    Ok(Prepared {
        train: trajectories(data, &info, &centre, &half, config),
        validation: trajectories(held_out, &info, &centre, &half, config),
        info,
    })
}

/// The action after a fault: the recipe's, or the centre of the range.
///
/// # Errors
/// If the recipe's has another length, or lies outside the range.
pub fn safe_action(control: &Control, low: &[f32], high: &[f32]) -> anyhow::Result<Vec<f32>> {
    let range = || low.iter().zip(high);
    let safe_action = match control.safe_action.len() {
        0 => range().map(|(low, high)| 0.5 * high + 0.5 * low).collect(),
        n if n == low.len() => control.safe_action.clone(),
        n => bail!(
            "`control.safe_action` has {n} numbers, actions have {}",
            low.len()
        ),
    };
    for (safe, (low, high)) in safe_action.iter().zip(range()) {
        if !(low..=high).contains(&safe) {
            bail!("`control.safe_action`: {safe} lies outside the action range {low}..={high}");
        }
    }
    Ok(safe_action)
}

/// The choice after a fault, of `n`: the recipe's, or the first.
///
/// # Errors
/// If the recipe's is none.
pub fn safe_choice(control: &Control, n: usize) -> anyhow::Result<Vec<f32>> {
    let given = control.safe_action.as_slice();
    if given.is_empty() {
        return Ok(vec![0.0]);
    }
    ensure!(
        Space::Discrete { n }.contains(given),
        "`control.safe_action` is {given:?}; actions are Discrete({n}), so give [k] with k one of 0 to {}",
        n - 1
    );
    Ok(given.to_vec())
}

/// What to do where images are those of the environment but for the frames that are stacked; empty: they are not.
fn stacked(data: &Dataset, spec: &EnvSpec<'_>) -> String {
    let Some(frames) = data.observations.images() else {
        return String::new();
    };
    let [height, width, channels] = frames.shape();
    let of_one = channels / frames.stack();
    match spec.observation {
        Space::Image {
            height: h,
            width: w,
            channels: c,
        } if [h, w] == [height, width] && c % of_one == 0 => {
            format!(
                "stack as many frames as it does with --frame-stack {}, or ",
                c / of_one
            )
        }
        _ => String::new(),
    }
}

/// What is read is more than what can be learned from.
fn refuse_other_spaces(data: &Dataset, recipe: &Recipe) -> anyhow::Result<()> {
    ensure!(
        recipe.data.frame_stack == 1 || data.observations.images().is_some(),
        "{}: the observations are {}, and only images are stacked; leave --frame-stack and data.frame_stack at 1",
        data.sources[0].path.display(),
        data.observations.space()
    );
    let images = recipe.algorithm.reads_images() && data.observations.images().is_some();
    for (of, space, fits) in [
        (
            "observations",
            data.observations.space(),
            images || data.observations.vectors().is_some(),
        ),
        (
            "actions",
            data.actions.space(),
            data.actions.images().is_none(),
        ),
    ] {
        if !fits {
            bail!(
                "{}: the {of} are {space}; `{}` learns from {}, and actions that are vectors or choices, Discrete",
                data.sources[0].path.display(),
                recipe.algorithm.name(),
                match recipe.algorithm.reads_images() {
                    true => "vectors, Box, or images",
                    false => "vectors alone, Box",
                }
            );
        }
    }
    Ok(())
}

/// The data as the network reads them, in the memory that they are in.
fn trajectories(
    data: Dataset,
    info: &RunInfo,
    centre: &[f32],
    half: &[f32],
    config: &Recipe,
) -> Trajectories {
    let mut returns_to_go = data.returns_to_go();
    let episode_lens = data.episodes.iter().map(|episode| episode.rows.len());
    let episode_lens = episode_lens.collect();
    let ends = ends(&data, info);
    let (mut states, mut pixels) = (Vec::new(), None);
    match (data.observations, info.image) {
        (Column::Image(frames), Some(image)) => {
            pixels = Some(Pixels { frames, image });
        }
        (vectors, _) => {
            states = vectors.into_vectors().unwrap_or_default();
            normalize(&mut states, &info.state_mean, &info.state_std);
        }
    }
    let actions = match data.actions {
        Column::Discrete { values, .. } => one_hot(&values, info.act_dim),
        vectors => {
            let mut actions = vectors.into_vectors().unwrap_or_default();
            scale_actions(&mut actions, centre, half);
            actions
        }
    };
    for r in &mut returns_to_go {
        *r /= config.data.return_scale;
    }
    Trajectories {
        state_dim: info.state_dim,
        act_dim: info.act_dim,
        kind: match info.choices {
            true => Actions::Discrete,
            false => Actions::Continuous,
        },
        states,
        pixels,
        actions,
        returns_to_go,
        rewards: data.rewards,
        episode_lens,
        ends,
    }
}

/// How each episode ended, with the normalized state that it was cut off in.
fn ends(data: &Dataset, info: &RunInfo) -> Vec<End> {
    let last = |row: usize| {
        let rows = data.last_observations.vectors()?;
        let mut state = rows.chunks_exact(info.state_dim).nth(row)?.to_vec();
        normalize(&mut state, &info.state_mean, &info.state_std);
        Some(state)
    };
    let end = |episode: &Episode| match episode.terminated {
        true => End::Terminal,
        false => End::Cut(episode.last.and_then(last)),
    };
    data.episodes.iter().map(end).collect()
}

/// Of each choice a row of `n` values, 1 in its place, else 0.
pub fn one_hot(choices: &[u32], n: usize) -> Vec<f32> {
    let mut rows = vec![0.0; choices.len() * n];
    for (row, &choice) in rows.chunks_exact_mut(n).zip(choices) {
        row[choice as usize] = 1.0;
    }
    rows
}

/// (o − mean) / std, row by row; the formula of `BLOB.md`.
pub fn normalize(rows: &mut [f32], mean: &[f32], std: &[f32]) {
    for row in rows.chunks_exact_mut(mean.len()) {
        for ((o, mean), std) in row.iter_mut().zip(mean).zip(std) {
            *o = (*o - mean) / std;
        }
    }
}

/// (a − centre) / half, row by row, 0 where half is 0; the formula of `BLOB.md`.
pub fn scale_actions(rows: &mut [f32], centre: &[f32], half: &[f32]) {
    for row in rows.chunks_exact_mut(centre.len()) {
        for ((a, centre), &half) in row.iter_mut().zip(centre).zip(half) {
            *a = if half == 0.0 {
                0.0
            } else {
                (*a - centre) / half
            };
        }
    }
}

/// What the network's inputs are divided by.
pub(super) fn input_scale(stats: &StateStats, recipe: &Recipe) -> Vec<f32> {
    if recipe.data.normalize_states {
        stats.std.clone()
    } else {
        vec![1.0; stats.std.len()]
    }
}

/// Values outside these are faults: the range of the data, wider by `margin` times itself, and
/// all the environment can produce; of a feature that never varied, a margin of its scale alone. `scale`: [`input_scale`].
pub(super) fn state_limits(
    stats: &StateStats,
    scale: &[f32],
    env: Option<&EnvSpec<'_>>,
    margin: f32,
) -> (Vec<f32>, Vec<f32>) {
    let mut limits = (Vec::new(), Vec::new());
    for (i, (&low, &high)) in stats.low.iter().zip(&stats.high).enumerate() {
        // The network has seen one value of a feature that never varied, and divides what differs
        // from it by almost nothing: a sensor's whole range would be millions.
        let varies = low < high;
        let range = if varies { high - low } else { scale[i] };
        let (mut low, mut high) = (low - margin * range, high + margin * range);
        let bounds = env.and_then(|spec| spec.observation.bounds());
        if let Some([env_low, env_high]) = bounds.filter(|_| varies) {
            let (env_low, env_high) = (env_low[i], env_high[i]);
            low = if env_low.is_finite() && env_low < low {
                env_low
            } else {
                low
            };
            high = if env_high.is_finite() && env_high > high {
                env_high
            } else {
                high
            };
        }
        limits.0.push(low);
        limits.1.push(high);
    }
    limits
}

/// Returns-to-go outside these mean nothing to the policy: those it trained on, wider by the same margin as states, and
/// those that the recipe asks for.
fn return_range(returns_to_go: &[f32], config: &Recipe) -> [f32; 2] {
    let smaller = |a: f32, b: &f32| if *b < a { *b } else { a };
    let larger = |a: f32, b: &f32| if *b > a { *b } else { a };
    let low = returns_to_go.iter().fold(f32::INFINITY, smaller);
    let high = returns_to_go.iter().fold(f32::NEG_INFINITY, larger);
    let range = if low < high {
        high - low
    } else {
        config.data.return_scale
    };
    let margin = config.control.state_margin * range;
    let targets = || config.eval.target_returns.iter();
    [
        targets().fold(larger(f32::MIN, &(low - margin)), smaller),
        targets().fold(smaller(f32::MAX, &(high + margin)), larger),
    ]
}

#[cfg(test)]
mod tests;
