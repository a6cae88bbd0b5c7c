//! `dt-train export`, `predict` and `inspect` from the outside, on a run with random weights.

mod lab;

use std::fs;
use std::path::Path;

use dt_core::blob::{AtMaxEpLen, BeyondLimits, RewardMode};
use dt_core::config::{Activation, Attention, Dtype, Mixer, Order};
use dt_train::algo::dt::{Dt, EmbeddingsName, TokenMixer};
use host_sim::policy_file::PolicyFile;
use lab::{K, Lab};
use predicates::prelude::*;
use serde_json::{Value, json};

#[test]
fn export_writes_a_policy_that_acts_as_torch_does() {
    for attention in [Attention::Streaming, Attention::Window] {
        let lab = Lab::new(attention);
        let exported = lab.run(&["export", "RUN", "--out", "p.dtb", "--dtype", "f32"]);
        exported
            .success()
            .stdout(predicate::str::contains("f32 engine against libtorch"));
        let contexts = lab.contexts();
        let by_torch = lab.actions("RUN", &contexts);
        let by_engine = lab.actions("p.dtb", &contexts);
        assert_eq!(by_torch.len(), contexts.len());
        for (ours, theirs) in by_engine.iter().zip(&by_torch) {
            assert!(
                (ours - theirs).abs() <= 1e-5,
                "{attention:?}: {ours}, torch has {theirs}"
            );
        }
        // They would agree as well if nothing reached the action.
        let (low, high) = range(&by_torch);
        assert!(high - low > 0.3, "{low}..{high}");
    }
}

/// Random biases and norms; a transposed or exchanged matrix, or a missing bias, changes the actions by tenths.
#[test]
fn a_folded_policy_acts_as_torch_does() {
    for attention in [Attention::Streaming, Attention::Window] {
        let lab = Lab::with_heads(attention, 1);
        lab.run(&[
            "export", "RUN", "--out", "p.dtb", "--dtype", "f32", "--fold", "always",
        ])
        .success();
        let file = PolicyFile::load(&lab.path("p.dtb")).unwrap();
        assert_eq!(file.blob().manifest().config.mixer, Mixer::Folded);
        let contexts = lab.contexts();
        let by_torch = lab.actions("RUN", &contexts);
        for (ours, theirs) in lab.actions("p.dtb", &contexts).iter().zip(&by_torch) {
            assert!(
                (ours - theirs).abs() <= 1e-5,
                "{attention:?}: {ours}, torch has {theirs}"
            );
        }
        let (low, high) = range(&by_torch);
        assert!(high - low > 0.3, "{low}..{high}");
    }
}

/// From the recipe's words to the file: what a run has before its head and inside its MLP, its policy has.
#[test]
fn a_gated_policy_acts_as_torch_does_with_any_activation() {
    for (activation, attention, heads) in [
        (Activation::Gelu, Attention::Streaming, 1),
        (Activation::Silu, Attention::Window, 2),
        (Activation::Tanh, Attention::Streaming, 2),
    ] {
        let lab = Lab::of(Dt {
            activation,
            glu: true,
            ..lab::dt(attention, heads)
        });
        lab.run(&["export", "RUN", "--out", "f32.dtb", "--dtype", "f32"])
            .success();
        let contexts = lab.contexts();
        let by_torch = lab.actions("RUN", &contexts);
        for (ours, theirs) in lab.actions("f32.dtb", &contexts).iter().zip(&by_torch) {
            assert!(
                (ours - theirs).abs() <= 1e-5,
                "{activation:?}: {ours}, torch has {theirs}"
            );
        }
        let (low, high) = range(&by_torch);
        assert!(high - low > 0.3, "{activation:?}: {low}..{high}");

        let exported = lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
        let report = String::from_utf8(exported.get_output().stdout.clone()).unwrap();
        assert!(report.contains("\nglu "), "{report}");
        let file = PolicyFile::load(&lab.path("p.dtb")).unwrap();
        let config = file.blob().manifest().config;
        assert!(config.glu && config.activation == activation);
        let source = fs::read_to_string(lab.path("p.rs")).unwrap();
        for constant in ["glu: true", &format!("Activation::{activation:?}")] {
            assert!(source.contains(constant), "{source}");
        }
    }
}

/// Attention weights, flat, and where they must be 0, of each context; the rest is the same in all: names, rows that sum to 1.
fn attention(lab: &Lab, policy: &str, dt: &Dt, contexts: &[Value]) -> Vec<Vec<f64>> {
    let answers = lab.answers_with(policy, contexts, &["--attention"]);
    let mut all = Vec::new();
    for (answer, context) in answers.iter().zip(contexts) {
        let steps = context["timesteps"].as_array().unwrap().len();
        let first = match dt.attention {
            Attention::Window => steps.saturating_sub(K),
            Attention::Streaming => 0,
        };
        let names = (first..steps).flat_map(|t| ["R", "s", "a"].map(|kind| format!("{kind}{t}")));
        let names: Vec<String> = names.take(3 * (steps - first) - 1).collect();
        assert_eq!(answer["attention"]["tokens"], json!(names));
        let weights = serde_json::from_value(answer["attention"]["weights"].clone());
        let weights: Vec<Vec<Vec<Vec<f64>>>> = weights.unwrap();
        assert_eq!((weights.len(), weights[0].len()), (2, dt.n_head as usize));
        for matrix in weights.iter().flatten() {
            assert_eq!(matrix.len(), names.len());
            for (query, row) in matrix.iter().enumerate() {
                assert_eq!(row.len(), names.len());
                let sum: f64 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "{policy}: {sum}");
                for (key, &weight) in row.iter().enumerate() {
                    let is_old = dt.attention == Attention::Streaming && query / 3 >= key / 3 + K;
                    let is_seen = key <= query && !is_old;
                    assert_eq!(
                        weight > 0.0,
                        is_seen,
                        "{policy}: {query} at {key}: {weight}"
                    );
                }
            }
        }
        all.push(weights.into_iter().flatten().flatten().flatten().collect());
    }
    all
}

/// Two computations that share nothing but the weights: libtorch's of the run, and the plain one of the file.
#[test]
fn a_file_looks_at_what_its_run_looks_at() {
    let (gym, atari) = (EmbeddingsName::Gym, EmbeddingsName::Atari);
    for (attends, heads, fold, activation, embeddings) in [
        (Attention::Streaming, 2, "never", Activation::Relu, gym),
        (Attention::Streaming, 1, "always", Activation::Gelu, gym),
        (Attention::Window, 1, "always", Activation::GeluTanh, gym),
        (Attention::Window, 2, "never", Activation::Silu, gym),
        (Attention::Window, 1, "always", Activation::Gelu, atari),
    ] {
        let dt = Dt {
            activation,
            embeddings,
            ..lab::dt(attends, heads)
        };
        let lab = Lab::of(dt.clone());
        let dtypes: &[&str] = match fold {
            "never" => &["f32"],
            _ => &["f32", "int8"],
        };
        for dtype in dtypes {
            let out = format!("{dtype}.dtb");
            lab.run(&[
                "export", "RUN", "--out", &out, "--dtype", dtype, "--fold", fold,
            ])
            .success();
        }
        let contexts = lab.contexts();
        let weights = |policy: &str| attention(&lab, policy, &dt, &contexts);
        let torch = weights("RUN");
        // Even weights would agree with each other whatever they come from.
        let most = torch
            .iter()
            .flatten()
            .filter(|&&w| w > 0.5 && w < 1.0)
            .count();
        assert!(most > 10, "{most}");
        let not_asked = lab.answers_with("f32.dtb", &contexts[..1], &[]);
        assert!(not_asked[0].get("attention").is_none());
        for dtype in dtypes {
            let policy = format!("{dtype}.dtb");
            let tolerance = if *dtype == "f32" { 1e-5 } else { 0.05 };
            let file = weights(&policy);
            let pairs = file.iter().flatten().zip(torch.iter().flatten());
            let off = pairs.fold(0.0, |most, (a, b)| f64::max(most, (a - b).abs()));
            assert!(off <= tolerance, "{policy}, {attends:?}, {heads}: {off}");
        }
    }
}

/// The heads that predict states and returns, from a run to a file, beside actions that are the same.
#[test]
fn a_predicting_policy_predicts_as_torch_does() {
    for (attention, heads, glu, weights, return_expectile) in [
        (Attention::Streaming, 1, true, [1.0, 1.0], 0.0),
        (Attention::Window, 2, false, [0.0, 0.5], 0.0),
        (Attention::Streaming, 2, false, [2.0, 0.0], 0.0),
        (Attention::Streaming, 1, false, [0.0, 1.0], 0.99),
        (Attention::Window, 2, true, [0.0, 1.0], 0.9),
    ] {
        let lab = Lab::of(Dt {
            glu,
            predict_state: weights[0],
            predict_return: weights[1],
            return_expectile,
            ..lab::dt(attention, heads)
        });
        lab.run(&["export", "RUN", "--out", "f32.dtb", "--dtype", "f32"])
            .success();
        lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
        let file = PolicyFile::load(&lab.path("p.dtb")).unwrap();
        let config = file.blob().manifest().config;
        let expected = weights.map(|weight| weight > 0.0);
        let heads = config.predictions;
        assert_eq!([heads.state, heads.return_to_go], expected);
        let source = fs::read_to_string(lab.path("p.rs")).unwrap();
        assert!(source.contains(&format!("return_to_go: {}", expected[1])));
        // Whoever predicts the largest return from states is asked for it.
        let asks_itself = file.blob().manifest().reward == RewardMode::Predicted;
        assert_eq!(asks_itself, return_expectile > 0.0);
        assert_eq!(config.order == Order::StateFirst, asks_itself);
        assert_eq!(source.contains("Order::StateFirst"), asks_itself);

        let contexts = lab.contexts();
        let [torch, engine, quantized] =
            ["RUN", "f32.dtb", "p.dtb"].map(|policy| lab.predictions(policy, &contexts));
        // Where a context is but one timestep, nothing has been predicted, but from its state.
        for all in [&torch, &engine] {
            assert_eq!(all[0].is_empty(), !asks_itself);
            assert!(all[1..].iter().all(|p| !p.is_empty()));
        }
        let off = |ours: &[Vec<f64>]| {
            let pairs = ours.iter().flatten().zip(torch.iter().flatten());
            pairs.fold(0.0, |largest, (a, b)| f64::max(largest, (a - b).abs()))
        };
        assert!(off(&engine) <= 1e-5, "{attention:?}: {}", off(&engine));
        assert!(
            (1e-5..0.1).contains(&off(&quantized)),
            "{}",
            off(&quantized)
        );
        let (low, high) = range(&torch.concat());
        assert!(high - low > 0.3, "{low}..{high}");
    }
}

/// A network without attention: its file has one form, which is libtorch's, and is asked for no attention.
#[test]
fn a_convolving_policy_is_exported_as_it_is() {
    let lab = Lab::of(Dt {
        mixer: TokenMixer::Convolution,
        ..lab::dt(Attention::Streaming, 1)
    });
    for dtype in ["f32", "int8", "int4"] {
        let file = format!("{dtype}.dtb");
        lab.run(&["export", "RUN", "--out", &file, "--dtype", dtype])
            .success();
        let file = PolicyFile::load(&lab.path(&file)).unwrap();
        assert_eq!(file.blob().manifest().config.mixer, Mixer::Convolution);
    }
    let args = ["export", "RUN", "--out", "p.dtb", "--fold", "always"];
    let refused = lab.run(&args).failure();
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("leave out --fold always"), "{said}");
    for policy in ["RUN", "int8.dtb"] {
        let args = ["predict", policy, "--contexts", "none", "--attention"];
        let refused = lab.run(&args).failure();
        let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
        assert!(said.contains("leave out --attention"), "{said}");
    }
}

#[test]
fn export_folds_where_it_can_and_reports_both_forms() {
    let lab = Lab::with_heads(Attention::Streaming, 1);
    let export = |fold: &str| {
        let args = ["export", "RUN", "--out", "p.dtb", "--force", "--fold", fold];
        let output = lab.run(&args).success();
        let mixer = PolicyFile::load(&lab.path("p.dtb"))
            .unwrap()
            .blob()
            .manifest()
            .config
            .mixer;
        let record = fs::read(lab.path("RUN").join("export-int8.json")).unwrap();
        (
            String::from_utf8(output.get_output().stdout.clone()).unwrap(),
            mixer,
            serde_json::from_slice::<Value>(&record).unwrap(),
        )
    };
    let (report, mixer, record) = export("auto");
    assert_eq!(mixer, Mixer::Folded);
    for part in [
        "layers.1.attn_folded",
        "attention: folded\n",
        "as trained instead, it would be:\nlayers.0.attn_qkv",
    ] {
        assert!(report.contains(part), "{part} is missing from\n{report}");
    }
    assert_eq!(record["folded"], json!(true));
    assert_eq!(record["other_form"]["folded"], json!(false));
    // Matrices of the folded policy are compared with folded ones.
    let errors = record["layers"].as_array().unwrap();
    assert!(
        errors
            .iter()
            .all(|e| e["relative_rms"].as_f64().unwrap() < 0.02),
        "{errors:?}"
    );
    let smaller = fs::metadata(lab.path("p.dtb")).unwrap().len();

    let (report, mixer, record) = export("never");
    assert_eq!(mixer, Mixer::Attention);
    assert!(report.contains("attention: as trained\n") && !report.contains("instead"));
    assert_eq!(record["other_form"], Value::Null);
    assert!(smaller < fs::metadata(lab.path("p.dtb")).unwrap().len());
}

#[test]
fn export_does_not_fold_what_folding_spoils() {
    let lab = Lab::with_heads(Attention::Streaming, 1);
    // One output of attention much larger than the others leaves their folded values too coarse a grid; as trained,
    // values are quantized before the projection.
    for layer in 0..2 {
        let row = std::cell::Cell::new(0);
        lab.change_weights(&format!("layers.{layer}.attn_proj.weight"), |weights| {
            if row.replace(row.get() + 1) == 1 {
                weights.iter_mut().for_each(|w| *w *= 20.0);
            }
        });
    }
    lab.run(&["export", "RUN", "--out", "p.dtb"])
        .success()
        .stdout(
            predicate::str::contains("attention: as trained\n")
                .and(predicate::str::contains("folded instead, it would be:")),
        );
    let file = PolicyFile::load(&lab.path("p.dtb")).unwrap();
    assert_eq!(file.blob().manifest().config.mixer, Mixer::Attention);
    lab.run(&[
        "export", "RUN", "--out", "q.dtb", "--force", "--fold", "always",
    ])
    .code(1)
    .stderr(predicate::str::contains("--fold never"));
}

#[test]
fn several_heads_are_not_folded() {
    let lab = Lab::new(Attention::Streaming);
    lab.run(&["export", "RUN", "--out", "p.dtb", "--fold", "always"])
        .code(1)
        .stderr(predicate::str::contains("this network has 2"));
    lab.run(&["export", "RUN", "--out", "p.dtb"])
        .success()
        .stdout(predicate::str::contains("attention: as trained\n"));
}

#[test]
fn a_policy_knows_the_returns_it_was_trained_on() {
    let lab = Lab::new(Attention::Streaming);
    lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
    let limits = PolicyFile::load(&lab.path("p.dtb"))
        .unwrap()
        .blob()
        .manifest()
        .return_limits
        .unwrap();
    assert_eq!(
        (limits.low, limits.high, limits.beyond),
        (-1e6, 1e6, BeyondLimits::Clamp)
    );
}

#[test]
fn int8_export_reports_what_quantization_costs() {
    let lab = Lab::new(Attention::Streaming);
    let report = lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
    let report = String::from_utf8(report.get_output().stdout.clone()).unwrap();
    for part in [
        "layers.1.mlp_proj",
        "embed_timestep",
        "quantized against f32: RMS",
        "bytes of flash",
    ] {
        assert!(report.contains(part), "{part} is missing from\n{report}");
    }
    let file = PolicyFile::load(&lab.path("p.dtb")).unwrap();
    let blob = file.blob();
    assert_eq!(blob.manifest().config.dtype, Dtype::Int8);
    assert!(blob.manifest().golden_steps as usize >= 2 * K + 3);
    assert_eq!(blob.manifest().provenance.run, "RUN");
    assert_eq!(blob.manifest().provenance.updates, 7);
    // The first golden step is the first logged one.
    assert_eq!(blob.golden()[1..4], lab.recording.observations[..3]);
    let source = fs::read_to_string(lab.path("p.rs")).unwrap();
    assert!(
        source.contains(&format!("{} bytes of flash", file.bytes().len())),
        "{source}"
    );
}

#[test]
fn int4_export_takes_half_of_the_blocks() {
    let lab = Lab::new(Attention::Streaming);
    lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
    let int8 = PolicyFile::load(&lab.path("p.dtb")).unwrap();
    lab.run(&[
        "export", "RUN", "--out", "p.dtb", "--force", "--dtype", "int4",
    ])
    .success()
    .stdout(predicate::str::contains("at most 0.1 RMS is accepted"));
    let int4 = PolicyFile::load(&lab.path("p.dtb")).unwrap();
    assert_eq!(int4.blob().manifest().config.dtype, Dtype::Int4);
    assert!(int4.bytes().len() < int8.bytes().len());
    let source = fs::read_to_string(lab.path("p.rs")).unwrap();
    assert!(source.contains("Dtype::Int4"), "{source}");
}

/// `tests/data/policy.rs` is compiled by `tests/tests/golden.rs`.
#[test]
fn policy_rs_is_the_one_that_is_known_to_compile() {
    let lab = Lab::new(Attention::Window);
    lab.run(&["export", "RUN", "--out", "p.dtb", "--dtype", "f32"])
        .success();
    let written = fs::read_to_string(lab.path("p.rs")).unwrap();
    let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/policy.rs");
    // The data file is compressed, so its digest may change with the library that wrote it.
    let code = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with("///"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(code(&written), code(&fs::read_to_string(known).unwrap()));
}

#[test]
fn export_without_the_data_says_so_and_works() {
    let lab = Lab::new(Attention::Streaming);
    fs::remove_file(lab.path("data.hdf5")).unwrap();
    lab.run(&["export", "RUN", "--out", "p.dtb"])
        .success()
        .stderr(
            predicate::str::contains("random inputs")
                .and(predicate::str::contains("data.hdf5 is not there")),
        );
}

#[test]
fn export_refuses_what_it_cannot_do() {
    let lab = Lab::new(Attention::Streaming);
    let failing = |args: &[&str], code: i32, message: &str| {
        lab.run(args)
            .code(code)
            .stderr(predicate::str::contains(message));
    };
    failing(
        &["export", "RUN", "--out", "p.dtb", "--dtype", "int3"],
        2,
        "int3",
    );
    failing(
        &["export", "none", "--out", "p.dtb"],
        1,
        "none holds no training run",
    );
    failing(
        &["export", "RUN", "--out", "no/p.dtb"],
        1,
        "no does not exist",
    );
    failing(
        &["export", "RUN", "--out", "p.dtb", "--checkpoint", "best"],
        1,
        "--checkpoint last",
    );
    fs::write(lab.path("p.rs"), "mine").unwrap();
    failing(
        &["export", "RUN", "--out", "p.dtb"],
        1,
        "p.rs already exists",
    );
    assert!(!lab.path("p.dtb").exists());
    assert_eq!(fs::read(lab.path("p.rs")).unwrap(), b"mine");
    lab.run(&["export", "RUN", "--out", "p.dtb", "--force"])
        .success();
    assert_ne!(fs::read(lab.path("p.rs")).unwrap(), b"mine");
}

#[test]
fn export_refuses_a_policy_that_quantization_spoils() {
    let lab = Lab::new(Attention::Streaming);
    // One outlier per row leaves the int8 grid too coarse for all other weights.
    lab.change_weights("layers.0.mlp_fc.weight", |row| row[0] *= 1000.0);
    lab.run(&["export", "RUN", "--out", "p.dtb"])
        .code(1)
        .stderr(predicate::str::contains(
            "quantized actions differ from f32 by",
        ));
    assert!(!lab.path("p.dtb").exists() && !lab.path("p.rs").exists());
    lab.run(&["export", "RUN", "--out", "p.dtb", "--dtype", "f32"])
        .success();
}

#[test]
fn export_refuses_weights_that_are_no_numbers() {
    let lab = Lab::new(Attention::Streaming);
    lab.change_weights("head.weight", |row| row[3] = f32::NAN);
    lab.run(&["export", "RUN", "--out", "p.dtb"])
        .code(1)
        .stderr(predicate::str::contains("head.weight holds NaN"));
    assert!(!lab.path("p.dtb").exists() && !lab.path("p.rs").exists());
}

#[test]
fn a_bad_line_is_named() {
    let lab = Lab::new(Attention::Streaming);
    lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
    let good = lab.contexts()[0].to_string();
    fs::write(lab.path("in.jsonl"), format!("{good}\n{{}}\n{good}\n")).unwrap();
    for policy in ["RUN", "p.dtb"] {
        lab.run(&["predict", policy, "--contexts", "in.jsonl"])
            .code(1)
            .stdout(predicate::str::starts_with("{\"action\":["))
            .stderr(predicate::str::starts_with(
                "error: in.jsonl, line 2: not a context (missing field `returns_to_go`",
            ));
    }
    lab.run(&["predict", "p.dtb", "--contexts", "none"])
        .code(1)
        .stderr(predicate::str::contains("cannot read contexts none"));
}

#[test]
fn contexts_also_come_from_standard_input() {
    let lab = Lab::new(Attention::Streaming);
    let line = lab.contexts()[0].to_string();
    let mut command = lab.command(&["predict", "RUN", "--contexts", "-"]);
    command
        .write_stdin(line)
        .assert()
        .success()
        .stdout(predicate::str::starts_with("{\"action\":["));
}

#[test]
fn inspect_describes_policies_and_runs() {
    let lab = Lab::new(Attention::Window);
    lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
    let inspect = |path: &str| -> Value {
        let output = lab.run(&["inspect", path, "--json"]).success();
        serde_json::from_slice(&output.get_output().stdout).unwrap()
    };
    let policy = inspect("p.dtb");
    let file = PolicyFile::load(&lab.path("p.dtb")).unwrap();
    let expected = [
        ("kind", json!("policy")),
        ("dtype", json!("int8")),
        ("attention", json!("window")),
        ("activation", json!("relu")),
        ("glu", json!(false)),
        ("flash_bytes", json!(file.bytes().len())),
        (
            "arena_bytes",
            json!(4 * file.blob().manifest().config.arena_words()),
        ),
        ("state_dim", json!(3)),
        ("act_dim", json!(1)),
        ("actions", json!("continuous")),
        ("choice", json!(null)),
        ("env", json!("pendulum")),
        ("self_test", json!("passed")),
        ("updates", json!(7)),
        // 0.1 in f32, as it is.
        ("return_scale", json!(f64::from(0.1f32))),
    ];
    for (key, value) in expected {
        assert_eq!(policy[key], value, "{key}");
    }
    let config = file.blob().manifest().config;
    assert_eq!(policy["step_macs"], json!(config.step_macs()));
    assert_eq!(
        policy["step_instructions"],
        json!(config.step_instructions().unwrap())
    );
    let run = inspect("RUN");
    assert_eq!(
        (&run["kind"], &run["updates_done"]),
        (&json!("run"), &json!(7))
    );
    assert_eq!(run["parameters"], policy["parameters"]);
    assert_eq!(run["config"]["dt"]["context_len"], json!(K));
    lab.run(&["inspect", "p.dtb"])
        .success()
        .stdout(predicate::str::contains("attention           window\n"));
}

#[test]
fn damaged_policies_are_refused_with_one_message() {
    let lab = Lab::new(Attention::Streaming);
    lab.run(&["export", "RUN", "--out", "p.dtb"]).success();
    let whole = fs::read(lab.path("p.dtb")).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let middle = whole.len() / 2;
    let cases = [
        (whole[..middle].to_vec(), "truncated"),
        (whole[..5].to_vec(), "truncated"),
        (with(middle, whole[middle] ^ 1), "damaged"),
        (with(8, 3), "format version 3"),
        (
            b"PK\x03\x04 an archive, not a policy at all".to_vec(),
            "not a policy file",
        ),
    ];
    for (bytes, message) in cases {
        fs::write(lab.path("bad.dtb"), bytes).unwrap();
        for args in [
            &["inspect", "bad.dtb"][..],
            &["predict", "bad.dtb", "--contexts", "-"],
        ] {
            let refused = lab.run(args).code(1);
            let stderr = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
            assert!(
                stderr.contains("bad.dtb: ") && stderr.contains(message),
                "{stderr}"
            );
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| {
            (low.min(x), high.max(x))
        })
}

#[test]
fn export_tells_the_controller_what_set_says() {
    let lab = Lab::new(Attention::Streaming);
    let settings = [
        "--set",
        "control.period_us=4000",
        "--set",
        "control.safe_action=[0.5]",
        "--set",
        "control.reward=external",
        "--set",
        "control.return_limit=fault",
        "--set",
        "control.at_max_ep_len=fault",
    ];
    let f32 = ["export", "RUN", "--dtype", "f32", "--out"];
    lab.run(&[&f32[..], &["as-trained.dtb"]].concat()).success();
    lab.run(&[&f32[..], &["told.dtb"], &settings].concat())
        .success();
    let load = |name: &str| PolicyFile::load(&lab.path(name)).unwrap();
    let (plain, told) = (load("as-trained.dtb"), load("told.dtb"));
    let (plain, told) = (plain.blob(), told.blob());
    let manifest = told.manifest();
    assert_eq!(plain.manifest().control_period_us, 50_000);
    assert_eq!(manifest.control_period_us, 4000);
    assert_eq!(told.vectors().safe_action, [0.5]);
    assert_eq!(plain.vectors().safe_action, [0.0]);
    assert_eq!(manifest.reward, RewardMode::External);
    assert_eq!(manifest.at_max_ep_len, AtMaxEpLen::Fault);
    assert_eq!(manifest.return_limits.unwrap().beyond, BeyondLimits::Fault);
    // The rest is as it was, in the file and in the run.
    assert_eq!(told.vectors().state_low, plain.vectors().state_low);
    assert_eq!(
        lab.actions("told.dtb", &lab.contexts()),
        lab.actions("as-trained.dtb", &lab.contexts())
    );
    let record: Value =
        serde_json::from_slice(&fs::read(lab.path("RUN/export-f32.json")).unwrap()).unwrap();
    assert_eq!(record["control"][0], "control.period_us=4000");
    assert_eq!(record["control"].as_array().unwrap().len(), 5);
    lab.run(&["inspect", "RUN"]).success();
    // Each policy has its own constants.
    for name in ["as-trained", "told"] {
        let source = fs::read_to_string(lab.path(&format!("{name}.rs"))).unwrap();
        assert!(
            source.contains(&format!("the policy in {name}.dtb")),
            "{source}"
        );
    }

    // Limits of observations come from the data: so many ranges of them away.
    let limits = |margin: &str, name: &str| {
        lab.run(&[&f32[..], &[name, "--set", margin]].concat())
            .success();
        let file = load(name);
        [
            file.blob().vectors().state_low.to_vec(),
            file.blob().vectors().state_high.to_vec(),
        ]
    };
    let narrow = limits("control.state_margin=0.25", "narrow.dtb");
    let wide = limits("control.state_margin=2.25", "wide.dtb");
    for i in 0..2 {
        let mut seen: Vec<f32> = lab
            .recording
            .observations
            .iter()
            .skip(i)
            .step_by(3)
            .copied()
            .collect();
        seen.sort_by(f32::total_cmp);
        let (low, high) = (seen[0], seen[seen.len() - 1]);
        let range = high - low;
        assert!(
            (narrow[0][i] - (low - 0.25 * range)).abs() < 1e-4,
            "{narrow:?}"
        );
        assert!(
            (wide[1][i] - (high + 2.25 * range)).abs() < 1e-4,
            "{wide:?}"
        );
    }

    let failing = |set: &str, fragment: &str| {
        lab.run(&[&f32[..], &["refused.dtb", "--set", set]].concat())
            .code(1)
            .stderr(predicate::str::contains(fragment));
        assert!(!lab.path("refused.dtb").exists() && !lab.path("refused.rs").exists());
    };
    failing(
        "train.updates=3",
        "only `control.` keys can be chosen at export",
    );
    failing("control.perod_us=3", "did you mean `control.period_us`?");
    failing(
        "control.action_low=[-3.0]",
        "in units of this range, [-2.0] to [2.0]",
    );
    failing(
        "control.safe_action=[9.0]",
        "lies outside the action range -2..=2",
    );
    fs::remove_file(lab.path("data.hdf5")).unwrap();
    failing(
        "control.state_margin=1.0",
        "so many ranges of the training data",
    );
    failing("control.state_margin=-1.0", "`control.state_margin`: is -1");
}
