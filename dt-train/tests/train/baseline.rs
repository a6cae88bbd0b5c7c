//! Behaviour cloning.

use dt_train::run::read_metrics;

use crate::workshop::{Workshop, stderr};

#[test]
fn the_baseline_is_evaluated_and_described_but_not_exported() {
    let workshop = Workshop::new();
    let baseline = ["--algo", "bc", "--set", "train.updates=10"];
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
        (&facts["kind"], &facts["algo"]),
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
