//! LeRobot's folders.

use std::fs;
use std::path::Path;

use arrow_array::ArrayRef;
use dt_train::data::{Dataset, Reading};

use crate::inspect::next;
use crate::{
    dt_train, episodes, flags, floats, integers, put_table, ramp, refused, rejected, vectors,
};

/// Steps `rows` of 7: episode 0 has 3, episode 1 has 4. State i is (2i, 2i + 1).
fn columns(rows: std::ops::Range<usize>) -> Vec<(&'static str, ArrayRef)> {
    let all: Vec<(&str, ArrayRef)> = vec![
        ("observation.state", vectors(2, &ramp(14))),
        ("observation.effort", vectors(1, &ramp(7))),
        ("action", vectors(1, &ramp(7))),
        ("next.reward", floats(&ramp(7))),
        ("next.done", flags(7, &[6])),
        ("episode_index", integers(&[0, 0, 0, 1, 1, 1, 1])),
        ("frame_index", integers(&[0, 1, 2, 0, 1, 2, 3])),
        ("timestamp", floats(&ramp(7))),
    ];
    let slice = |(key, array): (&'static str, ArrayRef)| (key, array.slice(rows.start, rows.len()));
    all.into_iter().map(slice).collect()
}

/// A set of version 2 in `folder`, without the columns `but`.
fn set(folder: &Path, but: &[&str]) {
    let chunk = folder.join("data/chunk-000");
    fs::create_dir_all(&chunk).unwrap();
    fs::create_dir_all(folder.join("meta")).unwrap();
    let info = r#"{"codebase_version": "v2.1", "fps": 50, "total_episodes": 2, "total_frames": 7}"#;
    fs::write(folder.join("meta/info.json"), info).unwrap();
    for (i, rows) in [(0, 0..3), (1, 3..7)] {
        let mut columns = columns(rows);
        columns.retain(|(key, _)| !but.contains(key));
        put_table(&chunk.join(format!("episode_00000{i}.parquet")), columns);
    }
}

#[test]
fn both_versions_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &[]);
    let data = Dataset::load(&[folder.path()]).unwrap();
    assert_eq!(data.observations.vectors().unwrap(), ramp(14));
    assert_eq!(data.actions.vectors().unwrap(), ramp(7));
    assert_eq!(
        (&data.rewards, episodes(&data)),
        (&ramp(7), vec![(3, false), (4, true)])
    );
    let source = &data.sources[0];
    assert_eq!(
        (source.control_period_us, source.without_rewards),
        (Some(20_000), false)
    );
    assert_eq!(
        source.notes,
        [
            "`next.done` ends episodes without saying how: taken for terminal states",
            "`observation.state` is the whole observation: \
             --observation-keys observation.state,observation.effort reads more of it"
        ]
    );

    let chunk = folder.path().join("data/chunk-000");
    fs::remove_dir_all(&chunk).unwrap();
    fs::create_dir(&chunk).unwrap();
    put_table(&chunk.join("file-000.parquet"), columns(0..5));
    put_table(&chunk.join("file-001.parquet"), columns(5..7));
    let other = Dataset::load(&[folder.path()]).unwrap();
    assert_eq!(
        (&other.observations, &other.episodes),
        (&data.observations, &data.episodes)
    );
}

#[test]
fn more_of_the_observation_is_read_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &[]);
    let reading = Reading {
        observation_keys: ["observation.state", "observation.effort"]
            .map(Into::into)
            .into(),
        ..Reading::default()
    };
    let data = Dataset::load_as(&[folder.path()], &reading).unwrap();
    let expected = [0.0, 1.0, 0.0, 2.0, 3.0, 1.0];
    assert_eq!(data.observations.vectors().unwrap()[..6], expected);
    assert_eq!(data.sources[0].notes.len(), 1);
}

#[test]
fn demonstrations_without_rewards_are_for_behaviour_cloning_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set");
    set(&path, &["next.reward", "next.done"]);
    let data = Dataset::load(&[&path]).unwrap();
    assert_eq!(
        (&data.rewards, episodes(&data)),
        (&vec![0.0; 7], vec![(3, false), (4, false)])
    );
    let source = &data.sources[0];
    assert!(source.without_rewards);
    let note =
        "there are no rewards: all are 0, from which only behaviour cloning learns, --algo bc";
    assert!(
        source.notes.iter().any(|said| said == note),
        "{:?}",
        source.notes
    );

    let run = folder.path().join("run");
    let train = |algo: &str| {
        let paths = [&path, &run].map(|path| path.to_str().unwrap());
        let ranges = ["control.action_low=[0]", "control.action_high=[6]"];
        let output = dt_train(&[
            "train", "--data", paths[0], "--out", paths[1], "--algo", algo,
        ])
        .args(["--set", ranges[0], "--set", ranges[1]])
        .args(["--set", "train.updates=1", "--device", "cpu"])
        .output()
        .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr)
    };
    let (code, stderr) = train("dt");
    let refusal =
        "has no rewards, and `dt` learns from returns; train behaviour cloning with --algo bc";
    assert!(code == Some(1) && stderr.contains(refusal), "{stderr}");
    let (code, stderr) = train("bc");
    assert_eq!(code, Some(0), "{stderr}");

    // `inspect` says so beforehand, and what else is missing is asked for at once.
    let (said, output) = next(folder.path(), "set", "--set train.updates=1 --device cpu");
    assert!(said.contains(" --config bc --set 'control."), "{said}");
    assert!(output.status.success(), "{output:?}");
    dt_train(&["train", "--data", "set", "--out", "other"])
        .current_dir(folder.path())
        .assert()
        .code(1)
        .stderr(predicates::str::contains(
            "--algo bc --set 'control.action_low=[",
        ));
}

#[test]
fn an_incomplete_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &[]);
    let chunk = folder.path().join("data/chunk-000");
    fs::remove_file(chunk.join("episode_000001.parquet")).unwrap();
    refused(
        folder.path(),
        &["holds 1 episodes, but meta/info.json says 2", "again"],
    );
    fs::remove_file(chunk.join("episode_000000.parquet")).unwrap();
    let error = Dataset::load(&[folder.path()]).unwrap_err().to_string();
    assert!(
        error.contains("data: has no `chunk-000/*.parquet`"),
        "{error}"
    );
    fs::write(folder.path().join("meta/info.json"), "{").unwrap();
    let error = Dataset::load(&[folder.path()]).unwrap_err().to_string();
    assert!(
        error.contains("info.json: the file cannot be read"),
        "{error}"
    );
}

#[test]
fn a_set_of_pictures_alone_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &["observation.state", "observation.effort"]);
    let file = folder.path().join("data/chunk-000/episode_000000.parquet");
    rejected(
        &file,
        &["has no `observations` (or obs, ", "its columns are action "],
    );
}
