//! Data of one environment, trained on for another.

use std::path::Path;
use std::process::Output;

use dt_train::data::d4rl::{self, Metadata, Recording};

use crate::dt_train;

/// Twelve episodes of ten steps with the pendulum's dimensions.
pub fn write(path: &Path, env: &str) {
    let wave = |k: f32| move |i: u32| (k * i as f32).sin();
    let observations: Vec<f32> = (0..360).map(wave(0.3)).collect();
    let recording = Recording {
        frames: None,
        next_observations: observations.clone(),
        observations,
        actions: (0..120).map(wave(0.7)).collect(),
        rewards: (0..120).map(wave(0.1)).collect(),
        terminals: vec![false; 120],
        timeouts: (0..120).map(|i| i % 10 == 9).collect(),
    };
    let metadata = Metadata {
        env,
        policy: "test",
        seed: 0,
        choices: false,
    };
    d4rl::write(path, false, &recording, &metadata).unwrap();
}

/// Options for the smallest network there is, and the least of training.
pub const TINY: &str = "--device cpu --set dt.d_model=4 --set dt.n_layer=1 --set dt.sequence_len=5 \
                        --set dt.precision=f32 --set train.updates=1 --set train.batch_size=1 --set eval.episodes=1";

fn train(folder: &Path, args: &str) -> Output {
    let args: Vec<&str> = args.split(' ').chain(TINY.split_whitespace()).collect();
    let mut command = dt_train(&["train", "--out", "run"]);
    command.current_dir(folder).args(args).output().unwrap()
}

#[test]
fn data_of_another_environment_are_refused_unless_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("old.hdf5"), "Pendulum-v0");
    write(&folder.path().join("new.hdf5"), "Pendulum-v1");
    for (args, expected) in [
        (
            "--data old.hdf5 --env pendulum",
            "old.hdf5: the data are of environment `pendulum-v0`, --env asks for `pendulum`;",
        ),
        (
            "--data new.hdf5 old.hdf5 --env pendulum",
            "the data are of several environments: `pendulum` (new.hdf5), `pendulum-v0` (old.hdf5);",
        ),
    ] {
        let output = train(folder.path(), args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(
            message.starts_with(&format!("error: {expected}")),
            "{message}"
        );
        assert_eq!(output.status.code(), Some(1));
        assert!(!folder.path().join("run").exists());
        let output = train(
            folder.path(),
            &format!("{args} --force --set data.any_env=true"),
        );
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        assert!(message.contains("note: the data are of "), "{message}");
        std::fs::remove_dir_all(folder.path().join("run")).unwrap();
    }
}
