//! `dt-train train` on part of the data, or with delayed rewards.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::{dt_train, fixture};

/// Trains for one update on Minari's episodes of 12, 12 and 5 steps; such short ones have to be asked for by name.
fn train(out: &Path, options: &[&str]) -> Output {
    let data = fixture("minari/pendulum-v0");
    let tiny = [
        "dt.d_model=16",
        "dt.n_layer=1",
        "dt.context_len=2",
        "train.updates=1",
        "train.batch_size=2",
        "eval.episodes=1",
    ];
    let mut command = dt_train(&["train", "--device", "cpu", "--data", data.to_str().unwrap()]);
    command.args(["--env", "pendulum"]).arg("--out").arg(out);
    tiny.iter().for_each(|setting| {
        command.args(["--set", setting]);
    });
    command.args(options).output().unwrap()
}

#[test]
fn a_selection_is_trained_on_recorded_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let output = train(&run, &["--top-percent", "45", "--delayed-reward"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let run = run.to_str().unwrap();
    let output = dt_train(&["inspect", run, "--json"]).output().unwrap();
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    // 45 % of 29 steps: the best episode has 12, and the next one's 5 do not fit.
    assert_eq!(
        (&facts["transitions"], &facts["episodes"]),
        (&12.into(), &1.into())
    );
    assert_eq!(facts["config"]["data"]["top_percent"], 45.0);
    assert_eq!(facts["config"]["data"]["delayed_reward"], true);
    assert_eq!(facts["config"]["control"]["reward"], "constant");

    let policy = folder.path().join("policy.dtb");
    let output = dt_train(&["export", run, "--out", policy.to_str().unwrap()])
        .output()
        .unwrap();
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{notes}");
    assert!(!notes.contains("cannot be used"), "{notes}");
    let output = dt_train(&["inspect", policy.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let dataset = facts["dataset"].as_str().unwrap();
    assert!(
        dataset.ends_with("pendulum-v0, best 45 % by return, delayed reward"),
        "{dataset}"
    );
    assert_eq!(facts["reward"], "constant");
}

#[test]
fn selections_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for (options, part) in [
        (
            ["--top-percent", "0"].as_slice(),
            "`data.top_percent`: is 0",
        ),
        (
            &["--delayed-reward", "--set", "control.reward=observed"],
            "`control.reward`",
        ),
    ] {
        let output = train(&run, options);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(part), "{message}");
        assert!(!run.exists());
    }
}
