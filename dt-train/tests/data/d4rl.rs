//! The D4RL layout.

use std::path::{Path, PathBuf};

use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::data::{Column, Dataset, Episode, Reading};

use crate::{create, dt_train, put, ramp, refused, rejected, text};

/// Two episodes of two steps and an unfinished step; state_dim 3, act_dim 2.
const ROWS: usize = 5;
const TIMEOUTS: [u8; ROWS] = [0, 1, 0, 0, 0];
const TERMINALS: [u8; ROWS] = [0, 0, 0, 1, 0];

/// A good file, as `change` leaves it.
pub fn file(folder: &Path, change: impl FnOnce(&hdf5::File)) -> PathBuf {
    let path = folder.join("data.hdf5");
    let file = create(&path);
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
        frames: None,
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
        choices: false,
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

/// Or whoever reads them has all of them in memory twice, once as the library unpacks them.
#[test]
fn long_arrays_are_written_in_small_chunks() {
    const STEPS: usize = 40_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.hdf5");
    let states = ramp(11 * (STEPS + 1));
    let recording = Recording {
        frames: None,
        observations: states[..11 * STEPS].to_vec(),
        actions: ramp(3 * STEPS),
        rewards: ramp(STEPS),
        next_observations: states[11..].to_vec(),
        terminals: vec![false; STEPS],
        timeouts: (0..STEPS).map(|step| step == STEPS - 1).collect(),
    };
    let metadata = Metadata {
        env: "hopper",
        policy: "x",
        seed: 0,
        choices: false,
    };
    d4rl::write(&path, false, &recording, &metadata).unwrap();
    let file = hdf5::File::open(&path).unwrap();
    for (name, row) in [
        ("observations", 44),
        ("actions", 12),
        ("rewards", 4),
        ("next_observations", 44),
        ("timeouts", 1),
    ] {
        let chunk = file.dataset(name).unwrap().chunk().unwrap();
        let bytes = chunk[0] * row;
        assert!(
            bytes <= 1 << 17 && (bytes > 1 << 16 || chunk[0] == STEPS),
            "{name}: {chunk:?}"
        );
    }
    drop(file);
    let data = Dataset::load(&[&path]).unwrap();
    assert_eq!(data.observations.vectors().unwrap(), recording.observations);
    assert_eq!(data.rewards, recording.rewards);
}

#[test]
fn damage_inside_a_dataset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.hdf5");
    let recording = Recording {
        frames: None,
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
            choices: false,
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
        |file| put(file, "observations", &[ROWS, 3], &[true; 3 * ROWS]),
        &["`observations` holds bool", "floats"],
    );
    // Several choices at once are no vector.
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
        |file| put(file, "observations", &[ROWS, 4, 4], &[0.5_f32; 16 * ROWS]),
        &[
            "`observations` are images (numbers of shape [5, 4, 4])",
            "8-bit integers",
        ],
    );
    rejected_after(
        |file| put::<u8>(file, "observations", &[ROWS, 4, 0], &[]),
        &["`observations` is empty", "[5, 4, 0]"],
    );
    rejected_after(
        |file| put(file, "terminals", &[ROWS], &["no"; ROWS].map(text)),
        &["`terminals` holds unicode", "bool"],
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
        &["`observations`[2, 1] is NaN", "--skip-bad-episodes"],
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
    rejected_after(
        |file| put(file, "terminals", &[ROWS], &[0.0, 0.0, 0.5f32, 1.0, 0.0]),
        &["`terminals`[2] is 0.5", "0 or 1"],
    );
}

#[test]
fn data_without_an_end_or_without_steps_are_refused() {
    refused_after(
        |file| {
            put(file, "terminals", &[ROWS], &[0u8; ROWS]);
            put(file, "timeouts", &[ROWS], &[0u8; ROWS]);
        },
        &[
            "no episode ends",
            "all 5 rows of `terminals` and `timeouts`",
            "set `timeouts`",
            "--max-episode-steps N",
        ],
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
    assert_eq!(data.observations, Column::image([2, 3, 2], &pixels[..48]));
    // The unfinished step's choice is one of them.
    let values = vec![2, 0, 1, 0];
    assert_eq!(
        data.actions,
        Column::Discrete {
            n: 8,
            declared: false,
            values
        }
    );
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
        message.contains("dt.encoder = [[16, 3, 1]] of 2×3×2 pixels: kernel"),
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
    // Row 0 is followed by row 1 of its episode; rows 1 and 3 end theirs; row 4 is unfinished. Two of two are no ends.
    let mut other = after();
    (other[2], other[8], other[14]) = (5.5, 11.5, 17.5);
    let differs = "`next_observations` differs from the observation of the next row in";
    let expected = format!(
        "{differs} 2 of 2 steps inside episodes; if the rows are not in the order of the steps, no sequence can be \
         learned from them"
    );
    assert_eq!(with(other), (expected, 2));
    let mut rounded = after();
    rounded[2] *= 1.001;
    let expected = format!("{differs} 1 of 2 steps inside episodes, by no more than rounding");
    assert_eq!(with(rounded), (expected, 2));
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

/// Rows that go on from each other in three stretches of 4, 3 and 5 steps; a flag marks the end of the second, and
/// `next_observations` all.
fn unmarked(folder: &Path) -> PathBuf {
    const STEPS: usize = 12;
    let path = folder.join("unmarked.hdf5");
    let file = create(&path);
    let mut next: Vec<f32> = (1..=STEPS).map(|t| t as f32).collect();
    (next[3], next[6], next[11]) = (90.0, 91.0, 92.0);
    put(&file, "observations", &[STEPS, 1], &ramp(STEPS));
    put(&file, "next_observations", &[STEPS, 1], &next);
    put(&file, "actions", &[STEPS, 1], &ramp(STEPS));
    put(&file, "rewards", &[STEPS], &[1.0f32; STEPS]);
    let mut terminals = [false; STEPS];
    terminals[6] = true;
    put(&file, "terminals", &[STEPS], &terminals);
    put(&file, "timeouts", &[STEPS], &[false; STEPS]);
    path
}

/// The lengths of the episodes, and which of them are terminated.
fn lengths(data: &Dataset) -> (Vec<usize>, Vec<bool>) {
    let episodes = data.episodes.iter();
    episodes
        .map(|episode| (episode.rows.len(), episode.terminated))
        .unzip()
}

fn limited(path: &Path, steps: usize) -> Dataset {
    let reading = Reading {
        max_episode_steps: Some(steps),
        ..Reading::default()
    };
    Dataset::load_as(&[path], &reading).unwrap()
}

#[test]
fn ends_that_only_next_observations_show_are_refused_until_a_limit_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = unmarked(folder.path());
    refused(
        &path,
        &[
            "`next_observations`[3] is not the observation of row 4",
            "(1 such rows in all)",
            "--max-episode-steps 5",
            "set `timeouts` there",
        ],
    );
    // As the message says.
    let data = limited(&path, 5);
    assert_eq!(lengths(&data), (vec![4, 3, 5], vec![false, true, false]));
    assert_eq!(
        data.last_observations.vectors().unwrap(),
        [90.0, 91.0, 92.0]
    );
    assert_eq!(data.sources[0].unfinished, 0);
    let notes = data.sources[0].notes.join(" ");
    assert!(notes.contains("at 1 rows that no flag marks"), "{notes}");
    assert!(
        notes.contains("1 of 3 episodes end after 5 steps"),
        "{notes}"
    );
    // A shorter one cuts where the data go on, and knows what came there.
    let data = limited(&path, 3);
    let cut = vec![3, 1, 3, 3];
    assert_eq!(lengths(&data), (cut, vec![false, false, true, false]));
    let lasts = data.last_observations.vectors().unwrap();
    assert_eq!(lasts, [3.0, 90.0, 91.0, 10.0]);
    assert_eq!(data.sources[0].unfinished, 2);
}

#[test]
fn without_time_outs_a_limit_is_asked_for_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |file| file.unlink("timeouts").unwrap());
    refused(
        &path,
        &[
            "has no `timeouts`",
            "--max-episode-steps N",
            "it holds `actions` [5, 2], `observations` [5, 3], `rewards` [5], `terminals` [5]",
        ],
    );
    // Row 3 is terminal.
    let data = limited(&path, 3);
    assert_eq!(lengths(&data), (vec![3, 1], vec![false, true]));
    assert_eq!(data.sources[0].unfinished, 1);
    let output = dt_train(&["inspect", "--json", "--max-episode-steps", "3"])
        .arg(&path)
        .output()
        .unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["episodes"], 2);
    let note = summary["notes"][0].as_str().unwrap();
    assert!(note.contains("1 of 2 episodes end after 3 steps"), "{note}");

    let path = file(folder.path(), |file| {
        file.unlink("timeouts").unwrap();
        file.unlink("terminals").unwrap();
    });
    rejected(&path, &["has no `terminals`, `timeouts`;"]);
    assert_eq!(lengths(&limited(&path, 2)).0, [2, 2]);
    let reading = Reading {
        max_episode_steps: Some(6),
        ..Reading::default()
    };
    let message = Dataset::load_as(&[&path], &reading)
        .unwrap_err()
        .to_string();
    assert!(message.contains("--max-episode-steps 6 is more than its 5 rows"));
}

#[test]
fn all_that_is_missing_is_asked_for_at_once() {
    rejected_after(
        |file| {
            file.unlink("rewards").unwrap();
            file.unlink("timeouts").unwrap();
            for i in 0..20 {
                put(file, &format!("x{i:02}"), &[1], &[0u8]);
            }
        },
        &[
            "has no `rewards`, `timeouts`; the D4RL layout needs `rewards`, a float array (N); `timeouts`, a bool",
            "it holds `actions` [5, 2], `observations` [5, 3], `terminals` [5], `x00` [1]",
            "`x08` [1], 11 more",
        ],
    );
}

#[test]
fn flags_have_several_names() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Dataset::load(&[file(folder.path(), |_| ())]).unwrap();
    let ends = [0.0f32, 1.0, 0.0, 1.0, 0.0];
    let renamed = |[terminals, timeouts]: [&str; 2]| {
        Dataset::load(&[file(folder.path(), |file| {
            file.unlink("terminals").unwrap();
            file.unlink("timeouts").unwrap();
            for (name, ends, flags) in [
                (terminals, ["dones", "episode_terminals"], TERMINALS),
                (timeouts, ["dones", "done"], TIMEOUTS),
            ] {
                let flags = if ends.contains(&name) {
                    [0, 1, 0, 1, 0]
                } else {
                    flags
                };
                put(file, name, &[ROWS, 1], &flags.map(f32::from));
            }
        })])
        .unwrap()
    };
    for names in [
        ["terminations", "truncations"],
        ["terminated", "truncated"],
        ["terminals", "dones"],
        ["terminals", "done"],
        ["episode_terminals", "timeouts"],
        ["dones", "truncations"],
    ] {
        let data = renamed(names);
        assert_eq!(data.episodes, plain.episodes, "{names:?}");
        assert!(data.sources[0].notes.is_empty(), "{names:?}");
    }
    // Where both are there, a third does not count.
    let three = file(folder.path(), |file| {
        put(file, "dones", &[ROWS], &[1u8; ROWS])
    });
    assert_eq!(Dataset::load(&[three]).unwrap().episodes, plain.episodes);

    let single = file(folder.path(), |file| {
        file.unlink("terminals").unwrap();
        file.unlink("timeouts").unwrap();
        put(file, "dones", &[ROWS], &ends);
    });
    let data = Dataset::load(&[&single]).unwrap();
    assert_eq!(lengths(&data), (vec![2, 2], vec![false, false]));
    let note = &data.sources[0].notes[0];
    assert!(note.contains("`dones` does not say"), "{note}");
    assert!(note.contains("--max-episode-steps N"), "{note}");
    let data = limited(&single, 2);
    assert_eq!(lengths(&data), (vec![2, 2], vec![false, false]));
    let data = limited(&single, 10);
    assert_eq!(lengths(&data), (vec![2, 2], vec![true, true]));
    assert!(data.sources[0].notes[0].contains("2 of 2"));
}

#[test]
fn whole_numbers_are_read_exactly_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let largest = 1 << 24;
    let path = file(folder.path(), |file| {
        put(
            file,
            "rewards",
            &[ROWS],
            &[0, -largest, largest, 1i64 << 40, 0],
        );
        put(file, "observations", &[ROWS, 3], &[7u8; 3 * ROWS]);
    });
    let data = Dataset::load(&[path]).unwrap();
    assert_eq!(
        data.rewards,
        [0.0, -16_777_216.0, 16_777_216.0, 1_099_511_627_776.0]
    );
    assert_eq!(data.observations.vectors().unwrap(), [7.0; 12]);
    rejected_after(
        |file| put(file, "rewards", &[ROWS], &[0, 1, 2, largest + 1, 0i64]),
        &["`rewards`[3] is 16777217", "which 32-bit floats round"],
    );
    let mut wide = [0u64; 3 * ROWS];
    wide[4] = u64::MAX;
    rejected_after(
        |file| put(file, "observations", &[ROWS, 3], &wide),
        &["`observations`[1, 1] is 9223372036854775807"],
    );
}

#[test]
fn floats_of_16_bits_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |file| {
        file.unlink("observations").unwrap();
        let values = [0.5, -2.0, 0.099975586, 65504.0, 6e-8];
        let values: Vec<f32> = values.iter().copied().cycle().take(3 * ROWS).collect();
        let kind = hdf5::types::TypeDescriptor::Float(hdf5::types::FloatSize::U2);
        let builder = file.new_dataset_builder().empty_as(&kind);
        let dataset = builder.shape([ROWS, 3]).create("observations").unwrap();
        dataset.write_raw(&values).unwrap();
    });
    let data = Dataset::load(&[path]).unwrap();
    let smallest = 2.0f32.powi(-24);
    assert_eq!(
        data.observations.vectors().unwrap()[..5],
        [0.5, -2.0, 0.099975586, 65504.0, smallest]
    );
}

#[test]
fn transposed_arrays_are_refused_as_such() {
    for rewards in [vec![ROWS], vec![1, ROWS], vec![ROWS, 1]] {
        rejected_after(
            |file| {
                put(file, "observations", &[3, ROWS], &ramp(3 * ROWS));
                put(file, "actions", &[2, ROWS], &ramp(2 * ROWS));
                put(file, "rewards", &rewards, &ramp(ROWS));
            },
            &["`observations` has shape [3, 5] but there are 5 steps: it is transposed"],
        );
    }
    refused_after(
        |file| put(file, "actions", &[2, ROWS], &ramp(2 * ROWS)),
        &["`actions` has shape [2, 5]", "python -c", "v[()].T"],
    );
    // As many features as steps are none of it.
    let folder = tempfile::tempdir().unwrap();
    let square = file(folder.path(), |file| {
        put(file, "observations", &[ROWS, ROWS], &ramp(ROWS * ROWS));
    });
    assert_eq!(Dataset::load(&[square]).unwrap().state_dim(), ROWS);
}

#[test]
fn bad_episodes_are_left_out_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let skip = Reading {
        skip_bad_episodes: true,
        ..Reading::default()
    };
    let with = |row: usize, key: &str| {
        file(folder.path(), |file| {
            put(file, "next_observations", &[ROWS, 3], &after());
            let width = if key == "rewards" { 1 } else { 2 };
            let mut values = ramp(width * ROWS);
            values[row * width] = f32::NAN;
            let shape = if width == 1 {
                vec![ROWS]
            } else {
                vec![ROWS, 2]
            };
            put(file, key, &shape, &values);
        })
    };
    for (row, kept, last) in [
        (1, vec![true], vec![103.0, 104.0, 105.0]),
        (2, vec![false], vec![100.0, 101.0, 102.0]),
    ] {
        for key in ["rewards", "actions"] {
            let path = with(row, key);
            rejected(&path, &["--skip-bad-episodes"]);
            let data = Dataset::load_as(&[&path], &skip).unwrap();
            assert_eq!(lengths(&data), (vec![2], kept.clone()), "{key}");
            assert_eq!(data.episodes[0].rows, 0..2);
            assert_eq!(data.last_observations.vectors().unwrap(), last);
            let first = if row == 1 { 2.0 } else { 0.0 };
            assert_eq!(data.rewards, [first, first + 1.0]);
            let note = data.sources[0].notes.concat();
            assert!(note.starts_with("1 of 2 episodes are left out"), "{note}");
        }
    }
    // In the unfinished one, which is left out anyway.
    let data = Dataset::load_as(&[with(4, "rewards")], &skip).unwrap();
    assert_eq!(lengths(&data).0, [2, 2]);
    assert!(data.sources[0].notes.is_empty());
    let all = file(folder.path(), |file| {
        put(file, "rewards", &[ROWS], &[f32::NAN; ROWS])
    });
    let message = Dataset::load_as(&[&all], &skip).unwrap_err().to_string();
    assert!(message.contains("`rewards`[0] is NaN"), "{message}");
}

#[test]
fn dictionaries_become_vectors_of_the_entries_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |file| {
        file.unlink("observations").unwrap();
        let group = file.create_group("observations").unwrap();
        put(&group, "near", &[ROWS, 2], &ramp(2 * ROWS));
        put(&group, "step", &[ROWS], &[4.0f32; ROWS]);
        put(&group, "late", &[4, 2], &ramp(8));
        put(&group, "camera", &[ROWS, 1, 1, 3], &[0u8; 3 * ROWS]);
    });
    refused(
        &path,
        &[
            "`observations` is a dictionary: camera (1, 1, 3), late (2), near (2), step ()",
            "--observation-keys late,near",
        ],
    );
    let read = |keys: &[&str]| {
        let reading = Reading {
            observation_keys: keys.iter().map(|&key| key.into()).collect(),
            ..Reading::default()
        };
        Dataset::load_as(&[&path], &reading).map_err(|error| error.to_string())
    };
    let data = read(&["step", "near"]).unwrap();
    let rows = [
        [4.0, 0.0, 1.0],
        [4.0, 2.0, 3.0],
        [4.0, 4.0, 5.0],
        [4.0, 6.0, 7.0],
    ];
    assert_eq!(data.observations.vectors().unwrap(), rows.concat());
    let message = read(&["near", "far", "away"]).unwrap_err();
    assert!(
        message.contains("`observations` has no entry `far`, `away`;"),
        "{message}"
    );
    assert!(
        message.contains("--observation-keys: camera (1, 1, 3), late (2), near (2), step ()"),
        "{message}"
    );
    let message = read(&["camera"]).unwrap_err();
    assert!(
        message.contains("`observations/camera` is Image 1×1×3, which does not join a vector"),
        "{message}"
    );
    let message = read(&["near", "late"]).unwrap_err();
    assert!(
        message.contains("`observations/late` has 4 rows but `observations/near` has 5"),
        "{message}"
    );
    // And what is none has no entries.
    let path = file(folder.path(), |_| ());
    let reading = Reading {
        observation_keys: vec!["near".into()],
        ..Reading::default()
    };
    let message = Dataset::load_as(&[path], &reading).unwrap_err().to_string();
    assert!(
        message.contains("`observations` is no dictionary"),
        "{message}"
    );
}

/// More values than are read at once, in chunks of many rows and of few.
#[test]
fn large_next_observations_are_read_in_blocks() {
    const STEPS: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.hdf5");
    for chunk in [[7, 3], [STEPS, 1], [30_000, 8]] {
        let file = create(&path);
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
