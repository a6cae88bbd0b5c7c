//! `--init-from`: another run's weights.

use dt_train::run::read_metrics;
use serde_json::Value;

use crate::workshop::{Workshop, stderr};

#[test]
fn a_run_starts_as_the_policy_whose_weights_it_takes() {
    let w = Workshop::new();
    // The limits of returns-to-go are those of a run's own data, but include all targets: here none is reached.
    let wide = "eval.target_returns=[-100, -900, 3000]";
    w.train_ok("first", &["--set", "train.updates=20", "--set", wide]);
    // Other data: other statistics, another scale of returns.
    w.write_scaled_data("other.hdf5", 1.0, 3.0);
    let from = |out: &'static str, more: &[&str]| {
        let args = [
            &[
                "train",
                "--data",
                "other.hdf5",
                "--device",
                "cpu",
                "--out",
                out,
                "--init-from",
                "first",
            ],
            more,
        ];
        w.command(&args.concat()).output().unwrap()
    };
    // Nothing is learned, so what was learned before is what there is.
    let nothing = [
        "--set",
        "train.updates=1",
        "--set",
        "train.learning_rate=0.0",
    ];
    let output = from("second", &nothing);
    assert!(output.status.success(), "{}", stderr(&output));
    let json = |name: &str| serde_json::from_slice::<Value>(&w.bytes(name)).unwrap();
    let (first, second) = (json("first/run.json"), json("second/run.json"));
    assert_ne!(first["dataset_sha256"], second["dataset_sha256"]);
    assert_eq!(first["state_std"], second["state_std"]);
    assert_ne!(first["return_max"], second["return_max"]);
    assert_eq!(second["init_from"]["run"], "first");
    assert_eq!(second["init_from"]["update"], 20);
    let returns = |run: &str| {
        let args = [
            "eval",
            run,
            "--episodes",
            "2",
            "--target-return",
            "-100,-900",
            "--json",
            "-",
        ];
        let output = w.command(&args).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        [0, 1].map(|i| json[i]["episodes"].clone())
    };
    assert_eq!(returns("second"), returns("first"));

    // And it learns; resumed, it stays in the units it has.
    let output = from("third", &["--set", "train.updates=10"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let resume = [
        "train",
        "--data",
        "other.hdf5",
        "--device",
        "cpu",
        "--out",
        "third",
        "--resume",
        "--set",
        "train.updates=20",
    ];
    let output = w.command(&resume).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json("third/run.json")["state_std"], first["state_std"]);
    assert_eq!(json("third/run.json")["init_from"]["update"], 20);
    let output = from("at-once", &["--set", "train.updates=20"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(w.bytes("third/last.safetensors") == w.bytes("at-once/last.safetensors"));
    assert!(w.bytes("third/last.safetensors") != w.bytes("first/last.safetensors"));
    assert_eq!(
        read_metrics(&w.path("third/metrics.jsonl"))
            .last()
            .unwrap()
            .update,
        20
    );

    // Another recipe's scale of returns gives way, and what is trained otherwise is said.
    let output = from(
        "fourth",
        &[
            "--config",
            "recipe.toml",
            "--set",
            "train.updates=1",
            "--set",
            "data.return_scale=3.0",
            "--set",
            "dt.attention=window",
        ],
    );
    let message = stderr(&output);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("note: data.return_scale = "), "{message}");
    assert!(
        message.contains("dt.attention is \"streaming\" there, \"window\" here"),
        "{message}"
    );
    for (more, fragments) in [
        (
            &["--set", "dt.d_model=32"][..],
            &["dt.d_model is 16 there, 32 here"][..],
        ),
        (
            &["--set", "dt.n_layer=1", "--set", "dt.max_ep_len=100"],
            &[
                "dt.n_layer is 2 there, 1 here",
                "dt.max_ep_len is 200 there",
            ],
        ),
        (
            &["--algo", "bc"],
            &["is Decision Transformer", "--set algo=dt"],
        ),
    ] {
        let output = from("refused", more);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for fragment in fragments {
            assert!(message.contains(fragment), "{message:?} lacks {fragment:?}");
        }
        assert!(!w.path("refused").exists());
    }
}
