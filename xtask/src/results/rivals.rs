//! Decision Transformers, what anyone would try first, and variants, with the same time of one core each.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::locomotion;
use super::table::{Description, Row as Described};
use super::{Episodes, Workbench};

pub const SEEDS: [u32; 3] = [200, 201, 202];
const EPISODES: Episodes = Episodes {
    count: 100,
    seed: 20_000,
};
/// Time of one core that each training takes, in seconds.
const SECONDS: f64 = 60.0;

/// A set, and what is asked of the policies that can be asked.
pub struct Set {
    pub title: &'static str,
    /// As `--only` names it.
    pub name: String,
    env: &'static str,
    files: Vec<String>,
    target: String,
    /// Mean and largest of the data's episode returns.
    pub returns: String,
    /// Recipe of the transformers.
    transformer: &'static str,
}

/// What is trained.
pub struct Contender {
    pub title: &'static str,
    pub algo: &'static str,
    /// As published; none where it is no published algorithm.
    pub updates: Option<&'static str>,
    /// Does the set's recipe for transformers hold for it?
    pub is_transformer: bool,
    /// More options.
    pub more: &'static [&'static str],
}

pub const DT: Contender = Contender {
    title: "DT",
    algo: "dt",
    updates: Some("100,000"),
    is_transformer: true,
    more: &[],
};
const BC: Contender = Contender {
    title: "BC",
    algo: "bc",
    updates: Some("20,000"),
    is_transformer: false,
    more: &[],
};
const BEST_BC: Contender = Contender {
    title: "10%BC",
    more: &["--top-percent", "10"],
    ..BC
};
const PUBLISHED: Option<&str> = Some("1,000,000");
const CQL: Contender = Contender {
    title: "CQL",
    algo: "cql",
    updates: PUBLISHED,
    is_transformer: false,
    // The actor's rate of the authors' successor to their code; at CORL's 3e-5 it has not left its start within a minute.
    more: &["--set", "train.learning_rate=3e-4"],
};
const RIVALS: [Contender; 8] = [
    DT,
    Contender {
        title: "BC, transformer",
        algo: "bc-transformer",
        updates: None,
        ..DT
    },
    BEST_BC,
    BC,
    Contender {
        title: "TD3+BC",
        algo: "td3bc",
        updates: PUBLISHED,
        ..BC
    },
    Contender {
        title: "IQL",
        algo: "iql",
        updates: PUBLISHED,
        ..BC
    },
    Contender {
        title: "AWR",
        algo: "awr",
        updates: None,
        ..BC
    },
    CQL,
];

/// All reward of an episode with its last step.
const DELAYED: &[&str] = &["--delayed-reward"];
const DELAYED_RIVALS: [Contender; 4] = [
    Contender {
        title: "DT, delayed reward",
        more: DELAYED,
        ..DT
    },
    Contender {
        title: "CQL, delayed reward",
        more: &[DELAYED[0], CQL.more[0], CQL.more[1]],
        ..CQL
    },
    BEST_BC,
    BC,
];

/// As many actions per update for each: sequences of as many steps as the recipe's, whatever they see.
const CONTEXTS: [Contender; 3] = [
    DT,
    Contender {
        title: "K = 5",
        more: &["--set", "dt.context_len=5", "--set", "dt.sequence_len=20"],
        ..DT
    },
    Contender {
        title: "K = 1",
        more: &["--set", "dt.context_len=1", "--set", "dt.sequence_len=20"],
        ..DT
    },
];

/// `cargo xtask results rivals`.
///
/// # Errors
/// If a step fails.
pub fn rivals(bench: &Workbench) -> Result<()> {
    table(bench, "rivals", &sets(&bench.only)?, &RIVALS)
}

/// `cargo xtask results delayed`.
///
/// # Errors
/// If a step fails.
pub fn delayed(bench: &Workbench) -> Result<()> {
    table(bench, "delayed", &one(bench)?, &DELAYED_RIVALS)
}

/// `cargo xtask results context`.
///
/// # Errors
/// If a step fails.
pub fn context(bench: &Workbench) -> Result<()> {
    table(bench, "context", &one(bench)?, &CONTEXTS)
}

/// Hopper's medium-replay, unless others are named.
fn one(bench: &Workbench) -> Result<Vec<Set>> {
    let mut sets = sets(&bench.only)?;
    if bench.only.is_empty() {
        sets.retain(|set| set.name == "hopper-medium-replay");
    }
    Ok(sets)
}

/// Refuses a folder that lacks a set.
///
/// # Errors
/// With the names of all that are missing; if there is no set of a name asked for.
pub fn check_data(folder: &Path, only: &[String]) -> Result<()> {
    let files = sets(only)?.into_iter().flat_map(|set| set.files);
    locomotion::check_files(folder, files)
}

/// All, or those that are named.
///
/// # Errors
/// If there is no such set.
pub fn sets(only: &[String]) -> Result<Vec<Set>> {
    let pendulum = [
        ("Pendulum, random", "random", "-1202, -643"),
        ("Pendulum, medium-replay", "medium-replay", "-345, -1"),
        ("Pendulum, medium", "medium", "-147, -2"),
    ];
    let pendulum = pendulum.map(|(title, set, returns)| Set {
        title,
        name: format!("pendulum-{set}"),
        env: "pendulum",
        files: vec![format!("pendulum-{set}.hdf5")],
        target: "-150".into(),
        returns: returns.replace('-', "−"),
        transformer: "pendulum",
    });
    let locomotion = locomotion::ROWS.iter().map(|row| Set {
        title: row.title,
        name: row.name(),
        env: row.env,
        files: row.files(),
        target: row.target.to_string(),
        returns: row.data_returns(),
        transformer: "gym-short",
    });
    let mut sets: Vec<Set> = pendulum.into_iter().chain(locomotion).collect();
    let names = sets.iter().map(|set| set.name.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    let is_set = |name: &&String| sets.iter().any(|set| set.name == **name);
    if let Some(other) = only.iter().find(|name| !is_set(name)) {
        bail!("--only {other}: no such set; there are {names}");
    }
    sets.retain(|set| only.is_empty() || only.contains(&set.name));
    Ok(sets)
}

fn table<const N: usize>(
    bench: &Workbench,
    name: &str,
    sets: &[Set],
    contenders: &[Contender; N],
) -> Result<()> {
    for set in sets {
        for contender in contenders {
            contender.results(bench, set)?;
        }
    }
    let mut rows = Vec::new();
    for set in sets {
        let cells = contenders.iter().map(|c| c.cells(bench, set));
        rows.push(Described {
            name: set.title,
            data: Some(set.returns.clone()),
            seeds: &SEEDS,
            files: contenders
                .iter()
                .map(|contender| contender.file(set))
                .collect(),
            before: None,
            more: cells.collect::<Result<_>>()?,
        });
    }
    let titles = contenders.each_ref().map(|contender| contender.title);
    let more = ["updates", "published", "core seconds"];
    let description = Description::new(titles, rows).line_per_policy(more);
    bench.print(name, &description)
}

/// What a training's time is enough for.
#[derive(Deserialize, Serialize)]
struct Budget {
    core_seconds_per_update: f64,
    updates: u64,
}

/// A line of `metrics.jsonl`.
#[derive(Deserialize)]
struct Record {
    update: u64,
    core_seconds: f64,
}

/// Time of the processor for the updates after the first `from`, and their number.
///
/// # Errors
/// If there are no records of so many.
pub fn spent(run: &Path, from: u64) -> Result<(f64, u64)> {
    let file = run.join("metrics.jsonl");
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    let records: Result<Vec<Record>, _> = text.lines().map(serde_json::from_str).collect();
    let records = records.with_context(|| format!("{}: no records", file.display()))?;
    let after = records.iter().filter(|record| record.update > from);
    let seconds = after.map(|record| record.core_seconds).sum();
    let last = records.last().map_or(0, |record| record.update);
    ensure!(last > from, "{}: no updates after {from}", file.display());
    Ok((seconds, last - from))
}

impl Contender {
    /// What its runs on a set are called.
    fn name(&self, set: &Set) -> String {
        let title = self.title.to_lowercase().replace([' ', ','], "");
        format!("{}-{title}", set.name)
    }

    /// Its results on a set, `{seed}` standing for the seed.
    pub fn file(&self, set: &Set) -> String {
        format!("rivals/{}/seed-{{seed}}/eval.json", self.name(set))
    }

    /// The run with this seed.
    pub fn run(&self, bench: &Workbench, set: &Set, seed: u32) -> PathBuf {
        let folder = bench.out.join("rivals").join(self.name(set));
        folder.join(format!("seed-{seed}"))
    }

    /// Trains all seeds, side by side, and evaluates each in `seed-N/eval.json`.
    ///
    /// # Errors
    /// If a step fails.
    pub fn results(&self, bench: &Workbench, set: &Set) -> Result<()> {
        let folder = bench.out.join("rivals").join(self.name(set));
        let run = |seed: u32| folder.join(format!("seed-{seed}"));
        let is_there = |seed: &u32| run(*seed).join("eval.json").exists();
        if bench.partial || SEEDS.iter().all(is_there) {
            return Ok(());
        }
        let budget = self.budget(bench, set, &folder)?;
        let seeds = SEEDS.map(|seed| seed.to_string()).join(",");
        let jobs = bench.jobs.to_string();
        let mut train = self.train(bench, set, budget.updates);
        train.args(["--seeds", &seeds, "--jobs", &jobs]);
        bench.step(&folder, train.arg("--out").arg(&folder))?;
        for seed in SEEDS {
            let json = run(seed).join("eval.json");
            bench.eval(&run(seed), set.env, &set.target, EPISODES, &json)?;
        }
        Ok(())
    }

    /// Measured once, by a short run beside the others.
    fn budget(&self, bench: &Workbench, set: &Set, folder: &Path) -> Result<Budget> {
        let file = folder.join("budget.json");
        if let Ok(text) = fs::read_to_string(&file) {
            return serde_json::from_str(&text)
                .with_context(|| format!("{}: no budget; remove it", file.display()));
        }
        let (warm, measured) = match self.algo {
            "bc" | "td3bc" | "iql" | "awr" => (100, 500),
            _ => (10, 40),
        };
        let probe = folder.join("probe");
        let mut train = self.train(bench, set, warm + measured);
        train.args(["--set", &format!("train.log_every={warm}")]);
        train.args(["--seed", "0", "--out"]).arg(&probe);
        bench.step(&probe, &mut train)?;
        let (seconds, updates) = spent(&probe, warm)?;
        let core_seconds_per_update = seconds / updates as f64;
        let budget = Budget {
            core_seconds_per_update,
            updates: (SECONDS / core_seconds_per_update / 10.0).round() as u64 * 10,
        };
        fs::write(&file, serde_json::to_string(&budget)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(budget)
    }

    fn train(&self, bench: &Workbench, set: &Set, updates: u64) -> std::process::Command {
        let paths = set
            .files
            .iter()
            .map(|f| bench.data.join(f).into_os_string());
        let data: OsString = paths.collect::<Vec<_>>().join(",".as_ref());
        let recipe = match self.is_transformer {
            true => set.transformer,
            false => self.algo,
        };
        let mut train = bench.dt_train("train");
        train.arg("--data").arg(data);
        train.args(["--env", set.env, "--device", &bench.device, "--resume"]);
        train.args(["--config", recipe, "--algo", self.algo]);
        for setting in self.settings(set, updates) {
            train.arg("--set").arg(setting);
        }
        train.args(self.more);
        train
    }

    /// Updates, published updates, and the time that they took; nothing where nothing was trained.
    fn cells(&self, bench: &Workbench, set: &Set) -> Result<Vec<String>> {
        let folder = bench.out.join("rivals").join(self.name(set));
        let runs = SEEDS.map(|seed| folder.join(format!("seed-{seed}")));
        let runs = runs.iter().filter(|run| run.join("eval.json").exists());
        let spent: Vec<(f64, u64)> = runs.map(|run| spent(run, 0)).collect::<Result<_>>()?;
        let [mut updates, mut seconds] = ["–", "–"].map(String::from);
        if let Some((_, done)) = spent.first() {
            updates = done.to_string();
            let all: f64 = spent.iter().map(|(seconds, _)| seconds).sum();
            seconds = format!("{:.0}", all / spent.len() as f64);
        }
        Ok(vec![updates, self.updates.unwrap_or("–").into(), seconds])
    }

    fn settings(&self, set: &Set, updates: u64) -> Vec<String> {
        let mut settings = vec![
            format!("train.updates={updates}"),
            format!("eval.target_returns=[{}.0]", set.target),
            // Their own evaluations would choose nothing: the last checkpoint is taken.
            "eval.every=0".into(),
            "eval.episodes=1".into(),
            "train.threads=1".into(),
        ];
        if self.algo == "bc" {
            // As in the table of baselines: schedule and average of the transformers' short recipe.
            let budget = [
                "train.batch_size=1240",
                "train.learning_rate=1e-3",
                "train.learning_rate_final=0.05",
                "train.warmup_updates=100",
                "train.ema_decay=0.998",
            ];
            settings.extend(budget.map(Into::into));
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_differ_have_different_names() {
        let all = || RIVALS.iter().chain(&DELAYED_RIVALS).chain(&CONTEXTS);
        let set = Set {
            title: "",
            name: "set".into(),
            env: "",
            files: Vec::new(),
            target: String::new(),
            returns: String::new(),
            transformer: "",
        };
        for one in all() {
            for other in all() {
                let same = one.algo == other.algo && one.more == other.more;
                let names = [one, other].map(|contender| contender.name(&set));
                assert_eq!(same, names[0] == names[1], "{names:?}");
            }
        }
    }

    /// The first updates are slower.
    #[test]
    fn time_is_that_of_the_updates_asked_for() {
        let run = std::env::temp_dir().join(format!("spent-{}", std::process::id()));
        fs::create_dir_all(&run).unwrap();
        let lines = [(10, 9.0), (20, 1.5), (30, 0.5)];
        let line = |(update, s): (u64, f64)| {
            format!("{{\"update\":{update},\"core_seconds\":{s},\"loss\":1}}\n")
        };
        fs::write(run.join("metrics.jsonl"), lines.map(line).concat()).unwrap();
        assert_eq!(spent(&run, 10).unwrap(), (2.0, 20));
        assert_eq!(spent(&run, 0).unwrap(), (11.0, 30));
        let error = spent(&run, 30).unwrap_err().to_string();
        assert!(error.ends_with("no updates after 30"), "{error}");
        fs::remove_dir_all(&run).unwrap();
    }
}
