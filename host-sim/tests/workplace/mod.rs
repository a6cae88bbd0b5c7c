//! A folder to run `host-sim` in.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::PathBuf;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use dt_core::blob::RewardMode;
use host_sim::evaluation::Evaluation;
use tempfile::TempDir;

use crate::common::{config, random_policy};

pub struct Workplace(TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn evaluation(&self, name: &str) -> Evaluation {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    pub fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A random policy for an environment.
    pub fn policy(&self, name: &str, env: &str, state_dim: u32, act_dim: u32) {
        let policy = random_policy(config(state_dim, act_dim), env, RewardMode::Observed);
        self.write(name, policy.bytes());
    }

    /// `host-sim` with arguments separated by spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::cargo_bin("host-sim").unwrap();
        command
            .current_dir(self.0.path())
            .args(arguments.split_whitespace());
        command
    }

    pub fn run(&self, arguments: &str) -> Assert {
        self.command(arguments).assert()
    }
}
