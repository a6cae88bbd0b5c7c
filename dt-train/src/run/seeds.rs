//! One recipe with several training seeds: which seeds, where their runs are, and what they reached together.
//!
//! Each seed is a run of its own, in a folder `seed-N`, trained by a process of its own: what ends one ends no other, and
//! every command that takes a run takes any of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::Mutex;

use anyhow::Context;

use super::checkpoint::Best;
use super::metrics::Record;
use super::{CONFIG, METRICS, Run, Which, check_metrics};
use crate::stats::{mean, sample_deviation};

/// Training seeds, ascending and different: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

/// More would be a slip of the keyboard.
const MOST: u64 = 1000;

impl FromStr for Seeds {
    type Err = String;

    /// `0..5` is 0, 1, 2, 3, 4; `0,1,7` these; `0..3,7` both.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = "give a range, such as 0..5 for 0, 1, 2, 3, 4, or a list, such as 0,1,7";
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| form.to_owned());
        let mut seeds = BTreeSet::new();
        for part in text.split(',') {
            let range = match part.split_once("..") {
                Some((first, end)) => number(first)?..number(end)?,
                None => {
                    let seed = number(part)?;
                    seed..seed.checked_add(1).ok_or_else(|| form.to_owned())?
                }
            };
            if range.is_empty() {
                return Err(format!("{part} holds no seed; {form}"));
            }
            if range.end - range.start > MOST {
                return Err(format!("{part} holds more than {MOST} seeds; {form}"));
            }
            for seed in range {
                if !seeds.insert(seed) {
                    return Err(format!("seed {seed} is there twice; {form}"));
                }
            }
        }
        Ok(Self(seeds.into_iter().collect()))
    }
}

/// The folder of a seed's run.
pub fn folder(out: &Path, seed: u64) -> PathBuf {
    out.join(format!("seed-{seed}"))
}

/// The folders of the runs that `path` means: itself, or where it holds no run but folders of runs do lie in it, as
/// `train --seeds` leaves them, these, `seed-2` before `seed-10`.
pub fn runs_of(path: &Path) -> Vec<PathBuf> {
    let is_run = |dir: &Path| dir.join(CONFIG).is_file();
    let itself = || vec![path.to_owned()];
    if is_run(path) {
        return itself();
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return itself();
    };
    let mut runs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_run(path))
        .collect();
    if runs.is_empty() {
        return itself();
    }
    runs.sort_by_cached_key(|run| {
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number: Option<u64> = name[stem.len()..].parse().ok();
        (stem.to_owned(), number, name.clone().into_owned())
    });
    runs
}

/// Runs one command per seed, `jobs` at a time, the machine's cores divided among them. What they say on stderr is said
/// on ours, behind the seed. Results are in the order of `seeds`.
///
/// # Errors
/// Those of the system, when a process cannot be started; one that fails is an [`ExitStatus`].
pub fn run(
    seeds: &[u64],
    jobs: usize,
    command: impl Fn(u64) -> Command + Sync,
) -> anyhow::Result<Vec<ExitStatus>> {
    let jobs = jobs.clamp(1, seeds.len().max(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / jobs).max(1).to_string();
    let waiting = Mutex::new(seeds.iter().enumerate());
    let done = Mutex::new(vec![None; seeds.len()]);
    let next = || waiting.lock().unwrap_or_else(|e| e.into_inner()).next();
    let work = || -> anyhow::Result<()> {
        while let Some((i, &seed)) = next() {
            let mut command = command(seed);
            // Those of libtorch, and of episodes; a user who set them knows better.
            for name in ["OMP_NUM_THREADS", "RAYON_NUM_THREADS"] {
                if jobs > 1 && std::env::var_os(name).is_none() {
                    command.env(name, &threads);
                }
            }
            let status = one(seed, &mut command)
                .with_context(|| format!("cannot start the training of seed {seed}"))?;
            done.lock().unwrap_or_else(|e| e.into_inner())[i] = Some(status);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    let done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    Ok(done.into_iter().flatten().collect())
}

/// Runs `command` to its end.
fn one(seed: u64, command: &mut Command) -> std::io::Result<ExitStatus> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line?;
            eprintln!("seed {seed}: {}", String::from_utf8_lossy(&line));
        }
    }
    child.wait()
}

/// What one seed reached.
#[derive(Clone, Debug)]
struct Reached {
    name: String,
    last: Record,
    best: Option<Best>,
}

/// What finished runs of one recipe reached, a line each, and the mean over them ± their sample deviation (n − 1).
///
/// # Errors
/// Names the file that cannot be read.
pub fn summary(runs: &[PathBuf]) -> anyhow::Result<String> {
    let mut reached = Vec::new();
    for dir in runs {
        let run = Run::open(dir)?;
        let best = run.checkpoint(Which::Last)?.progress.best;
        let last = check_metrics(&dir.join(METRICS))?.pop();
        reached.push(Reached {
            name: dir.file_name().unwrap_or_default().to_string_lossy().into(),
            last: last.with_context(|| format!("{} has no records", dir.display()))?,
            best,
        });
    }
    Ok(table(&reached))
}

fn table(reached: &[Reached]) -> String {
    type Column<'a> = (String, Box<dyn Fn(&Reached) -> Option<f64> + 'a>, usize);
    let mut columns: Vec<Column<'_>> = vec![("loss".into(), Box::new(|r| Some(r.last.loss)), 5)];
    if reached.iter().any(|r| r.last.validation_loss.is_some()) {
        let held_out = |r: &Reached| r.last.validation_loss;
        columns.push(("held out".into(), Box::new(held_out), 5));
    }
    let targets = reached
        .first()
        .map_or(&[][..], |first| first.last.eval.as_slice());
    for (i, eval) in targets.iter().enumerate() {
        let title = format!("return at {}", eval.target_return);
        let at = move |r: &Reached| Some(r.last.eval.get(i)?.mean_return);
        columns.push((title, Box::new(at), 2));
    }
    if reached.iter().any(|r| r.best.is_some()) {
        let best = |r: &Reached| Some(r.best?.mean_return);
        columns.push(("best return".into(), Box::new(best), 2));
    }
    let names = reached.iter().map(|r| r.name.as_str());
    let name_width = names
        .chain(["± deviation"])
        .map(|name| name.chars().count());
    let name_width = name_width.max().unwrap_or_default();
    let cell = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
    };
    let mut lines = vec![(String::new(), "updates".to_owned(), Vec::new())];
    let title = &mut lines[0].2;
    title.extend(columns.iter().map(|(title, ..)| title.clone()));
    for r in reached {
        let cells = columns.iter().map(|(_, of, digits)| cell(of(r), *digits));
        lines.push((r.name.clone(), r.last.update.to_string(), cells.collect()));
    }
    // Over those that have the value.
    let over = |of: fn(&[f64]) -> Option<f64>| {
        let cells = columns.iter().map(|(_, value, digits)| {
            let values: Vec<f64> = reached.iter().filter_map(value).collect();
            cell(of(&values), *digits)
        });
        cells.collect::<Vec<_>>()
    };
    let mean_of = |values: &[f64]| (!values.is_empty()).then(|| mean(values));
    lines.push(("mean".to_owned(), String::new(), over(mean_of)));
    lines.push((
        "± deviation".to_owned(),
        String::new(),
        over(sample_deviation),
    ));
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| lines.iter().map(|line| line.2[i].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for (name, updates, cells) in &lines {
        let _ = write!(out, "{name:<name_width$}  {updates:>8}");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::EvalRecord;

    #[test]
    fn seeds_are_ranges_without_their_end_and_lists() {
        let seeds = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.0);
        assert_eq!(seeds("0..5").unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(seeds("7, 1,2").unwrap(), [1, 2, 7]);
        assert_eq!(seeds("0..2,9").unwrap(), [0, 1, 9]);
        for (text, fragment) in [
            ("5..5", "5..5 holds no seed"),
            ("5..3", "5..3 holds no seed"),
            ("0..3,2", "seed 2 is there twice"),
            ("0..100000", "more than 1000"),
            ("18446744073709551615", "such as 0..5"),
            ("-1", "such as 0..5"),
            ("", "such as 0..5"),
            ("0..", "such as 0..5"),
        ] {
            let message = seeds(text).unwrap_err();
            assert!(message.contains(fragment), "{text}: {message}");
        }
    }

    #[test]
    fn a_folder_of_runs_means_its_runs_in_the_order_of_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["seed-10", "seed-2", "notes", "seed-7"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            if name != "notes" {
                std::fs::write(dir.path().join(name).join(CONFIG), "").unwrap();
            }
        }
        let runs = runs_of(dir.path());
        let of = |seed| folder(dir.path(), seed);
        assert_eq!(runs, [of(2), of(7), of(10)]);
        assert_eq!(runs_of(&of(7)), [of(7)]);
        // What is neither stays what it is, so that opening it says what is wrong.
        let notes = dir.path().join("notes");
        assert_eq!(runs_of(&notes), std::slice::from_ref(&notes));
        let nowhere = dir.path().join("nowhere");
        assert_eq!(runs_of(&nowhere), std::slice::from_ref(&nowhere));
    }

    #[test]
    fn processes_are_run_side_by_side_and_one_that_fails_stops_no_other() {
        let dir = tempfile::tempdir().unwrap();
        // Each waits until the other has begun: alone it would not end with 0.
        let command = |seed: u64| {
            let (mine, other) = (seed.to_string(), (1 - seed).to_string());
            let script =
                "touch $0; for i in $(seq 200); do test -e $1 && exit 0; sleep 0.05; done; exit 1";
            let mut command = Command::new("sh");
            command
                .args(["-c", script, &mine, &other])
                .current_dir(dir.path());
            command
        };
        let done = run(&[0, 1], 2, command).unwrap();
        assert!(done.iter().all(ExitStatus::success));

        let command = |seed: u64| {
            let mut command = Command::new("sh");
            command.args(["-c", "exit $0", &seed.to_string()]);
            command
        };
        let codes = |done: Vec<ExitStatus>| done.iter().map(ExitStatus::code).collect::<Vec<_>>();
        let done = run(&[3, 0, 4], 1, command).unwrap();
        assert_eq!(codes(done), [Some(3), Some(0), Some(4)]);
    }

    #[test]
    fn a_summary_has_the_mean_over_seeds_and_their_sample_deviation() {
        let reached = |seed: u64, loss: f64, mean_return: f64| Reached {
            name: format!("seed-{seed}"),
            last: Record {
                update: 40,
                loss,
                validation_loss: None,
                fit_loss: None,
                accuracy: None,
                validation_accuracy: None,
                grad_norm: 1.0,
                learning_rate: 1e-3,
                updates_per_second: 1.0,
                core_seconds: None,
                eval: vec![EvalRecord {
                    target_return: -150.0,
                    episodes: 2,
                    mean_return,
                    std_return: 1.0,
                    engine_mean_return: 0.0,
                    torch_mean_return: 0.0,
                }],
            },
            best: None,
        };
        let expected = "\
                      updates     loss  return at -150
seed-0             40  0.10000         -100.00
seed-1             40  0.30000         -104.00
mean                   0.20000         -102.00
± deviation            0.14142            2.83
";
        let both = [reached(0, 0.1, -100.0), reached(1, 0.3, -104.0)];
        assert_eq!(table(&both).trim_start(), expected.trim_start());
        // One seed has no deviation.
        assert!(table(&both[..1]).ends_with("–               –\n"));
    }
}
