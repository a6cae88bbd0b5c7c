//! A run with random weights, and `dt-train` in its folder.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use dt_core::config::{Attention, Dtype, Head};
use dt_train::algo::Dims;
use dt_train::algo::dt::Dt;
use dt_train::config::Recipe;
use dt_train::data::Dataset;
use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::nn::transformer::parameters;
use dt_train::run::checkpoint::{Checkpoint, Progress, Weights};
use dt_train::run::{LAST, Run, RunInfo, SCHEMA};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Context length of the run.
pub const K: usize = 4;

/// A folder with a data file and a run (`RUN`) in it.
pub struct Lab {
    folder: TempDir,
    /// What the data file holds.
    pub recording: Recording,
}

impl Lab {
    /// With two attention heads.
    pub fn new(attention: Attention) -> Self {
        Self::with_heads(attention, 2)
    }

    pub fn with_heads(attention: Attention, heads: u32) -> Self {
        Self::of(dt(attention, heads))
    }

    /// Of any network with timesteps enough for the tests' contexts.
    pub fn of(dt: Dt) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut numbers = |n: usize, width: f32| {
            (0..n)
                .map(|_| rng.random_range(-width..width))
                .collect::<Vec<f32>>()
        };
        const STEPS: usize = 90;
        let recording = Recording {
            frames: None,
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
            choices: false,
        };
        d4rl::write(&data, false, &recording, &metadata).unwrap();

        let dims = Dims::vectors(3, 1);
        let network = dt.network(dims, Dtype::F32);
        let mut recipe = Recipe::new(dt);
        recipe.data.return_scale = 0.1;
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
            optimizer: None,
        };
        checkpoint.save(&dir.join(LAST)).unwrap();
        let data = Dataset::load(&[&data]).unwrap();
        Run {
            info: info(&data),
            dir,
            recipe,
        }
        .save()
        .unwrap();
        Self { folder, recording }
    }

    /// Changes every row of one of the run's matrices.
    pub fn change_weights(&self, name: &str, change: impl Fn(&mut [f32])) {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dt-train"));
        command
            .current_dir(self.folder.path())
            // Parallel tests would only wait for each other's threads.
            .env("OMP_NUM_THREADS", "1")
            .args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        self.command(args).assert()
    }

    /// Contexts of many lengths, longer than K as well, at timesteps beyond the table as well.
    pub fn contexts(&self) -> Vec<Value> {
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

    /// What `predict` says of each context.
    fn answers(&self, policy: &str, contexts: &[Value]) -> Vec<Value> {
        self.answers_with(policy, contexts, &[])
    }

    /// The same, with further options.
    pub fn answers_with(&self, policy: &str, contexts: &[Value], more: &[&str]) -> Vec<Value> {
        let lines: String = contexts
            .iter()
            .map(|context| format!("{context}\n"))
            .collect();
        fs::write(self.path("in.jsonl"), lines).unwrap();
        let arguments = [&["predict", policy, "--contexts", "in.jsonl"], more].concat();
        let output = self.run(&arguments).success();
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Predicted state and return of each context, as far as there are any.
    pub fn predictions(&self, policy: &str, contexts: &[Value]) -> Vec<Vec<f64>> {
        let predicted = |line: &Value| {
            let state = line["predicted_state"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let all = state.iter().chain([&line["predicted_return"]]);
            all.filter_map(Value::as_f64).collect()
        };
        self.answers(policy, contexts)
            .iter()
            .map(predicted)
            .collect()
    }

    pub fn actions(&self, policy: &str, contexts: &[Value]) -> Vec<f64> {
        let action = |line: &Value| {
            let action = line["action"].as_array().unwrap();
            assert_eq!(action.len(), 1);
            action[0].as_f64().unwrap()
        };
        self.answers(policy, contexts).iter().map(action).collect()
    }
}

/// A small network.
pub fn dt(attention: Attention, n_head: u32) -> Dt {
    Dt {
        d_model: 16,
        n_layer: 2,
        n_head,
        context_len: K as u32,
        max_ep_len: 40,
        attention,
        // Random weights would saturate a tanh.
        head: Head::Linear,
        ..Dt::default()
    }
}

fn info(data: &Dataset) -> RunInfo {
    let statistics = data.state_stats().unwrap();
    RunInfo {
        choices: false,
        schema: SCHEMA,
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
        image: None,
        state_mean: statistics.mean,
        state_std: statistics.std,
        state_low: statistics.low,
        state_high: statistics.high,
        action_low: vec![-2.0],
        action_high: vec![2.0],
        safe_action: vec![0.0],
        target_return: 5.0,
        return_range: Some([-1e6, 1e6]),
        control_period_us: 50_000,
        env_file: None,
        suggested_target_returns: Vec::new(),
        init_from: None,
    }
}
