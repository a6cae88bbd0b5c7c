//! Recipes that are refused.

use dt_train::run::read_metrics;

use crate::workshop::{Workshop, stderr};

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
            "dt.n_head=3",
            &["d_model 16 is not a multiple of 4 * n_head = 12"],
        ),
        (
            "control.safe_action=[9.0]",
            &["`control.safe_action`", "-2..=2"],
        ),
        (
            "data.validation_percent=10.0",
            &[
                "data.validation_percent = 10 of 8 episode(s)",
                "set it to 0",
            ],
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
fn off_a_terminal_every_record_is_a_line() {
    let workshop = Workshop::new();
    let output = workshop.train("run", &[]);
    let log = stderr(&output);
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("update "))
        .collect();
    let records = read_metrics(&workshop.path("run/metrics.jsonl"));
    assert_eq!(records.len(), 8);
    assert_eq!(lines.len(), records.len(), "{log}");
    for (line, record) in lines.iter().zip(&records) {
        let start = format!("update {}/40  loss {:.5}", record.update, record.loss);
        assert!(line.starts_with(&start), "{line}");
        assert!(line.contains(" updates/s  00:00:"), "{line}");
        assert_eq!(line.contains("return "), !record.eval.is_empty(), "{line}");
    }
}

#[test]
fn tensorboard_has_a_file_where_it_is_asked_for() {
    let workshop = Workshop::new();
    let files = || {
        let entries = std::fs::read_dir(workshop.path("run")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("tfevents")).count()
    };
    let short = ["--set", "train.updates=10"];
    workshop.train_ok("run", &[&short[..], &["--tensorboard"]].concat());
    assert_eq!(files(), 1);
    // That of a run that is replaced goes with it.
    workshop.train_ok("run", &[&short[..], &["--force"]].concat());
    assert_eq!(files(), 0);
}
