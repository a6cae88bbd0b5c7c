//! Replay data in parquet.

use dt_train::data::{Column, Dataset};

use crate::{fixture, reads_as_expected, refused, rejected};

fn rejected_fixture(name: &str, parts: &[&str]) {
    rejected(&fixture(&format!("parquet/{name}.parquet")), parts);
}

#[test]
fn files_of_every_writer_read_as_pandas_reads_them() {
    let data = reads_as_expected("parquet/pandas.parquet");
    assert_eq!((data.state_dim(), data.act_dim(), data.len()), (3, 2, 9));
    assert_eq!(data.env(), None);
    for name in ["wide", "gzip"] {
        let other = reads_as_expected(&format!("parquet/{name}.parquet"));
        assert_eq!(
            (other.observations, other.episodes),
            (data.observations.clone(), data.episodes.clone())
        );
    }
}

#[test]
fn every_column_is_required() {
    refused(
        &fixture("parquet/no_dones.parquet"),
        &[
            "has no `dones`",
            "replay data in parquet needs a list of bools",
        ],
    );
    for column in ["observations", "actions", "rewards"] {
        rejected_fixture(&format!("no_{column}"), &[&format!("has no `{column}`")]);
    }
}

#[test]
fn other_kinds_of_observations_and_actions_are_refused_by_name() {
    rejected_fixture(
        "dictionary",
        &["`observations` is a dictionary (goal, robot)"],
    );
    rejected_fixture("images", &["`observations` are images (binary data)"]);
    rejected_fixture("pixels", &["`observations` are images (nested lists)"]);
    rejected_fixture("integers", &["`rewards` holds INT64", "floats"]);
}

#[test]
fn lists_that_do_not_fit_are_located() {
    rejected_fixture(
        "steps",
        &[
            "`observations` is a list of numbers",
            "one list of numbers per step",
        ],
    );
    rejected_fixture("null", &["`rewards`[0] has an empty list or a null in it"]);
    rejected_fixture(
        "hollow",
        &["`observations`[0] has an empty list or a null in it"],
    );
    rejected_fixture(
        "ragged",
        &["`actions`[0] has a vector of length 1, the first has 2"],
    );
    rejected_fixture(
        "uneven",
        &["`rewards[0]` has 3 rows but `observations[0]` has 4"],
    );
    rejected_fixture(
        "nan",
        &["`observations`[0, 3, 2] is NaN", "remove that episode"],
    );
    rejected_fixture("inside", &["`dones[0]` is set at step 0 of 4"]);
    rejected_fixture("flags", &["`dones`[0] is 2", "0 or 1"]);
    rejected_fixture("empty", &["`observations` is empty"]);
}

#[test]
fn other_compressions_are_refused_by_name() {
    rejected_fixture(
        "brotli",
        &["`observations` is compressed with BROTLI", "snappy"],
    );
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let bytes = std::fs::read(fixture("parquet/pandas.parquet")).unwrap();
    for kept in [4, 12, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        rejected(
            &path,
            &["the file cannot be read", "truncated or damaged", "again"],
        );
    }
    // Not every byte matters, but none may do worse than an error of one line that names the file.
    let mut refused = 0;
    for i in 4..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[i] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = Dataset::load(&[&path]) {
            let message = error.to_string();
            assert_eq!(message.lines().count(), 1, "byte {i}: {message}");
            refused += 1;
        }
    }
    assert!(refused > bytes.len() / 4, "{refused} of {}", bytes.len());
}

#[test]
fn choices_and_images_are_read_as_they_are() {
    let data = Dataset::load(&[fixture("parquet/discrete.parquet")]).unwrap();
    let values = vec![1; 9];
    assert_eq!(data.actions, Column::Discrete { n: 2, values });
    assert_eq!(data.state_dim(), 3);

    let data = Dataset::load(&[fixture("parquet/frames.parquet")]).unwrap();
    // Pixel number i of the file is i % 256.
    let values = (0..9 * 12).map(|i| i as u8).collect();
    let shape = [2, 3, 2];
    assert_eq!(data.observations, Column::Image { shape, values });
    let lens: Vec<usize> = data.episodes.iter().map(|e| e.rows.len()).collect();
    assert_eq!(lens, [4, 3, 2]);

    let data = Dataset::load(&[fixture("parquet/grey.parquet")]).unwrap();
    let values = (0..9 * 6).map(|i| i as u8).collect();
    let shape = [2, 3, 1];
    assert_eq!(data.observations, Column::Image { shape, values });
    rejected_fixture(
        "crooked",
        &["`observations`[1] has a vector of length 2, the first has 3"],
    );
}
