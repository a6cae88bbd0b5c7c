//! `dt-train compare` and `plot`: results of evaluations, side by side.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::{Value, json};

fn dt_train() -> Command {
    Command::cargo_bin("dt-train").unwrap()
}

/// Results of three episodes, as `--json` writes them.
fn results(target: f64, returns: [f64; 3]) -> Value {
    let mean = returns.iter().sum::<f64>() / 3.0;
    let episodes: Vec<_> = returns
        .iter()
        .enumerate()
        .map(|(seed, total)| json!({ "seed": seed, "return": total, "length": 200 }))
        .collect();
    json!({
        "env": "pendulum", "policy": "p.dtb", "target_return": target, "episodes": episodes,
        "mean_return": mean, "std_return": 1.0, "normalized_score": null,
    })
}

fn write(dir: &Path, name: &str, value: &Value) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, value.to_string()).unwrap();
    path
}

#[test]
fn paired_differences_are_printed_with_their_interval() {
    let dir = tempfile::tempdir().unwrap();
    let a = write(
        dir.path(),
        "a.json",
        &results(-150.0, [-100.0, -200.0, -300.0]),
    );
    let b = write(
        dir.path(),
        "b.json",
        &results(-150.0, [-101.0, -202.0, -303.0]),
    );
    // Differences 1, 2, 3: mean 2, standard error 1/√3.
    let line = predicate::str::contains("2.000  0.868 … 3.132");
    dt_train()
        .arg("compare")
        .args([&a, &b])
        .assert()
        .success()
        .stdout(line);
}

#[test]
fn results_that_do_not_pair_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = results(-150.0, [-1.0, -2.0, -3.0]);
    let a = write(dir.path(), "a.json", &ours);
    let mut seeds = ours.clone();
    seeds["episodes"][1]["seed"] = json!(9);
    let cases = [
        (seeds, "different seeds"),
        (results(-300.0, [-1.0, -2.0, -3.0]), "target returns"),
        (json!([ours, ours]), "hold 1 and 2 target returns"),
        (
            json!({ "env": "pendulum" }),
            "not what `dt-train eval --json`",
        ),
    ];
    for (other, message) in cases {
        let b = write(dir.path(), "b.json", &other);
        let output = dt_train().arg("compare").args([&a, &b]).assert().code(1);
        output.stderr(predicate::str::contains(message));
    }
    let missing = dt_train()
        .arg("compare")
        .args([&a, &dir.path().join("none")])
        .assert()
        .code(1);
    missing.stderr(predicate::str::contains("cannot read"));
}

#[test]
fn plots_are_written_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let several = json!([
        results(-300.0, [-1.0, -2.0, -3.0]),
        results(-150.0, [-1.0, -1.0, -3.0])
    ]);
    let results = write(dir.path(), "medium.json", &several);
    for (name, magic) in [("t.png", &b"\x89PNG"[..]), ("t.svg", &b"<svg"[..])] {
        let out = dir.path().join(name);
        let plot = || {
            let mut command = dt_train();
            command.arg("plot").arg(&results).arg("--out").arg(&out);
            command
        };
        let correlation = "medium: Pearson correlation of target and mean achieved return 1.000";
        plot()
            .assert()
            .success()
            .stdout(predicate::str::contains(correlation));
        assert!(fs::read(&out).unwrap().starts_with(magic));
        plot()
            .assert()
            .code(1)
            .stderr(predicate::str::contains("--force"));
        plot().arg("--force").assert().success();
    }
}
