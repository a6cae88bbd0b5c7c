//! `cargo xtask demo`: from nothing to a policy on a microcontroller, on Pendulum, in a few minutes.
//!
//! collect (SAC) → train → export → simulate → run on the emulated controller → table and picture

mod folder;
pub mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::firmware::{Board, Episodes, Program, Selection, emulator, image, recording, size};
use crate::process::{self, cargo, command, project};
use crate::setup;
use table::{Controller, Table};

/// Of the SAC agent and of the data; far from the seeds of the comparison.
const SEED: u64 = 0;
/// Enough for SAC to balance the pendulum from everywhere.
const SAC_STEPS: u32 = 15_000;
/// What the Decision Transformer learns from: the final agent's steps.
const DATA_STEPS: u32 = 100_000;
/// Pendulum's episodes all have this length.
const EPISODE_STEPS: u32 = 200;
/// The episodes that all controllers are compared in.
const COMPARISON: Episodes = Episodes {
    episodes: 20,
    seed: 1_000_000,
    target_return: Some(-150.0),
};

/// Runs the demo in `./demo`.
///
/// # Errors
/// If a stage fails, or if the folder holds something else and `force` does not allow to replace it.
pub fn run(force: bool) -> Result<()> {
    setup::ensure()?;
    let demo = Demo {
        folder: folder::make(&project().join("demo"), force)?,
        programs: compile()?,
    };
    let start = Instant::now();
    demo.collect()?;
    demo.train()?;
    demo.export()?;
    let table = demo.compare()?;
    demo.draw()?;
    eprintln!(
        "demo: done in {:.0} s, downloads and compiling aside",
        start.elapsed().as_secs_f64()
    );
    println!("{table}\n{}", demo.path("demo.png").display());
    Ok(())
}

struct Demo {
    folder: PathBuf,
    /// Where `dt-train` and `host-sim` lie.
    programs: PathBuf,
}

/// Builds everything beforehand, so that the stages' times are those of their work.
fn compile() -> Result<PathBuf> {
    stage("compile (several minutes the first time)", || {
        process::run(cargo().args([
            "build",
            "--release",
            "--bins",
            "-p",
            "dt-train",
            "-p",
            "host-sim",
        ]))?;
        for program in [Program::Replay, Program::ClosedLoop] {
            image::build(&Selection::new(Board::M4f, program, None), None)?;
        }
        Ok(image::target_directory()?.join("release"))
    })
}

impl Demo {
    fn collect(&self) -> Result<()> {
        stage("collect: train a SAC agent", || {
            let mut collect = self.collecting("sac", SAC_STEPS, SEED, "replay.hdf5");
            process::run(
                collect
                    .arg("--save-agent")
                    .arg(self.path("sac.safetensors")),
            )
        })?;
        stage("collect: let it act", || {
            process::run(&mut self.collecting(self.agent(), DATA_STEPS, SEED, "medium.hdf5"))
        })
    }

    fn train(&self) -> Result<()> {
        stage("train a Decision Transformer on what it did", || {
            process::run(
                self.dt_train("train")
                    .arg("--data")
                    .arg(self.path("medium.hdf5"))
                    .arg("--config")
                    .arg(project().join("dt-train/configs/pendulum.toml"))
                    .arg("--out")
                    .arg(self.path("run"))
                    .args(["--seed", "0", "--device", "cpu"]),
            )
        })
    }

    fn export(&self) -> Result<()> {
        stage("export", || {
            for dtype in ["f32", "int8"] {
                fs::create_dir(self.path(dtype))?;
                process::run(
                    self.dt_train("export")
                        .arg(self.path("run"))
                        .arg("--out")
                        .arg(self.policy(dtype))
                        .args(["--dtype", dtype]),
                )?;
            }
            Ok(())
        })
    }

    /// All controllers in the same episodes.
    fn compare(&self) -> Result<Table> {
        let sac = stage("simulate the SAC agent", || self.sac_return())?;
        let f32_host = stage("simulate the policy, f32", || self.simulate("f32"))?;
        let int8_host = stage("simulate the policy, int8", || self.simulate("int8"))?;
        let emulated = stage("run it on the emulated Cortex-M4F", || self.emulate())?;
        Ok(Table {
            episodes: COMPARISON,
            rows: vec![
                Controller {
                    name: "SAC agent, host",
                    mean_return: sac,
                    ..Controller::default()
                },
                f32_host,
                int8_host,
                emulated,
            ],
        })
    }

    fn sac_return(&self) -> Result<f64> {
        let steps = COMPARISON.episodes * EPISODE_STEPS;
        let mut collect =
            self.collecting(self.agent(), steps, COMPARISON.seed, "sac-episodes.hdf5");
        process::run(collect.arg("--deterministic"))?;
        #[derive(Deserialize)]
        struct Inspection {
            return_mean: f64,
        }
        let mut inspect = self.dt_train("inspect");
        let text = process::output(inspect.arg(self.path("sac-episodes.hdf5")).arg("--json"))?;
        let inspection: Inspection =
            serde_json::from_str(&text).context("dt-train inspect --json")?;
        Ok(inspection.return_mean)
    }

    fn simulate(&self, dtype: &str) -> Result<Controller> {
        #[derive(Deserialize)]
        struct Evaluation {
            mean_return: f64,
        }
        let (policy, json) = (
            self.policy(dtype),
            self.path(&format!("rollout-{dtype}.json")),
        );
        let Episodes {
            episodes,
            seed,
            target_return,
        } = COMPARISON;
        let target_return = target_return.context("the comparison has a target")?;
        process::run(
            command(self.programs.join("host-sim"))
                .arg("rollout")
                .arg(&policy)
                .args([
                    "--env",
                    "pendulum",
                    &format!("--target-return={target_return}"),
                ])
                .args([
                    "--episodes",
                    &episodes.to_string(),
                    "--seed",
                    &seed.to_string(),
                    "--json",
                ])
                .arg(&json),
        )?;
        let evaluation: Evaluation = read_json(&json)?;
        Ok(Controller {
            name: if dtype == "f32" {
                "DT f32, host"
            } else {
                "DT int8, host"
            },
            mean_return: evaluation.mean_return,
            policy_bytes: Some(fs::metadata(&policy)?.len()),
            ..Controller::default()
        })
    }

    /// Both programs: the plant on the host, replayed, and the plant on the controller.
    fn emulate(&self) -> Result<Controller> {
        let policy = self.policy("int8");
        let episodes = recording::record(&policy, None, COMPARISON)?;
        fs::copy(&episodes, self.path("episodes.dtt"))?;
        let [replay, closed_loop] = [Program::Replay, Program::ClosedLoop].map(|bin| {
            let selection = Selection::new(Board::M4f, bin, Some(policy.clone()));
            let image = image::build(&selection, Some(&episodes))?;
            let report = emulator::run(selection.board, &image)?;
            report.check().map(|()| (report.figures, image))
        });
        let ((replay, _), (closed_loop, image)) = (replay?, closed_loop?);
        let sizes = size::measure(&image)?;
        Ok(Controller {
            name: "DT int8, Cortex-M4F",
            mean_return: closed_loop
                .mean_return
                .context("the closed loop reports no mean_return")?,
            policy_bytes: Some(fs::metadata(&policy)?.len()),
            flash: Some(sizes.flash_total()),
            ram: Some(sizes.ram_total() + u64::from(closed_loop.stack_bytes)),
            instructions: Some(replay.instructions_per_step),
            compared: Some((
                u64::from(replay.steps) + u64::from(closed_loop.steps),
                replay.differing_bits + closed_loop.differing_bits,
            )),
        })
    }

    fn draw(&self) -> Result<()> {
        stage("draw", || {
            process::run(
                self.dt_train("plot-demo")
                    .arg(self.path("run"))
                    .arg("--recording")
                    .arg(self.path("episodes.dtt"))
                    .arg("--out")
                    .arg(self.path("demo.png")),
            )
        })
    }

    fn collecting(
        &self,
        agent: impl AsRef<std::ffi::OsStr>,
        steps: u32,
        seed: u64,
        out: &str,
    ) -> Command {
        let mut collect = self.dt_train("collect");
        collect.args(["--env", "pendulum", "--agent"]).arg(agent);
        collect
            .args([
                "--steps",
                &steps.to_string(),
                "--seed",
                &seed.to_string(),
                "--out",
            ])
            .arg(self.path(out));
        collect
    }

    fn dt_train(&self, subcommand: &str) -> Command {
        let mut dt_train = command(self.programs.join("dt-train"));
        dt_train.arg(subcommand);
        dt_train
    }

    fn agent(&self) -> PathBuf {
        self.path("sac.safetensors")
    }

    fn policy(&self, dtype: &str) -> PathBuf {
        self.path(dtype).join("policy.dtb")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Says what is done, does it, and says how long it took.
fn stage<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("demo: {name}");
    let start = Instant::now();
    let result = work().with_context(|| format!("demo: {name}"))?;
    eprintln!("demo: {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}
