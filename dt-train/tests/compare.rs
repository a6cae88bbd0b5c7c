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
    results_in("pendulum", target, returns)
}

fn results_in(env: &str, target: f64, returns: [f64; 3]) -> Value {
    let mean = returns.iter().sum::<f64>() / 3.0;
    let episodes: Vec<_> = returns
        .iter()
        .enumerate()
        .map(|(seed, total)| json!({ "seed": seed, "return": total, "length": 200 }))
        .collect();
    json!({
        "env": env, "policy": "p.dtb", "target_return": target, "episodes": episodes,
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
    // Differences 1, 2, 3: mean 2, standard error 1/√3, Student's 4.303 with two degrees of freedom.
    let line = predicate::str::contains("2.000  -0.484 … 4.484  0.18 (-0.04 … 0.41)\n")
        .and(predicate::str::contains("one policy each"));
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

/// Three training seeds that differ by much more than their episodes do: pooled, the nine episodes would have an
/// interval that leaves out 0.
#[test]
fn several_pairs_are_clustered_by_training_seed() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (seed, difference) in [(0, 10.0), (1, 1000.0), (2, 1990.0)] {
        for (side, by) in [("a", difference), ("b", 0.0)] {
            let returns = [1000.0, 1001.0, 1002.0].map(|r| r + by);
            let value = results_in("hopper", 3600.0, returns);
            files.push(write(dir.path(), &format!("{side}{seed}.json"), &value));
        }
    }
    // Mean 1000, standard error 990/√3, times Student's 4.303: 2459.296; 100 points of score are 3254.572305.
    let lines = [
        "     3600         3  1011.00  1001.00   10.000  10.000 … 10.000  0.31 (0.31 … 0.31)\n",
        "     3600         9  2001.00  1001.00 1000.000  -1459.296 … 3459.296  30.73 (-44.84 … 106.29)\n",
        "takes training seeds, not episodes, for independent",
    ];
    let output = dt_train().arg("compare").args(&files).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    for line in lines {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }

    let fails = |files: &[&PathBuf], code, message: &str| {
        let output = dt_train().arg("compare").args(files).assert().code(code);
        output.stderr(predicate::str::contains(message));
    };
    let [a, b, c, ..] = files.as_slice() else {
        unreachable!()
    };
    fails(&[a, b, c], 2, "results come in pairs");
    fails(&[a, b, a, b], 1, "are given twice");
    let other = results_in("walker2d", 3600.0, [1.0, 2.0, 3.0]);
    let other = write(dir.path(), "other.json", &other);
    fails(
        &[a, b, &other, &other],
        1,
        "a0.json and ".to_owned().as_str(),
    );
    fails(
        &[a, b, &other, &other],
        1,
        "other.json are of different environments",
    );
}

#[test]
fn tables_count_training_seeds() {
    let dir = tempfile::tempdir().unwrap();
    for (row, env) in [("hopper", "hopper"), ("walker", "walker2d")] {
        for (seed, mean) in [(5, 1000.0), (6, 1500.0), (7, 2600.0)] {
            for (dtype, less) in [("int8", 0.0), ("f32", 10.0 * f64::from(seed))] {
                let mut value =
                    results_in(env, 3600.0, [-100.0, 0.0, 100.0].map(|d| mean + d - less));
                value["normalized_score"] = json!((mean - less) / 100.0);
                write(dir.path(), &format!("{row}-{seed}-{dtype}.json"), &value);
            }
        }
    }
    let description = r#"
        policies = ["int8", "f32"]
        [[row]]
        name = "Hopper"
        data = "1, 2"
        seeds = [5, 6, 7]
        files = ["hopper-{seed}-int8.json", "hopper-{seed}-f32.json"]
        before = [1000, 1100]
        [[row]]
        name = "Walker2d"
        seeds = [5, 6, 7, 8]
        files = ["walker-{seed}-int8.json", "walker-{seed}-f32.json"]
    "#;
    let file = dir.path().join("table.toml");
    fs::write(&file, description).unwrap();
    let table = |args: &[&str]| dt_train().arg("table").arg(&file).args(args).assert();
    table(&[])
        .code(1)
        .stderr(predicate::str::contains("walker-8-int8.json"));
    let output = table(&["--partial"])
        .success()
        .stderr(predicate::str::contains("Walker2d, seed 8: no "));
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    // The differences by seed are 50, 60, 70: 60 ± 4.303 · 10/√3, of which 32.54572305 are a point. Deviations by NumPy 2.4.6,
    // Welch's interval by SciPy 1.17.1.
    for cell in [
        "| Hopper | 1, 2 | 3600 | 1000; 1500; 2600 | **1700** ± 819 | ",
        " | 17.0 | 1640 ± 809 | 1.8 (1.1 … 2.6) | 1050 ± 71 | 650 (−1353 … 2653) |\n",
        "| Walker2d |  | 3600 | 1000; 1500; 2600 | **1700** ± 819 | ",
        " | – | – |\n",
        "int8: interquartile mean of the scores of 6 runs, 2 rows: 16.5 (",
        "int8 − f32: ",
    ] {
        assert!(text.contains(cell), "no {cell:?} in\n{text}");
    }

    let upright = description.replacen("[[", "line_per_policy = true\nmore = [\"updates\"]\n[[", 1);
    let of_policies =
        |cells: &str| upright.replace("seeds = ", &format!("more = {cells}\nseeds = "));
    fs::write(&file, of_policies(r#"[["2000"], ["300"]]"#)).unwrap();
    let output = table(&["--partial"]).success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    for part in [
        "**Hopper**, asked for 3600 (data: mean, best: 1, 2)\n\n|  | mean of each",
        " (95 %, over seeds) | updates |\n|---|---:|",
        "| int8 | 1000; 1500; 2600 | **1700** ± 819 | 1620 (",
        " | – | 2000 |\n| f32 | 950; 1440; 2530 | **1640** ± 809 | ",
        " | 16.4 | 1.8 (1.1 … 2.6) | 300 |\n\n**Walker2d**, asked for 3600\n\n",
        "\n\nint8: interquartile mean of the scores of 6 runs, 2 rows: 16.5 (",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // Cells for one policy of two; cells nobody heads.
    for wrong in [
        of_policies(r#"[["2000"]]"#),
        of_policies(r#"[["2000", "4"], ["300", "5"]]"#),
        of_policies(r#"[["2000"], ["300"]]"#).replace("line_per_policy = true", ""),
    ] {
        fs::write(&file, wrong).unwrap();
        table(&["--partial"])
            .code(1)
            .stderr(predicate::str::contains("for each of 2 policies, 1 cells"));
    }
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
