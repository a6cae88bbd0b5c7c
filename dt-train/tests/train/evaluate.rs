//! `dt-train eval`, and training for a robot of one's own.

use dt_train::run::read_metrics;
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::{Plan, rollout};

use crate::workshop::{Workshop, stderr};

/// An environment that is a file has another name than what it calls itself.
#[test]
fn a_robot_of_ones_own_is_trained_for_and_evaluated_in() {
    let robot = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../host-sim/examples/cartpole/cartpole.toml"
    );
    let w = Workshop::new();
    let run = |args: &str| {
        let args: Vec<&str> = args.split(' ').chain(["--env", robot]).collect();
        let output = w.command(&args).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    run("collect --agent random --steps 300 --seed 0 --out robot.hdf5");
    run(
        "train --data robot.hdf5 --config recipe.toml --out robot --device cpu --set data.validation_percent=40",
    );
    // The run knows by which file it was trained, and `--env` of one's own is not needed.
    let output = w
        .command(&["eval", "robot", "--episodes", "2"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let records = read_metrics(&w.path("robot/metrics.jsonl"));
    assert_eq!(records.last().unwrap().eval.len(), 2);
    assert!(
        records
            .iter()
            .all(|record| record.validation_loss > Some(0.0))
    );
}

/// A policy that predicts returns is told how well it did, beside the returns themselves; from the run and from its file alike.
#[test]
fn eval_compares_what_a_critic_says_with_what_was_earned() {
    let w = Workshop::new();
    w.train_ok(
        "run",
        &["--set", "train.updates=10", "--set", "dt.predict_return=1"],
    );
    let run = |args: &str| {
        let args: Vec<&str> = args.split(' ').collect();
        let output = w.command(&args).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = run("eval run --target-return -300 --episodes 2 --json a.json");
    assert!(table.contains("critic at target -300: off by"), "{table}");
    run("export run --out p.dtb --dtype f32");
    run("eval p.dtb --target-return -300 --episodes 2 --json b.json");
    let [of_run, of_file] = ["a.json", "b.json"].map(|name| {
        let text = std::fs::read_to_string(w.path(name)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["critic"].clone()
    });
    // Nothing is predicted for the first of an episode's 200 steps.
    assert_eq!(of_run["steps"], 2 * 199);
    assert!(of_run["rmse"].as_f64().unwrap() > 0.0);
    assert_eq!(of_run, of_file);
}

#[test]
fn eval_reports_each_target_and_refuses_what_is_no_policy() {
    let workshop = Workshop::new();
    workshop.train_ok("run", &["--set", "train.updates=10"]);
    let eval = |policy: &str, more: &[&str]| {
        let args = [
            &[
                "eval",
                policy,
                "--env",
                "pendulum",
                "--episodes",
                "2",
                "--seed",
                "5",
            ],
            more,
        ];
        workshop.command(&args.concat()).output().unwrap()
    };
    let output = eval(
        "run",
        &["--target-return", "-150,-300", "--json", "out.json"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let json: serde_json::Value = serde_json::from_slice(&workshop.bytes("out.json")).unwrap();
    for (evaluation, target) in json.as_array().unwrap().iter().zip([-150.0, -300.0]) {
        assert_eq!(evaluation["target_return"], target);
        assert_eq!(evaluation["episodes"][1]["seed"], 6);
        assert_eq!(evaluation["episodes"][1]["length"], 200);
        let returns = [0, 1].map(|i| evaluation["episodes"][i]["return"].as_f64().unwrap());
        assert_eq!(evaluation["mean_return"], (returns[0] + returns[1]) / 2.0);
    }
    let best = eval(
        "run",
        &[
            "--target-return",
            "-150",
            "--checkpoint",
            "best",
            "--json",
            "-",
        ],
    );
    assert!(best.status.success(), "{}", stderr(&best));
    // The only evaluation was the last, so both checkpoints hold the same weights.
    let best: serde_json::Value = serde_json::from_slice(&best.stdout).unwrap();
    assert_eq!(best["mean_return"], json[0]["mean_return"]);

    // A policy file gives what the rollout loop gives, and at f32 what its run gives.
    let export = ["export", "run", "--out", "p.dtb", "--dtype", "f32"];
    let export = workshop.command(&export).output().unwrap();
    assert!(export.status.success(), "{}", stderr(&export));
    let file = eval("p.dtb", &["--target-return", "-150", "--json", "-"]);
    let file: serde_json::Value = serde_json::from_slice(&file.stdout).unwrap();
    assert_eq!(file["episodes"], json[0]["episodes"]);
    let policy = PolicyFile::load(&workshop.path("p.dtb")).unwrap();
    let plan = Plan {
        target_return: -150.0,
        episodes: 2,
        seed: 5,
        threads: 1,
    };
    let make = host_sim::maker("pendulum").unwrap();
    let rolled = rollout::<_, ()>(&plan, make, policy.controllers(), |_| {}).unwrap();
    let rolled: Vec<_> = rolled.iter().map(|(episode, ())| episode).collect();
    assert_eq!(file["episodes"], serde_json::to_value(rolled).unwrap());

    let again = eval("run", &["--target-return", "-150", "--json", "out.json"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
    std::fs::create_dir(workshop.path("empty")).unwrap();
    let none = eval("empty", &["--target-return", "-150"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        stderr(&none).contains("empty holds no training run"),
        "{}",
        stderr(&none)
    );
    let wrong = eval("recipe.toml", &["--target-return", "-150"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("not a policy file"),
        "{}",
        stderr(&wrong)
    );
    let infinite = eval("run", &["--target-return", "inf"]);
    assert_eq!(infinite.status.code(), Some(1));
    assert!(
        stderr(&infinite).contains("--target-return inf is not finite"),
        "{}",
        stderr(&infinite)
    );
}

#[test]
fn eval_of_a_run_needs_nothing_else() {
    let w = Workshop::new();
    // The data's returns are about -64 to -63; the recipe of this run names no targets.
    let plain = [
        "--set",
        "train.updates=5",
        "--set",
        "eval.target_returns=[]",
    ];
    w.train_ok("run", &plain);
    let json = |args: &[&str]| {
        let args = [&["eval", "--json", "-"], args].concat();
        let output = w.command(&args).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let run: serde_json::Value = serde_json::from_slice(&w.bytes("run/run.json")).unwrap();
    let suggested = run["suggested_target_returns"].as_array().unwrap();
    assert!(suggested.len() >= 2, "{suggested:?}");
    let best = run["return_max"].as_f64().unwrap();
    assert!((suggested[0].as_f64().unwrap() - best).abs() < 0.1);

    let all = json(&["run"]);
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), suggested.len());
    for (evaluation, target) in all.iter().zip(suggested) {
        assert_eq!(evaluation["env"], "pendulum");
        assert_eq!(evaluation["episodes"].as_array().unwrap().len(), 100);
        let target = target.as_f64().unwrap() as f32;
        assert_eq!(evaluation["target_return"], f64::from(target));
    }
    // What the recipe asks for comes first, and `auto` goes with other targets.
    let asked = ["--set", "train.updates=5"];
    w.train_ok("asked", &asked);
    let some = json(&["asked", "--episodes", "1", "--target-return", "-5,auto"]);
    let targets: Vec<_> = some.as_array().unwrap().iter().collect();
    let targets: Vec<_> = targets.iter().map(|e| &e["target_return"]).collect();
    assert_eq!(targets, [-5.0, -100.0, -900.0]);
    // A policy file has a target of its own.
    let export = ["export", "asked", "--out", "p.dtb", "--dtype", "f32"];
    let export = w.command(&export).output().unwrap();
    assert!(export.status.success(), "{}", stderr(&export));
    let file = json(&["p.dtb", "--episodes", "1"]);
    assert_eq!(file["target_return"], -100.0);
    assert_eq!(file["episodes"], some[1]["episodes"]);

    for (args, code, fragment) in [
        (
            &["--target-return", "often"][..],
            2,
            "give `auto`, or returns",
        ),
        (&["--env", "pendulun"], 2, "did you mean `pendulum`?"),
    ] {
        let args = [&["eval", "asked"], args].concat();
        let output = w.command(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(stderr(&output).contains(fragment), "{}", stderr(&output));
    }
    // A run of an environment that nobody knows.
    let mut nowhere = run.clone();
    nowhere["env"] = "".into();
    std::fs::write(w.path("run/run.json"), nowhere.to_string()).unwrap();
    let output = w.command(&["eval", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("name one with --env"),
        "{}",
        stderr(&output)
    );
}
