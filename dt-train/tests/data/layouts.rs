//! Layouts of HDF5 that their contents tell, whatever the file is called: Minari's, robomimic's, d3rlpy's.

use std::fs;
use std::path::{Path, PathBuf};

use dt_train::data::{Column, Dataset, Reading};

use crate::{create, fixture, put, ramp, refused, rejected, text};

#[test]
fn a_minari_file_under_another_name_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pendulum-random.hdf5");
    let whole = fixture("minari/pendulum-v0");
    fs::copy(whole.join("data/main_data.hdf5"), &path).unwrap();
    let (renamed, whole) = (
        Dataset::load(&[&path]).unwrap(),
        Dataset::load(&[whole]).unwrap(),
    );
    assert_eq!(renamed.observations.vectors(), whole.observations.vectors());
    assert_eq!(renamed.episodes, whole.episodes);
    assert_eq!(renamed.sources[0].sha256, whole.sources[0].sha256);
}

#[test]
fn other_contents_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.hdf5");
    let file = create(&path);
    put(&file, "states", &[3, 2], &ramp(6));
    file.create_group("data").unwrap();
    drop(file);
    refused(
        &path,
        &[
            "holds no trajectories",
            "robomimic",
            "it holds `data/`, `states` [3, 2]",
        ],
    );
    drop(create(&path));
    rejected(&path, &["it holds nothing"]);
}

/// Two demonstrations of three and two steps, written in the order 10, 2; the last observation of each is known.
fn robomimic(folder: &Path, change: impl FnOnce(&hdf5::Group)) -> PathBuf {
    let path = folder.join("low_dim.hdf5");
    let file = create(&path);
    let data = file.create_group("data").unwrap();
    for (name, steps, done) in [("demo_10", 3, 1), ("demo_2", 2, 0)] {
        let demo = data.create_group(name).unwrap();
        for (obs, first) in [("obs", 0.0), ("next_obs", 1.0)] {
            let group = demo.create_group(obs).unwrap();
            let of = |width| -> Vec<f64> {
                (0..steps * width)
                    .map(|i| first + (i / width) as f64)
                    .collect()
            };
            put(&group, "object", &[steps, 2], &of(2));
            put(&group, "robot", &[steps, 1], &of(1));
        }
        put(&demo, "actions", &[steps, 1], &vec![steps as f64; steps]);
        put(&demo, "rewards", &[steps], &vec![1.0f64; steps]);
        let mut dones = vec![0i64; steps];
        dones[steps - 1] = done;
        put(&demo, "dones", &[steps], &dones);
    }
    let about = data.new_attr::<hdf5::types::VarLenUnicode>();
    let about = about.create("env_args").unwrap();
    about
        .write_scalar(&text(r#"{"env_name": "Lift", "type": 1}"#))
        .unwrap();
    file.create_group("mask").unwrap();
    change(&data);
    path
}

fn keys(of: &[&str]) -> Reading {
    Reading {
        observation_keys: of.iter().map(|&key| key.into()).collect(),
        ..Reading::default()
    }
}

#[test]
fn robomimic_is_read_with_the_keys_that_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = robomimic(folder.path(), |_| ());
    refused(
        &path,
        &[
            "`data/demo_2/obs` is a dictionary: object (2), robot (1)",
            "--observation-keys object,robot",
        ],
    );
    let data = Dataset::load_as(&[&path], &keys(&["robot", "object"])).unwrap();
    // By number: demo_2 first.
    assert_eq!(data.actions.vectors().unwrap(), [2.0, 2.0, 3.0, 3.0, 3.0]);
    let states = [0.0, 1.0, 0.0, 1.0, 2.0].map(|step| [step; 3]);
    assert_eq!(data.observations.vectors().unwrap(), states.concat());
    let lasts = [[2.0f32; 3], [3.0; 3]].concat();
    assert_eq!(data.last_observations.vectors().unwrap(), lasts);
    let episodes: Vec<_> = data
        .episodes
        .iter()
        .map(|episode| (episode.rows.clone(), episode.terminated, episode.last))
        .collect();
    assert_eq!(episodes, [(0..2, false, Some(0)), (2..5, true, Some(1))]);
    assert_eq!(data.env(), Some("lift"));
    assert_eq!(data.sources[0].unfinished, 0);
}

type Change = &'static dyn Fn(&hdf5::Group);

#[test]
fn bad_demonstrations_are_refused_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let reading = keys(&["object"]);
    let skip = Reading {
        skip_bad_episodes: true,
        ..reading.clone()
    };
    let changes: [(Change, &str); 5] = [
        (
            &|demo| put(demo, "rewards", &[3], &[0.0, f64::NAN, 0.0]),
            "`data/demo_10/rewards`[1] is NaN",
        ),
        (
            &|demo| put(demo, "actions", &[3, 2], &[0.0f32; 6]),
            "`data/demo_10/actions` has 2 columns but the first episode has 1",
        ),
        (
            &|demo| put(demo, "actions", &[2, 1], &[0.0f32; 2]),
            "`data/demo_10/actions` has 2 rows but `data/demo_10/rewards` has 3",
        ),
        (
            &|demo| {
                put(
                    &demo.group("next_obs").unwrap(),
                    "object",
                    &[3, 2],
                    &[f32::NAN; 6],
                )
            },
            "`data/demo_10/next_obs/object`[0, 0] is NaN",
        ),
        (
            &|demo| {
                demo.unlink("rewards").unwrap();
                demo.unlink("dones").unwrap();
            },
            "has no `data/demo_10/rewards`, `data/demo_10/dones`; a demonstration of robomimic needs",
        ),
    ];
    for (change, expected) in changes {
        let path = robomimic(folder.path(), |data| {
            change(&data.group("demo_10").unwrap())
        });
        let message = Dataset::load_as(&[&path], &reading)
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message}");
        let data = Dataset::load_as(&[&path], &skip).unwrap();
        assert_eq!((data.len(), data.episodes.len()), (2, 1));
        let note = data.sources[0].notes.concat();
        let cause = expected.split("; ").next().unwrap();
        assert!(note.starts_with("1 of 2 episodes left out: "), "{note}");
        assert!(note.contains(cause), "{note}");
    }
    // Without a good one there is nothing to leave it out of.
    let path = robomimic(folder.path(), |data| data.unlink("demo_2").unwrap());
    assert!(Dataset::load_as(&[&path], &skip).is_ok());
    let path = robomimic(folder.path(), |data| {
        data.unlink("demo_2").unwrap();
        data.unlink("demo_10/dones").unwrap();
    });
    let message = Dataset::load_as(&[&path], &skip).unwrap_err().to_string();
    assert!(message.contains("has no `data/demo_10/dones`"), "{message}");
}

/// Two episodes of three and one steps; the second ended in a terminal state.
fn d3rlpy(folder: &Path, change: impl FnOnce(&hdf5::File)) -> PathBuf {
    let path = folder.join("SAC_replay_buffer.h5");
    let file = create(&path);
    for (number, steps, end) in [(0, 3, false), (1, 1, true)] {
        let of = |name: &str| format!("{name}_{number}");
        put(&file, &of("observations"), &[steps, 2], &ramp(2 * steps));
        put(&file, &of("actions"), &[steps, 1], &vec![2i64; steps]);
        put(&file, &of("rewards"), &[steps, 1], &vec![1.5f32; steps]);
        put(&file, &of("terminated"), &[], &[end]);
    }
    put(&file, "num_episodes", &[], &[2i64]);
    put(&file, "version", &[], &[text("2.0")]);
    change(&file);
    path
}

#[test]
fn replay_buffers_of_d3rlpy_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = d3rlpy(folder.path(), |_| ());
    let data = Dataset::load(&[&path]).unwrap();
    let states = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0];
    assert_eq!(data.observations.vectors().unwrap(), states);
    assert_eq!(data.actions, Column::choices(vec![2; 4]));
    assert_eq!(data.rewards, [1.5; 4]);
    let episodes: Vec<_> = data
        .episodes
        .iter()
        .map(|episode| (episode.rows.clone(), episode.terminated, episode.last))
        .collect();
    assert_eq!(episodes, [(0..3, false, None), (3..4, true, None)]);

    let path = d3rlpy(folder.path(), |file| {
        file.unlink("rewards_1").unwrap();
        file.unlink("terminated_1").unwrap();
    });
    refused(
        &path,
        &[
            "has no `rewards_1`, `terminated_1`; a replay buffer of d3rlpy needs",
            "it holds `actions_0` [3, 1]",
        ],
    );
    // A count that nothing follows is found out before as many are looked for.
    let path = d3rlpy(folder.path(), |file| {
        put(file, "num_episodes", &[], &[i64::MAX])
    });
    rejected(&path, &["has no `observations_9223372036854775806`"]);
    let path = d3rlpy(folder.path(), |file| {
        put(file, "num_episodes", &[], &[-1i64])
    });
    rejected(&path, &["`observations` is empty"]);
    let path = d3rlpy(folder.path(), |file| {
        put(file, "num_episodes", &[2], &[1u8, 2])
    });
    rejected(&path, &["`num_episodes` has shape [2]"]);
    let path = d3rlpy(folder.path(), |file| {
        put(file, "terminated_0", &[], &[0.5f32])
    });
    rejected(&path, &["`terminated_0` holds float32"]);
}

#[test]
fn flat_files_of_d3rlpy_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v1.h5");
    let file = create(&path);
    put(&file, "observations", &[4, 1], &ramp(4));
    put(&file, "actions", &[4, 1], &ramp(4));
    put(&file, "rewards", &[4], &ramp(4));
    put(&file, "terminals", &[4], &[0.0, 1.0, 0.0, 0.0f32]);
    put(&file, "episode_terminals", &[4], &[0.0, 1.0, 0.0, 1.0f32]);
    put(&file, "discrete_action", &[], &[false]);
    drop(file);
    let data = Dataset::load(&[&path]).unwrap();
    let episodes: Vec<_> = data
        .episodes
        .iter()
        .map(|episode| (episode.rows.clone(), episode.terminated))
        .collect();
    assert_eq!(episodes, [(0..2, true), (2..4, false)]);
}
