//! From logged data to network inputs: normalization, returns-to-go, the limits of the control
//! problem.

use anyhow::{Context, anyhow, bail, ensure};
use host_sim::EnvSpec;

use crate::config::Recipe;
use crate::data::sampler::Trajectories;
use crate::data::{Dataset, StateStats};
use crate::run::{RunInfo, SCHEMA};

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

/// What the network trains on, and what a controller needs to know about it.
///
/// # Errors
/// If neither the environment nor the recipe knows the action range, or a length in the recipe
/// does not fit the data.
pub fn prepare(
    mut data: Dataset,
    env: Option<&EnvSpec<'_>>,
    config: &Recipe,
) -> anyhow::Result<Prepared> {
    refuse_other_spaces(&data, config)?;
    let (state_dim, act_dim) = (data.state_dim(), data.act_dim());
    if let Some(spec) = env {
        let bounds = spec.observation_bounds().and(spec.action_bounds());
        bounds.map_err(|error| anyhow!("{error}"))?;
        let dims = (spec.state_dim(), spec.act_dim());
        ensure!(
            dims == (state_dim, act_dim),
            "the data have states of length {state_dim} and actions of length {act_dim}, environment `{}` has {} and {}; \
             name the environment the data come from with --env",
            spec.id,
            dims.0,
            dims.1
        );
    }
    let percent = config.data.validation_percent;
    let mut held_out = data.split_off(percent);
    if data.episodes.is_empty() || (percent > 0.0 && held_out.episodes.is_empty()) {
        bail!(
            "data.validation_percent = {percent} of {} episode(s) leaves no episode to validate or to train on; set it to 0",
            data.episodes.len() + held_out.episodes.len()
        );
    }
    // Of the whole data set, as in the reference recipe: a selection changes no units.
    let stats = data.state_stats().context("observations are vectors")?;
    data.select(&config.data);
    held_out.select(&config.data);
    let (state_mean, state_std) = if config.data.normalize_states {
        (stats.mean.clone(), stats.std.clone())
    } else {
        (vec![0.0; state_dim], vec![1.0; state_dim])
    };
    let (state_low, state_high) =
        state_limits(&stats, &state_std, env, config.control.state_margin);
    let (action_low, action_high) = action_limits(act_dim, env, config)?;
    let [half, centre] = [-0.5, 0.5].map(|sign: f32| -> Vec<f32> {
        let pairs = action_low.iter().zip(&action_high);
        pairs.map(|(low, high)| 0.5 * high + sign * low).collect()
    });
    let safe_action = match config.control.safe_action.len() {
        0 => centre.clone(),
        n if n == act_dim => config.control.safe_action.clone(),
        n => bail!("`control.safe_action` has {n} numbers, actions have {act_dim}"),
    };
    for ((safe, low), high) in safe_action.iter().zip(&action_low).zip(&action_high) {
        if !(low..=high).contains(&safe) {
            bail!("`control.safe_action`: {safe} lies outside the action range {low}..={high}");
        }
    }

    let episode_returns = data.returns();
    let return_max = episode_returns
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let target_return = config.eval.target_returns.first().copied();
    let return_range = Some(return_range(&data.returns_to_go(), config));
    let control_period_us = match (config.control.period_us, env) {
        (0, Some(spec)) => spec.control_period_us,
        (0, None) => bail!(
            "the control period is unknown: name the environment with --env, or set `control.period_us`"
        ),
        (period, _) => period,
    };
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
        act_dim,
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
    };
    Ok(Prepared {
        train: trajectories(data, &info, &centre, &half, config),
        validation: trajectories(held_out, &info, &centre, &half, config),
        info,
    })
}

/// What is read is more than what can be learned from.
fn refuse_other_spaces(data: &Dataset, recipe: &Recipe) -> anyhow::Result<()> {
    for (of, column) in [
        ("observations", &data.observations),
        ("actions", &data.actions),
    ] {
        if column.vectors().is_none() {
            bail!(
                "{}: the {of} are {}; `{}` learns continuous actions from vectors, Box, alone",
                data.sources[0].path.display(),
                column.space(),
                recipe.algorithm.name()
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
    let mut states = data.observations.into_vectors().unwrap_or_default();
    let mut actions = data.actions.into_vectors().unwrap_or_default();
    normalize(&mut states, &info.state_mean, &info.state_std);
    scale_actions(&mut actions, centre, half);
    for r in &mut returns_to_go {
        *r /= config.data.return_scale;
    }
    Trajectories {
        state_dim: info.state_dim,
        act_dim: info.act_dim,
        states,
        actions,
        returns_to_go,
        episode_lens,
    }
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

/// Values outside these are faults: the range of the data, wider by `margin` times itself, and
/// all the environment can produce. `scale`: what the network's inputs are divided by.
fn state_limits(
    stats: &StateStats,
    scale: &[f32],
    env: Option<&EnvSpec<'_>>,
    margin: f32,
) -> (Vec<f32>, Vec<f32>) {
    let mut limits = (Vec::new(), Vec::new());
    for (i, (&low, &high)) in stats.low.iter().zip(&stats.high).enumerate() {
        // The network has seen one value of a feature that never varied, and divides what differs
        // from it by almost nothing: a sensor's whole range would be millions.
        let range = if low < high { high - low } else { scale[i] };
        let (mut low, mut high) = (low - margin * range, high + margin * range);
        if let Some([env_low, env_high]) = env.and_then(|spec| spec.observation.bounds()) {
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

fn action_limits(
    act_dim: usize,
    env: Option<&EnvSpec<'_>>,
    config: &Recipe,
) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
    let limit = |key: &str, given: &Vec<f32>, of_env: Option<&[f32]>| {
        match given.len() {
        0 => of_env.map(<[f32]>::to_vec).with_context(|| {
            format!("the action range is unknown: name the environment with --env, or set `control.{key}`")
        }),
        n if n == act_dim => Ok(given.clone()),
        n => bail!("`control.{key}` has {n} numbers, the data's actions have {act_dim}"),
    }
    };
    let of_env = env.and_then(|spec| spec.action.bounds());
    let low = limit(
        "action_low",
        &config.control.action_low,
        of_env.map(|[low, _]| low),
    )?;
    let high = limit(
        "action_high",
        &config.control.action_high,
        of_env.map(|[_, high]| high),
    )?;
    if low.iter().zip(&high).any(|(low, high)| low > high) {
        bail!("`control.action_low` is above `control.action_high`");
    }
    Ok((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Column, Episode, Source};
    use host_sim::Space;

    const SPEC: EnvSpec<'static> = EnvSpec {
        id: "arm",
        observation: Space::Box {
            low: &[-50.0, f32::NEG_INFINITY],
            high: &[50.0, f32::INFINITY],
        },
        action: Space::Box {
            low: &[-2.0, 1.0],
            high: &[2.0, 1.0],
        },
        max_episode_steps: 10,
        control_period_us: 20_000,
        score_range: None,
    };

    const OBSERVATIONS: [f32; 6] = [1.0, 7.0, 2.0, 7.0, 3.0, 7.0];

    fn data() -> Dataset {
        Dataset {
            observations: Column::unbounded(2, OBSERVATIONS.into()),
            actions: Column::unbounded(2, vec![-2.0, 1.0, 1.0, 1.0, 2.0, 5.0]),
            rewards: vec![1.0, 2.0, -4.0],
            episodes: [0..2, 2..3]
                .map(|rows| Episode {
                    rows,
                    ..Episode::default()
                })
                .into(),
            last_observations: Column::unbounded(2, Vec::new()),
            sources: vec![Source::default()],
        }
    }

    fn config(settings: &[&str]) -> Recipe {
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        Recipe::load(None, &settings).unwrap()
    }

    #[test]
    fn inputs_are_scaled_as_the_controller_scales_them() {
        let config = config(&["data.return_scale=2.0"]);
        let Prepared {
            train: inputs,
            info,
            ..
        } = prepare(data(), Some(&SPEC), &config).unwrap();
        let std = ((2.0_f64 / 3.0).sqrt() + 1e-6) as f32;
        assert_eq!(inputs.states, [-1.0 / std, 0.0, 0.0, 0.0, 1.0 / std, 0.0]);
        // The second component cannot move: its scaled value is 0, whatever was logged.
        assert_eq!(inputs.actions, [-1.0, 0.0, 0.5, 0.0, 1.0, 0.0]);
        assert_eq!(inputs.returns_to_go, [1.5, 1.0, -2.0]);
        assert_eq!(inputs.episode_lens, [2, 1]);
        assert_eq!((info.return_mean, info.return_max), (-0.5, 3.0));
        assert_eq!(info.target_return, 3.0);
        assert_eq!(info.safe_action, [0.0, 1.0]);
        assert_eq!((info.env.as_str(), info.control_period_us), ("arm", 20_000));
    }

    #[test]
    fn a_selection_is_trained_on_in_the_units_of_all_data() {
        let settings = ["data.return_scale=2.0", "data.top_percent=67.0"];
        let Prepared {
            train: inputs,
            info,
            ..
        } = prepare(data(), Some(&SPEC), &config(&settings)).unwrap();
        let std = ((2.0_f64 / 3.0).sqrt() + 1e-6) as f32;
        assert_eq!(inputs.states, [-1.0 / std, 0.0, 0.0, 0.0]);
        assert_eq!(
            (inputs.returns_to_go, inputs.episode_lens),
            (vec![1.5, 1.0], vec![2])
        );
        assert_eq!(
            (info.transitions, info.episodes, info.return_mean),
            (2, 1, 3.0)
        );

        let settings = [
            "data.return_scale=2.0",
            "data.delayed_reward=true",
            "control.reward=constant",
        ];
        let Prepared {
            train: inputs,
            info,
            ..
        } = prepare(data(), Some(&SPEC), &config(&settings)).unwrap();
        assert_eq!(inputs.returns_to_go, [1.5, 1.5, -2.0]);
        assert_eq!((info.transitions, info.return_max), (3, 3.0));
    }

    #[test]
    fn held_out_episodes_have_no_part_in_anything_learned() {
        let settings = ["data.return_scale=2.0", "data.validation_percent=50.0"];
        let Prepared {
            train,
            validation,
            info,
        } = prepare(data(), Some(&SPEC), &config(&settings)).unwrap();
        // The second episode is held out: states 1 and 2 alone are normalized by.
        let std = (0.25_f64.sqrt() + 1e-6) as f32;
        assert_eq!(train.states, [-0.5 / std, 0.0, 0.5 / std, 0.0]);
        assert_eq!(validation.states, [1.5 / std, 0.0]);
        assert_eq!(validation.returns_to_go, [-2.0]);
        assert_eq!(train.episode_lens, [2]);
        assert_eq!(validation.episode_lens, [1]);
        assert_eq!((info.return_mean, info.return_max), (3.0, 3.0));
        assert_eq!((info.episodes, info.transitions), (1, 2));

        let error = prepare(
            data(),
            Some(&SPEC),
            &config(&["data.validation_percent=10.0"]),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("of 2 episode(s) leaves no episode"),
            "{error}"
        );
    }

    #[test]
    fn normalization_can_be_switched_off() {
        let config = config(&["data.normalize_states=false"]);
        let Prepared {
            train: inputs,
            info,
            ..
        } = prepare(data(), Some(&SPEC), &config).unwrap();
        assert_eq!(inputs.states, OBSERVATIONS);
        assert_eq!(info.state_std, [1.0, 1.0]);
    }

    #[test]
    fn state_limits_cover_data_margin_and_environment() {
        let Prepared { info, .. } =
            prepare(data(), Some(&SPEC), &config(&["control.state_margin=0.5"])).unwrap();
        // 1…3 is inside the environment's ±50.
        assert_eq!((info.state_low[0], info.state_high[0]), (-50.0, 50.0));
        // The constant 7 gets half of its scale, 1e-6: to the network, half a standard deviation.
        let normalized = [info.state_low[1], info.state_high[1]]
            .map(|o| (o - info.state_mean[1]) / info.state_std[1]);
        assert!(normalized.iter().all(|z| z.abs() <= 1.0), "{normalized:?}");
        assert!(info.state_low[1] <= 7.0 && 7.0 <= info.state_high[1]);

        let settings = ["control.state_margin=0.5", "data.normalize_states=false"];
        let Prepared { info, .. } = prepare(data(), Some(&SPEC), &config(&settings)).unwrap();
        assert_eq!((info.state_low[1], info.state_high[1]), (6.5, 7.5));
    }

    #[test]
    fn the_return_range_covers_data_margin_and_targets() {
        let range = |settings: &[&str]| {
            let Prepared { info, .. } = prepare(data(), Some(&SPEC), &config(settings)).unwrap();
            info.return_range.unwrap()
        };
        // The data's are 3, 2 and -4.
        assert_eq!(range(&["control.state_margin=0.0"]), [-4.0, 3.0]);
        assert_eq!(range(&["control.state_margin=0.5"]), [-7.5, 6.5]);
        let targets = "eval.target_returns=[5.0, 100.0]";
        assert_eq!(range(&[targets]), [-7.5, 100.0]);
        // A selection is all that the policy knows; its only return says nothing of the scale.
        let best = [
            "data.top_percent=67.0",
            "data.delayed_reward=true",
            "control.reward=constant",
        ];
        assert_eq!(range(&best), [3.0 - 500.0, 3.0 + 500.0]);
    }

    #[test]
    fn without_an_environment_the_recipe_must_say_what_it_would_know() {
        let refusal = |settings: &[&str]| {
            prepare(data(), None, &config(settings))
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(&[]).contains("set `control.action_low`"));
        let low = "control.action_low=[0.0, 0.0]";
        assert!(refusal(&[low]).contains("set `control.action_high`"));
        let high = "control.action_high=[4.0, 8.0]";
        assert!(refusal(&[low, high]).contains("set `control.period_us`"));
        let below = "control.action_high=[-1.0, 8.0]";
        assert!(refusal(&[low, below]).contains("is above"));

        let settings = [low, high, "control.period_us=1000"];
        let Prepared {
            train: inputs,
            info,
            ..
        } = prepare(data(), None, &config(&settings)).unwrap();
        assert_eq!(inputs.actions[..2], [-2.0, -0.75]);
        assert_eq!((info.env.as_str(), info.control_period_us), ("", 1000));
    }

    #[test]
    fn another_environment_is_refused() {
        let spec = EnvSpec {
            observation: host_sim::pendulum::SPEC.observation,
            ..SPEC
        };
        let error = prepare(data(), Some(&spec), &config(&[])).unwrap_err();
        assert!(
            error.to_string().contains("environment `arm` has 3 and 2"),
            "{error}"
        );
    }

    #[test]
    fn spaces_that_nothing_here_learns_are_refused_by_name() {
        let mut discrete = data();
        discrete.actions = Column::choices(vec![0, 3, 1]);
        discrete.sources[0].path = "maze.hdf5".into();
        let error = prepare(discrete, None, &config(&[]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "maze.hdf5: the actions are Discrete(4); `dt` learns continuous actions from vectors, Box, alone"
        );
        let mut images = data();
        images.observations = Column::Image {
            shape: [1, 1, 2],
            values: vec![0; 6],
        };
        let error = prepare(images, Some(&SPEC), &config(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the observations are Image 1×1×2;"),
            "{error}"
        );
        // Whose environment has another space than the data.
        let spec = EnvSpec {
            action: Space::Image {
                height: 2,
                width: 1,
                channels: 1,
            },
            ..SPEC
        };
        let error = prepare(data(), Some(&spec), &config(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the actions of environment `arm` are Image 2×1×1"),
            "{error}"
        );
    }
}
