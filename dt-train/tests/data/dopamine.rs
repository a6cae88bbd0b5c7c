//! Dopamine's replay logs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use dt_train::data::{Column, Dataset, Reading};
use flate2::Compression;
use flate2::write::GzEncoder;

/// NumPy's format, version 1.
fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let header = format!("{header:117}\n");
    assert_eq!((10 + header.len()) % 64, 0);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn put(folder: &Path, array: &str, number: u32, bytes: &[u8]) -> PathBuf {
    let path = folder.join(format!("$store$_{array}_ckpt.{number}.gz"));
    let mut file = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
    file.write_all(bytes).unwrap();
    file.finish().unwrap();
    path
}

/// Frames 1×2 of (row, row), rewards and choices that tell the row, ends; rows that are `None` are the zeros before an
/// episode.
fn log(folder: &Path, number: u32, rows: &[Option<bool>]) -> PathBuf {
    let n = rows.len();
    let of = |value: fn(usize) -> f32| -> Vec<f32> {
        let rows = rows.iter().enumerate();
        rows.map(|(i, row)| row.map_or(0.0, |_| value(i))).collect()
    };
    let frames: Vec<u8> = of(|i| i as f32 + 1.0)
        .iter()
        .flat_map(|&x| [x as u8; 2])
        .collect();
    let actions: Vec<u8> = of(|i| (i % 4) as f32)
        .iter()
        .flat_map(|&x| (x as i32).to_le_bytes())
        .collect();
    let rewards: Vec<u8> = of(|i| i as f32)
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let ends: Vec<u8> = rows
        .iter()
        .map(|row| u8::from(*row == Some(true)))
        .collect();
    put(
        folder,
        "action",
        number,
        &npy("<i4", &format!("{n},"), &actions),
    );
    put(
        folder,
        "reward",
        number,
        &npy("<f4", &format!("{n},"), &rewards),
    );
    put(
        folder,
        "terminal",
        number,
        &npy("|u1", &format!("{n},"), &ends),
    );
    put(
        folder,
        "observation",
        number,
        &npy("|u1", &format!("{n}, 1, 2"), &frames),
    )
}

const ZEROS: Option<bool> = None;
const STEP: Option<bool> = Some(false);
const END: Option<bool> = Some(true);

#[test]
fn rows_of_zeros_are_no_steps_and_what_began_earlier_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        STEP, END, // of an episode of the log before
        ZEROS, ZEROS, ZEROS, STEP, STEP, END, // rows 5 to 7
        ZEROS, ZEROS, ZEROS, END, // row 11
        ZEROS, ZEROS, ZEROS, STEP, STEP, // unfinished
    ];
    let path = log(folder.path(), 7, &rows);
    let data = Dataset::load(&[&path]).unwrap();
    assert_eq!(
        data.observations,
        Column::image([1, 2, 1], &[6, 6, 7, 7, 8, 8, 12, 12])
    );
    assert_eq!(data.rewards, [5.0, 6.0, 7.0, 11.0]);
    let Column::Discrete { values, .. } = &data.actions else {
        panic!("{:?}", data.actions)
    };
    assert_eq!(*values, [1, 2, 3, 3]);
    let episodes: Vec<_> = data
        .episodes
        .iter()
        .map(|e| (e.rows.clone(), e.terminated))
        .collect();
    assert_eq!(episodes, [(0..3, true), (3..4, true)]);
    let source = &data.sources[0];
    assert_eq!(source.unfinished, 2);
    assert!(
        source.notes[0].contains("the first 2 rows are left out"),
        "{:?}",
        source.notes
    );
    assert!(
        source.notes[1].contains("--frame-stack 4"),
        "{:?}",
        source.notes
    );
    // Whichever of the four files is named, or their folder.
    let reading = Reading {
        frame_stack: 4,
        ..Reading::default()
    };
    for path in [
        folder.path().to_owned(),
        folder.path().join("$store$_reward_ckpt.7.gz"),
    ] {
        let same = Dataset::load_as(&[path], &reading).unwrap();
        assert_eq!((same.sha256(), same.state_dim()), (data.sha256(), 8));
        assert_eq!(same.sources[0].notes.len(), 1);
    }

    // A log that begins with an episode is all there.
    let whole = log(folder.path(), 8, &rows[2..]);
    let whole = Dataset::load(&[whole]).unwrap();
    assert_eq!((whole.episodes.len(), whole.sources[0].notes.len()), (2, 1));
    // A black frame is one after as many rows of zeros as there can be.
    let black = log(folder.path(), 9, &[ZEROS, ZEROS, ZEROS, ZEROS, END]);
    assert_eq!(Dataset::load(&[black]).unwrap().len(), 2);
}

#[test]
fn bad_logs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = log(folder, 1, &[ZEROS, STEP, END]);
    let refused = |path: &Path, fragments: &[&str]| {
        let error = Dataset::load(&[path]).unwrap_err().to_string();
        for fragment in fragments {
            assert!(error.contains(fragment), "{error:?} lacks {fragment:?}");
        }
    };
    log(folder, 2, &[ZEROS, STEP, END]);
    refused(
        folder,
        &["holds the logs 1, 2", "$store$_observation_ckpt.1.gz"],
    );

    refused(
        &log(folder, 3, &[ZEROS, STEP, STEP]),
        &["no episode ends", "`terminal`"],
    );
    put(folder, "reward", 3, &npy("<f4", "2,", &[0; 8]));
    refused(
        &folder.join("$store$_action_ckpt.3.gz"),
        &[
            "$store$_reward_ckpt.3.gz",
            "`reward` has 2 rows but `observation` has 3",
        ],
    );
    put(folder, "reward", 3, &npy("<f4", "3,", &[255; 12]));
    refused(
        &folder.join("$store$_action_ckpt.3.gz"),
        &["`reward`[0] is NaN"],
    );
    put(folder, "action", 3, &npy("<i4", "3,", &[255; 12]));
    refused(
        &folder.join("$store$_action_ckpt.3.gz"),
        &["`action`[0] is -1"],
    );
    put(folder, "action", 3, &npy("<U4", "3,", &[0; 48]));
    refused(
        &folder.join("$store$_action_ckpt.3.gz"),
        &["`action` holds <U4"],
    );
    std::fs::remove_file(folder.join("$store$_terminal_ckpt.3.gz")).unwrap();
    refused(
        &folder.join("$store$_action_ckpt.3.gz"),
        &["$store$_terminal_ckpt.3.gz", "has no `terminal`"],
    );

    put(folder, "observation", 2, &npy("|u1", "3, 1, 2", &[1; 5]));
    refused(
        &folder.join("$store$_observation_ckpt.2.gz"),
        &["`observation` cannot be read", "damaged"],
    );
    // Shapes that no memory would hold.
    for shape in ["3, 4294967296, 4294967296", "3, 99999, 99999"] {
        put(folder, "observation", 2, &npy("|u1", shape, &[1; 6]));
        refused(
            &folder.join("$store$_observation_ckpt.2.gz"),
            &["$store$_observation_ckpt.2.gz"],
        );
    }
    put(folder, "observation", 2, &npy("|u1", "3, 1, 2", &[1; 6]));
    for rows in ["18446744073709551615,", "200000000000,"] {
        put(folder, "reward", 2, &npy("<f4", rows, &[0; 12]));
        refused(
            &folder.join("$store$_action_ckpt.2.gz"),
            &["$store$_reward_ckpt.2.gz", "ends before its shape says"],
        );
    }
    put(folder, "reward", 2, &npy("<f4", "3,", &[0; 12]));
    put(folder, "observation", 2, &npy("|u1", "3, 2", &[1; 6]));
    refused(
        &folder.join("$store$_observation_ckpt.2.gz"),
        &["`observation` has shape [3, 2]", "(rows, height, width)"],
    );
    put(folder, "observation", 2, b"something else, and long enough");
    refused(
        &folder.join("$store$_observation_ckpt.2.gz"),
        &["no gzipped array of NumPy"],
    );

    // Any byte of a file may be wrong: it is told, or it says nothing of the steps.
    let good = Dataset::load(&[&path]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for i in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[i] ^= 0x5a;
        std::fs::write(&path, broken).unwrap();
        if let Ok(data) = Dataset::load(&[&path]) {
            assert_eq!(data.observations, good.observations, "byte {i}");
        }
        std::fs::write(&path, &bytes[..i]).unwrap();
        assert!(Dataset::load(&[&path]).is_err(), "cut at {i}");
    }
}
