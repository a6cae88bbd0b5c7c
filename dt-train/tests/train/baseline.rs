//! Behaviour cloning.

use dt_train::run::read_metrics;
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::{Plan, rollout};

use crate::workshop::{Workshop, stderr};

#[test]
fn the_baseline_is_evaluated_described_and_exported() {
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
    assert_eq!(facts["network"], "mlp");
    assert_eq!(facts["d_ff"], 16);
    assert!(facts["attention"].is_null() && facts["d_model"].is_null());

    for dtype in ["f32", "int8", "int4"] {
        exported_acts_alike(&workshop, dtype, &json);
    }
    // What only transformers have.
    for (refused, said) in [
        (
            &["export", "bc", "--out", "q.dtb", "--fold", "always"][..],
            "without attention has none to fold; leave out --fold always",
        ),
        (
            &["export-hf", "bc", "--out", "hf"],
            "`dt-train export` writes a policy file",
        ),
    ] {
        let output = workshop.command(refused).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(said), "{message}");
    }
    assert!(!workshop.path("q.dtb").exists() && !workshop.path("hf").exists());
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

/// Its policy file is measured against libtorch, says what it is, predicts what the run predicts, and in f32 returns the very
/// numbers that the run does.
fn exported_acts_alike(workshop: &Workshop, dtype: &str, of_run: &serde_json::Value) {
    let output = |arguments: &[&str]| {
        let output = workshop.command(arguments).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let parsed = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let file = format!("{dtype}.dtb");
    let said = output(&["export", "bc", "--out", &file, "--dtype", dtype]);
    assert!(said.contains("hidden.1") && said.contains("golden steps reproduced to the bit"));
    assert!(!said.contains("attention"), "{said}");

    let facts = parsed(output(&["inspect", &file, "--json"]));
    for (fact, value) in [
        ("kind", "policy".into()),
        ("network", "mlp".into()),
        ("dtype", dtype.into()),
        ("attention", serde_json::Value::Null),
        ("self_test", "passed".into()),
        ("reward", "constant".into()),
        ("return_limits", serde_json::Value::Null),
        ("parameters", 449.into()),
        ("step_macs", (9 * 16 + 16 * 16 + 16).into()),
    ] {
        assert_eq!(facts[fact], value, "{fact}");
    }

    // Fewer steps than it sees, and more.
    let contexts = [1, 5].map(|steps: usize| {
        let row = |t| [0.3 * t as f32, 1.0 - t as f32, 0.5];
        let states: Vec<_> = (0..steps).map(row).collect();
        let context = serde_json::json!({
            "returns_to_go": vec![0.5; steps], "states": states,
            "actions": vec![[0.0]; steps], "timesteps": vec![0; steps],
        });
        format!("{context}\n")
    });
    std::fs::write(workshop.path("in.jsonl"), contexts.concat()).unwrap();
    let predict = |policy: &str| -> Vec<f64> {
        let lines = output(&["predict", policy, "--contexts", "in.jsonl"]);
        let action = |line: &str| parsed(line.to_owned())["action"][0].as_f64().unwrap();
        lines.lines().map(action).collect()
    };
    let tolerance = match dtype {
        "f32" => 1e-5,
        "int8" => 0.02,
        _ => 0.2,
    };
    let (ours, theirs) = (predict(&file), predict("bc"));
    assert_eq!(ours.len(), 2);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < tolerance, "{ours} {theirs}");
    }
    for policy in [&file, "bc"] {
        let asked = ["predict", policy, "--contexts", "in.jsonl", "--attention"];
        let refused = workshop.command(&asked).output().unwrap();
        let message = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{message}");
        let said = format!("{policy}: a perceptron has no attention; leave out --attention");
        assert!(message.contains(&said), "{message}");
    }

    let eval = ["--episodes", "3", "--target-return", "-150", "--json", "-"];
    let of_file = parsed(output(&[&["eval", &file][..], &eval].concat()));
    if dtype == "f32" {
        assert_eq!(of_file["episodes"], of_run[0]["episodes"]);
    }
    // What `rollout` gives, to the bit.
    let policy = PolicyFile::load(&workshop.path(&file)).unwrap();
    let plan = Plan {
        target_return: -900.0,
        episodes: 3,
        seed: 0,
        threads: 1,
    };
    let make = host_sim::maker("pendulum").unwrap();
    let rolled = rollout::<_, ()>(&plan, make, policy.controllers(), |_| {}).unwrap();
    let rolled: Vec<_> = rolled.iter().map(|(episode, ())| episode).collect();
    assert_eq!(of_file["episodes"], serde_json::to_value(rolled).unwrap());
}
