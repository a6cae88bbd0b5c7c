//! Trajectory files: every format that is accepted, and one clear error for everything that is not.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use dt_train::data::{Column, Dataset};
use hdf5::H5Type;
use serde_json::Value;

mod d4rl;
mod inspect;
mod minari;
mod origin;
mod parquet;
mod select;

fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

fn put<T: H5Type>(file: &hdf5::Group, key: &str, shape: &[usize], values: &[T]) {
    if file.link_exists(key) {
        file.unlink(key).unwrap();
    }
    file.new_dataset::<T>()
        .shape(shape)
        .create(key)
        .unwrap()
        .write_raw(values)
        .unwrap();
}

fn dt_train(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dt-train").unwrap();
    command.args(args);
    command
}

/// Reading `path` must fail with one line that begins with the file and contains `parts`.
fn rejected(path: &Path, parts: &[&str]) -> String {
    let message = Dataset::load(&[path]).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("{}: ", path.display())),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    message
}

/// And the command line must say just that, with exit code 1. (Loading libtorch makes this slow: once per kind of
/// error.)
fn refused(path: &Path, parts: &[&str]) {
    let message = rejected(path, parts);
    let output = dt_train(&["inspect", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!("error: {message}\n")
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

/// A file or folder that fixtures.py made.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/fixtures")
        .join(name)
}

/// Reading a fixture must give what the library that wrote it reads.
fn reads_as_expected(name: &str) -> Dataset {
    let data = Dataset::load(&[fixture(name)]).unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
    let expected = expected[name].as_array().unwrap();
    let flat = |key: &str| {
        let mut numbers = Vec::new();
        expected
            .iter()
            .for_each(|episode| flatten(&episode[key], &mut numbers));
        numbers
    };
    let vectors = |column: &Column| column.vectors().unwrap().to_vec();
    assert_eq!(vectors(&data.observations), flat("observations"), "{name}");
    assert_eq!(vectors(&data.actions), flat("actions"), "{name}");
    assert_eq!(data.rewards, flat("rewards"), "{name}");
    let episodes: Vec<_> = data
        .episodes
        .iter()
        .map(|episode| (episode.rows.len(), episode.terminated))
        .collect();
    let steps = |episode: &Value| episode["rewards"].as_array().unwrap().len();
    let expected: Vec<_> = expected
        .iter()
        .map(|episode| (steps(episode), episode["terminated"].as_bool().unwrap()))
        .collect();
    assert_eq!(episodes, expected, "{name}");
    assert_eq!(data.observations.len(), data.len(), "{name}");
    data
}

fn flatten(value: &Value, into: &mut Vec<f32>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, into)),
        number => into.push(number.as_f64().unwrap() as f32),
    }
}

#[test]
fn missing_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    refused(
        &folder.path().join("nothing"),
        &["cannot be read", "No such file"],
    );
    let text = folder.path().join("text");
    std::fs::write(&text, "observations,actions\n").unwrap();
    refused(
        &text,
        &[
            "is not a trajectory file",
            "D4RL layout",
            "Minari",
            "parquet",
        ],
    );
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    rejected(&empty, &["is not a trajectory file"]);
    rejected(
        folder.path(),
        &["folder without Minari data", "main_data.hdf5"],
    );
}

#[test]
fn formats_mix_but_dimensions_do_not() {
    let [pendulum, walk, hub] = [
        "minari/pendulum-v0",
        "minari/walk-v0",
        "parquet/pandas.parquet",
    ]
    .map(fixture);
    let message = Dataset::load(&[&pendulum, &walk]).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "{}: `observations` has 4 columns but {} has 3; use data of one environment",
            walk.display(),
            pendulum.display()
        )
    );
    let folder = tempfile::tempdir().unwrap();
    let flat = d4rl::file(folder.path(), |_| ());
    let both = Dataset::load(&[&flat, &hub]).unwrap();
    assert_eq!(
        (both.len(), both.episodes.len(), both.sources.len()),
        (4 + 9, 5, 2)
    );
    let arguments = format!("{},{}", flat.display(), hub.display());
    let output = dt_train(&["inspect", "--json", &arguments])
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["transitions"], &summary["episodes"]),
        (&14.into(), &5.into())
    );
    let arguments = format!("{},{}", flat.display(), walk.display());
    let output = dt_train(&["inspect", &arguments]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
