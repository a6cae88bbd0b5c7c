//! Which run an evaluation is of.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use dt_core::config::{Config, Mixer};
use host_sim::evaluation::Evaluation;
use host_sim::policy_file::{PolicyFile, unversioned};

use crate::run::Run;
use crate::run::records::{DTYPES, ExportRecord, dtype_name, load_evaluations};

/// The run, dtype (its place in [`DTYPES`]) and update of the policy that an evaluation is of.
///
/// # Errors
/// If that is none of the runs, or they were not trained for the evaluation's environment.
pub fn owner(
    runs: &[Run],
    exports: &[Vec<ExportRecord>],
    evaluation: &Evaluation,
) -> anyhow::Result<(usize, usize, u64)> {
    let policy = evaluation.policy.as_str();
    let path = Path::new(policy);
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    let (index, dtype, update) = if path.is_dir() {
        let index = runs.iter().position(|run| place(&run.dir) == place(path));
        let index = index.with_context(|| {
            format!("is of run `{policy}`, which is not in the report; name that run too")
        })?;
        let saved = load_evaluations(&runs[index])?;
        let same = saved.iter().find(|saved| saved.evaluation == *evaluation);
        let saved = same.with_context(|| {
            format!(
                "is of a checkpoint of `{policy}` that nothing names any more; evaluate the run again"
            )
        })?;
        (index, 0, saved.update)
    } else if path.is_file() {
        of_policy_file(runs, path)?
    } else {
        let exported = |(i, records): (usize, &Vec<ExportRecord>)| {
            let record = records.iter().find(|record| record.file == policy)?;
            Some((i, position(&record.dtype)?, record.update))
        };
        exports.iter().enumerate().find_map(exported).with_context(|| {
            format!("is of `{policy}`, which is not there; write the report in the folder that the path starts from")
        })?
    };
    let env = &runs[index].info.env;
    ensure!(
        env.is_empty() || unversioned(env) == unversioned(&evaluation.env),
        "is of environment `{}`, but run {} was trained for `{env}`; leave it out",
        evaluation.env,
        runs[index].dir.display()
    );
    Ok((index, dtype, update))
}

fn of_policy_file(runs: &[Run], path: &Path) -> anyhow::Result<(usize, usize, u64)> {
    let file = PolicyFile::load(path)?;
    let manifest = *file.blob().manifest();
    let made_from = manifest.provenance;
    let digest = made_from.dataset_sha256.map(|byte| format!("{byte:02x}"));
    let dtype = manifest.config.dtype;
    // Folding is a matter of the export.
    let trained = Config {
        mixer: Mixer::Attention,
        ..manifest.config
    };
    let mut candidates: Vec<usize> = (0..runs.len())
        .filter(|&i| {
            let run = &runs[i];
            run.info.dataset_sha256 == digest.concat()
                && run.recipe.train.seed == made_from.seed
                && run.network(dtype) == Some(trained)
        })
        .collect();
    // A run may have been renamed, but not if another bears its name.
    let named =
        |i: &usize| runs[*i].dir.file_name().and_then(|name| name.to_str()) == Some(made_from.run);
    if candidates.iter().any(named) {
        candidates.retain(named);
    }
    let description = || {
        format!(
            "is of {}, which was exported from run `{}` (seed {}, data {})",
            path.display(),
            made_from.run,
            made_from.seed,
            made_from.dataset
        )
    };
    match candidates.as_slice() {
        [only] => Ok((
            *only,
            position(dtype_name(dtype)).unwrap_or_default(),
            made_from.updates,
        )),
        [] => bail!(
            "{}; that run is not in the report, name it too",
            description()
        ),
        _ => bail!(
            "{}; several runs of the report fit, leave all but one out",
            description()
        ),
    }
}

fn position(dtype: &str) -> Option<usize> {
    DTYPES.iter().position(|name| *name == dtype)
}
