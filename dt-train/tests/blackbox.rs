//! The circle: what a controller did under faults and resets is fetched, replayed to the bit, and trained on.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use dt_control::ResetCause;
use dt_core::blob::RewardMode;
use host_sim::blackbox::{BlackBox, Verdict, log, replay};
use predicates::prelude::*;
use serde_json::Value;
use tests::life::{End, live, memory};
use tests::{episodes, small_config};

const RECIPE: &str = "
[dt]
d_model = 16
n_layer = 2
n_head = 2
context_len = 3
max_ep_len = 200

[data]
return_scale = 0.0

[train]
updates = 20
batch_size = 8
warmup_updates = 5
";

#[test]
fn a_robots_black_box_is_replayed_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let policy = episodes::policy(small_config(), RewardMode::Observed, 3);
    let mut memory = memory(400);
    let life = [
        (60, End::StaleSensor),
        (45, End::Reset(ResetCause::Watchdog)),
        (50, End::LateAction),
        (70, End::Reset(ResetCause::BrownOut)),
        (40, End::OutOfRange),
    ];
    live(&policy, &mut memory, &life);

    let box_ = BlackBox::new(Path::new("box.bin"), &memory).unwrap();
    let steps: u32 = life.iter().map(|(steps, _)| steps).sum();
    let replayed = replay(&box_, &policy).unwrap();
    assert_eq!(replayed.len(), steps as usize);
    assert!(replayed.iter().all(|step| step.verdict == Verdict::Equal));
    let faults: Vec<String> = box_.faults().into_iter().map(|(_, fault)| fault).collect();
    let expected = life.map(|(_, end)| end.fault().unwrap().to_string());
    assert_eq!(faults, expected);

    let data = folder.path().join("robot.hdf5");
    let rows = log::write(&box_, "pendulum", false, &data, false).unwrap();
    assert_eq!(
        rows,
        steps as usize - life.len(),
        "of each episode the last has no reward"
    );
    fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let run = |args: &str| {
        let mut command = Command::cargo_bin("dt-train").unwrap();
        command
            .current_dir(folder.path())
            .args(args.split(' '))
            .assert()
    };
    let inspected = run("inspect robot.hdf5 --json").success();
    let json: Value = serde_json::from_slice(&inspected.get_output().stdout).unwrap();
    assert_eq!(json["transitions"], rows);
    assert_eq!(json["episodes"], life.len());
    run("train --data robot.hdf5 --config recipe.toml --out RUN --device cpu").success();
    run("export RUN --out again.dtb")
        .success()
        .stdout(predicate::str::contains("again.dtb"));
    // And what was trained on it can be the next to be put on the controller.
    let again = host_sim::policy_file::PolicyFile::load(&folder.path().join("again.dtb")).unwrap();
    let mut memory = tests::life::memory(100);
    live(&again, &mut memory, &[(30, End::NoReading)]);
    let box_ = BlackBox::new(Path::new("box.bin"), &memory).unwrap();
    let replayed = replay(&box_, &again).unwrap();
    assert_eq!(replayed.len(), 30);
    assert!(replayed.iter().all(|step| step.verdict == Verdict::Equal));
    assert!(replay(&box_, &policy).is_err(), "it is another policy");
}
