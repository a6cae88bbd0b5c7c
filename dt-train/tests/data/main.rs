//! Trajectory files: every format that is accepted, and one clear error for everything that is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, BooleanArray, Float32Array, Int64Array, ListArray, RecordBatch};
use assert_cmd::Command;
use dt_train::data::{Column, Dataset, Episode};
use hdf5::H5Type;
use serde_json::Value;

mod d4rl;
mod dopamine;
mod h5;
mod inspect;
mod layouts;
mod lerobot;
mod minari;
mod minari_tables;
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

/// A new file, also where there was one: a process that another test is just starting may still hold that one's lock.
fn create(path: &Path) -> hdf5::File {
    let _ = std::fs::remove_file(path);
    hdf5::File::create(path).unwrap()
}

fn text(words: &str) -> hdf5::types::VarLenUnicode {
    words.parse().unwrap()
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

/// A table, a row per entry of its columns.
fn put_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let table = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, table.schema(), None).unwrap();
    writer.write(&table).unwrap();
    writer.close().unwrap();
}

/// A column of vectors: `values` in lists of `width`.
fn vectors(width: usize, values: &[f32]) -> ArrayRef {
    let lists = values
        .chunks(width)
        .map(|list| Some(list.iter().copied().map(Some)));
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists))
}

/// A column of numbers.
fn floats(values: &[f32]) -> ArrayRef {
    Arc::new(Float32Array::from(values.to_vec()))
}

/// A column of integers.
fn integers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// A column of flags, set in `rows`.
fn flags(len: usize, rows: &[usize]) -> ArrayRef {
    let flags: Vec<bool> = (0..len).map(|row| rows.contains(&row)).collect();
    Arc::new(BooleanArray::from(flags))
}

/// Length and kind of end of each episode.
fn episodes(data: &Dataset) -> Vec<(usize, bool)> {
    let episode = |episode: &Episode| (episode.rows.len(), episode.terminated);
    data.episodes.iter().map(episode).collect()
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
        &[
            "is a folder without trajectories",
            "Minari (main_data.hdf5)",
            "LeRobot (meta/info.json)",
            "it holds empty, text",
        ],
    );
    // Minari's root, say.
    let nested = folder.path().join("root/walk-v0");
    std::fs::create_dir_all(nested.join("data")).unwrap();
    std::fs::copy(
        fixture("minari/walk-v0/data/main_data.hdf5"),
        nested.join("data/main_data.hdf5"),
    )
    .unwrap();
    refused(
        folder.path(),
        &[&format!("give one that is inside: {}", nested.display())],
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
