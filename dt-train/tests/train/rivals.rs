//! Rivals of the Decision Transformer: trained, resumed, evaluated and described by the same commands.

use dt_train::run::checkpoint::Checkpoint;
use dt_train::run::read_metrics;

use crate::workshop::{Workshop, stderr};

/// Seconds of a tiny network; what a recipe for transformers has, and these do not.
const SHORT: [&str; 8] = [
    "--set",
    "train.updates=20",
    "--set",
    "train.ema_decay=0",
    "--set",
    "eval.every=0",
    "--set",
    "data.validation_percent=25",
];

fn train(workshop: &Workshop, out: &str, algo: &str, more: &[&str]) {
    let width = format!("{algo}.d_model=16");
    let own = ["--algo", algo, "--set", &width];
    workshop.train_ok(out, &[&SHORT[..], &own, more].concat());
}

#[test]
fn rivals_are_trained_resumed_evaluated_and_reported() {
    let w = Workshop::new();
    for algo in ["td3bc", "iql", "awr", "cql", "bc-transformer"] {
        let half = format!("{algo}-half");
        train(&w, algo, algo, &[]);
        train(&w, &half, algo, &["--set", "train.updates=10"]);
        train(&w, &half, algo, &["--resume"]);
        // That was evaluated half-way, too, and may have found its best there.
        let last = |run: &str| {
            let path = w.path(&format!("{run}/last.safetensors"));
            let checkpoint = Checkpoint::load(&path).unwrap();
            (checkpoint.weights, checkpoint.optimizer)
        };
        assert!(last(algo) == last(&half), "{algo}");
        let records = read_metrics(&w.path(&format!("{algo}/metrics.jsonl")));
        let record = records.last().unwrap();
        assert!(record.loss.is_finite() && record.validation_loss.is_some());
        // The target changes nothing, so there is one evaluation.
        assert_eq!(record.eval.len(), 1, "{algo}");
        let eval = record.eval[0];
        assert!((eval.engine_mean_return - eval.torch_mean_return).abs() < 1.0);
        let output = w
            .command(&["eval", algo, "--episodes", "2", "--target-return=-100"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        // The actor alone becomes a file, of 3 states, two hidden layers of 16 and 1 action.
        let file = format!("{algo}.dtb");
        let output = w
            .command(&["export", algo, "--out", &file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{algo}: {}", stderr(&output));
        let output = w.command(&["inspect", algo, "--json"]).output().unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(facts["algo"], algo);
        if algo != "bc-transformer" {
            assert_eq!(facts["parameters"], 3 * 16 + 16 + 16 * 16 + 16 + 16 + 1);
        }
    }
    let runs = ["td3bc", "iql", "awr", "cql", "bc-transformer"];
    let report = [&["report"][..], &runs, &["--out", "r.html"]].concat();
    let output = w.command(&report).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let page = String::from_utf8(w.bytes("r.html")).unwrap();
    for title in [
        "TD3+BC",
        "implicit Q-learning",
        "advantage-weighted regression",
        "conservative Q-learning",
        "streaming, no returns",
    ] {
        assert!(page.contains(title), "{title}");
    }
}

#[test]
fn what_rivals_do_not_have_is_refused_by_its_key() {
    let w = Workshop::new();
    let fails = |more: &[&str], fragments: &[&str]| w.train_fails("run", more, fragments);
    fails(
        &["--algo", "iql"],
        &["`train.ema_decay`: is 0.9", "`iql` keeps no average"],
    );
    fails(
        &["--algo", "td3bc", "--set", "iql.beta=1"],
        &["`iql.beta`: is of implicit Q-learning", "TD3+BC"],
    );
    fails(
        &[
            "--algo",
            "cql",
            "--set",
            "train.ema_decay=0",
            "--set",
            "cql.n_actions=0",
        ],
        &["`cql.n_actions`: is 0"],
    );
}

/// A network that knows no return is a policy file like a Decision Transformer's.
#[test]
fn a_transformer_without_returns_is_exported() {
    let w = Workshop::new();
    train(&w, "run", "bc-transformer", &[]);
    let export = ["export", "run", "--out", "p.dtb"];
    let output = w.command(&export).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let returns = |target: &str| {
        let eval = ["eval", "p.dtb", "--episodes", "2", "--json", "-", target];
        let output = w.command(&eval).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["episodes"].clone()
    };
    assert_eq!(
        returns("--target-return=-100"),
        returns("--target-return=-1000")
    );
}
