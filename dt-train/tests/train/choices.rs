//! Actions that are choices, from data to policy file.

use dt_core::blob::{Blob, Choice, Sampling};
use dt_core::config::{Actions, Head};
use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::run::{Run, read_metrics};
use host_sim::policy_file::PolicyFile;
use serde_json::Value;

use crate::workshop::{Workshop, stderr};

/// Eight episodes of 25 steps with CartPole's dimensions: it pushes to where the pole falls, as integers or as floats;
/// the last but one action is `strange`.
fn write_data(workshop: &Workshop, name: &str, choices: bool, strange: Option<f32>) {
    let mut data = Recording::default();
    for i in 0..200_u32 {
        let wave = |k: f32| (k * i as f32).sin();
        let observation = [wave(0.3), wave(0.8), 0.1 * wave(0.5), wave(0.7)];
        data.observations.extend(observation);
        data.next_observations.extend(observation);
        let falls = observation[2] + 0.3 * observation[3] > 0.0;
        data.actions.push(f32::from(u8::from(falls)));
        data.rewards.push(1.0);
        data.terminals.push(i % 25 == 24);
        data.timeouts.push(false);
    }
    if let Some(strange) = strange {
        data.actions[198] = strange;
    }
    let metadata = Metadata {
        env: "cartpole",
        policy: "test",
        seed: 0,
        choices,
    };
    d4rl::write(&workshop.path(name), true, &data, &metadata).unwrap();
}

fn workshop() -> Workshop {
    let workshop = Workshop::new();
    write_data(&workshop, "data.hdf5", true, None);
    workshop
}

const SHORT: [&str; 4] = [
    "--set",
    "eval.target_returns=[20.0, 500.0]",
    "--set",
    "eval.episodes=3",
];

fn output(workshop: &Workshop, args: &[&str]) -> String {
    let output = workshop.command(args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn choices_are_learned_evaluated_and_exported() {
    let workshop = workshop();
    let sampled = [
        "--set",
        "control.choice=sampled",
        "--set",
        "control.top_k=2",
    ];
    for (run, how) in [("greedy", &[][..]), ("sampled", &sampled)] {
        workshop.train_ok(run, &[&SHORT, how].concat());
        let record = read_metrics(&workshop.path(&format!("{run}/metrics.jsonl")))
            .pop()
            .unwrap();
        // Both classes are nearly as frequent.
        assert!(record.accuracy.unwrap() > 0.6, "{record:?}");
        assert!(record.validation_accuracy.unwrap() > 0.6, "{record:?}");
        assert!(record.loss < 0.69, "ln 2 is what a coin has: {record:?}");
        assert_eq!(record.eval.len(), 2);
        let recipe = String::from_utf8(workshop.bytes(&format!("{run}/config.toml"))).unwrap();
        assert!(recipe.contains("head = \"linear\""), "{recipe}");
        assert!(recipe.contains(&format!("choice = \"{run}\"")), "{recipe}");
    }
    let returns = |run: &str| {
        let json = output(&workshop, &["eval", run, "--episodes", "5", "--json", "-"]);
        serde_json::from_str::<Value>(&json).unwrap()[0]["episodes"].clone()
    };
    assert_ne!(returns("greedy"), returns("sampled"));

    // How the policy chooses can still be said at export.
    let exported = |run: &str, file: &str, how: &[&str]| {
        output(&workshop, &[&["export", run, "--out", file], how].concat());
        PolicyFile::load(&workshop.path(file)).unwrap()
    };
    let greedy = exported("greedy", "g.dtb", &[]);
    let blob: Blob<'_> = greedy.blob();
    let config = blob.manifest().config;
    assert_eq!((config.actions, config.act_dim), (Actions::Discrete, 2));
    assert_eq!(config.head, Head::Linear);
    assert_eq!(blob.manifest().choice, Choice::Greedy);
    assert_eq!(blob.vectors().action_high, [1.0]);
    let set = [
        "--set",
        "control.choice=sampled",
        "--set",
        "control.temperature=0.5",
    ];
    let file = exported("greedy", "s.dtb", &set);
    assert_eq!(
        file.blob().manifest().choice,
        Choice::Sampled(Sampling {
            temperature: 0.5,
            top_k: 0,
            seed: 0
        })
    );
    let table = output(&workshop, &["inspect", "s.dtb"]);
    for row in [
        "choice              sampled",
        "temperature         0.5",
        "top_k               0",
    ] {
        assert!(table.contains(row), "no {row:?} in\n{table}");
    }
    let rolled = output(
        &workshop,
        &[
            "eval",
            "g.dtb",
            "--episodes",
            "5",
            "--json",
            "-",
            "--target-return",
            "20,500",
        ],
    );
    let rolled: Value = serde_json::from_str(&rolled).unwrap();
    assert_eq!(rolled[0]["episodes"].as_array().unwrap().len(), 5);
}

#[test]
fn logits_are_predicted_and_choices_are_named_either_way() {
    let workshop = workshop();
    workshop.train_ok(
        "run",
        &["--set", "train.updates=20", "--set", "eval.every=0"],
    );
    output(
        &workshop,
        &["export", "run", "--out", "p.dtb", "--dtype", "f32"],
    );
    let context = |actions: &str| {
        format!(
            "{{\"returns_to_go\":[1,0.9],\"states\":[[0.1,0.2,0.3,0.4],[1,-1,0.5,0]],\"actions\":{actions},\"timesteps\":[0,1]}}\n"
        )
    };
    let contexts = [context("[0,1]"), context("[[1,0],[0,1]]"), context("[1,0]")];
    std::fs::write(workshop.path("in.jsonl"), contexts.concat()).unwrap();
    let mut all = Vec::new();
    for policy in ["run", "p.dtb"] {
        let lines = output(&workshop, &["predict", policy, "--contexts", "in.jsonl"]);
        let logits: Vec<Vec<f64>> = lines
            .lines()
            .map(|line| {
                let answer: Value = serde_json::from_str(line).unwrap();
                serde_json::from_value(answer["logits"].clone()).unwrap()
            })
            .collect();
        assert_eq!(logits.len(), 3);
        assert_eq!(logits[0], logits[1], "an index is its one-hot row");
        assert_ne!(logits[0], logits[2]);
        all.push(logits.concat());
    }
    for (torch, engine) in all[0].iter().zip(&all[1]) {
        assert!((torch - engine).abs() < 2e-5, "{all:?}");
    }
    std::fs::write(workshop.path("in.jsonl"), context("[0,2]")).unwrap();
    let output = workshop
        .command(&["predict", "run", "--contexts", "in.jsonl"])
        .output()
        .unwrap();
    let message = stderr(&output);
    assert!(
        message.contains("line 1")
            && message.contains("`actions[1]` is 2; the policy chooses one of 0 to 1"),
        "{message}"
    );
}

#[test]
fn the_baseline_learns_choices_too() {
    let workshop = workshop();
    workshop.train_ok("bc", &[&SHORT[..], &["--algo", "bc"]].concat());
    let record = read_metrics(&workshop.path("bc/metrics.jsonl"))
        .pop()
        .unwrap();
    assert!(record.accuracy.unwrap() > 0.6, "{record:?}");
    let eval = &record.eval[0];
    assert_eq!(eval.engine_mean_return, eval.torch_mean_return);
}

#[test]
fn whole_floats_are_choices_where_the_environment_has_them_and_others_are_refused() {
    let workshop = workshop();
    write_data(&workshop, "floats.hdf5", false, None);
    let quick = ["--set", "train.updates=2", "--set", "eval.every=0"];
    workshop.train_ok("integers", &quick);
    let floats = [
        &[
            "--data",
            "floats.hdf5",
            "--config",
            "recipe.toml",
            "--device",
            "cpu",
        ][..],
        &quick,
    ]
    .concat();
    output(
        &workshop,
        &[&["train", "--out", "floats"], &floats[..]].concat(),
    );
    assert_eq!(
        read_metrics(&workshop.path("floats/metrics.jsonl"))[0].loss,
        read_metrics(&workshop.path("integers/metrics.jsonl"))[0].loss
    );

    for (choices, strange, parts) in [
        (false, 0.5, "the action is 0.5; in environment `cartpole`"),
        (false, -1.0, "the action is -1.0;"),
        (true, 2.0, "the action is 2; in environment `cartpole`"),
    ] {
        write_data(&workshop, "data.hdf5", choices, Some(strange));
        workshop.train_fails(
            "refused",
            &[],
            &[
                "step 23 of episode 7 (both counted from 0, row 198 of all)",
                parts,
                "--env none",
            ],
        );
    }
    // Without the environment there may be more choices than in it, but the range of a number is another thing.
    let more = ["--env", "none", "--set", "control.period_us=20000"];
    let note = stderr(&workshop.train("more", &[&quick[..], &more].concat()));
    assert!(
        note.contains("Discrete(3) has one more than the largest seen")
            && note.contains("data.actions_n=N"),
        "{note}"
    );
    let said = ["--set", "data.actions_n=5"];
    let note = stderr(&workshop.train("five", &[&quick[..], &more, &said].concat()));
    assert!(!note.contains("the largest seen"), "{note}");
    let facts = output(&workshop, &["inspect", "five", "--json"]);
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["act_dim"], 5);
}

#[test]
fn what_choices_have_none_of_is_refused() {
    let workshop = workshop();
    for (setting, part) in [
        ("control.safe_action=[2.0]", "give [k] with k one of 0 to 1"),
        ("control.safe_action=[0.5]", "give [k]"),
        ("control.safe_action=[0.0, 1.0]", "give [k]"),
        ("control.action_low=[-1.0]", "leave it empty"),
    ] {
        workshop.train_fails("refused", &["--set", setting], &["`control.", part]);
    }
    let vectors = Workshop::new();
    vectors.train_ok(
        "run",
        &["--set", "train.updates=2", "--set", "eval.every=0"],
    );
    let export = vectors
        .command(&[
            "export",
            "run",
            "--out",
            "p.dtb",
            "--set",
            "control.choice=sampled",
        ])
        .output()
        .unwrap();
    let message = stderr(&export);
    assert!(
        message.contains("of which there is nothing to choose"),
        "{message}"
    );
}

/// Weights of one kind of actions do not begin with data of the other; with fewer choices in the data than in the run they do.
#[test]
fn a_run_of_choices_starts_one_of_choices() {
    let workshop = workshop();
    let quick = ["--set", "train.updates=2", "--set", "eval.every=0"];
    let period = ["--set", "control.period_us=20000"];
    let five = [
        &period[..],
        &quick[..],
        &["--env", "none", "--set", "data.actions_n=5"],
    ]
    .concat();
    workshop.train_ok("five", &five);
    let from = [&quick[..], &["--env", "none", "--init-from", "five"]].concat();
    workshop.train_ok("again", &from);
    assert_eq!(Run::open(&workshop.path("again")).unwrap().info.act_dim, 5);
    let vectors = Workshop::new();
    vectors.train_ok("run", &quick);
    let other = vectors.path("run");
    let from = [&quick[..], &["--init-from", other.to_str().unwrap()]].concat();
    workshop.train_fails(
        "refused",
        &from,
        &["its actions are vectors, those of the data choices"],
    );
}

#[test]
fn choices_have_no_form_in_transformers() {
    let workshop = workshop();
    workshop.train_ok(
        "run",
        &["--set", "train.updates=2", "--set", "eval.every=0"],
    );
    let refused = workshop
        .command(&["export-hf", "run", "--out", "model"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("its actions are choices"),
        "{}",
        stderr(&refused)
    );
    assert!(!workshop.path("model").exists());
}

/// Whatever number type the file has them in, inspect says of them what training makes of them.
#[test]
fn inspect_counts_choices() {
    let workshop = workshop();
    write_data(&workshop, "floats.hdf5", false, None);
    let table = output(&workshop, &["inspect", "floats.hdf5"]);
    assert!(
        table.contains("actions      Discrete(2)") && !table.contains("--env none"),
        "{table}"
    );
    write_data(&workshop, "strange.hdf5", false, Some(0.5));
    let table = output(&workshop, &["inspect", "strange.hdf5"]);
    assert!(table.contains("training refuses these actions"), "{table}");
    let table = output(&workshop, &["inspect", "data.hdf5"]);
    assert!(
        table.contains("actions      Discrete(2)") && table.contains("\n      choice  steps\n"),
        "{table}"
    );
    assert!(table.contains("--config cartpole"), "{table}");
    let json = output(&workshop, &["inspect", "data.hdf5", "--json"]);
    let facts: Value = serde_json::from_str(&json).unwrap();
    let counts: Vec<u64> = serde_json::from_value(facts["action_counts"].clone()).unwrap();
    assert_eq!(counts.iter().sum::<u64>(), 200);
    assert_eq!(facts["action_space"], "Discrete(2)");
}
