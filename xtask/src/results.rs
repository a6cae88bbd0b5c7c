//! `cargo xtask results`: remakes a table of docs/results, from training to Markdown.
//!
//! `dt-train` does everything that is measured and all statistics; here is only which runs a table needs. What the folder
//! holds already is not made again, so a command that was stopped goes on, and a table is printed again in seconds.

mod atari;
mod chart;
mod graph;
mod key_to_door;
mod locomotion;
mod minatar;
mod pendulum;
mod rivals;
mod table;
mod variants;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::firmware::emulator::{self, Figures};
use crate::firmware::{self, Board, Program, Selection, image, recording};
use crate::process::{self, cargo, command};
use crate::setup;
use crate::setup::extras::Extra;
use chart::Charts;
use table::Description;

/// Which table.
#[derive(Args)]
pub struct Arguments {
    /// The table; without a name they are listed
    #[arg(value_enum, value_name = "NAME")]
    name: Option<Name>,
    /// Folder with the trajectory sets that the table needs; they are not part of this project
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Folder of the runs and their results; what it holds already is not made again
    #[arg(long, value_name = "DIR", default_value = "runs/results")]
    out: PathBuf,
    /// What trains: cpu, whose bits are the same everywhere with the same instruction set, or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Of rivals, delayed, context and variants: only this set; may be repeated
    #[arg(long, value_name = "SET")]
    only: Vec<String>,
    /// Of these: trainings side by side, of one thread each
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Make nothing: print the table of what is there
    #[arg(long)]
    partial: bool,
}

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Returns of the shipped recipe on nine sets of Hopper, HalfCheetah and Walker2d, int8 and f32: 45 trainings
    Locomotion,
    /// Behaviour cloning, of all data and of the best tenth, beside the above: 54 short trainings
    Baselines,
    /// Achieved against target return on the sets of several qualities, with pictures
    Targets,
    /// The same weights run streaming and as window, on three sets and five training seeds
    Streaming,
    /// From a SAC agent to a policy on the emulated controller; makes its own data
    Pendulum,
    /// Decision Transformers beside BC, TD3+BC, IQL, AWR and CQL, with the same time of one core: 15 minutes per set, see --only
    Rivals,
    /// All reward with an episode's last step: Decision Transformers and CQL, beside BC: 12 short trainings per set
    Delayed,
    /// Decision Transformers that see 20, 5 and 1 timesteps: 9 short trainings per set
    Context,
    /// Decision Transformers with a gated head, that ask themselves, and that convolve, with what a step costs a controller: 24 short trainings
    Variants,
    /// The shortest way through a graph, from random walks: with a picture; makes its own data
    Graph,
    /// Credit over time: Decision Transformer (on a GPU also with many updates) and cloning in Key-to-Door, what a critic sees; makes its own data
    KeyToDoor,
    /// Decision Transformers that play MinAtar's five games for the score they are asked for; makes its own data, with PPO
    Minatar,
    /// The same of Atari's Breakout and Pong, with the paper's convolutions; makes its own data, with scripts
    Atari,
}

impl Name {
    /// What follows the name in a list.
    fn help(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }
}

/// Makes what is missing and prints the table.
///
/// # Errors
/// If a trajectory set is missing, named with the others that are, or a step fails.
pub fn run(arguments: Arguments) -> Result<()> {
    let Some(name) = arguments.name else {
        for name in Name::value_variants() {
            let title = name.to_possible_value().unwrap_or_default();
            println!("{:<11} {}", title.get_name(), name.help());
        }
        println!(
            "\nSets in --data, where a table needs some:\n{}",
            locomotion::SETS_HELP
        );
        return Ok(());
    };
    let data = std::path::absolute(arguments.data)?;
    // Before minutes of set-up and compiling.
    match name {
        _ if arguments.partial => {}
        Name::Pendulum | Name::Graph | Name::KeyToDoor => {}
        Name::Minatar => Extra::Minatar.require()?,
        Name::Atari => Extra::Atari.require()?,
        Name::Rivals | Name::Delayed | Name::Context | Name::Variants => {
            rivals::check_data(&data, &arguments.only)?
        }
        _ => locomotion::check_data(&data)?,
    }
    setup::ensure()?;
    process::run(cargo().args(["build", "--release", "-p", "dt-train", "-p", "host-sim"]))?;
    let out = std::path::absolute(arguments.out)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let bench = Workbench {
        programs: image::target_directory()?.join("release"),
        data,
        out,
        device: arguments.device,
        partial: arguments.partial,
        only: arguments.only,
        jobs: arguments.jobs,
    };
    match name {
        Name::Locomotion => locomotion::returns(&bench),
        Name::Baselines => locomotion::baselines(&bench),
        Name::Targets => locomotion::targets(&bench),
        Name::Streaming => locomotion::streaming(&bench),
        Name::Pendulum => pendulum::table(&bench),
        Name::Rivals => rivals::rivals(&bench),
        Name::Delayed => rivals::delayed(&bench),
        Name::Context => rivals::context(&bench),
        Name::Variants => variants::table(&bench),
        Name::Graph => graph::table(&bench),
        Name::KeyToDoor => key_to_door::table(&bench),
        Name::Minatar => minatar::table(&bench),
        Name::Atari => atari::table(&bench),
    }
}

/// The programs, and where things lie.
struct Workbench {
    /// Of `dt-train` and `host-sim`.
    programs: PathBuf,
    /// Of the trajectory sets.
    data: PathBuf,
    /// Of what is made.
    out: PathBuf,
    /// That trains.
    device: String,
    /// Nothing is made.
    partial: bool,
    /// The sets that are asked for; empty: all.
    only: Vec<String>,
    /// Trainings side by side.
    jobs: u32,
}

/// Episodes of an evaluation: episode i has seed `seed` + i.
#[derive(Clone, Copy)]
struct Episodes {
    count: u32,
    seed: u32,
}

impl Workbench {
    /// Trains into `run`, or goes on with what is there; a finished run is left as it is.
    ///
    /// # Errors
    /// If training fails, or another run is there.
    fn train<S: AsRef<OsStr>>(
        &self,
        run: &Path,
        env: &str,
        data: &OsStr,
        recipe: &str,
        seed: u32,
        more: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        let mut train = self.dt_train("train");
        train.arg("--data").arg(data).args(["--env", env]);
        train.args(["--config", recipe]);
        train.args(["--seed", &seed.to_string(), "--device", &self.device]);
        train.arg("--resume");
        self.step(run, train.args(more).arg("--out").arg(run))
    }

    /// Exports `run` as `RUN/DTYPE.dtb`, unless it is there.
    ///
    /// # Errors
    /// If export fails.
    fn export(&self, run: &Path, dtype: &str) -> Result<PathBuf> {
        let policy = run.join(dtype).with_extension("dtb");
        if !policy.exists() {
            let mut export = self.dt_train("export");
            export.arg(run).args(["--dtype", dtype, "--force", "--out"]);
            self.step(&policy, export.arg(&policy))?;
        }
        Ok(policy)
    }

    /// Evaluates a policy or a run into `json`, unless it is there.
    ///
    /// # Errors
    /// If evaluation fails.
    fn eval(
        &self,
        policy: &Path,
        env: &str,
        targets: &str,
        episodes: Episodes,
        json: &Path,
    ) -> Result<()> {
        if json.exists() {
            return Ok(());
        }
        let mut eval = self.dt_train("eval");
        eval.arg(policy).args(["--env", env]);
        eval.arg(format!("--target-return={targets}"));
        eval.arg(format!("--episodes={}", episodes.count));
        eval.arg(format!("--seed={}", episodes.seed));
        self.step(json, eval.arg("--json").arg(json))
    }

    /// Prints the table that `dt-train table` makes of it.
    ///
    /// # Errors
    /// If it cannot be written or read.
    fn print(&self, name: &str, description: &Description) -> Result<()> {
        let file = self.out.join(name).with_extension("toml");
        fs::write(&file, toml::to_string(description)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut table = self.dt_train("table");
        process::run_openly(table.arg(&file).args(self.partial.then_some("--partial")))
    }

    /// Says what is made, and makes it.
    ///
    /// # Errors
    /// If the command fails.
    fn step(&self, what: &Path, command: &mut Command) -> Result<()> {
        if self.partial {
            return Ok(());
        }
        eprintln!("results: {}", what.display());
        process::run(command)
    }

    /// Draws achieved against target return; the Pearson correlation of the two for each of the results.
    ///
    /// # Errors
    /// If it cannot be drawn, or a result has one target only.
    fn plot(&self, results: &[PathBuf], picture: &Path) -> Result<Vec<f64>> {
        let mut plot = self.dt_train("plot");
        plot.args(results).arg("--out").arg(picture);
        let lines = process::output(plot.arg("--force"))?;
        let correlations: Vec<_> = lines.lines().filter_map(correlation).collect();
        ensure!(
            correlations.len() == results.len(),
            "`dt-train plot` printed something else than {} correlations: {lines}",
            results.len()
        );
        eprintln!("results: {}", picture.display());
        Ok(correlations)
    }

    /// Runs a policy with its plant on the emulated controller, and compares.
    ///
    /// # Errors
    /// If it does not get to its end.
    fn emulate(&self, policy: &Path, episodes: Episodes, target: Option<f32>) -> Result<Figures> {
        let episodes = firmware::Episodes {
            episodes: episodes.count,
            seed: episodes.seed.into(),
            target_return: target,
        };
        let recording = recording::record(policy, None, episodes)?;
        let policy = Some(policy.to_owned());
        let selection = Selection::new(Board::M4f, Program::ClosedLoop, policy);
        let image = image::build(&selection, Some(&recording))?;
        Ok(emulator::run(selection.board, &image)?.figures)
    }

    /// The return of each episode of data, in their order.
    ///
    /// # Errors
    /// If they cannot be read.
    fn returns<S: AsRef<OsStr>>(
        &self,
        data: &Path,
        reading: impl IntoIterator<Item = S>,
    ) -> Result<Vec<f64>> {
        #[derive(Deserialize)]
        struct Inspection {
            episode_returns: Vec<f64>,
        }
        let mut inspect = self.dt_train("inspect");
        inspect.arg(data).args(["--json", "--episodes"]);
        let text = process::output(inspect.args(reading))?;
        let Inspection { episode_returns } =
            serde_json::from_str(&text).context("dt-train inspect --json --episodes")?;
        Ok(episode_returns)
    }

    /// What an evaluation says; none where it is missing and nothing is to be made.
    ///
    /// # Errors
    /// If it is missing, or something else.
    fn measured(&self, json: &Path) -> Result<Option<Vec<Measured>>> {
        match self.partial && !json.exists() {
            true => Ok(None),
            false => measured(json).map(Some),
        }
    }

    /// Draws charts.
    ///
    /// # Errors
    /// If they cannot be drawn.
    fn draw(&self, charts: &Charts, picture: &Path) -> Result<()> {
        let file = picture.with_extension("toml");
        fs::write(&file, toml::to_string(charts)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut plot = self.dt_train("plot");
        process::run(plot.arg(&file).arg("--force").arg("--out").arg(picture))?;
        eprintln!("results: {}", picture.display());
        Ok(())
    }

    fn dt_train(&self, subcommand: &str) -> Command {
        let mut dt_train = command(self.programs.join("dt-train"));
        dt_train.arg(subcommand);
        dt_train
    }
}

/// What `eval` measured at a target return.
#[derive(Deserialize)]
struct Measured {
    target_return: f64,
    episodes: Vec<Episode>,
}

/// One of its episodes.
#[derive(Deserialize)]
struct Episode {
    seed: u64,
    #[serde(rename = "return")]
    total: f64,
}

/// Two cells: the target returns, and what was earned, mean ± sample deviation.
fn asked_and_returned(evaluations: &[Measured]) -> String {
    let asked = evaluations.iter().map(|at| format!("{}", at.target_return));
    let returned = evaluations.iter().map(|at| {
        let n = at.episodes.len() as f64;
        let mean = at.episodes.iter().map(|episode| episode.total).sum::<f64>() / n;
        let squares = at
            .episodes
            .iter()
            .map(|episode| (episode.total - mean).powi(2));
        let deviation = (squares.sum::<f64>() / (n - 1.0)).sqrt();
        format!("{mean:.1} ± {deviation:.1}")
    });
    let joined = |cells: Vec<String>| cells.join("; ");
    format!(
        "{} | {}",
        joined(asked.collect()),
        joined(returned.collect())
    )
}

/// Reads what `eval` wrote, of one target return or of several.
///
/// # Errors
/// If there is no such file, or it is of something else.
fn measured(json: &Path) -> Result<Vec<Measured>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(Measured),
        Several(Vec<Measured>),
    }
    let text =
        fs::read_to_string(json).with_context(|| format!("cannot read {}", json.display()))?;
    let written = serde_json::from_str(&text);
    Ok(
        match written.with_context(|| format!("{}: no evaluation", json.display()))? {
            Written::One(one) => vec![one],
            Written::Several(several) => several,
        },
    )
}

/// The number in a line like `hopper-mixed: Pearson correlation of target and mean achieved return 0.909`.
fn correlation(line: &str) -> Option<f64> {
    let (_, number) = line.rsplit_once(" return ")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_stand_beside_what_was_asked_for() {
        let at = |target_return: f64, returns: [f64; 3]| Measured {
            target_return,
            episodes: returns.map(|total| Episode { seed: 0, total }).into(),
        };
        let both = [at(-5.0, [1.0, 2.0, 3.0]), at(0.5, [4.0; 3])];
        assert_eq!(asked_and_returned(&both), "-5; 0.5 | 2.0 ± 1.0; 4.0 ± 0.0");
    }

    #[test]
    fn correlations_are_found_in_their_lines() {
        let line = "hopper-mixed: Pearson correlation of target and mean achieved return 0.909";
        assert_eq!(correlation(line), Some(0.909));
        assert_eq!(correlation("hopper-mixed: no return at all"), None);
    }

    #[test]
    fn every_table_is_listed_with_what_it_shows() {
        for name in Name::value_variants() {
            assert!(!name.help().is_empty(), "{name:?}");
        }
    }
}
