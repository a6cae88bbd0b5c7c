//! `dt-train export`, `predict` and `inspect` from the outside, on a run with random weights.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use dt_core::config::{Attention, Dtype, Head};
use dt_train::checkpoint::{Checkpoint, Progress, Weights};
use dt_train::config::Config;
use dt_train::dataset::d4rl::{self, Metadata, Recording};
use dt_train::model::parameters;
use dt_train::run::{LAST, Run, RunInfo};
use host_sim::policy_file::PolicyFile;
use predicates::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

const K: usize = 4;

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
    assert_eq!(blob.manifest.config.dtype, Dtype::Int8);
    assert!(blob.manifest.golden_steps as usize >= 2 * K + 3);
    assert_eq!(blob.manifest.provenance.run, "RUN");
    assert_eq!(blob.manifest.provenance.updates, 7);
    // The first golden step is the first logged one.
    assert_eq!(blob.golden[1..4], lab.recording.observations[..3]);
    let source = fs::read_to_string(lab.path("policy.rs")).unwrap();
    assert!(
        source.contains(&format!("{} bytes of flash", file.bytes().len())),
        "{source}"
    );
}

/// `tests/data/policy.rs` is compiled by `tests/tests/golden.rs`.
#[test]
fn policy_rs_is_the_one_that_is_known_to_compile() {
    let lab = Lab::new(Attention::Window);
    lab.run(&["export", "RUN", "--out", "p.dtb", "--dtype", "f32"])
        .success();
    let written = fs::read_to_string(lab.path("policy.rs")).unwrap();
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
        &["export", "RUN", "--out", "p.dtb", "--dtype", "int4"],
        2,
        "not built yet",
    );
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
    fs::write(lab.path("policy.rs"), "mine").unwrap();
    failing(
        &["export", "RUN", "--out", "p.dtb"],
        1,
        "policy.rs already exists",
    );
    assert!(!lab.path("p.dtb").exists());
    assert_eq!(fs::read(lab.path("policy.rs")).unwrap(), b"mine");
    lab.run(&["export", "RUN", "--out", "p.dtb", "--force"])
        .success();
    assert_ne!(fs::read(lab.path("policy.rs")).unwrap(), b"mine");
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
    assert!(!lab.path("p.dtb").exists() && !lab.path("policy.rs").exists());
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
    assert!(!lab.path("p.dtb").exists() && !lab.path("policy.rs").exists());
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
        ("flash_bytes", json!(file.bytes().len())),
        (
            "arena_bytes",
            json!(4 * file.blob().manifest.config.arena_words()),
        ),
        ("state_dim", json!(3)),
        ("act_dim", json!(1)),
        ("env", json!("pendulum")),
        ("self_test", json!("passed")),
        ("updates", json!(7)),
        // 0.1 in f32, as it is.
        ("return_scale", json!(f64::from(0.1f32))),
    ];
    for (key, value) in expected {
        assert_eq!(policy[key], value, "{key}");
    }
    let run = inspect("RUN");
    assert_eq!(
        (&run["kind"], &run["updates_done"]),
        (&json!("run"), &json!(7))
    );
    assert_eq!(run["parameters"], policy["parameters"]);
    assert_eq!(run["config"]["model"]["context_len"], json!(K));
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
        (with(8, 2), "format version 2"),
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

/// A folder with a data file and a run (`RUN`) in it.
struct Lab {
    folder: TempDir,
    recording: Recording,
}

impl Lab {
    fn new(attention: Attention) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut numbers = |n: usize, width: f32| {
            (0..n)
                .map(|_| rng.random_range(-width..width))
                .collect::<Vec<f32>>()
        };
        const STEPS: usize = 90;
        let recording = Recording {
            observations: numbers(3 * STEPS, 2.0),
            actions: numbers(STEPS, 2.0),
            rewards: numbers(STEPS, 1.0),
            next_observations: numbers(3 * STEPS, 2.0),
            terminals: vec![false; STEPS],
            timeouts: (1..=STEPS).map(|t| t % 30 == 0).collect(),
        };
        let data = folder.path().join("data.hdf5");
        let metadata = Metadata {
            env: "pendulum",
            policy: "random",
            seed: 5,
        };
        d4rl::write(&data, false, &recording, &metadata).unwrap();

        let config = recipe(attention);
        let network = config.network(3, 1, Dtype::F32);
        let mut weights = Weights::default();
        for parameter in parameters(&network, 0.0) {
            let shape: Vec<usize> = parameter.shape.iter().map(|&n| n as usize).collect();
            let fan_in = *shape.last().unwrap() as f32;
            let values = match parameter.name.contains("ln_") && parameter.name.ends_with("weight")
            {
                true => numbers(shape.iter().product(), 0.5)
                    .into_iter()
                    .map(|w| 1.0 + w)
                    .collect(),
                false => numbers(shape.iter().product(), 1.7 / fan_in.sqrt()),
            };
            weights.insert(parameter.name, shape, values);
        }
        let dir = folder.path().join("RUN");
        fs::create_dir(&dir).unwrap();
        let checkpoint = Checkpoint {
            progress: Progress {
                update: 7,
                best: None,
            },
            weights,
            moments: None,
        };
        checkpoint.save(&dir.join(LAST)).unwrap();
        let data = dt_train::dataset::Dataset::load(&[&data]).unwrap();
        Run {
            info: info(&data),
            dir,
            config,
        }
        .save()
        .unwrap();
        Self { folder, recording }
    }

    /// Changes every row of one of the run's matrices.
    fn change_weights(&self, name: &str, change: impl Fn(&mut [f32])) {
        let path = self.path("RUN").join(LAST);
        let mut checkpoint = Checkpoint::load(&path).unwrap();
        let (_, array) = checkpoint.weights.iter().find(|(n, _)| *n == name).unwrap();
        let mut array = array.clone();
        array.values.chunks_mut(array.shape[1]).for_each(change);
        checkpoint
            .weights
            .insert(name.to_owned(), array.shape, array.values);
        checkpoint.save(&path).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dt-train"));
        command.current_dir(self.folder.path()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        self.command(args).assert()
    }

    /// Contexts of many lengths, longer than K as well, at timesteps beyond the table as well.
    fn contexts(&self) -> Vec<Value> {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut number = move || f64::from(rng.random_range(-1.0..1.0f32));
        (1..=3 * K)
            .map(|steps| {
                json!({
                    "returns_to_go": (0..steps).map(|_| number()).collect::<Vec<_>>(),
                    "states": (0..steps).map(|_| [number(), number(), number()]).collect::<Vec<_>>(),
                    "actions": (0..steps).map(|_| [number()]).collect::<Vec<_>>(),
                    "timesteps": (0..steps).map(|t| 5 * steps + t).collect::<Vec<_>>(),
                })
            })
            .collect()
    }

    fn actions(&self, policy: &str, contexts: &[Value]) -> Vec<f64> {
        let lines: String = contexts
            .iter()
            .map(|context| format!("{context}\n"))
            .collect();
        fs::write(self.path("in.jsonl"), lines).unwrap();
        let output = self
            .run(&["predict", policy, "--contexts", "in.jsonl"])
            .success();
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        let action = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let action = line["action"].as_array().unwrap();
            assert_eq!(action.len(), 1);
            action[0].as_f64().unwrap()
        };
        text.lines().map(action).collect()
    }
}

fn recipe(attention: Attention) -> Config {
    let mut config = Config::default();
    config.model.d_model = 16;
    config.model.n_layer = 2;
    config.model.n_head = 2;
    config.model.context_len = K as u32;
    config.model.max_ep_len = 40;
    config.model.attention = attention;
    // Random weights would saturate a tanh.
    config.model.head = Head::Linear;
    config.data.return_scale = 0.1;
    config
}

fn info(data: &dt_train::dataset::Dataset) -> RunInfo {
    let statistics = data.state_stats();
    RunInfo {
        version: "0.0.0".into(),
        env: "pendulum".into(),
        dataset: "data.hdf5".into(),
        dataset_sha256: data.sha256().map(|byte| format!("{byte:02x}")).concat(),
        transitions: data.len(),
        episodes: 3,
        return_mean: 0.0,
        return_max: 5.0,
        state_dim: 3,
        act_dim: 1,
        state_mean: statistics.mean,
        state_std: statistics.std,
        state_low: statistics.low,
        state_high: statistics.high,
        action_low: vec![-2.0],
        action_high: vec![2.0],
        safe_action: vec![0.0],
        target_return: 5.0,
        control_period_us: 50_000,
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| {
            (low.min(x), high.max(x))
        })
}
