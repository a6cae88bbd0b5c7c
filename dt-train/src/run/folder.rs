//! What happens to a run folder that exists already.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context, bail};

use crate::config::{Recipe, Source};
use crate::run::checkpoint::Checkpoint;
use crate::run::records::{DTYPES, export_file};
use crate::run::{self, Run, RunInfo, Which, tensorboard};

/// What to do if the output folder holds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Continue it.
    Resume,
    /// Replace it.
    Replace,
}

/// The recipe for a run in `dir`: the given one, or when resuming that of the run unless
/// `given` or `settings` say otherwise (which `open` then compares).
///
/// # Errors
/// As [`Recipe::load`].
pub fn recipe(
    dir: &Path,
    existing: Existing,
    given: Option<Source>,
    settings: &[String],
) -> anyhow::Result<Recipe> {
    let of_run = dir.join(run::CONFIG);
    let resumed = existing == Existing::Resume && given.is_none() && of_run.is_file();
    let source = if resumed {
        Some(Source::File(of_run))
    } else {
        given
    };
    Ok(Recipe::load(source.as_ref(), settings)?)
}

/// Refuses a folder that `open` would refuse whatever the recipe, before any work is done.
///
/// # Errors
/// If `existing` does not allow what is in the folder.
pub fn check_folder(dir: &Path, existing: Existing) -> anyhow::Result<()> {
    if existing != Existing::Refuse {
        return Ok(());
    }
    if holds_run(dir) {
        bail!(
            "{} holds another run; choose another folder, or continue that run with --resume, or replace it with --force",
            dir.display()
        );
    }
    if !is_empty(dir)? {
        bail!(
            "{} is not empty and holds no run; choose another folder",
            dir.display()
        );
    }
    Ok(())
}

/// Creates the run folder, or opens the run in it, and returns the checkpoint to continue from.
///
/// # Errors
/// If the folder holds something else than `existing` and the recipe and data allow.
pub fn open(
    dir: &Path,
    existing: Existing,
    recipe: Recipe,
    info: RunInfo,
) -> anyhow::Result<(Run, Option<Checkpoint>)> {
    let run = Run {
        dir: dir.to_owned(),
        recipe,
        info,
    };
    check_folder(dir, existing)?;
    if existing == Existing::Resume && holds_run(dir) {
        let checkpoint = resume(&run)?;
        run.save()?;
        return Ok((run, checkpoint));
    }
    std::fs::create_dir_all(dir)
        .with_context(|| format!("cannot create folder {}", dir.display()))?;
    // The recipe first: without it the rest no longer counts as a run.
    let exports = DTYPES.map(export_file);
    let files = [
        run::CONFIG,
        run::INFO,
        run::METRICS,
        run::EVALUATIONS,
        run::LAST,
        run::BEST,
    ];
    let kept: Vec<_> = run::kept_updates(dir).into_iter().map(run::kept).collect();
    let others = exports.iter().chain(&kept).map(String::as_str);
    let named = files.into_iter().chain(others).map(|name| dir.join(name));
    for path in named.chain(tensorboard::files(dir)) {
        if path.exists() {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot replace {}", path.display()))?;
        }
    }
    run.save()?;
    Ok((run, None))
}

/// The checkpoint to continue from; none if the run was stopped before its first.
fn resume(run: &Run) -> anyhow::Result<Option<Checkpoint>> {
    let earlier = Run::open(&run.dir)?;
    if earlier.info.dataset_sha256 != run.info.dataset_sha256 {
        bail!(
            "cannot resume: {} was trained on other data ({}, SHA-256 {}); give those files, or another --out",
            run.dir.display(),
            earlier.info.dataset,
            earlier.info.dataset_sha256
        );
    }
    let different = differences(&earlier.recipe, &run.recipe);
    let refused: Vec<_> = different
        .iter()
        .filter(|difference| !CHANGEABLE.contains(&difference.key.as_str()))
        .map(Difference::to_string)
        .collect();
    if !refused.is_empty() {
        bail!(
            "cannot resume: {} was started with {}. Only {} may change; use the same recipe, or another --out",
            run.dir.display(),
            refused.join(", and with "),
            CHANGEABLE.join(", ")
        );
    }
    if earlier.info.env != run.info.env {
        let [was, is] = [&earlier.info.env, &run.info.env].map(|env| match env.as_str() {
            "" => super::train::NOWHERE,
            env => env,
        });
        bail!(
            "cannot resume: {} was started with environment `{was}`, now it is `{is}`; use --env {was}",
            run.dir.display()
        );
    }
    match run.checkpoint(Which::Last) {
        Ok(mut checkpoint) => {
            let (done, asked) = (checkpoint.progress.update, run.recipe.train.updates);
            if done > asked {
                bail!(
                    "cannot resume: {} has had {done} updates, and train.updates = {asked}; ask for at least {done}",
                    run.dir.display()
                );
            }
            // Returns at another target are no measure for those at this one: the next evaluation is the best.
            let first = |run: &Run| run.recipe.eval.target_returns.first().copied();
            if first(&earlier) != first(run) {
                checkpoint.progress.best = None;
            }
            Ok(Some(checkpoint))
        }
        Err(run::RunError::NoCheckpoint { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a resumed run may have another value of: when it ends and what is looked at on the way, but nothing that the
/// updates so far followed from. (On the CPU, their last bits depend on the threads.)
const CHANGEABLE: [&str; 9] = [
    "train.updates",
    "train.log_every",
    "train.checkpoint_every",
    "train.checkpoint_keep",
    "train.tensorboard",
    "train.threads",
    "eval.every",
    "eval.episodes",
    "eval.target_returns",
];

/// A key that two recipes have different values of.
#[derive(Debug)]
struct Difference {
    /// Dotted.
    key: String,
    /// In TOML; none: it is not there.
    earlier: Option<String>,
    now: Option<String>,
}

impl fmt::Display for Difference {
    /// With the reason why a resumed run cannot have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, earlier, now } = self;
        let told = |value: &Option<String>| match value {
            Some(value) => format!("{key} = {value}"),
            None => format!("no {key}"),
        };
        let reason = match key.split('.').next() {
            Some("data") => "the updates so far were made on data that were prepared so",
            Some("control") => {
                "the updates so far were made with it, or `dt-train export --set` chooses it"
            }
            _ => "the updates so far followed from it",
        };
        write!(f, "{}, now it is {} ({reason})", told(earlier), told(now))
    }
}

/// The keys in which two recipes differ.
fn differences(earlier: &Recipe, now: &Recipe) -> Vec<Difference> {
    let [earlier, now] = [earlier, now].map(Recipe::dotted);
    let keys: BTreeSet<&String> = earlier.keys().chain(now.keys()).collect();
    keys.into_iter()
        .filter(|&key| earlier.get(key) != now.get(key))
        .map(|key| Difference {
            key: key.clone(),
            earlier: earlier.get(key).map(ToString::to_string),
            now: now.get(key).map(ToString::to_string),
        })
        .collect()
}

fn holds_run(dir: &Path) -> bool {
    dir.join(run::CONFIG).exists()
}

fn is_empty(dir: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => {
            Err(error).with_context(|| format!("cannot use {} as run folder", dir.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_differ_by_key() {
        let earlier = Recipe::default();
        let mut now = Recipe::default();
        assert!(differences(&earlier, &now).is_empty());
        now.train.batch_size = 32;
        now.eval.target_returns = vec![1.5];
        let found = differences(&earlier, &now);
        let keys: Vec<_> = found.iter().map(|found| found.key.as_str()).collect();
        assert_eq!(keys, ["eval.target_returns", "train.batch_size"]);
        assert_eq!(
            found[1].to_string(),
            "train.batch_size = 64, now it is train.batch_size = 32 (the updates so far followed from it)"
        );
        let other = differences(&earlier, &Recipe::new(crate::algo::bc::Bc::default()));
        let told: Vec<_> = other.iter().map(Difference::to_string).collect();
        assert!(
            told[0].starts_with("algo = \"dt\", now it is algo = \"bc\""),
            "{told:?}"
        );
        assert!(
            told.iter()
                .any(|line| line.starts_with("dt.n_head = 1, now it is no dt.n_head"))
        );
    }

    /// Only what a recipe has can change.
    #[test]
    fn changeable_keys_are_keys() {
        let keys = Recipe::default().dotted();
        for key in CHANGEABLE {
            assert!(keys.contains_key(key), "{key}");
        }
    }
}
