//! Exact resume, and whose runs are left alone.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dt_train::run::checkpoint::Checkpoint;
use dt_train::run::read_metrics;

use crate::workshop::{Workshop, stderr};

/// The records without what depends on the clock.
fn timeless(metrics: &Path) -> Vec<String> {
    let records = read_metrics(metrics);
    let text = records.into_iter().map(|mut record| {
        record.updates_per_second = 0.0;
        record.core_seconds = None;
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
        "algo=bc",
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
        let mut child = workshop
            .train_command("killed", &[settings, resume].concat())
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
        &[
            "cannot resume",
            "train.seed = 0, now it is train.seed = 9 (the updates so far followed from it)",
            "Only train.updates, ",
        ],
    );
    // All of them at once.
    let others = [
        &short[..],
        &[
            "--resume",
            "--set",
            "dt.n_head=1",
            "--set",
            "data.normalize_states=false",
        ],
    ]
    .concat();
    workshop.train_fails(
        "run",
        &others,
        &[
            "data.normalize_states = true",
            "dt.n_head = 2, now it is dt.n_head = 1",
        ],
    );
    let fewer = ["--resume", "--set", "train.updates=9"];
    workshop.train_fails(
        "run",
        &fewer,
        &["has had 10 updates", "ask for at least 10"],
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

/// The learning rate of the recipe does not depend on the number of updates, so that nothing tells the runs apart.
#[test]
fn a_finished_run_goes_on_to_what_a_longer_one_reaches() {
    let w = Workshop::new();
    w.train_ok("whole", &[]);
    w.train_ok("extended", &["--set", "train.updates=20"]);
    assert!(w.bytes("extended/last.safetensors") != w.bytes("whole/last.safetensors"));
    let nothing = w.train("extended", &["--resume", "--set", "train.updates=20"]);
    assert!(
        stderr(&nothing).contains("has had its 20 updates"),
        "{}",
        stderr(&nothing)
    );
    w.train_ok("extended", &["--resume", "--set", "train.updates=40"]);
    for name in [
        "config.toml",
        "run.json",
        "last.safetensors",
        "best.safetensors",
    ] {
        assert!(
            w.bytes(&format!("extended/{name}")) == w.bytes(&format!("whole/{name}")),
            "{name} differs"
        );
    }
    let records = timeless(&w.path("extended/metrics.jsonl"));
    assert_eq!(records, timeless(&w.path("whole/metrics.jsonl")));

    // Without the recipe at hand, and with something else to look at.
    let looks = [
        "train",
        "--data",
        "data.hdf5",
        "--out",
        "extended",
        "--device",
        "cpu",
        "--resume",
        "--set",
        "train.updates=50",
        "--set",
        "train.log_every=10",
        "--set",
        "eval.target_returns=[-300]",
        "--set",
        "eval.episodes=1",
    ];
    let output = w.command(&looks).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let records = read_metrics(&w.path("extended/metrics.jsonl"));
    let last = records.last().unwrap();
    assert_eq!((last.update, last.eval.len()), (50, 1));
    assert_eq!(last.eval[0].target_return, -300.0);
    // The best so far was at another target.
    let last = Checkpoint::load(&w.path("extended/last.safetensors")).unwrap();
    assert_eq!(last.progress.best.unwrap().update, 50);
}

#[test]
fn as_many_checkpoints_are_kept_as_the_recipe_says() {
    let w = Workshop::new();
    let names = || {
        let entries = std::fs::read_dir(w.path("run")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("update-"))
            .collect();
        names.sort();
        names
    };
    let keep = [
        "--set",
        "train.checkpoint_keep=2",
        "--set",
        "train.checkpoint_every=5",
    ];
    w.train_ok("run", &keep);
    // 5 to 25 were kept before; 40 is the newest.
    assert_eq!(names(), ["update-30.safetensors", "update-35.safetensors"]);
    let shorter = [
        "--set",
        "train.updates=30",
        "--set",
        "train.checkpoint_every=5",
    ];
    w.train_ok("shorter", &shorter);
    let kept = Checkpoint::load(&w.path("run/update-30.safetensors")).unwrap();
    let last = Checkpoint::load(&w.path("shorter/last.safetensors")).unwrap();
    assert_eq!(
        (kept.weights, kept.optimizer),
        (last.weights, last.optimizer)
    );

    let returns = |args: &[&str]| {
        let all = [
            &[
                "eval",
                "--episodes",
                "1",
                "--target-return",
                "-100",
                "--json",
                "-",
            ],
            args,
        ];
        let output = w.command(&all.concat()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["episodes"].clone()
    };
    assert_eq!(
        returns(&["run", "--checkpoint", "30"]),
        returns(&["shorter"])
    );
    assert_eq!(returns(&["run", "--checkpoint", "40"]), returns(&["run"]));
    for (which, code, fragment) in [
        (
            "25",
            1,
            "run keeps no checkpoint after 25 updates; it has last, best, 30, 35",
        ),
        ("newest", 2, "give `last`, `best` or a number of updates"),
    ] {
        let output = w
            .command(&["export", "run", "--out", "p.dtb", "--checkpoint", which])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(stderr(&output).contains(fragment), "{}", stderr(&output));
    }
    // Fewer from now on; none of a run that is replaced.
    w.train_ok(
        "run",
        &[
            "--resume",
            "--set",
            "train.checkpoint_keep=1",
            "--set",
            "train.updates=45",
        ],
    );
    assert_eq!(names(), ["update-40.safetensors"]);
    w.train_ok("run", &["--force"]);
    assert!(names().is_empty());
}
