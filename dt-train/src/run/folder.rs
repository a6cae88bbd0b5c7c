//! What happens to a run folder that exists already.

use std::path::Path;

use anyhow::{Context, bail};

use crate::config::{Recipe, Source};
use crate::run::checkpoint::Checkpoint;
use crate::run::records::{DTYPES, export_file};
use crate::run::{self, Run, RunInfo, Which};

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
    for name in files.into_iter().chain(exports.iter().map(String::as_str)) {
        let path = dir.join(name);
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
    if let Some(difference) = difference(&earlier.recipe, &run.recipe) {
        bail!(
            "cannot resume: {} was started with {difference}; use the same recipe, or another --out",
            run.dir.display()
        );
    }
    if earlier.info.env != run.info.env {
        bail!(
            "cannot resume: {} was started with environment `{}`, now it is `{}`; use --env {}",
            run.dir.display(),
            earlier.info.env,
            run.info.env,
            earlier.info.env
        );
    }
    match run.checkpoint(Which::Last) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(run::RunError::NoCheckpoint { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The first key in which two recipes differ, in words.
fn difference(earlier: &Recipe, now: &Recipe) -> Option<String> {
    let [earlier, now] = [earlier, now].map(|recipe| {
        let text = recipe.to_toml();
        let mut section = String::new();
        let mut lines = Vec::new();
        for line in text.lines() {
            match line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                Some(name) => section = name.to_owned(),
                None if line.is_empty() => {}
                None if section.is_empty() => lines.push(line.to_owned()),
                None => lines.push(format!("{section}.{line}")),
            }
        }
        lines
    });
    let (earlier, now) = earlier
        .iter()
        .zip(&now)
        .find(|(earlier, now)| earlier != now)?;
    Some(format!("{earlier}, now it is {now}"))
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
        assert_eq!(difference(&earlier, &now), None);
        now.train.batch_size = 32;
        assert_eq!(
            difference(&earlier, &now).unwrap(),
            "train.batch_size = 64, now it is train.batch_size = 32"
        );
    }
}
