//! What `eval` and `export` leave in a run's folder for `report`.

use std::path::Path;

use anyhow::Context;
use dt_core::config::{Dtype, Mixer};
use host_sim::evaluation::{Evaluation, to_json};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::deploy::quantize::{ActionError, LayerError};
use crate::deploy::{Exported, Source};
use crate::run::{EVALUATIONS, Run};

/// A line of `evaluations.jsonl`: a checkpoint's returns at one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedEvaluation {
    /// Updates the checkpoint had.
    pub update: u64,
    /// Its returns, run by the engine of the controller as f32.
    pub evaluation: Evaluation,
}

/// `export-DTYPE.json`: the newest export of a run in one dtype.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportRecord {
    /// `f32`, `int8` or `int4`.
    pub dtype: String,
    /// Whether attention with one head was folded.
    #[serde(default)]
    pub folded: bool,
    /// The policy file, as named when it was written.
    pub file: String,
    /// What the controller was told otherwise than the run's recipe says: `--set`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub control: Vec<String>,
    /// Updates of the checkpoint.
    pub update: u64,
    /// Weights and biases.
    pub parameters: u64,
    /// Bytes of the policy file.
    pub flash_bytes: usize,
    /// Bytes of memory: all state of the policy.
    pub arena_bytes: usize,
    /// Golden records, which the file reproduced to the bit.
    pub golden_steps: usize,
    /// Unscaled actions of the f32 engine against libtorch.
    pub engine_against_torch: ActionError,
    /// What errors of actions were measured on: `logged episodes` or `random inputs`.
    pub measured_on: String,
    /// Unscaled actions against the f32 engine; none if the file is f32 itself.
    pub against_f32: Option<ActionError>,
    /// Errors of the weights of each matrix, input side first.
    pub layers: Vec<LayerError>,
    /// The form that attention could have had instead, where it was measured: folded or not.
    pub other_form: Option<OtherForm>,
}

/// What was measured of a form of a policy that was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherForm {
    /// As in [`ExportRecord`].
    pub folded: bool,
    /// As in [`ExportRecord`].
    pub against_f32: Option<ActionError>,
    /// As in [`ExportRecord`].
    pub layers: Vec<LayerError>,
}

impl ExportRecord {
    /// Describes an export to `file`, checked on inputs from `source`.
    pub fn new(exported: &Exported, file: &Path, source: &Source<'_>) -> Self {
        let (manifest, measured) = (*exported.file.blob().manifest(), &exported.measured);
        let report = &measured.report;
        let is_folded = |mixer: Mixer| mixer == Mixer::Folded;
        Self {
            dtype: dtype_name(manifest.config.dtype).to_owned(),
            folded: is_folded(measured.mixer),
            file: file.display().to_string(),
            control: Vec::new(),
            update: manifest.provenance.updates,
            parameters: report.parameters,
            flash_bytes: report.flash_bytes,
            arena_bytes: report.arena_bytes,
            golden_steps: exported.golden_steps,
            engine_against_torch: measured.engine_against_torch,
            measured_on: match source {
                Source::Logged(_) => "logged episodes",
                Source::Random => "random inputs",
            }
            .to_owned(),
            against_f32: measured.against_f32,
            layers: report.layers.clone(),
            other_form: exported.other.as_ref().map(|other| OtherForm {
                folded: is_folded(other.mixer),
                against_f32: other.against_f32,
                layers: other.report.layers.clone(),
            }),
        }
    }

    /// Writes it into the run's folder, in place of the one before.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, run: &Run) -> anyhow::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        let path = run.dir.join(export_file(&self.dtype));
        Ok(atomic::write(&path, true, &json)?)
    }

    /// The newest exports of a run, f32 first.
    ///
    /// # Errors
    /// Names a file that cannot be read.
    pub fn load_all(run: &Run) -> anyhow::Result<Vec<Self>> {
        let mut records = Vec::new();
        for dtype in DTYPES {
            let path = run.dir.join(export_file(dtype));
            if !path.exists() {
                continue;
            }
            let record: Self = std::fs::read(&path)
                .map_err(anyhow::Error::from)
                .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
                .with_context(|| format!("cannot read {}; export again", path.display()))?;
            records.push(record);
        }
        Ok(records)
    }
}

/// Adds results of a checkpoint to those of its run. Earlier ones of the same episodes go.
///
/// # Errors
/// An unreadable `evaluations.jsonl`, and the file system's.
pub fn save_evaluations(run: &Run, update: u64, new: &[Evaluation]) -> anyhow::Result<()> {
    // JSON has no other numbers.
    to_json(new)?;
    let mut all = load_evaluations(run)?;
    all.retain(|old| {
        let repeated = |new: &Evaluation| {
            let seeds = |e: &Evaluation| e.episodes.iter().map(|e| e.seed).collect::<Vec<_>>();
            let (ours, theirs) = (seeds(new), seeds(&old.evaluation));
            new.target_return == old.evaluation.target_return
                && new.env == old.evaluation.env
                && theirs.iter().all(|seed| ours.contains(seed))
        };
        old.update != update || !new.iter().any(repeated)
    });
    all.extend(new.iter().map(|evaluation| SavedEvaluation {
        update,
        evaluation: evaluation.clone(),
    }));
    let mut lines = String::new();
    for saved in &all {
        lines += &serde_json::to_string(saved)?;
        lines.push('\n');
    }
    Ok(atomic::write(
        &run.dir.join(EVALUATIONS),
        true,
        lines.as_bytes(),
    )?)
}

/// The results that `eval` saved in a run; none if there are none.
///
/// # Errors
/// Names file and line of what cannot be read.
pub fn load_evaluations(run: &Run) -> anyhow::Result<Vec<SavedEvaluation>> {
    let path = run.dir.join(EVALUATIONS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let name = path.display();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            serde_json::from_str(line).with_context(|| {
                format!(
                    "{name}, line {}: not what `dt-train eval` writes; remove the line",
                    i + 1
                )
            })
        })
        .collect()
}

/// Where the newest export in a dtype is described.
pub fn export_file(dtype: &str) -> String {
    format!("export-{dtype}.json")
}

/// The dtype of that name.
pub fn dtype_of(name: &str) -> Option<Dtype> {
    [Dtype::F32, Dtype::Int8, Dtype::Int4]
        .into_iter()
        .find(|dtype| dtype_name(*dtype) == name)
}

/// As `--dtype` spells it.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => DTYPES[0],
        Dtype::Int8 => DTYPES[1],
        Dtype::Int4 => DTYPES[2],
    }
}

/// In the order in which they are listed.
pub const DTYPES: [&str; 3] = ["f32", "int8", "int4"];
