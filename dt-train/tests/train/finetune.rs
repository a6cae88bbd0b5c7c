//! `dt-train finetune`: a window policy made a streaming one.

use dt_core::config::{Attention, Dtype};
use dt_train::run::records::load_evaluations;
use dt_train::run::{InitFrom, Run};

use crate::workshop::{Workshop, stderr};

/// What every call here has.
const FINETUNE: [&str; 8] = [
    "finetune",
    "first",
    "--data",
    "other.hdf5",
    "--device",
    "cpu",
    "--episodes",
    "2",
];

/// `first`, a window policy whose sequences are as long as its context, and other data than it was trained on.
fn workshop() -> Workshop {
    let w = Workshop::new();
    let window = [
        "--set",
        "dt.attention=window",
        "--set",
        "dt.sequence_len=3",
        "--set",
        "dt.burn_in=1",
        "--set",
        "train.updates=10",
    ];
    w.train_ok("first", &window);
    w.write_scaled_data("other.hdf5", 1.0, 3.0);
    w
}

#[test]
fn a_window_policy_becomes_a_streaming_one_and_both_are_measured_alike() {
    let w = workshop();
    let streaming = [&FINETUNE[..], &["--attention", "streaming"]].concat();
    let short = [&streaming[..], &["--set", "train.updates=12"]].concat();
    let output = w.command(&short).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let [before, after] = ["first", "first-finetuned"].map(|run| Run::open(&w.path(run)).unwrap());
    let attention = |run: &Run| run.network(Dtype::F32).unwrap().attention;
    assert_eq!(
        (attention(&before), attention(&after)),
        (Attention::Window, Attention::Streaming)
    );
    // Sequences as long as streaming needs, whatever the window's were.
    let key = |run: &Run, key: &str| run.recipe.algorithm.section()[key].as_integer();
    assert_eq!(
        [
            key(&before, "sequence_len"),
            key(&after, "sequence_len"),
            key(&after, "burn_in")
        ],
        [Some(3), Some(0), Some(0)]
    );
    assert_eq!(key(&after, "d_model"), Some(16));
    // What the command line says holds over the command's own defaults, and these over the run's.
    let train = &after.recipe.train;
    assert_eq!((train.updates, train.learning_rate), (12, 3e-4));
    assert_eq!(
        after.recipe.data.return_scale,
        before.recipe.data.return_scale
    );
    assert_eq!(after.info.state_std, before.info.state_std);
    assert_ne!(after.info.dataset_sha256, before.info.dataset_sha256);
    let from = InitFrom {
        run: "first".into(),
        update: 10,
    };
    assert_eq!(after.info.init_from, Some(from));

    // Both at both targets, in the same episodes, as `eval` measures and keeps them.
    let measured = [&before, &after].map(|run| load_evaluations(run).unwrap());
    let episodes = |i: usize| -> Vec<_> {
        let of = measured[i].iter().map(|saved| {
            let seeds = saved.evaluation.episodes.iter().map(|e| e.seed);
            (saved.evaluation.target_return, seeds.collect::<Vec<_>>())
        });
        of.collect()
    };
    assert_eq!(episodes(0), [(-100.0, vec![0, 1]), (-900.0, vec![0, 1])]);
    assert_eq!(episodes(1), episodes(0));
    let returns = |i: usize| -> Vec<f64> {
        let of = measured[i].iter();
        of.map(|saved| saved.evaluation.mean_return).collect()
    };
    assert_ne!(returns(0), returns(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    for part in [
        "before: first in pendulum",
        "after: first-finetuned in pendulum",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    for mean in [0, 1].into_iter().flat_map(returns) {
        assert!(printed.contains(&format!("{mean:.2}")), "{mean}: {printed}");
    }

    // Nothing is overwritten unasked; what stopped goes on.
    let output = w.command(&short).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        message.contains("first-finetuned holds another run"),
        "{message}"
    );
    let longer = [&streaming[..], &["--resume", "--set", "train.updates=14"]].concat();
    let output = w.command(&longer).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let at_once = [
        &streaming[..],
        &["--set", "train.updates=14", "--out", "once"],
    ]
    .concat();
    let output = w.command(&at_once).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(w.bytes("first-finetuned/last.safetensors") == w.bytes("once/last.safetensors"));
}

/// Without another kind of attention, sequences stay as the recipe has them; targets and environment are what is asked for.
#[test]
fn a_run_is_tuned_as_it_is_where_nothing_else_is_said() {
    let w = workshop();
    let options = ["--set", "train.updates=2", "--target-return=-300"];
    let output = w.command(&[&FINETUNE[..], &options].concat()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let after = Run::open(&w.path("first-finetuned")).unwrap();
    let section = after.recipe.algorithm.section();
    assert_eq!(section["attention"].as_str(), Some("window"));
    assert_eq!(section["sequence_len"].as_integer(), Some(3));
    assert_eq!(after.info.target_return, -300.0);
    let targets = load_evaluations(&after).unwrap();
    let targets: Vec<_> = targets.iter().map(|e| e.evaluation.target_return).collect();
    assert_eq!(targets, [-300.0]);

    let nowhere = [
        "--env",
        "none",
        "--out",
        "nowhere",
        "--set",
        "train.updates=2",
    ];
    let output = w.command(&[&FINETUNE[..], &nowhere].concat()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("nowhere: 2 updates"), "{printed}");
    // What no environment says, the run that is tuned does.
    let info = Run::open(&w.path("nowhere")).unwrap().info;
    assert_eq!((info.env.as_str(), info.control_period_us), ("", 50_000));

    // What is tuned is not what is written over.
    let onto_itself = ["--out", "./first", "--force"];
    let output = w.command(&[&FINETUNE[..], &onto_itself].concat()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the run to start from"),
        "{}",
        stderr(&output)
    );
    assert!(w.path("first/last.safetensors").exists());

    // Nothing to derive the name of another folder from.
    let mut here = FINETUNE;
    here[1] = ".";
    std::fs::copy(w.path("first/config.toml"), w.path("config.toml")).unwrap();
    std::fs::copy(w.path("first/run.json"), w.path("run.json")).unwrap();
    let output = w.command(&here).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("name one with --out"), "{message}");
}
