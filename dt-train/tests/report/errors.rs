//! What `dt-train report` refuses.

use std::fs;

use predicates::prelude::*;
use serde_json::json;

use super::lab::Lab;
use super::{edit, evaluate, export, trained};

/// Expects exit code 1 and a message with every fragment.
#[track_caller]
fn fails(lab: &Lab, args: &[&str], fragments: &[&str]) {
    let mut assert = lab.run(&[&["report"], args].concat()).code(1);
    for fragment in fragments {
        assert = assert.stderr(predicate::str::contains(*fragment));
    }
}

#[test]
fn bad_input_is_named() {
    let lab = trained(&["0"]);
    let out = ["--out", "report.html"];
    let with = |args: &[&'static str]| [args, &out].concat();
    fails(
        &lab,
        &with(&["nowhere"]),
        &["nowhere holds no training run"],
    );
    fs::create_dir(lab.path("empty")).unwrap();
    fails(
        &lab,
        &with(&["seed0", "empty"]),
        &["empty holds no training run"],
    );
    lab.run(&["report", "--out", "report.html"]).code(2);

    fs::write(lab.path("report.html"), "mine").unwrap();
    fails(
        &lab,
        &with(&["seed0"]),
        &["report.html already exists", "--force"],
    );
    assert_eq!(fs::read(lab.path("report.html")).unwrap(), b"mine");
    fs::remove_file(lab.path("report.html")).unwrap();

    let metrics = lab.path("seed0/metrics.jsonl");
    let good = fs::read_to_string(&metrics).unwrap();
    fs::write(
        &metrics,
        good.replacen("\"update\":10", "\"update\":\"ten\"", 1),
    )
    .unwrap();
    fails(&lab, &with(&["seed0"]), &["seed0/metrics.jsonl, line 2"]);
    fs::write(&metrics, good).unwrap();

    for (name, message) in [
        ("evaluations.jsonl", "evaluations.jsonl, line 1"),
        ("export-int8.json", "cannot read seed0/export-int8.json"),
    ] {
        fs::write(lab.path("seed0").join(name), "{}\n").unwrap();
        fails(&lab, &with(&["seed0"]), &[message]);
        fs::remove_file(lab.path("seed0").join(name)).unwrap();
    }
    assert!(!lab.path("report.html").exists());
}

#[test]
fn evaluations_of_other_policies_are_refused() {
    let lab = trained(&["0", "1"]);
    let policy = export(&lab, "seed0", "int8");
    evaluate(&lab, &policy, "-300", "int8.json");
    let args = ["seed1", "--eval", "int8.json", "--out", "report.html"];
    fails(
        &lab,
        &args,
        &[
            "int8.json: is of seed0-int8/policy.dtb",
            "run `seed0` (seed 0",
            "name it too",
        ],
    );
    evaluate(&lab, "seed1", "-300", "seed1.json");
    let args = ["seed0", "--eval", "seed1.json", "--out", "report.html"];
    fails(&lab, &args, &["seed1.json: is of run `seed1`"]);
    edit(&lab.path("int8.json"), |e| e["env"] = json!("hopper-v5"));
    let args = ["seed0", "--eval", "int8.json", "--out", "report.html"];
    fails(
        &lab,
        &args,
        &[
            "int8.json: is of environment `hopper-v5`",
            "seed0 was trained for `pendulum`",
        ],
    );
    edit(&lab.path("int8.json"), |e| e["policy"] = json!("gone.dtb"));
    fails(
        &lab,
        &args,
        &["int8.json: is of `gone.dtb`, which is not there"],
    );
    fs::write(lab.path("int8.json"), "[]x").unwrap();
    fails(&lab, &args, &["int8.json: not what `dt-train eval --json`"]);
}
