//! Pendulum, on data that our own SAC collects: returns on host and emulated controller, and what the target does.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::table::{Description, Row};
use super::{Episodes, Workbench};
use crate::process;

const ENV: &str = "pendulum";
const SETS: [&str; 3] = ["medium", "replay", "random"];
const SEEDS: [u32; 3] = [0, 1, 2];
const EPISODES: Episodes = Episodes {
    count: 200,
    seed: 0,
};
/// Pendulum's episodes all have this length.
const EPISODE_STEPS: u32 = 200;
/// What a good agent gets.
const TARGET: &str = "-150";
const TARGETS: &str = "-1500,-1200,-900,-600,-450,-300,-150,-75,0";
const TARGET_EPISODES: Episodes = Episodes { count: 50, seed: 0 };

/// `cargo xtask results pendulum`.
///
/// # Errors
/// If a step fails.
pub fn table(bench: &Workbench) -> Result<()> {
    let pendulum = Pendulum {
        bench,
        folder: bench.out.join("pendulum"),
    };
    let folder = &pendulum.folder;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    pendulum.collect()?;
    println!("| {} episodes | mean return |\n|---|---:|", EPISODES.count);
    for (name, more) in [
        ("deterministic", Some("--deterministic")),
        ("stochastic", None),
    ] {
        println!(
            "| SAC agent, {name} | {:.2} |",
            pendulum.sac_return(name, more)?
        );
    }
    for seed in SEEDS {
        for dtype in ["int8", "f32"] {
            let policy = pendulum.transformer("medium", seed, dtype)?;
            let json = policy.with_extension("json");
            bench.eval(&policy, ENV, TARGET, EPISODES, &json)?;
        }
    }
    for dtype in ["int8", "f32"] {
        let (mean_return, bits) = pendulum.emulate(dtype)?;
        println!(
            "| DT of seed {}, {dtype}, emulated Cortex-M4F, {bits} differing bits | {mean_return:.2} |",
            SEEDS[0]
        );
    }
    println!();
    let files = ["int8", "f32"].map(|dtype| format!("pendulum/medium-{{seed}}/{dtype}.json"));
    let row = Row {
        name: "Pendulum, medium",
        data: None,
        seeds: &SEEDS,
        files: files.to_vec(),
        before: None,
        more: Vec::new(),
    };
    bench.print("pendulum", &Description::new(["int8", "f32"], [row]))?;
    println!();
    pendulum.targets()
}

/// The folder of this table.
struct Pendulum<'a> {
    bench: &'a Workbench,
    folder: PathBuf,
}

impl Pendulum<'_> {
    /// The three sets: what the agent did while it learned, what it does then, and random actions.
    fn collect(&self) -> Result<()> {
        let agent = self.agent();
        if !agent.exists() {
            let mut collect = self.collecting("sac", 20_000, 0, "replay");
            self.bench.step(
                &agent,
                collect.args(["--resume", "--save-agent"]).arg(&agent),
            )?;
        }
        for (name, agent, seed) in [
            ("medium", agent.as_os_str(), 100_000),
            ("random", "random".as_ref(), 0),
        ] {
            let set = self.set(name);
            if !set.exists() {
                self.bench
                    .step(&set, &mut self.collecting(agent, 200_000, seed, name))?;
            }
        }
        Ok(())
    }

    /// What the agent gets in the episodes of the table.
    fn sac_return(&self, name: &str, more: Option<&str>) -> Result<f64> {
        let name = format!("sac-{name}");
        let episodes = self.set(&name);
        if !episodes.exists() {
            let steps = EPISODES.count * EPISODE_STEPS;
            let mut collect = self.collecting(self.agent(), steps, EPISODES.seed, &name);
            self.bench.step(&episodes, collect.args(more))?;
        }
        #[derive(Deserialize)]
        struct Inspection {
            return_mean: f64,
        }
        let mut inspect = self.bench.dt_train("inspect");
        let text = process::output(inspect.arg(&episodes).arg("--json"))?;
        let inspection: Inspection =
            serde_json::from_str(&text).context("dt-train inspect --json")?;
        Ok(inspection.return_mean)
    }

    /// A policy that learned from `set`.
    fn transformer(&self, set: &str, seed: u32, dtype: &str) -> Result<PathBuf> {
        let run = self.folder.join(format!("{set}-{seed}"));
        let policy = run.join(dtype).with_extension("dtb");
        if !policy.exists() {
            // The replay buffer is small and of all qualities: it wants more updates, and shows what the target does.
            let more: &[&str] = match set {
                "replay" => &[
                    "--set",
                    "train.updates=4000",
                    "--set",
                    "eval.target_returns=[0.0, -150.0]",
                ],
                _ => &[],
            };
            let data = self.set(set);
            self.bench
                .train(&run, ENV, data.as_os_str(), "pendulum", seed, more)?;
            self.bench.export(&run, dtype)?;
        }
        Ok(policy)
    }

    /// The mean return of the plant on the controller, and how many bits of its actions differ from the host's.
    fn emulate(&self, dtype: &str) -> Result<(f64, u64)> {
        let policy = self.transformer("medium", SEEDS[0], dtype)?;
        let figures = self.bench.emulate(&policy, EPISODES, None)?;
        let mean_return = figures
            .mean_return
            .context("the closed loop reports no mean_return")?;
        Ok((mean_return, figures.differing_bits))
    }

    fn targets(&self) -> Result<()> {
        let mut results = Vec::new();
        for set in SETS {
            let json = self.folder.join(set).with_extension("json");
            let policy = self.transformer(set, SEEDS[0], "int8")?;
            self.bench
                .eval(&policy, ENV, TARGETS, TARGET_EPISODES, &json)?;
            results.push(json);
        }
        let picture = self.folder.join("targets.png");
        let correlations = self.bench.plot(&results, &picture)?;
        println!("| | Pearson correlation of target and mean return |\n|---|---:|");
        for (set, correlation) in SETS.iter().zip(correlations) {
            println!("| *{set}* | {correlation:.3} |");
        }
        Ok(())
    }

    fn collecting(&self, agent: impl AsRef<OsStr>, steps: u32, seed: u32, set: &str) -> Command {
        let mut collect = self.bench.dt_train("collect");
        collect.args(["--env", ENV, "--agent"]).arg(agent);
        collect.args(["--steps", &steps.to_string(), "--seed", &seed.to_string()]);
        collect.arg("--out").arg(self.set(set));
        collect
    }

    fn set(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("hdf5")
    }

    fn agent(&self) -> PathBuf {
        self.folder.join("sac.safetensors")
    }
}
