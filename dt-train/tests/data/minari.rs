//! Minari folders.

use std::path::{Path, PathBuf};

use dt_train::data::{Column, Dataset, Reading, environment};
use serde_json::{Value, json};

use crate::{dt_train, fixture, put, ramp, reads_as_expected, refused};

/// A copy of a fixture's `data` folder to damage.
fn copy(name: &str, folder: &Path) -> PathBuf {
    for file in ["main_data.hdf5", "metadata.json"] {
        std::fs::copy(fixture(name).join("data").join(file), folder.join(file)).unwrap();
    }
    folder.to_owned()
}

/// A fixture with `change` made to its file must be refused, and the file named.
fn rejected_after(change: impl FnOnce(&hdf5::File), parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/walk-v0", folder.path());
    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    change(&file);
    drop(file);
    let message = rejected_within(&path, parts);
    assert!(message.contains("main_data.hdf5: "), "{message}");
}

fn rejected_within(path: &Path, parts: &[&str]) -> String {
    let message = Dataset::load(&[path]).unwrap_err().to_string();
    assert!(
        message.starts_with(&path.display().to_string()),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    message
}

fn change_metadata(path: &Path, change: impl FnOnce(&mut Value)) {
    let path = path.join("metadata.json");
    let mut metadata = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut metadata);
    std::fs::write(&path, metadata.to_string()).unwrap();
}

#[test]
fn folders_read_as_minari_reads_them() {
    let data = reads_as_expected("minari/pendulum-v0");
    assert_eq!((data.state_dim(), data.act_dim()), (3, 1));
    assert_eq!(data.env(), Some("pendulum"));
    assert_eq!(data.sources[0].policy.as_deref(), Some("random"));
    assert_eq!(data.observations.space().to_string(), "Box(3), within -8…8");
    assert_eq!(data.actions.space().to_string(), "Box(1), -2…2");
    reads_as_expected("minari/walk-v0");
}

#[test]
fn what_came_after_the_last_action_is_kept() {
    let path = fixture("minari/walk-v0");
    let data = Dataset::load(&[&path]).unwrap();
    let file = hdf5::File::open(path.join("data/main_data.hdf5")).unwrap();
    let mut expected = Vec::new();
    for i in 0..3 {
        let all = file.dataset(&format!("episode_{i}/observations")).unwrap();
        let all = all.read_raw::<f32>().unwrap();
        expected.extend_from_slice(&all[all.len() - 4..]);
    }
    assert_eq!(data.last_observations.vectors().unwrap(), expected);
    let rows: Vec<_> = data.episodes.iter().map(|e| e.last).collect();
    assert_eq!(rows, [Some(0), Some(1), Some(2)]);
}

#[test]
fn the_folder_its_data_folder_and_the_file_are_the_same_data() {
    let whole = fixture("minari/pendulum-v0");
    let expected = Dataset::load(&[&whole]).unwrap();
    for part in ["data", "data/main_data.hdf5"] {
        let data = Dataset::load(&[whole.join(part)]).unwrap();
        assert_eq!(data.observations, expected.observations);
        assert_eq!(
            (data.env(), data.sha256()),
            (expected.env(), expected.sha256())
        );
    }
    let output = dt_train(&["inspect", whole.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["kind"], "dataset");
    assert_eq!(
        (&summary["episodes"], &summary["transitions"]),
        (&json!(3), &json!(29))
    );
}

#[test]
fn a_description_is_not_needed_and_may_lie_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/pendulum-v0", folder.path());
    std::fs::remove_file(path.join("metadata.json")).unwrap();
    assert_eq!(Dataset::load(&[&path]).unwrap().env(), None);

    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    let spec: hdf5::types::VarLenUnicode = r#"{"id": "Hopper-v4"}"#.parse().unwrap();
    let attribute = file.new_attr::<hdf5::types::VarLenUnicode>();
    attribute
        .create("env_spec")
        .unwrap()
        .write_scalar(&spec)
        .unwrap();
    drop(file);
    assert_eq!(Dataset::load(&[&path]).unwrap().env(), Some("hopper-v4"));
}

#[test]
fn episodes_come_in_the_order_of_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let file = hdf5::File::create(folder.path().join("main_data.hdf5")).unwrap();
    for i in 0..12 {
        let group = file.create_group(&format!("episode_{i}")).unwrap();
        put(&group, "observations", &[2, 1], &[i as f32, 0.0]);
        put(&group, "actions", &[1, 1], &[0.0f32]);
        put(&group, "rewards", &[1, 1], &[0.0f64]);
        put(&group, "terminations", &[1], &[i % 2 == 0]);
        // The last has no end.
        put(&group, "truncations", &[1], &[i % 2 == 1 && i < 11]);
    }
    drop(file);
    let data = Dataset::load(&[folder.path()]).unwrap();
    assert_eq!(data.observations.vectors().unwrap(), ramp(11));
    assert_eq!(data.sources[0].unfinished, 1);
    assert!(data.episodes[10].terminated && !data.episodes[9].terminated);
}

#[test]
fn other_kinds_of_observations_and_actions_are_refused_by_name() {
    for name in ["jpeg", "grey"] {
        let path = fixture(&format!("minari/{name}-v0"));
        let found = "`episode_0/observations` are images (JPEG files, shape [32,32,3])";
        rejected_within(&path, &[found, "8-bit integers", "features"]);
    }
}

fn with_keys(keys: &[&str]) -> Reading {
    Reading {
        observation_keys: keys.iter().map(|&key| key.into()).collect(),
        ..Reading::default()
    }
}

#[test]
fn dictionaries_are_refused_with_what_to_type_which_reads_them() {
    let path = fixture("minari/dictionary-v0");
    let flag = "--observation-keys observation,desired_goal";
    let what = "`episode_0/observations` is a dictionary: desired_goal (4), observation (4)";
    refused(&path.join("data/main_data.hdf5"), &[what, flag]);

    let data = Dataset::load_as(&[&path], &with_keys(&["observation", "desired_goal"])).unwrap();
    let file = hdf5::File::open(path.join("data/main_data.hdf5")).unwrap();
    let entry = |name: &str| -> Vec<f32> {
        let array = file.dataset(&format!("episode_0/observations/{name}"));
        array.unwrap().read_raw().unwrap()
    };
    let (observation, goal) = (entry("observation"), entry("desired_goal"));
    let rows = observation.chunks(4).zip(goal.chunks(4));
    let mut expected: Vec<f32> = rows.flat_map(|(a, b)| [a, b].concat()).collect();
    let last = expected.split_off(3 * 8);
    assert_eq!(data.observations.vectors().unwrap(), expected);
    assert_eq!(data.last_observations.vectors().unwrap(), last);
    // With the bounds of each.
    let [low, high] = data.observations.space().bounds().unwrap();
    assert_eq!((low, high), (&[-10.0; 8][..], &[10.0; 8][..]));

    let data = Dataset::load_as(&[&path], &with_keys(&["desired_goal"])).unwrap();
    assert_eq!(data.observations.vectors().unwrap(), &goal[..12]);

    let message = |path: &Path, keys: &[&str]| {
        let error = Dataset::load_as(&[path], &with_keys(keys)).unwrap_err();
        error.to_string()
    };
    let unknown = message(&path, &["observation", "goal"]);
    let parts = "has no entry `goal`; name some of these with --observation-keys: desired_goal (4), observation (4)";
    assert!(unknown.contains(parts), "{unknown}");
    let plain = message(&fixture("minari/walk-v0"), &["observation"]);
    assert!(
        plain.contains("`episode_0/observations` is no dictionary; leave"),
        "{plain}"
    );
}

#[test]
fn dictionaries_may_hold_others_and_what_no_vector_can_take_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/dictionary-v0", folder.path());
    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    let observations = file.group("episode_0/observations").unwrap();
    let inner = observations.create_group("arm").unwrap();
    put(&inner, "speed", &[4, 2], &ramp(8));
    put(&inner, "gear", &[4], &[0i64, 1, 1, 0]);
    put(&inner, "short", &[3, 2], &ramp(6));
    drop(inner);
    drop((observations, file));
    rejected_within(
        &path,
        &["arm/gear (), arm/short (2), arm/speed (2), desired_goal (4), observation (4)"],
    );
    let data = Dataset::load_as(&[&path], &with_keys(&["arm/speed"])).unwrap();
    assert_eq!(data.observations.vectors().unwrap(), ramp(6));
    assert_eq!(data.last_observations.vectors().unwrap(), [6.0, 7.0]);
    for (key, part) in [
        (
            "arm/gear",
            "`episode_0/observations/arm/gear` is Discrete(2), which does not join a vector",
        ),
        (
            "arm/short",
            "`episode_0/observations/arm/short` has 3 rows but `episode_0/observations/observation` has 4",
        ),
    ] {
        let keys = with_keys(&["observation", key]);
        let error = Dataset::load_as(&[&path], &keys).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    let episode = file.group("episode_0").unwrap();
    episode.unlink("actions").unwrap();
    let actions = episode.create_group("actions").unwrap();
    put(&actions, "grip", &[3, 1], &ramp(3));
    drop((actions, episode, file));
    let keys = with_keys(&["observation"]);
    let error = Dataset::load_as(&[&path], &keys).unwrap_err().to_string();
    let part = "`episode_0/actions` is a dictionary: grip (1); a policy acts with one vector";
    assert!(error.contains(part), "{error}");
}

#[test]
fn bad_episodes_are_left_out_if_asked_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/walk-v0", folder.path());
    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    put(
        &file.group("episode_0").unwrap(),
        "observations",
        &[3, 4],
        &ramp(12),
    );
    drop(file);
    let reason = "`episode_0/observations` has 3 rows but `episode_0/rewards` has 3";
    rejected_within(
        &path,
        &[reason, "--skip-bad-episodes leaves such episodes out"],
    );

    let skip = Reading {
        skip_bad_episodes: true,
        ..Reading::default()
    };
    let data = Dataset::load_as(&[&path], &skip).unwrap();
    let whole = Dataset::load(&[fixture("minari/walk-v0")]).unwrap();
    assert_eq!(data.rewards, whole.rewards[3..]);
    assert_eq!(
        data.observations.vectors(),
        whole.observations.vectors().map(|x| &x[12..])
    );
    assert_eq!(
        data.sources[0].notes,
        [format!("1 of 3 episodes left out: {reason}")]
    );

    // Neither half of an episode is taken.
    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    put(
        &file.group("episode_2").unwrap(),
        "actions",
        &[2, 3],
        &ramp(6),
    );
    drop(file);
    let data = Dataset::load_as(&[&path], &skip).unwrap();
    assert_eq!(
        (data.observations.len(), data.actions.len(), data.len()),
        (1, 1, 1)
    );
    assert!(
        data.sources[0].notes[0].contains("`episode_2/actions` has 3 columns"),
        "{:?}",
        data.sources[0].notes
    );

    // Not a word of it where there is nothing to leave out.
    let data = Dataset::load_as(&[fixture("minari/walk-v0")], &skip).unwrap();
    assert_eq!(data, whole);
    // All of them are too many, and a kind that is not read is not bad luck.
    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    for i in 1..3 {
        let group = file.group(&format!("episode_{i}")).unwrap();
        group.unlink("truncations").unwrap();
    }
    drop(file);
    let error = Dataset::load_as(&[&path], &skip).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    let error = Dataset::load_as(&[fixture("minari/jpeg-v0")], &skip).unwrap_err();
    assert!(error.to_string().contains("are images"), "{error}");
}

#[test]
fn a_time_limit_ends_what_no_flag_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/walk-v0", folder.path());
    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    // Of 3 and 2 steps.
    for (i, steps) in [(0, 3), (2, 2)] {
        let group = file.group(&format!("episode_{i}")).unwrap();
        put(&group, "truncations", &[steps], &vec![false; steps]);
    }
    drop(file);
    let limited = |steps| {
        let reading = Reading {
            max_episode_steps: Some(steps),
            ..Reading::default()
        };
        Dataset::load_as(&[&path], &reading)
    };
    let data = limited(3).unwrap();
    let lens: Vec<_> = data
        .episodes
        .iter()
        .map(|e| (e.rows.len(), e.terminated))
        .collect();
    assert_eq!(lens, [(3, false), (1, true)]);
    assert_eq!(data.sources[0].unfinished, 2);
    let error = limited(2).unwrap_err().to_string();
    let part = "`episode_0/rewards` has 3 steps and no end is marked, but --max-episode-steps is 2";
    assert!(error.contains(part), "{error}");
}

#[test]
fn a_file_under_another_name_is_read_without_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("downloaded.hdf5");
    std::fs::copy(fixture("minari/walk-v0/data/main_data.hdf5"), &path).unwrap();
    let data = dt_train::data::minari::read(&path, &Reading::default()).unwrap();
    let whole = Dataset::load(&[fixture("minari/walk-v0")]).unwrap();
    assert_eq!(data.observations.vectors(), whole.observations.vectors());
    assert_eq!((data.sha256(), data.env()), (whole.sha256(), None));
}

/// The pendulum of the fixture was made with a limit of 12 steps.
#[test]
fn another_environment_of_the_same_name_is_not_taken_for_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/pendulum-v0", folder.path());
    let describe = |env: Value, action_space: Value| {
        change_metadata(&path, |metadata| {
            metadata["env_spec"] = json!(env.to_string());
            metadata["action_space"] = json!(action_space.to_string());
        });
        Dataset::load(&[&path]).unwrap()
    };
    let space =
        |x: f64| json!({"type": "Box", "dtype": "float32", "shape": [1], "low": [-x], "high": [x]});
    let pendulum = host_sim::make("pendulum").unwrap();
    let spec = pendulum.spec();

    let usual = json!({"id": "Pendulum-v1", "kwargs": {}, "max_episode_steps": 200});
    let usual = describe(usual, space(2.0));
    environment::refuse_another(&usual, &spec).unwrap();
    assert_eq!(environment::notes(&usual, Some(&spec)), [""; 0]);

    let wrapper =
        json!({"name": "RescaleAction", "kwargs": {"min_action": -1.0, "max_action": 1.0}});
    let mut other = describe(
        json!({"id": "Pendulum-v1", "kwargs": {"g": 2.0}, "max_episode_steps": 500,
               "additional_wrappers": [wrapper]}),
        space(1.0),
    );
    let expected = format!(
        "{}: was recorded in another `pendulum` than the one here: with g = 2.0 instead of 10, \
         the wrapper RescaleAction(max_action = 1.0, min_action = -1.0), at most 500 steps instead of 200, \
         actions in Box(1), -1…1 instead of Box(1), -2…2",
        path.display()
    );
    assert_eq!(environment::notes(&other, Some(&spec)), [expected.as_str()]);
    let error = environment::refuse_another(&other, &spec)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&expected) && error.ends_with("--env pendulum"),
        "{error}"
    );
    // Of an environment that is not here, what is unusual about it can be told.
    other.sources[0].env = Some("rocket".into());
    environment::refuse_another(&other, &spec).unwrap();
    assert_eq!(
        environment::notes(&other, None),
        [
            format!("{}: recorded with g = 2.0", path.display()),
            format!(
                "{}: recorded behind the wrapper RescaleAction(max_action = 1.0, min_action = -1.0)",
                path.display()
            )
        ]
    );

    // And training asks.
    let run = folder.path().join("run");
    let output = dt_train(&[
        "train",
        "--data",
        path.to_str().unwrap(),
        "--out",
        run.to_str().unwrap(),
    ])
    .output()
    .unwrap();
    assert_eq!(
        (
            String::from_utf8_lossy(&output.stderr),
            output.status.code()
        ),
        (format!("error: {error}\n").into(), Some(1))
    );
}

#[test]
fn choices_and_images_are_read_as_they_are() {
    let path = fixture("minari/images-v0");
    let data = Dataset::load(&[&path]).unwrap();
    let file = hdf5::File::open(path.join("data/main_data.hdf5")).unwrap();
    let pixels = file.dataset("episode_0/observations").unwrap();
    let mut pixels = pixels.read_raw::<u8>().unwrap();
    let last = pixels.split_off(3 * 8 * 8 * 3);
    let image = |values: &[u8]| Column::image([8, 8, 3], values);
    assert_eq!(data.observations, image(&pixels));
    assert_eq!(data.last_observations, image(&last));

    let path = fixture("minari/discrete-v0");
    let data = Dataset::load(&[&path]).unwrap();
    let file = hdf5::File::open(path.join("data/main_data.hdf5")).unwrap();
    let values = file.dataset("episode_0/actions").unwrap();
    let values: Vec<u32> = values.read_raw().unwrap();
    assert_eq!(
        data.actions,
        Column::Discrete {
            n: 2,
            declared: true,
            values
        }
    );
}

#[test]
fn choices_are_counted_from_where_the_description_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/discrete-v0", folder.path());
    let file = hdf5::File::open_rw(path.join("main_data.hdf5")).unwrap();
    put(
        &file.group("episode_0").unwrap(),
        "actions",
        &[3],
        &[5i64, 7, 6],
    );
    drop(file);
    let message = rejected_within(&path, &["`episode_0/actions`[0] is 5"]);
    assert!(message.contains("choices"), "{message}");
    let describe = |start: i64, n: i64| {
        change_metadata(&path, |metadata| {
            let space = json!({"type": "Discrete", "dtype": "int64", "start": start, "n": n});
            metadata["action_space"] = json!(space.to_string());
        });
    };
    describe(5, 4);
    let values = vec![0, 2, 1];
    let data = Dataset::load(&[&path]).unwrap();
    assert_eq!(
        data.actions,
        Column::Discrete {
            n: 4,
            declared: true,
            values
        }
    );
    describe(6, 4);
    rejected_within(&path, &["`episode_0/actions`[0] is 5"]);
    describe(5, 2);
    rejected_within(&path, &["`episode_0/actions`[1] is 7"]);
}

#[test]
fn kinds_are_told_from_the_data_alone_where_nothing_describes_them() {
    for (name, part) in [
        (
            "dictionary",
            "`episode_0/observations` is a dictionary: desired_goal (4), observation (4)",
        ),
        ("jpeg", "`episode_0/observations` are images"),
        ("grey", "`episode_0/observations` holds uint8"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = copy(&format!("minari/{name}-v0"), folder.path());
        std::fs::remove_file(path.join("metadata.json")).unwrap();
        rejected_within(&path, &[part]);
    }
}

#[test]
fn what_an_episode_lacks_is_named() {
    for name in [
        "observations",
        "actions",
        "rewards",
        "terminations",
        "truncations",
    ] {
        rejected_after(
            |file| file.group("episode_1").unwrap().unlink(name).unwrap(),
            &[
                &format!("has no `episode_1/{name}`"),
                "a Minari episode needs a",
            ],
        );
    }
    rejected_after(
        |file| (0..3).for_each(|i| file.unlink(&format!("episode_{i}")).unwrap()),
        &["has no `episode_0`", "a group per episode"],
    );
    rejected_after(
        |file| file.unlink("episode_1").unwrap(),
        &["holds 2 episodes, but metadata.json says 3"],
    );
}

#[test]
fn lengths_widths_and_ends_that_disagree_are_refused() {
    // Episode 0 has 3 steps, episode 2 has 2; states of 4 numbers, actions of 2.
    let change = |name: &'static str, shape: &'static [usize]| {
        move |file: &hdf5::File| {
            let group = file.group("episode_2").unwrap();
            put(&group, name, shape, &ramp(shape.iter().product()));
        }
    };
    rejected_after(
        change("observations", &[2, 4]),
        &[
            "`episode_2/observations` has 2 rows but `episode_2/rewards` has 2",
            "one row more",
        ],
    );
    rejected_after(
        change("actions", &[3, 2]),
        &["`episode_2/actions` has 3 rows but `episode_2/rewards` has 2"],
    );
    rejected_after(
        change("observations", &[3, 5]),
        &["`episode_2/observations` has 5 columns but the first episode has 4"],
    );
    rejected_after(
        change("actions", &[2]),
        &["`episode_2/actions` has shape [2]", "(T, act_dim)"],
    );
    for step in [0, 1] {
        rejected_after(
            |file| {
                let flags = [step == 0, step == 1, true];
                put(
                    &file.group("episode_0").unwrap(),
                    "terminations",
                    &[3],
                    &flags,
                );
            },
            &[&format!(
                "`episode_0/terminations` is set at step {step} of 3"
            )],
        );
    }
    rejected_after(
        |file| {
            for i in 0..3 {
                let group = file.group(&format!("episode_{i}")).unwrap();
                let steps = group.dataset("rewards").unwrap().shape();
                for name in ["terminations", "truncations"] {
                    put(&group, name, &steps, &vec![false; steps[0]]);
                }
            }
        },
        &[
            "no episode ends: all 6 rows of `terminations` and `truncations`",
            "set `truncations`",
        ],
    );
    rejected_after(
        |file| {
            put(
                &file.group("episode_0").unwrap(),
                "rewards",
                &[3],
                &[0.0, f64::NAN, 0.0],
            )
        },
        &["`episode_0/rewards`[1] is NaN"],
    );
}

#[test]
fn a_damaged_or_foreign_description_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/walk-v0", folder.path());
    change_metadata(&path, |metadata| metadata["total_steps"] = json!(7));
    rejected_within(&path, &["holds 6 steps, but metadata.json says 7", "again"]);
    change_metadata(&path, |metadata| metadata["data_format"] = json!("zarr"));
    let message = rejected_within(&path, &["in the `zarr` form", "data_format=\"hdf5\""]);
    assert!(message.contains("metadata.json: "), "{message}");
    std::fs::write(path.join("metadata.json"), "{\"total_steps\": ").unwrap();
    rejected_within(&path, &["metadata.json: ", "truncated or damaged"]);
}

#[test]
fn a_missing_or_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("minari/walk-v0", folder.path());
    let file = path.join("main_data.hdf5");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    rejected_within(&path, &["main_data.hdf5: ", "truncated or damaged"]);
    std::fs::remove_file(&file).unwrap();
    rejected_within(
        &path,
        &["main_data.hdf5: ", "cannot be read", "No such file"],
    );
}
