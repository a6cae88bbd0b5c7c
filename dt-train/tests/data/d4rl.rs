//! The D4RL layout.

use std::path::{Path, PathBuf};

use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::data::{Column, Dataset, Episode};

use crate::{dt_train, put, ramp, refused, rejected};

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

/// Next observations of the good file: those of the next row, or 100 and on where an episode ends.
fn after() -> Vec<f32> {
    let mut after = ramp(3 * ROWS);
    after.iter_mut().for_each(|x| *x += 3.0);
    after[3..6].copy_from_slice(&[100.0, 101.0, 102.0]);
    after[9..12].copy_from_slice(&[103.0, 104.0, 105.0]);
    after
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
    assert_eq!((data.state_dim(), data.act_dim(), data.len()), (3, 2, 4));
    assert_eq!(data.observations.vectors().unwrap(), ramp(12));
    assert_eq!(data.actions.vectors().unwrap(), ramp(8));
    assert_eq!(
        data.episodes,
        [
            Episode {
                rows: 0..2,
                ..Episode::default()
            },
            Episode {
                rows: 2..4,
                terminated: true,
                ..Episode::default()
            }
        ]
    );
    // The file does not say what came after the last actions, so nobody does.
    assert!(data.last_observations.is_empty());
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
    assert!(variant.last_observations.is_empty());
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.hdf5");
    let recording = Recording {
        observations: ramp(15),
        actions: ramp(10),
        rewards: ramp(5),
        next_observations: after(),
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
        (
            data.observations.vectors().unwrap(),
            data.actions.vectors().unwrap(),
            data.rewards
        ),
        (&ramp(12)[..], &ramp(8)[..], ramp(4))
    );
    let lasts = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0];
    assert_eq!(data.last_observations.vectors().unwrap(), lasts);
    assert_eq!(
        data.episodes.iter().map(|e| e.last).collect::<Vec<_>>(),
        [Some(0), Some(1)]
    );
    assert!(data.sources[0].notes.is_empty());

    let file = hdf5::File::open(&path).unwrap();
    assert_eq!(
        file.dataset("next_observations")
            .unwrap()
            .read_raw::<f32>()
            .unwrap(),
        after()
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
    let stats = Dataset::load(&[path]).unwrap().state_stats().unwrap();
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
        |file| put(file, "actions", &[ROWS, 2], &[1i64; 2 * ROWS]),
        &["`actions` holds int64", "floats"],
    );
    rejected_after(
        |file| put(file, "actions", &[ROWS], &[0i64, 1, -1, 0, 0]),
        &["`actions`[2] is -1", "counted from 0"],
    );
    rejected_after(
        |file| put(file, "observations", &[ROWS, 4, 4, 1], &[1u16; 16 * ROWS]),
        &["`observations` are images (uint16, shape [5, 4, 4, 1])"],
    );
    rejected_after(
        |file| put::<u8>(file, "observations", &[ROWS, 4, 0], &[]),
        &["`observations` is empty", "[5, 4, 0]"],
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

#[test]
fn choices_and_images_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..12 * ROWS as u8).collect();
    let path = file(folder.path(), |file| {
        put(file, "observations", &[ROWS, 2, 3, 2], &pixels);
        put(file, "actions", &[ROWS, 1], &[2u8, 0, 1, 0, 7]);
        put(file, "next_observations", &[ROWS, 2, 3, 2], &pixels);
    });
    let data = Dataset::load(&[&path]).unwrap();
    let shape = [2, 3, 2];
    let values = pixels[..48].to_vec();
    assert_eq!(data.observations, Column::Image { shape, values });
    // The unfinished step's choice is one of them.
    let values = vec![2, 0, 1, 0];
    assert_eq!(data.actions, Column::Discrete { n: 8, values });
    assert_eq!(data.state_stats(), None);
    assert_eq!(
        data.sources[0].notes.len(),
        1,
        "{:?}",
        data.sources[0].notes
    );

    let output = dt_train(&["inspect", path.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["observation_space"], "Image 2×3×2");
    assert_eq!(summary["action_space"], "Discrete(8)");
    assert_eq!(
        (&summary["state_dim"], &summary["act_dim"]),
        (&12.into(), &1.into())
    );
    assert_eq!(summary["state_high"], serde_json::json!([47.0]));
    assert_eq!(summary["state_mean"], serde_json::json!([]));
    let table = dt_train(&["inspect", path.to_str().unwrap()])
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("\nactions      Discrete(8)\n"), "{table}");
    assert!(table.contains("note         "), "{table}");

    let output = dt_train(&["train", "--data", path.to_str().unwrap(), "--out"])
        .arg(folder.path().join("run"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("the observations are Image 2×3×2;"),
        "{message}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn data_of_other_kinds_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let first = file(folder.path(), |_| ());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let second = file(&other, |file| put(file, "actions", &[ROWS], &[1i64; ROWS]));
    let message = Dataset::load(&[&first, &second]).unwrap_err().to_string();
    let expected = format!(
        "{}: `actions` are Discrete(2) but {} has Box(2), unbounded; use data of one environment",
        second.display(),
        first.display()
    );
    assert_eq!(message, expected);
}

#[test]
fn odd_next_observations_are_noted() {
    let notes = |change: &dyn Fn(&hdf5::File)| {
        let folder = tempfile::tempdir().unwrap();
        let data = Dataset::load(&[file(folder.path(), |file| change(file))]).unwrap();
        (
            data.sources[0].notes.join(" "),
            data.last_observations.len(),
        )
    };
    let with = |next: Vec<f32>| {
        notes(&move |file: &hdf5::File| put(file, "next_observations", &[ROWS, 3], &next))
    };
    assert_eq!(with(after()), (String::new(), 2));
    // Row 0 is followed by row 1 of its episode; rows 1 and 3 end theirs; row 4 is unfinished.
    let mut other = after();
    other[2] += 0.5;
    other[14] += 0.5;
    let expected = "`next_observations` differs from the observation of the next row in 1 of 2 steps inside episodes";
    assert_eq!(with(other), (expected.into(), 2));
    let mut infinite = after();
    infinite[10] = f32::INFINITY;
    let expected = "`next_observations`[3] is not finite: all of it is left out";
    assert_eq!(with(infinite), (expected.into(), 0));
    let (note, known) = notes(&|file| put(file, "next_observations", &[4, 3], &ramp(12)));
    assert_eq!(
        note,
        "`next_observations` is no float array [5, 3]: left out"
    );
    assert_eq!(known, 0);
}

/// More values than are read at once, in chunks of many rows and of few.
#[test]
fn large_next_observations_are_read_in_blocks() {
    const STEPS: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.hdf5");
    for chunk in [[7, 3], [STEPS, 1], [30_000, 8]] {
        let file = hdf5::File::create(&path).unwrap();
        let states = ramp(8 * STEPS);
        let next: Vec<f32> = (8..8 * STEPS + 8).map(|i| i as f32).collect();
        for (key, values) in [("observations", &states), ("next_observations", &next)] {
            let builder = file.new_dataset::<f32>().chunk(chunk).shape([STEPS, 8]);
            builder.create(key).unwrap().write_raw(values).unwrap();
        }
        put(&file, "actions", &[STEPS, 1], &vec![0.0f32; STEPS]);
        put(&file, "rewards", &[STEPS], &vec![0.0f32; STEPS]);
        put(&file, "terminals", &[STEPS], &vec![false; STEPS]);
        let timeouts: Vec<bool> = (1..=STEPS).map(|t| t % 1000 == 0).collect();
        put(&file, "timeouts", &[STEPS], &timeouts);
        drop(file);
        let data = Dataset::load(&[&path]).unwrap();
        assert!(
            data.sources[0].notes.is_empty(),
            "{:?}",
            data.sources[0].notes
        );
        let lasts = data.last_observations.vectors().unwrap();
        let expected = |i: usize| (8000 * (i / 8 + 1) + i % 8) as f32;
        assert_eq!(lasts.len(), 8 * 100);
        assert!(lasts.iter().enumerate().all(|(i, &x)| x == expected(i)));
    }
}
