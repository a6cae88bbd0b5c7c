//! Minari's forms of a folder per episode.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_ipc::writer::FileWriter;
use dt_train::data::{Column, Dataset, Reading};
use serde_json::{Value, json};

use crate::{
    dt_train, episodes, fixture, flags, floats, integers, ramp, reads_as_expected, vectors,
};

#[test]
fn episodes_of_every_form_read_as_minari_reads_them() {
    let data = reads_as_expected("minari/walk-arrow-v0");
    assert_eq!((data.state_dim(), data.act_dim(), data.len()), (4, 2, 12));
    assert_eq!(data.sources[0].policy.as_deref(), Some("random"));
    assert_eq!(data.actions.space().to_string(), "Box(2), -10…10");
    assert_eq!(data.last_observations.len(), 11);
    reads_as_expected("minari/walk-parquet-v0");

    let path = fixture("minari/walk-arrow-v0");
    let output = dt_train(&["inspect", path.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["episodes"], &summary["terminated"]),
        (&json!(11), &json!(10))
    );
}

#[test]
fn choices_images_and_dictionaries_are_read_as_they_are() {
    let data = Dataset::load(&[fixture("minari/discrete-arrow-v0")]).unwrap();
    let Column::Discrete {
        n: 3,
        declared: true,
        values,
    } = &data.actions
    else {
        panic!("{:?}", data.actions);
    };
    assert!(values.iter().all(|&choice| choice < 3), "{values:?}");
    let images = data.observations.images().expect("images");
    assert_eq!((images.shape(), images.len()), ([4, 4, 3], 3));

    let path = fixture("minari/dictionary-arrow-v0");
    let error = Dataset::load(&[&path]).unwrap_err().to_string();
    let parts = "`0/observations` is a dictionary: arm/q (2), goal (1); \
                 name those that the policy is to see, in its order: --observation-keys arm/q,goal";
    assert!(error.contains(parts), "{error}");
    let reading = Reading {
        observation_keys: vec!["goal".into(), "arm/q".into()],
        ..Reading::default()
    };
    let data = Dataset::load_as(&[&path], &reading).unwrap();
    assert_eq!((data.len(), data.last_observations.len()), (3, 1));
    assert_eq!(data.observations.space().to_string(), "Box(3), -10…10");
}

/// Rows of an episode of `steps` steps from number `first` on, and the row after them.
fn rows(first: usize, steps: usize) -> Vec<(&'static str, ArrayRef)> {
    let all = ramp(first + steps + 1);
    let rows = &all[first..];
    vec![
        ("observations", vectors(1, rows)),
        ("actions", vectors(1, rows)),
        ("rewards", floats(rows)),
        ("terminations", flags(steps + 1, &[steps - 1])),
        ("truncations", flags(steps + 1, &[])),
        ("infos", integers(&vec![0; steps + 1])),
    ]
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn put(path: &Path, batches: &[RecordBatch]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut writer = FileWriter::try_new(file, &batches[0].schema()).unwrap();
    batches
        .iter()
        .for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
}

/// Episodes of 2 and 3 steps.
fn set(folder: &Path) {
    put(&folder.join("0/part-0.arrow"), &[batch(rows(0, 2))]);
    put(&folder.join("1/part-0.arrow"), &[batch(rows(10, 3))]);
    describe(folder, json!({"total_episodes": 2, "total_steps": 5}));
}

fn describe(folder: &Path, mut description: Value) {
    description["data_format"] = json!("arrow");
    fs::write(folder.join("metadata.json"), description.to_string()).unwrap();
}

fn message(folder: &Path) -> String {
    let message = Dataset::load(&[folder]).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn batches_and_parts_of_an_episode_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    set(folder);
    let whole = Dataset::load(&[folder]).unwrap();
    assert_eq!(episodes(&whole), [(2, true), (3, true)]);
    assert_eq!(whole.rewards, [0.0, 1.0, 10.0, 11.0, 12.0]);
    assert_eq!(whole.last_observations.vectors().unwrap(), [2.0, 13.0]);

    let all = batch(rows(10, 3));
    put(
        &folder.join("1/part-0.arrow"),
        &[all.slice(0, 1), all.slice(1, 3)],
    );
    assert_eq!(Dataset::load(&[folder]).unwrap().rewards, whole.rewards);
    for i in 0..4 {
        // Ten comes after nine.
        let part = folder.join(format!("1/part-{}.arrow", i + 8));
        put(&part, &[all.slice(i, 1)]);
    }
    fs::remove_file(folder.join("1/part-0.arrow")).unwrap();
    let parts = Dataset::load(&[folder]).unwrap();
    assert_eq!(
        (parts.rewards, parts.episodes),
        (whole.rewards, whole.episodes)
    );
}

#[test]
fn bad_episodes_are_named_and_left_out_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    set(folder);
    let mut bad = rows(0, 2);
    bad[0].1 = vectors(1, &[0.0, f32::INFINITY, 2.0]);
    put(&folder.join("0/part-0.arrow"), &[batch(bad)]);
    let said = message(folder);
    let file = folder.join("0/part-0.arrow");
    let parts = format!("{}: `0/observations`[1] is inf", file.display());
    assert!(
        said.starts_with(&parts) && said.contains("--skip-bad-episodes"),
        "{said}"
    );
    let skip = Reading {
        skip_bad_episodes: true,
        ..Reading::default()
    };
    let data = Dataset::load_as(&[folder], &skip).unwrap();
    assert_eq!(data.rewards, [10.0, 11.0, 12.0]);
    let note = "1 of 2 episodes left out: `0/observations`[1] is inf, not a finite 32-bit number";
    assert_eq!(data.sources[0].notes, [note]);
    // Padding may be anything.
    let mut padded = rows(0, 2);
    padded[2].1 = floats(&[0.0, 1.0, f32::NAN]);
    put(&file, &[batch(padded)]);
    assert_eq!(Dataset::load(&[folder]).unwrap().len(), 5);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("1/part-0.arrow");
    for i in 0..5 {
        set(folder);
        let mut columns = rows(10, 3);
        let (name, _) = columns.remove(i);
        put(&file, &[batch(columns)]);
        let said = message(folder);
        assert!(said.contains(&format!("has no `1/{name}`")), "{said}");
    }
    set(folder);
    let mut inside = rows(10, 3);
    inside[4].1 = flags(4, &[0]);
    put(&file, &[batch(inside)]);
    let said = message(folder);
    assert!(
        said.contains("`1/truncations` is set at step 0 of 3"),
        "{said}"
    );
    put(&file, &[batch(rows(10, 3)).slice(0, 1)]);
    let said = message(folder);
    assert!(said.contains("`1/rewards` is empty"), "{said}");

    let mut pictures = rows(10, 3);
    pictures[0].1 = Arc::new(BinaryArray::from(vec![&b"\xff\xd8"[..]; 4]));
    put(&folder.join("0/part-0.arrow"), &[batch(pictures)]);
    let said = message(folder);
    assert!(
        said.contains("`0/observations` are images (binary data)"),
        "{said}"
    );

    set(folder);
    fs::remove_file(&file).unwrap();
    let said = message(folder);
    assert!(
        said.contains("has no `part-0`; a Minari episode needs a file"),
        "{said}"
    );
    fs::remove_dir(folder.join("1")).unwrap();
    let said = message(folder);
    assert!(
        said.contains("holds 1 episodes, but metadata.json says 2"),
        "{said}"
    );
    describe(folder, json!({"total_episodes": 1, "total_steps": 3}));
    let said = message(folder);
    assert!(
        said.contains("holds 2 steps, but metadata.json says 3"),
        "{said}"
    );
    fs::remove_dir_all(folder.join("0")).unwrap();
    let said = message(folder);
    assert!(
        said.contains("has no `0`; a Minari data set needs a folder per episode"),
        "{said}"
    );
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    set(folder);
    let file = folder.join("0/part-0.arrow");
    let bytes = fs::read(&file).unwrap();
    for kept in [0, 4, 12, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..kept]).unwrap();
        let said = message(folder);
        assert!(said.contains("the file cannot be read"), "{kept}: {said}");
    }
    let mut refused = 0;
    for i in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[i] ^= 0xff;
        fs::write(&file, bytes).unwrap();
        if let Err(error) = Dataset::load(&[folder]) {
            let said = error.to_string();
            assert_eq!(said.lines().count(), 1, "byte {i}: {said}");
            refused += 1;
        }
    }
    assert!(refused > bytes.len() / 8, "{refused} of {}", bytes.len());
}
