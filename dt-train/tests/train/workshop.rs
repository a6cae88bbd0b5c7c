//! What every test starts from.

use std::path::PathBuf;
use std::process::{Command, Output};

use dt_train::data::d4rl::{self, Metadata, Recording};
use tempfile::TempDir;

/// A folder with a data file and a recipe for a tiny network.
pub struct Workshop {
    dir: TempDir,
}

const RECIPE: &str = "
[model]
d_model = 16
n_layer = 2
n_head = 2
context_len = 3
max_ep_len = 200

[data]
return_scale = 0.0
validation_percent = 25.0

[train]
updates = 40
batch_size = 8
learning_rate = 1e-3
warmup_updates = 10
log_every = 5
checkpoint_every = 10
dropout = 0.1
ema_decay = 0.9

[eval]
every = 20
episodes = 2
target_returns = [-100.0, -900.0]
";

impl Workshop {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let workshop = Self { dir };
        workshop.write_data("data.hdf5", 1.0);
        std::fs::write(workshop.path("recipe.toml"), RECIPE).unwrap();
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Eight episodes of 25 steps with the pendulum's dimensions and a simple feedback law.
    pub fn write_data(&self, name: &str, gain: f32) {
        self.write_scaled_data(name, gain, 4.0);
    }

    /// The same, with a third feature that spans ± `scale`, as rewards do.
    pub fn write_scaled_data(&self, name: &str, gain: f32, scale: f32) {
        let mut data = Recording::default();
        for i in 0..200_u32 {
            let wave = |k: f32| (k * i as f32).sin();
            let observation = [wave(0.3), wave(0.8), scale * wave(0.5)];
            data.observations.extend(observation);
            data.next_observations.extend(observation);
            data.actions
                .push(gain * (observation[0] - 0.2 * observation[2]));
            data.rewards.push(-observation[2].abs());
            data.terminals.push(false);
            data.timeouts.push(i % 25 == 24);
        }
        let metadata = Metadata {
            env: "pendulum",
            policy: "test",
            seed: 0,
            choices: false,
        };
        d4rl::write(&self.path(name), false, &data, &metadata).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dt-train"));
        command
            .current_dir(self.dir.path())
            // Parallel tests would only wait for each other's threads.
            .env("OMP_NUM_THREADS", "1")
            .args(args);
        command
    }

    pub fn train_command(&self, out: &str, more: &[&str]) -> Command {
        let args = [
            &[
                "train",
                "--data",
                "data.hdf5",
                "--config",
                "recipe.toml",
                "--device",
                "cpu",
                "--out",
                out,
            ],
            more,
        ];
        self.command(&args.concat())
    }

    pub fn train(&self, out: &str, more: &[&str]) -> Output {
        self.train_command(out, more).output().unwrap()
    }

    pub fn train_ok(&self, out: &str, more: &[&str]) {
        let output = self.train(out, more);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Expects exit code 1 and one message that contains every fragment.
    pub fn train_fails(&self, out: &str, more: &[&str], fragments: &[&str]) {
        let output = self.train(out, more);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for fragment in fragments {
            assert!(message.contains(fragment), "{message:?} lacks {fragment:?}");
        }
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
