//! Several training seeds at once.

use dt_train::run::read_metrics;

use crate::workshop::{Workshop, stderr};

#[test]
fn seeds_are_trained_side_by_side_to_what_each_is_alone() {
    let w = Workshop::new();
    // One thread, whatever the jobs: the last bits of a run on the CPU depend on their number.
    let short = ["--set", "train.updates=10", "--set", "train.threads=1"];
    let all = [&short[..], &["--seeds", "3..5", "--jobs", "2"]].concat();
    let output = w.train("many", &all);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = stderr(&output);
    for seed in [3, 4] {
        assert!(
            log.contains(&format!("seed {seed}: update 10/10  loss ")),
            "{log}"
        );
    }
    w.train_ok("alone", &[&short[..], &["--seed", "4"]].concat());
    for name in ["last.safetensors", "best.safetensors", "config.toml"] {
        assert!(
            w.bytes(&format!("many/seed-4/{name}")) == w.bytes(&format!("alone/{name}")),
            "{name} differs"
        );
        assert!(w.bytes(&format!("many/seed-3/{name}")) != w.bytes(&format!("alone/{name}")));
    }
    // The summary is of both.
    let table = String::from_utf8(output.stdout).unwrap();
    let losses = [3, 4].map(|seed| {
        let records = read_metrics(&w.path(&format!("many/seed-{seed}/metrics.jsonl")));
        records.last().unwrap().loss
    });
    let mean = format!("{:.5}", (losses[0] + losses[1]) / 2.0);
    let line = table.lines().find(|line| line.starts_with("mean"));
    assert!(line.unwrap().contains(&mean), "{table}");
    assert!(table.contains("return at -900"), "{table}");

    // The folder stands for its runs: evaluated, compared with itself, reported.
    let run = |args: &[&str]| {
        let output = w.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let eval = ["eval", "many", "--episodes", "2", "--target-return", "-100"];
    let not_yet = w.command(&["compare", "many", "many"]).output().unwrap();
    assert!(
        stderr(&not_yet).contains("`dt-train eval many/seed-3` does it"),
        "{}",
        stderr(&not_yet)
    );
    assert!(run(&eval).contains("2 runs, mean ± sample deviation over them"));
    w.train_ok(
        "other",
        &[
            &short[..],
            &["--seeds", "3,4", "--set", "train.batch_size=4"],
        ]
        .concat(),
    );
    run(&[
        "eval",
        "other",
        "--episodes",
        "2",
        "--target-return",
        "-100",
    ]);
    let table = run(&["compare", "many", "other"]);
    assert!(table.contains("each of the 2 pairs"), "{table}");
    run(&["report", "many", "--out", "report.html"]);
    let page = String::from_utf8(w.bytes("report.html")).unwrap();
    assert!(page.contains("seed-3") && page.contains("seed-4"));

    // One of them is meant where one is needed.
    let export = w
        .command(&["export", "many", "--out", "p.dtb"])
        .output()
        .unwrap();
    let message = stderr(&export);
    assert!(
        message.contains("many holds several runs, many/seed-3, many/seed-4"),
        "{message}"
    );
    w.train_fails(
        "many/seed-3",
        &all,
        &["seed-3 is a run", "choose another folder"],
    );
    w.train_fails("many", &all, &["many/seed-3 holds another run", "--resume"]);
}

#[test]
fn a_seed_that_fails_is_named_and_the_others_go_on() {
    let w = Workshop::new();
    let short = ["--set", "train.updates=10", "--seeds", "0..2"];
    w.train_ok("many", &short);
    // Its checkpoint is gone bad.
    std::fs::write(w.path("many/seed-0/last.safetensors"), "no checkpoint").unwrap();
    let resumed = [&short[..], &["--resume"]].concat();
    let output = w.train("many", &resumed);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("seed 0: error: "), "{message}");
    assert!(message.contains("1 of 2 seeds failed (0)"), "{message}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("seed-1") && !table.contains("seed-0"),
        "{table}"
    );

    for (args, fragment) in [
        (&["--seeds", "5..5"][..], "5..5 holds no seed"),
        (&["--seeds", "0..2", "--seed", "1"], "cannot be used with"),
        (&["--jobs", "2"], "--seeds"),
    ] {
        let output = w.train("refused", args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(fragment), "{}", stderr(&output));
    }
    let unknown = ["--seeds", "0..2", "--set", "train.updtes=1"];
    w.train_fails("refused", &unknown, &["did you mean `train.updates`?"]);
    assert!(!w.path("refused").exists());
}
