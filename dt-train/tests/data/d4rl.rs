//! The D4RL layout.

use std::path::{Path, PathBuf};

use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::data::{Dataset, Episode};

use crate::{put, ramp, refused, rejected};

/// Two episodes of two steps and an unfinished step; state_dim 3, act_dim 2.
const ROWS: usize = 5;
const TIMEOUTS: [u8; ROWS] = [0, 1, 0, 0, 0];
const TERMINALS: [u8; ROWS] = [0, 0, 0, 1, 0];

/// A good file, as `change` leaves it.
pub fn file(folder: &Path, change: impl FnOnce(&hdf5::File)) -> PathBuf {
    let path = folder.join("data.hdf5");
    let file = hdf5::File::create(&path).unwrap();
    put(&file, "observations", &[ROWS, 3], &ramp(3 * ROWS));
    put(&file, "actions", &[ROWS, 2], &ramp(2 * ROWS));
    put(&file, "rewards", &[ROWS], &ramp(ROWS));
    put(&file, "terminals", &[ROWS], &TERMINALS);
    put(&file, "timeouts", &[ROWS], &TIMEOUTS);
    change(&file);
    path
}

fn refused_after(change: impl FnOnce(&hdf5::File), parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    refused(&file(folder.path(), change), parts);
}

fn rejected_after(change: impl FnOnce(&hdf5::File), parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    rejected(&file(folder.path(), change), parts);
}

#[test]
fn a_plain_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::load(&[file(folder.path(), |_| ())]).unwrap();
    assert_eq!((data.state_dim, data.act_dim, data.len()), (3, 2, 4));
    assert_eq!(data.observations, ramp(12));
    assert_eq!(data.actions, ramp(8));
    assert_eq!(
        data.episodes,
        [
            Episode {
                rows: 0..2,
                terminated: false
            },
            Episode {
                rows: 2..4,
                terminated: true
            }
        ]
    );
    assert_eq!(data.sources[0].unfinished, 1);
    assert_eq!(data.returns_to_go(), [1.0, 1.0, 5.0, 3.0]);
}

#[test]
fn every_variant_of_the_layout_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Dataset::load(&[file(folder.path(), |_| ())]).unwrap();
    let other = folder.path().join("variant");
    std::fs::create_dir(&other).unwrap();
    let variant = file(&other, |file| {
        let wide = |n| ramp(n).into_iter().map(f64::from).collect::<Vec<_>>();
        put(file, "observations", &[ROWS, 3], &wide(3 * ROWS));
        put(file, "rewards", &[ROWS, 1], &wide(ROWS));
        put(
            file,
            "terminals",
            &[ROWS, 1],
            &TERMINALS.map(|flag| flag == 1),
        );
        put(file, "timeouts", &[ROWS], &TIMEOUTS.map(i64::from));
        put(file, "next_observations", &[1], &[0.0f32]);
        file.create_group("infos")
            .unwrap()
            .create_group("qpos")
            .unwrap();
        file.create_group("metadata").unwrap();
    });
    let variant = Dataset::load(&[variant]).unwrap();
    assert_eq!(variant.observations, plain.observations);
    assert_eq!(variant.rewards, plain.rewards);
    assert_eq!(variant.episodes, plain.episodes);
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.hdf5");
    let recording = Recording {
        observations: ramp(15),
        actions: ramp(10),
        rewards: ramp(5),
        next_observations: ramp(15),
        terminals: TERMINALS.map(|flag| flag == 1).to_vec(),
        timeouts: TIMEOUTS.map(|flag| flag == 1).to_vec(),
    };
    let metadata = Metadata {
        env: "pendulum",
        policy: "random",
        seed: u64::MAX,
    };
    d4rl::write(&path, false, &recording, &metadata).unwrap();
    let data = Dataset::load(&[&path]).unwrap();
    assert_eq!(
        (data.env(), data.sources[0].policy.as_deref()),
        (Some("pendulum"), Some("random"))
    );
    assert_eq!(
        (data.observations, data.actions, data.rewards),
        (ramp(12), ramp(8), ramp(4))
    );

    let file = hdf5::File::open(&path).unwrap();
    assert_eq!(
        file.dataset("next_observations")
            .unwrap()
            .read_raw::<f32>()
            .unwrap(),
        ramp(15)
    );
    assert_eq!(
        file.attr("seed").unwrap().read_scalar::<u64>().unwrap(),
        u64::MAX
    );
    let terminals = file.dataset("terminals").unwrap();
    // h5py's bool: an 8-bit enum of FALSE and TRUE.
    assert_eq!(
        terminals.dtype().unwrap().to_descriptor().unwrap(),
        hdf5::types::TypeDescriptor::Boolean
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file was left"
    );
}

#[test]
fn a_constant_feature_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |file| {
        put(file, "observations", &[ROWS, 3], &[7.0f32; 3 * ROWS])
    });
    let stats = Dataset::load(&[path]).unwrap().state_stats();
    assert_eq!((stats.mean, stats.std), (vec![7.0; 3], vec![1e-6; 3]));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |_| ());
    let bytes = std::fs::read(&path).unwrap();
    for kept in [9, bytes.len() / 4, bytes.len() / 2] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        rejected(&path, &["truncated or damaged", "again"]);
    }
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    refused(&path, &["truncated or damaged", "again"]);
}

#[test]
fn damage_inside_a_dataset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.hdf5");
    let recording = Recording {
        observations: vec![0.5; 3000],
        actions: vec![0.5; 1000],
        rewards: vec![0.5; 1000],
        next_observations: vec![0.5; 3000],
        terminals: vec![true; 1000],
        timeouts: vec![false; 1000],
    };
    d4rl::write(
        &path,
        false,
        &recording,
        &Metadata {
            env: "pendulum",
            policy: "x",
            seed: 0,
        },
    )
    .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // Every compressed chunk starts like this (zlib, level 4).
    let mut chunks = 0;
    for i in 0..bytes.len() - 1 {
        if bytes[i..i + 2] == [0x78, 0x5e] {
            bytes[i + 4..i + 8].fill(0xff);
            chunks += 1;
        }
    }
    assert!(chunks > 0);
    std::fs::write(&path, bytes).unwrap();
    refused(&path, &["`observations` cannot be read", "damaged"]);
}

#[test]
fn every_key_is_required() {
    for key in [
        "observations",
        "actions",
        "rewards",
        "terminals",
        "timeouts",
    ] {
        rejected_after(
            |file| file.unlink(key).unwrap(),
            &[&format!("has no `{key}`"), "the D4RL layout needs a"],
        );
    }
    refused_after(
        |file| file.unlink("timeouts").unwrap(),
        &["has no `timeouts`", "a bool array (N)"],
    );
}

#[test]
fn wrong_ranks_are_refused() {
    refused_after(
        |file| put(file, "observations", &[ROWS * 3], &ramp(3 * ROWS)),
        &["`observations` has shape [15]", "(N, state_dim)"],
    );
    rejected_after(
        |file| put(file, "actions", &[ROWS], &ramp(ROWS)),
        &["`actions` has shape [5]", "(N, act_dim)"],
    );
    rejected_after(
        |file| put(file, "rewards", &[ROWS, 2], &ramp(2 * ROWS)),
        &["`rewards` has shape [5, 2]", "(N)"],
    );
    rejected_after(
        |file| put(file, "timeouts", &[1, ROWS], &TIMEOUTS),
        &["`timeouts` has shape [1, 5]", "bool array (N)"],
    );
}

#[test]
fn wrong_types_are_refused() {
    refused_after(
        |file| put(file, "observations", &[ROWS, 3], &[1i32; 3 * ROWS]),
        &["`observations` holds int32", "floats"],
    );
    rejected_after(
        |file| put(file, "actions", &[ROWS], &[1i64; ROWS]),
        &["`actions` are discrete (int64)", "continuous"],
    );
    rejected_after(
        |file| put(file, "observations", &[ROWS, 4, 4, 1], &[1u8; 16 * ROWS]),
        &["`observations` are images (uint8, shape [5, 4, 4, 1])"],
    );
    rejected_after(
        |file| put(file, "terminals", &[ROWS], &ramp(ROWS)),
        &["`terminals` holds float32", "bool"],
    );
    rejected_after(
        |file| {
            file.unlink("rewards").unwrap();
            file.create_group("rewards").unwrap();
        },
        &["`rewards` is a dictionary"],
    );
}

#[test]
fn locked_files_are_waited_for_and_then_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |_| ());
    let lock = std::fs::File::open(&path).unwrap();
    lock.lock().unwrap();
    rejected(&path, &["locked", "close it"]);
    let release = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(lock);
    });
    Dataset::load(&[&path]).unwrap();
    release.join().unwrap();
}

#[test]
fn lengths_that_disagree_are_refused() {
    refused_after(
        |file| put(file, "actions", &[4, 2], &ramp(8)),
        &["`actions` has 4 rows", "`observations` has 5"],
    );
    rejected_after(
        |file| put(file, "rewards", &[6], &ramp(6)),
        &["`rewards` has 6 rows"],
    );
    rejected_after(
        |file| put(file, "terminals", &[4], &[0u8; 4]),
        &["`terminals` has 4 rows"],
    );
}

#[test]
fn values_that_are_not_finite_are_located() {
    let mut observations = ramp(3 * ROWS);
    observations[7] = f32::NAN;
    refused_after(
        |file| put(file, "observations", &[ROWS, 3], &observations),
        &["`observations`[2, 1] is NaN", "remove that episode"],
    );
    rejected_after(
        |file| {
            put(
                file,
                "rewards",
                &[ROWS],
                &[0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0],
            )
        },
        &["`rewards`[2] is -inf"],
    );
    // Finite in the file, but beyond the f32 it is converted to.
    rejected_after(
        |file| put(file, "actions", &[ROWS, 2], &[1e300f64; 2 * ROWS]),
        &["`actions`[0, 0] is inf"],
    );
}

#[test]
fn flags_other_than_0_and_1_are_located() {
    refused_after(
        |file| put(file, "terminals", &[ROWS], &[0u8, 0, 0, 2, 0]),
        &["`terminals`[3] is 2", "0 or 1"],
    );
    // 257 is 1 in its lowest byte.
    rejected_after(
        |file| put(file, "timeouts", &[ROWS], &[0i64, 257, 0, 1, 0]),
        &["`timeouts`[1] is 257"],
    );
}

#[test]
fn data_without_an_end_or_without_steps_are_refused() {
    refused_after(
        |file| {
            put(file, "terminals", &[ROWS], &[0u8; ROWS]);
            put(file, "timeouts", &[ROWS], &[0u8; ROWS]);
        },
        &["no episode ends", "all 5 rows", "set `timeouts`"],
    );
    refused_after(
        |file| put::<f32>(file, "observations", &[0, 3], &[]),
        &["`observations` is empty", "[0, 3]"],
    );
    rejected_after(
        |file| put::<f32>(file, "actions", &[ROWS, 0], &[]),
        &["`actions` is empty"],
    );
}

#[test]
fn files_of_different_dimensions_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let first = file(folder.path(), |_| ());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let second = file(&other, |file| put(file, "actions", &[ROWS, 1], &ramp(ROWS)));
    let message = Dataset::load(&[&first, &second]).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "{}: `actions` has 1 columns but {} has 2; use data of one environment",
            second.display(),
            first.display()
        )
    );
    let both = Dataset::load(&[&first, &first]).unwrap();
    assert_eq!(
        (both.len(), both.episodes.len(), both.sources.len()),
        (8, 4, 2)
    );
}
