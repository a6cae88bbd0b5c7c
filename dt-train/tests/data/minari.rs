//! Minari folders.

use std::path::{Path, PathBuf};

use dt_train::data::{Column, Dataset};
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
    refused(
        &fixture("minari/dictionary-v0/data/main_data.hdf5"),
        &[
            "dictionary (desired_goal, observation)",
            "FlattenObservation",
        ],
    );
    for name in ["jpeg", "grey"] {
        let path = fixture(&format!("minari/{name}-v0"));
        let found = "`episode_0/observations` are images (JPEG files, shape [32,32,3])";
        rejected_within(&path, &[found, "8-bit integers", "features"]);
    }
}

#[test]
fn choices_and_images_are_read_as_they_are() {
    let path = fixture("minari/images-v0");
    let data = Dataset::load(&[&path]).unwrap();
    let file = hdf5::File::open(path.join("data/main_data.hdf5")).unwrap();
    let pixels = file.dataset("episode_0/observations").unwrap();
    let mut pixels = pixels.read_raw::<u8>().unwrap();
    let last = pixels.split_off(3 * 8 * 8 * 3);
    let image = |values| Column::Image {
        shape: [8, 8, 3],
        values,
    };
    assert_eq!(data.observations, image(pixels));
    assert_eq!(data.last_observations, image(last));

    let path = fixture("minari/discrete-v0");
    let data = Dataset::load(&[&path]).unwrap();
    let file = hdf5::File::open(path.join("data/main_data.hdf5")).unwrap();
    let values = file.dataset("episode_0/actions").unwrap();
    let values: Vec<u32> = values.read_raw().unwrap();
    assert_eq!(data.actions, Column::Discrete { n: 2, values });
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
    assert_eq!(data.actions, Column::Discrete { n: 4, values });
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
            "`episode_0/observations` is a dictionary (desired_goal, observation)",
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
    rejected_after(
        |file| {
            put(
                &file.group("episode_0").unwrap(),
                "terminations",
                &[3],
                &[true, false, true],
            )
        },
        &["`episode_0/terminations` is set at step 0 of 3"],
    );
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
    change_metadata(&path, |metadata| metadata["data_format"] = json!("arrow"));
    let message = rejected_within(&path, &["in the `arrow` form", "data_format=\"hdf5\""]);
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
