//! `dt-train train` and `eval` as a user calls them: exact resume, refusals, results.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dt_train::dataset::d4rl::{self, Metadata, Recording};
use dt_train::train::read_metrics;
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::{Plan, rollout};
use tempfile::TempDir;

/// A folder with a data file and a recipe for a tiny network.
struct Workshop {
    dir: TempDir,
}

const RECIPE: &str = "
[model]
d_model = 16
n_layer = 2
n_head = 2
context_len = 3
max_ep_len = 200

[data]
return_scale = 0.0

[train]
updates = 40
batch_size = 8
learning_rate = 1e-3
warmup_updates = 10
log_every = 5
checkpoint_every = 10
dropout = 0.1

[eval]
every = 20
episodes = 2
target_returns = [-100.0, -900.0]
";

impl Workshop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let workshop = Self { dir };
        workshop.write_data("data.hdf5", 1.0);
        std::fs::write(workshop.path("recipe.toml"), RECIPE).unwrap();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Eight episodes of 25 steps with the pendulum's dimensions and a simple feedback law.
    fn write_data(&self, name: &str, gain: f32) {
        let mut data = Recording::default();
        for i in 0..200_u32 {
            let wave = |k: f32| (k * i as f32).sin();
            let observation = [wave(0.3), wave(0.8), 4.0 * wave(0.5)];
            data.observations.extend(observation);
            data.next_observations.extend(observation);
            data.actions
                .push(gain * (observation[0] - 0.2 * observation[2]));
            data.rewards.push(-observation[2].abs());
            data.terminals.push(false);
            data.timeouts.push(i % 25 == 24);
        }
        let metadata = Metadata {
            env: "pendulum",
            policy: "test",
            seed: 0,
        };
        d4rl::write(&self.path(name), false, &data, &metadata).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dt-train"));
        command
            .current_dir(self.dir.path())
            // Parallel tests would only wait for each other's threads.
            .env("OMP_NUM_THREADS", "1")
            .args(args);
        command
    }

    fn train(&self, out: &str, more: &[&str]) -> Output {
        let args = [
            &[
                "train",
                "--data",
                "data.hdf5",
                "--config",
                "recipe.toml",
                "--device",
                "cpu",
                "--out",
                out,
            ],
            more,
        ];
        self.command(&args.concat()).output().unwrap()
    }

    fn train_ok(&self, out: &str, more: &[&str]) {
        let output = self.train(out, more);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Expects exit code 1 and one message that contains every fragment.
    fn train_fails(&self, out: &str, more: &[&str], fragments: &[&str]) {
        let output = self.train(out, more);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for fragment in fragments {
            assert!(message.contains(fragment), "{message:?} lacks {fragment:?}");
        }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The records without what depends on the clock.
fn timeless(metrics: &Path) -> Vec<String> {
    let records = read_metrics(metrics);
    let text = records.into_iter().map(|mut record| {
        record.updates_per_second = 0.0;
        format!("{record:?}")
    });
    text.collect()
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    killed_and_resumed(&[], [10, 20, 30], 8);
}

/// The baseline's updates take so little time that it needs more of them to be killed in between.
#[test]
fn a_killed_run_of_the_baseline_resumes_to_the_same_bytes() {
    let baseline = [
        "--set",
        "model.kind=bc",
        "--set",
        "train.updates=4000",
        "--set",
        "train.checkpoint_every=100",
        "--set",
        "train.log_every=50",
        "--set",
        "eval.every=2000",
    ];
    killed_and_resumed(&baseline, [100, 1000, 2500], 80);
}

fn killed_and_resumed(settings: &[&str], kill_at: [u64; 3], expected_records: usize) {
    let workshop = Workshop::new();
    workshop.train_ok("whole", settings);
    for name in [
        "config.toml",
        "run.json",
        "learning-curve.svg",
        "learning-curve.png",
    ] {
        assert!(!workshop.bytes(&format!("whole/{name}")).is_empty());
    }
    // The recipe leaves the scale to the data; the run says what it is: 4 Σ |sin(i / 2)| over 25 steps, about 64.
    let config = String::from_utf8(workshop.bytes("whole/config.toml")).unwrap();
    let scale = config
        .lines()
        .find_map(|line| line.strip_prefix("return_scale = "));
    let scale: f64 = scale.unwrap().parse().unwrap();
    assert!((60.0..=68.0).contains(&scale), "{scale}");
    // Killed at three different moments, each time after at least one new checkpoint.
    let mut resume: &[&str] = &[];
    let mut kills = 0;
    for updates in kill_at {
        let base = [
            "train",
            "--data",
            "data.hdf5",
            "--config",
            "recipe.toml",
            "--device",
            "cpu",
            "--out",
            "killed",
        ];
        let mut child = workshop
            .command(&[&base[..], settings, resume].concat())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let checkpoint = workshop.path("killed/last.safetensors");
        let reached = || {
            let metrics = read_metrics(&workshop.path("killed/metrics.jsonl"));
            checkpoint.exists()
                && metrics
                    .last()
                    .is_some_and(|record| record.update >= updates)
        };
        while !reached() && child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(1));
        }
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        resume = &["--resume"];
    }
    assert!(kills > 0, "the run was over before it could be killed");
    workshop.train_ok("killed", &[settings, &["--resume"]].concat());
    for name in ["last.safetensors", "best.safetensors"] {
        assert!(
            workshop.bytes(&format!("killed/{name}")) == workshop.bytes(&format!("whole/{name}")),
            "{name} differs"
        );
    }
    let records = timeless(&workshop.path("killed/metrics.jsonl"));
    assert_eq!(records, timeless(&workshop.path("whole/metrics.jsonl")));
    assert_eq!(records.len(), expected_records);
}

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
    run("train --data robot.hdf5 --config recipe.toml --out robot --device cpu");
    let records = read_metrics(&w.path("robot/metrics.jsonl"));
    assert_eq!(records.last().unwrap().eval.len(), 2);
}

#[test]
fn another_run_is_neither_overwritten_nor_continued() {
    let workshop = Workshop::new();
    let short = ["--set", "train.updates=10", "--set", "eval.every=0"];
    workshop.train_ok("run", &short);
    let before = workshop.bytes("run/last.safetensors");
    workshop.train_fails(
        "run",
        &short,
        &["run holds another run", "--resume", "--force"],
    );
    let other_seed = [&short[..], &["--resume", "--seed", "9"]].concat();
    workshop.train_fails(
        "run",
        &other_seed,
        &["cannot resume", "train.seed = 0, now it is train.seed = 9"],
    );
    std::fs::remove_file(workshop.path("data.hdf5")).unwrap();
    workshop.write_data("data.hdf5", 0.5);
    let resumed = [&short[..], &["--resume"]].concat();
    workshop.train_fails("run", &resumed, &["cannot resume", "other data", "SHA-256"]);
    assert_eq!(workshop.bytes("run/last.safetensors"), before);

    let forced = [&short[..], &["--force"]].concat();
    workshop.train_ok("run", &forced);
    assert_ne!(workshop.bytes("run/last.safetensors"), before);

    std::fs::create_dir(workshop.path("notes")).unwrap();
    std::fs::write(workshop.path("notes/todo.txt"), "mine").unwrap();
    workshop.train_fails("notes", &short, &["notes is not empty and holds no run"]);
}

#[test]
fn bad_recipes_are_refused_before_anything_is_written() {
    let workshop = Workshop::new();
    for (setting, fragments) in [
        (
            "train.updtes=5",
            &[
                "unknown key `train.updtes`",
                "did you mean `train.updates`?",
            ][..],
        ),
        (
            "model.n_head=3",
            &["d_model 16 is not a multiple of 4 * n_head = 12"],
        ),
        (
            "control.safe_action=[9.0]",
            &["`control.safe_action`", "-2..=2"],
        ),
        (
            "control.action_low=[0.0, 1.0]",
            &["`control.action_low` has 2 numbers", "have 1"],
        ),
    ] {
        workshop.train_fails("run", &["--set", setting], fragments);
        assert!(
            !workshop.path("run").exists(),
            "{setting} left a folder behind"
        );
    }
    let unknown = workshop.train("run", &["--env", "pendulun"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("unknown environment `pendulun`"));
    for (device, fragment) in [("cuda:99", "--device cpu"), ("tpu", "unknown device `tpu`")] {
        let args = [
            "train",
            "--data",
            "data.hdf5",
            "--out",
            "run",
            "--device",
            device,
        ];
        let output = workshop.command(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(fragment), "{}", stderr(&output));
    }
    assert!(!workshop.path("run").exists());
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
fn the_baseline_is_evaluated_and_described_but_not_exported() {
    let workshop = Workshop::new();
    let baseline = ["--set", "model.kind=bc", "--set", "train.updates=10"];
    workshop.train_ok("bc", &baseline);
    let records = read_metrics(&workshop.path("bc/metrics.jsonl"));
    let eval = &records.last().unwrap().eval;
    // Two targets in the recipe, but none matters.
    assert_eq!(eval.len(), 1);
    assert!((eval[0].engine_mean_return - eval[0].torch_mean_return).abs() < 1.0);

    let eval = [
        "eval",
        "bc",
        "--env",
        "pendulum",
        "--episodes",
        "3",
        "--target-return",
        "-150,-900",
        "--json",
        "-",
    ];
    let output = workshop.command(&eval).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("--target-return changes nothing"));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["episodes"].as_array().unwrap().len(), 3);
    assert_eq!(json[0]["episodes"], json[1]["episodes"]);
    assert_eq!(json[1]["target_return"], -900.0);

    let inspect = workshop
        .command(&["inspect", "bc", "--json"])
        .output()
        .unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&inspect.stdout).unwrap();
    assert_eq!(
        (&facts["kind"], &facts["model"]),
        (&"run".into(), &"bc".into())
    );
    // 3 states of 3, two hidden layers of 16, 1 action.
    assert_eq!(facts["parameters"], 9 * 16 + 16 + 16 * 16 + 16 + 16 + 1);
    assert!(facts["attention"].is_null());

    std::fs::write(workshop.path("in.jsonl"), "").unwrap();
    for refused in [
        &["export", "bc", "--out", "p.dtb"][..],
        &["predict", "bc", "--contexts", "in.jsonl"],
    ] {
        let output = workshop.command(refused).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("bc is behaviour cloning"), "{message}");
        assert!(message.contains("`dt-train eval`"), "{message}");
    }
    assert!(!workshop.path("p.dtb").exists());
    let hopper = workshop
        .command(&[
            "eval",
            "bc",
            "--env",
            "hopper",
            "--episodes",
            "1",
            "--target-return",
            "1",
        ])
        .output()
        .unwrap();
    assert_eq!(hopper.status.code(), Some(1));
    assert!(stderr(&hopper).contains("trained for environment `pendulum`, not `hopper`"));
}
