//! `metrics.jsonl`: one JSON object per line, appended while training.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Run, Sink};
use crate::atomic::{self, OutputError};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Updates done.
    pub update: u64,
    /// Mean loss since the record before: of the network as it was then, with dropout, on what the recipe draws.
    pub loss: f64,
    /// Loss after this update on episodes that are not trained on, by the network to act with, without dropout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// The same on episodes that are trained on: what `validation_loss` is to be compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit_loss: Option<f64>,
    /// Fraction of the choices that were the likeliest to the network, over the same draws as `loss`; none where actions are
    /// vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Fraction of the choices on episodes that are not trained on that are the likeliest to the network to act with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Mean global gradient norm, before clipping, since the record before.
    pub grad_norm: f64,
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// Updates per second since the record before, evaluation not counted.
    pub updates_per_second: f64,
    /// Time that the processor worked for them, in seconds, on all cores together; evaluation and checkpoints are not counted. None
    /// in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_seconds: Option<f64>,
    /// Evaluation after this update, one entry per target return; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eval: Vec<EvalRecord>,
}

/// Returns reached while asking for one target return.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Return asked for.
    pub target_return: f32,
    /// Episodes run.
    pub episodes: u32,
    /// Mean return, run by the engine of the controller (f32 policy file).
    pub mean_return: f64,
    /// Standard deviation over episodes (ddof 0).
    pub std_return: f64,
    /// Mean return of the first few episodes, run by the engine.
    pub engine_mean_return: f64,
    /// Mean return of the same episodes, run by libtorch.
    pub torch_mean_return: f64,
}

/// The open file.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Opens the file, keeping the records of at most `updates` updates: what a run stopped later had written
    /// after its last checkpoint is about to be written again.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(path: &Path, updates: u64) -> Result<Self, OutputError> {
        let mut kept = String::new();
        for record in read(path).iter().filter(|record| record.update <= updates) {
            kept += &line(record);
        }
        atomic::write(path, true, kept.as_bytes())?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(OutputError::io(path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn append(&mut self, record: &Record) -> Result<(), OutputError> {
        self.file
            .write_all(line(record).as_bytes())
            .map_err(OutputError::io(&self.path))
    }
}

impl Sink for Metrics {
    fn record(&mut self, _: &Run, record: &Record) -> anyhow::Result<()> {
        Ok(self.append(record)?)
    }
}

/// The records of a metrics file; none if there is no file. A last line cut off by a crash is skipped.
pub fn read(path: &Path) -> Vec<Record> {
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The records of a metrics file, for readers that show them; none if there is no file.
///
/// # Errors
/// Names file and line of what is no record; only a last line cut off by a crash is skipped.
pub fn read_checked(path: &Path) -> anyhow::Result<Vec<Record>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let (whole, _torn) = text.rsplit_once('\n').unwrap_or_default();
    let lines = whole.lines().enumerate();
    let parse = |(i, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{name}, line {}: not a training record; remove it", i + 1))
    };
    lines.map(parse).collect()
}

fn line(record: &Record) -> String {
    let mut line = serde_json::to_string(record).expect("plain values only");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(update: u64) -> Record {
        Record {
            update,
            loss: 0.1,
            validation_loss: None,
            fit_loss: None,
            accuracy: None,
            validation_accuracy: None,
            grad_norm: 1.0,
            learning_rate: 1e-4,
            updates_per_second: 3.5,
            core_seconds: Some(0.75),
            eval: Vec::new(),
        }
    }

    #[test]
    fn reopening_drops_later_records_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        for update in [10, 20, 30] {
            metrics.append(&record(update)).unwrap();
        }
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"update\":15,\"lo").unwrap();
        let mut metrics = Metrics::open(&path, 20).unwrap();
        metrics.append(&record(25)).unwrap();
        let updates: Vec<u64> = read(&path).iter().map(|record| record.update).collect();
        assert_eq!(updates, [10, 20, 25]);
    }
}
