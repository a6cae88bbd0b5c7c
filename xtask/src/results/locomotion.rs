//! Hopper, HalfCheetah and Walker2d on the sets of an independent SAC, by the shipped recipe.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::table::{Description, Row as Described};
use super::{Episodes, Workbench};
/// What the trajectory sets are, for who has none of them.
pub const SETS_HELP: &str = "  hopper-, halfcheetah- and walker2d-medium.hdf5, -medium-replay.hdf5 and -good.hdf5, in D4RL's layout: an agent in
  mid-training, its replay buffer, and a better agent, 100,000 to 300,000 steps each. Those of docs/results are an
  independent SAC's in Gymnasium's v5 environments and not part of this project; `dt-train collect --recipe` makes others.";

/// Neither these nor the episodes were used for choosing the recipe.
const SEEDS: [u32; 5] = [200, 201, 202, 203, 204];
/// Of the baselines, whose differences are larger.
const BASELINE_SEEDS: [u32; 3] = [200, 201, 202];
const EPISODES: Episodes = Episodes {
    count: 100,
    seed: 20_000,
};
const TARGETS: u32 = 12;
/// Per target return.
const TARGET_EPISODES: Episodes = Episodes {
    count: 20,
    seed: 21_000,
};
/// Behaviour cloning gets as many actions per update as the transformer: 62 sequences of 20, and as many updates,
/// with the same schedule and average; the rest is the paper's.
const BC_BUDGET: [&str; 7] = [
    "train.updates=2000",
    "train.batch_size=1240",
    "train.learning_rate=1e-3",
    "train.learning_rate_final=0.05",
    "train.warmup_updates=100",
    "train.ema_decay=0.998",
    "eval.episodes=1", // as below
];

/// A row of the tables: an environment, what its policy learns from, and what is asked of it.
pub struct Row {
    /// Of the table's row.
    pub title: &'static str,
    /// The environment.
    pub env: &'static str,
    set: Set,
    /// Near the best return in the data.
    pub target: u32,
    /// 10th percentile of the data's episode returns, and 1.2 times the largest.
    targets: [i32; 2],
    /// Mean and largest of the data's episode returns.
    returns: [u32; 2],
    /// The first recipe's means over 100 episodes, by training seed.
    before: &'static [f64],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Medium,
    MediumReplay,
    /// *medium* and *good* together.
    Mixed,
}

/// The rows of the tables.
pub const ROWS: [Row; 9] = [
    Row {
        title: "Hopper, medium",
        env: "hopper",
        set: Set::Medium,
        target: 3300,
        targets: [911, 3962],
        returns: [1254, 3301],
        before: &[1508.0, 1656.0, 1475.0],
    },
    Row {
        title: "Hopper, medium-replay",
        env: "hopper",
        set: Set::MediumReplay,
        target: 3200,
        targets: [9, 3855],
        returns: [439, 3213],
        before: &[1167.0, 2572.0, 2084.0],
    },
    Row {
        title: "Hopper, mixed",
        env: "hopper",
        set: Set::Mixed,
        target: 3400,
        targets: [946, 4089],
        returns: [1564, 3408],
        before: &[3188.0, 3084.0, 3193.0],
    },
    Row {
        title: "HalfCheetah, medium",
        env: "halfcheetah",
        set: Set::Medium,
        target: 5200,
        targets: [4845, 6246],
        returns: [4951, 5205],
        before: &[5108.0, 5071.0],
    },
    Row {
        title: "HalfCheetah, medium-replay",
        env: "halfcheetah",
        set: Set::MediumReplay,
        target: 4900,
        targets: [-244, 5908],
        returns: [2409, 4924],
        before: &[4720.0, 4656.0, 4720.0],
    },
    Row {
        title: "HalfCheetah, mixed",
        env: "halfcheetah",
        set: Set::Mixed,
        target: 6600,
        targets: [4882, 7969],
        returns: [5438, 6641],
        before: &[5841.0, 6123.0, 5991.0],
    },
    Row {
        title: "Walker2d, medium",
        env: "walker2d",
        set: Set::Medium,
        target: 4050,
        targets: [162, 4869],
        returns: [2333, 4058],
        before: &[2700.0, 2596.0, 1618.0],
    },
    Row {
        title: "Walker2d, medium-replay",
        env: "walker2d",
        set: Set::MediumReplay,
        target: 3500,
        targets: [-2, 4250],
        returns: [444, 3542],
        before: &[1433.0, 1518.0, 1757.0],
    },
    Row {
        title: "Walker2d, mixed",
        env: "walker2d",
        set: Set::Mixed,
        target: 4150,
        targets: [171, 5017],
        returns: [2612, 4180],
        before: &[3111.0, 2528.0, 2646.0],
    },
];

/// The rows that streaming and window are compared on.
fn streaming_rows() -> impl Iterator<Item = &'static Row> + Clone {
    let rows = ["Hopper, medium", "Hopper, medium-replay", "Walker2d, mixed"];
    ROWS.iter().filter(move |row| rows.contains(&row.title))
}

/// The rows with data of several qualities: in one agent's, what is to be had is mostly luck.
fn target_rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.set != Set::Medium)
}

impl Row {
    /// What runs and results of this row are called.
    pub fn name(&self) -> String {
        let set = match self.set {
            Set::Medium => "medium",
            Set::MediumReplay => "medium-replay",
            Set::Mixed => "mixed",
        };
        format!("{}-{set}", self.env)
    }

    /// Its files, in the folder of sets.
    pub fn files(&self) -> Vec<String> {
        let sets: &[&str] = match self.set {
            Set::Medium => &["medium"],
            Set::MediumReplay => &["medium-replay"],
            Set::Mixed => &["medium", "good"],
        };
        let file = |set| format!("{}-{set}.hdf5", self.env);
        sets.iter().map(file).collect()
    }

    /// As `--data` takes them.
    fn data(&self, folder: &Path) -> OsString {
        let files: Vec<_> = self
            .files()
            .into_iter()
            .map(|file| folder.join(file).into_os_string())
            .collect();
        files.join(",".as_ref())
    }

    /// As `dt-train table` takes it; `files` are the ends of the names of its results.
    fn described(&self, seeds: &'static [u32], files: &[&str]) -> Described {
        let file = |end| format!("{}{end}.json", self.name());
        Described {
            name: self.title,
            data: Some(self.data_returns()),
            seeds,
            files: files.iter().map(file).collect(),
            before: None,
            more: Vec::new(),
        }
    }

    /// Mean and largest of the data's episode returns.
    pub fn data_returns(&self) -> String {
        let [mean, best] = self.returns;
        format!("{mean}, {best}")
    }

    /// `TARGETS` of them, evenly spaced, in whole units.
    fn targets(&self) -> String {
        let [low, high] = self.targets.map(f64::from);
        let step = (high - low) / f64::from(TARGETS - 1);
        let target = |i| (low + step * f64::from(i)).round().to_string();
        (0..TARGETS).map(target).collect::<Vec<_>>().join(",")
    }
}

/// Refuses a folder that lacks a set.
///
/// # Errors
/// With the names of all that are missing.
pub fn check_data(folder: &Path) -> Result<()> {
    check_files(folder, ROWS.iter().flat_map(Row::files))
}

/// Refuses a folder that lacks one of these.
///
/// # Errors
/// With the names of all that are missing.
pub fn check_files(folder: &Path, files: impl Iterator<Item = String>) -> Result<()> {
    let mut missing: Vec<_> = files.filter(|file| !folder.join(file).is_file()).collect();
    missing.sort();
    missing.dedup();
    ensure!(
        missing.is_empty(),
        "{} lacks {}; name the folder of the sets with --data:\n{SETS_HELP}",
        folder.display(),
        missing.join(", ")
    );
    Ok(())
}

/// `cargo xtask results locomotion`.
///
/// # Errors
/// If a step fails.
pub fn returns(bench: &Workbench) -> Result<()> {
    for (row, seed) in pairs(&ROWS, &SEEDS) {
        bench.transformer(row, seed, "int8")?;
        bench.transformer(row, seed, "f32")?;
    }
    let rows = ROWS.iter().map(|row| {
        let mut described = row.described(&SEEDS, &["-{seed}/int8", "-{seed}/f32"]);
        described.before = Some(row.before);
        described
    });
    bench.print("locomotion", &Description::new(["int8", "f32"], rows))
}

/// `cargo xtask results baselines`.
///
/// # Errors
/// If a step fails.
pub fn baselines(bench: &Workbench) -> Result<()> {
    for (row, seed) in pairs(&ROWS, &BASELINE_SEEDS) {
        bench.transformer(row, seed, "int8")?;
        bench.cloning(row, seed, "bc", 100)?;
        bench.cloning(row, seed, "bc10", 10)?;
    }
    let files = ["-{seed}/int8", "-bc10-{seed}/eval", "-bc-{seed}/eval"];
    let rows = ROWS
        .iter()
        .map(|row| row.described(&BASELINE_SEEDS, &files));
    bench.print(
        "baselines",
        &Description::new(["Decision Transformer, int8", "10%BC", "BC"], rows),
    )
}

/// `cargo xtask results streaming`.
///
/// # Errors
/// If a step fails.
pub fn streaming(bench: &Workbench) -> Result<()> {
    for (row, seed) in pairs(streaming_rows(), &SEEDS) {
        bench.transformer(row, seed, "int8")?;
        bench.window(row, seed)?;
    }
    let files = ["-{seed}/int8", "-window-{seed}/int8"];
    let rows = streaming_rows().map(|row| row.described(&SEEDS, &files));
    bench.print(
        "streaming",
        &Description::new(["streaming", "window"], rows),
    )
}

/// `cargo xtask results targets`.
///
/// # Errors
/// If a step fails.
pub fn targets(bench: &Workbench) -> Result<()> {
    let mut by_seed = Vec::new();
    for seed in SEEDS {
        let folder = bench.out.join(format!("targets-{seed}"));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut results = Vec::new();
        for row in target_rows() {
            let json = folder.join(row.name()).with_extension("json");
            if !json.exists() {
                let run = bench.transformer(row, seed, "int8")?;
                let policy = bench.export(&run, "int8")?;
                bench.eval(&policy, row.env, &row.targets(), TARGET_EPISODES, &json)?;
            }
            results.push(json);
        }
        by_seed.push(bench.plot(&results, &folder.join("targets.png"))?);
    }
    let heads = SEEDS.map(|seed| format!("seed {seed} | "));
    let rule = "---:|".repeat(SEEDS.len() + 1);
    println!("| | {}mean |\n|---|{rule}", heads.concat());
    for (i, row) in target_rows().enumerate() {
        let correlations: Vec<_> = by_seed.iter().filter_map(|seed| seed.get(i)).collect();
        let mean = correlations.iter().copied().sum::<f64>() / SEEDS.len() as f64;
        let cells = correlations.iter().map(|r| format!("{r:.3} | "));
        println!(
            "| {} | {}**{mean:.3}** |",
            row.title,
            cells.collect::<String>()
        );
    }
    Ok(())
}

/// Every row with every seed; all rows of a seed first, so that an interrupted command has whole columns.
fn pairs<'a>(
    rows: impl IntoIterator<Item = &'a Row, IntoIter: Clone>,
    seeds: &[u32],
) -> impl Iterator<Item = (&'a Row, u32)> {
    let rows = rows.into_iter();
    seeds
        .iter()
        .flat_map(move |&seed| rows.clone().map(move |row| (row, seed)))
}

impl Workbench {
    /// The results of a trained policy in `RUN/DTYPE.json`; the run.
    fn transformer(&self, row: &Row, seed: u32, dtype: &str) -> Result<PathBuf> {
        let run = self.out.join(format!("{}-{seed}", row.name()));
        let json = run.join(dtype).with_extension("json");
        if !json.exists() {
            if !run.join(dtype).with_extension("dtb").exists() {
                let target = format!("eval.target_returns=[{}.0]", row.target);
                // Its own evaluation would choose nothing: the last checkpoint is taken.
                let settings = ["--set", &target, "--set", "eval.episodes=1"];
                let data = row.data(&self.data);
                self.train(&run, row.env, &data, "gym-short", seed, settings)?;
            }
            let policy = self.export(&run, dtype)?;
            self.eval(&policy, row.env, &row.target.to_string(), EPISODES, &json)?;
        }
        Ok(run)
    }

    /// The same weights, run as window: a copy of the run that says so.
    fn window(&self, row: &Row, seed: u32) -> Result<()> {
        let copy = self.out.join(format!("{}-window-{seed}", row.name()));
        let json = copy.join("int8.json");
        if json.exists() || self.partial {
            return Ok(());
        }
        let run = self.out.join(format!("{}-{seed}", row.name()));
        copy_as_window(&run, &copy)?;
        let policy = self.export(&copy, "int8")?;
        self.eval(&policy, row.env, &row.target.to_string(), EPISODES, &json)
    }

    /// Behaviour cloning on the best `percent` of the transitions, its results in `RUN/eval.json`.
    fn cloning(&self, row: &Row, seed: u32, kind: &str, percent: u32) -> Result<()> {
        let run = self.out.join(format!("{}-{kind}-{seed}", row.name()));
        let json = run.join("eval.json");
        if json.exists() {
            return Ok(());
        }
        let target = format!("eval.target_returns=[{}.0]", row.target);
        let percent = percent.to_string();
        let mut more = vec!["--top-percent", &percent, "--set", &target];
        more.extend(BC_BUDGET.iter().flat_map(|setting| ["--set", setting]));
        self.train(&run, row.env, &row.data(&self.data), "bc", seed, more)?;
        self.eval(&run, row.env, &row.target.to_string(), EPISODES, &json)
    }
}

/// Copies the files of a run (not its folders), with window attention in its recipe.
fn copy_as_window(run: &Path, copy: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", run.display(), copy.display());
    fs::create_dir_all(copy).with_context(failed)?;
    for name in ["run.json", "last.safetensors", "metrics.jsonl"] {
        fs::copy(run.join(name), copy.join(name)).with_context(failed)?;
    }
    let recipe = fs::read_to_string(run.join("config.toml")).with_context(failed)?;
    // The recipe last: with it the copy counts as a run.
    fs::write(copy.join("config.toml"), as_window(&recipe)?).with_context(failed)
}

/// A run's recipe with window attention in place of streaming.
///
/// # Errors
/// If it has no streaming attention.
fn as_window(recipe: &str) -> Result<String> {
    let streaming = "\nattention = \"streaming\"\n";
    ensure!(
        recipe.matches(streaming).count() == 1,
        "the run's config.toml has no line `{}`",
        streaming.trim()
    );
    Ok(recipe.replace(streaming, "\nattention = \"window\"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_reach_from_end_to_end() {
        let [.., walker] = &ROWS;
        assert_eq!(
            walker.targets(),
            "171,612,1052,1493,1933,2374,2814,3255,3695,4136,4576,5017"
        );
    }

    #[test]
    fn a_mixed_row_joins_two_files() {
        let [.., walker] = &ROWS;
        let joined = walker.data(Path::new("sets"));
        assert_eq!(joined, "sets/walker2d-medium.hdf5,sets/walker2d-good.hdf5");
    }

    #[test]
    fn missing_sets_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for file in ROWS.iter().flat_map(Row::files) {
            fs::write(folder.path().join(file), "").unwrap();
        }
        check_data(folder.path()).unwrap();
        fs::remove_file(folder.path().join("walker2d-good.hdf5")).unwrap();
        let error = check_data(folder.path()).unwrap_err().to_string();
        assert!(error.contains(" lacks walker2d-good.hdf5; "), "{error}");
    }

    #[test]
    fn only_attention_is_replaced() {
        let recipe = "[a]\nx = 1\nattention = \"streaming\"\ny = \"streaming\"\n";
        let window = "[a]\nx = 1\nattention = \"window\"\ny = \"streaming\"\n";
        assert_eq!(as_window(recipe).unwrap(), window);
        assert!(as_window(window).is_err());
    }
}
