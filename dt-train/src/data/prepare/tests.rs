//! What is learned from data, and what a controller is told about it.

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

/// In the data's own units.
fn prepare(data: Dataset, env: Option<&EnvSpec<'_>>, config: &Recipe) -> anyhow::Result<Prepared> {
    super::prepare(data, env, config, None)
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

    // Nor does it get more where the environment could show more.
    let bounded = EnvSpec {
        observation: Space::Box {
            low: &[-50.0, -50.0],
            high: &[50.0, 50.0],
        },
        ..SPEC
    };
    let Prepared { info: same, .. } = prepare(data(), Some(&bounded), &config(&[])).unwrap();
    assert_eq!(same.state_high, info.state_high);
    assert_eq!(same.state_low, info.state_low);

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
        "data.return_scale=1000.0",
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
    // All at once, as it can be typed.
    let all = "no environment is named that would tell what a controller has to know: add --set 'control.action_low=[-2.0, 1.0]' --set 'control.action_high=[2.0, 5.0]' \
               --set control.period_us=20000 (";
    assert!(refusal(&[]).starts_with(all), "{}", refusal(&[]));
    let low = "control.action_low=[0.0, 0.0]";
    let high = "control.action_high=[4.0, 8.0]";
    assert!(refusal(&[low, high]).contains(": add --set control.period_us=20000 ("));
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
fn bounds_that_the_files_name_are_the_range_where_nobody_else_says_one() {
    let mut bounded = data();
    if let Column::Box { low, high, .. } = &mut bounded.actions {
        (*low, *high) = (vec![-3.0, 0.0], vec![3.0, f32::INFINITY]);
    }
    let range = |env: Option<&EnvSpec<'_>>, settings: &[&str]| {
        let settings = [settings, &["control.period_us=1000"]].concat();
        let prepared = prepare(bounded.clone(), env, &config(&settings))?;
        anyhow::Ok((prepared.info.action_low, prepared.info.action_high))
    };
    let high = "control.action_high=[4.0, 8.0]";
    let given = (vec![-3.0, 0.0], vec![4.0, 8.0]);
    assert_eq!(range(None, &[high]).unwrap(), given);
    // Infinity is no bound.
    let refusal = range(None, &[]).unwrap_err().to_string();
    assert!(
        refusal.contains(": add --set 'control.action_high=[2.0, 5.0]' ("),
        "{refusal}"
    );
    let of_env = (vec![-2.0, 1.0], vec![2.0, 1.0]);
    assert_eq!(range(Some(&SPEC), &[]).unwrap(), of_env);
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
    let mut drawn = data();
    drawn.actions = Column::image([1, 1, 1], &[0; 3]);
    drawn.sources[0].path = "maze.hdf5".into();
    let error = prepare(drawn, None, &config(&[])).unwrap_err().to_string();
    assert_eq!(
        error,
        "maze.hdf5: the actions are Image 1×1×1; `dt` learns from vectors, Box, or images, and actions that are vectors or \
         choices, Discrete"
    );
    let mut images = data();
    images.observations = Column::image([1, 1, 2], &[0; 6]);
    let error = prepare(images, Some(&SPEC), &config(&["algo=bc"]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the observations are Image 1×1×2; `bc` learns from vectors alone"),
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

/// The network reads a one-hot row, and the controller is told of one number, an index.
#[test]
fn choices_become_one_hot_rows() {
    let mut choosing = data();
    choosing.actions = Column::choices(vec![0, 3, 1]);
    let settings = ["control.period_us=1000", "control.safe_action=[2.0]"];
    let Prepared { train, info, .. } = prepare(choosing, None, &config(&settings)).unwrap();
    assert_eq!((train.act_dim, train.kind), (4, Actions::Discrete));
    assert_eq!(
        train.actions,
        [
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
            [0.0, 1.0, 0.0, 0.0]
        ]
        .concat()
    );
    assert_eq!((info.act_dim, info.choices), (4, true));
    assert_eq!(
        (info.action_low, info.action_high, info.safe_action),
        (vec![0.0], vec![3.0], vec![2.0])
    );
}

/// Three frames 1×2×1 of flags, two of which make an observation.
#[test]
fn images_have_a_scale_instead_of_statistics() {
    let mut images = data();
    images.observations = Column::image([1, 2, 1], &[0, 1, 1, 0, 1, 1]);
    let Column::Image(frames) = &mut images.observations else {
        unreachable!()
    };
    frames.set_stack(2);
    images.last_observations = images.observations.emptied();
    let of = |height, width, channels| EnvSpec {
        observation: Space::Image {
            height,
            width,
            channels,
        },
        ..SPEC
    };
    let settings = ["dt.encoder=[[4, 1, 1]]"];
    let Prepared { train, info, .. } =
        prepare(images.clone(), Some(&of(1, 2, 2)), &config(&settings)).unwrap();
    let image = Image {
        shape: [1, 2, 2],
        scale: 1.0,
        ground: 1.0,
    };
    assert_eq!((info.image, info.state_dim), (Some(image), 4));
    assert!(info.state_mean.is_empty() && info.state_high.is_empty() && train.states.is_empty());
    assert_eq!(
        train.pixels.unwrap().frames,
        *images.observations.images().unwrap()
    );
    assert_eq!(
        info.normalized(&[0.0, 1.0, 1.0, 0.0]),
        [-1.0, 0.0, 0.0, -1.0]
    );

    // In another run's units, which were of eight bits.
    let theirs = RunInfo {
        image: Some(Image {
            scale: 255.0,
            ground: 51.0,
            ..image
        }),
        ..info
    };
    let units = Some(&theirs);
    let Prepared { info, .. } = super::prepare(
        images.clone(),
        None,
        &config(&[
            "control.period_us=1",
            "control.action_low=[-2.0, 1.0]",
            "control.action_high=[2.0, 5.0]",
        ]),
        units,
    )
    .unwrap();
    assert_eq!(info.image.unwrap().scale, 255.0);
    assert_eq!(info.normalized(&[102.0]), [0.2]);

    let refusal = |spec: EnvSpec<'_>| {
        let error = prepare(images.clone(), Some(&spec), &config(&settings)).unwrap_err();
        error.to_string()
    };
    let other = refusal(of(1, 2, 3));
    assert!(
        other.contains("states of length 4")
            && other
                .contains("has 6 and 2; stack as many frames as it does with --frame-stack 3, or"),
        "{other}"
    );
    let turned = refusal(of(2, 1, 2));
    assert!(
        turned.contains("observations Image 1×2×2") && turned.contains("has Image 2×1×2"),
        "{turned}"
    );
}
