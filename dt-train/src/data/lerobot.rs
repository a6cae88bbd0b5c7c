//! LeRobot's data sets, versions 2 and 3, without their pictures: a step per row.
//!
//! ```text
//! meta/info.json                          fps, and how many episodes and frames there should be
//! data/chunk-000/episode_000000.parquet   version 2: a file per episode
//! data/chunk-000/file-000.parquet         version 3: several episodes
//! ```
//!
//! Columns are those of [`parquet`]: `observation.state`, `action`, `episode_index`, `frame_index`, and in some sets
//! `next.reward` and `next.done`. Demonstrations have no rewards; then all are 0, which only behaviour cloning can learn
//! from. Videos are in other files and are not read.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::layout::sorted_entries;
use super::{DataError, Dataset, Problem, Reading, Source, parquet};

/// What describes the set.
fn info(folder: &Path) -> PathBuf {
    folder.join("meta").join("info.json")
}

/// Whether a folder is a data set of LeRobot.
pub fn is_set(folder: &Path) -> bool {
    info(folder).exists()
}

/// What is used of `meta/info.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    fps: Option<f64>,
    total_episodes: Option<usize>,
    total_frames: Option<usize>,
}

/// Reads the episodes of a folder.
///
/// # Errors
/// [`DataError`] names the file, the column and what to do; see [`Problem`].
pub fn read(folder: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    let path = info(folder);
    let text = std::fs::read(&path);
    let text = text.map_err(|error| DataError::new(&path, Problem::Unreadable(error)))?;
    let info: Info = serde_json::from_slice(&text).map_err(|error| {
        let problem = Problem::Damaged {
            what: "the file".into(),
            detail: error.to_string(),
        };
        DataError::new(&path, problem)
    })?;
    let data = folder.join("data");
    let files = files(&data);
    if files.is_empty() {
        return Err(DataError::new(
            &data,
            Problem::Missing {
                key: "chunk-000/*.parquet".into(),
                layout: "a LeRobot data set",
                needs: "a file per episode, or per some; download it with its data",
            },
        ));
    }
    let source = Source {
        path: folder.into(),
        control_period_us: info.fps.and_then(period),
        ..Source::default()
    };
    let data = parquet::read_parts(&files, source, true, reading)?;
    let unfinished = data.sources[0].unfinished;
    if unfinished == 0 && !reading.skip_bad_episodes {
        for (what, found, expected) in [
            ("episodes", data.episodes.len(), info.total_episodes),
            ("frames", data.len(), info.total_frames),
        ] {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                let problem = Problem::Incomplete {
                    what,
                    found,
                    description: "meta/info.json",
                    expected,
                };
                return Err(DataError::new(folder, problem));
            }
        }
    }
    Ok(data)
}

/// The files of all chunks, in order.
fn files(data: &Path) -> Vec<PathBuf> {
    let chunks = sorted_entries(data).into_iter();
    chunks.flat_map(|chunk| parquet::parts(&chunk)).collect()
}

/// Frames per second as microseconds per step.
fn period(fps: f64) -> Option<u32> {
    let period = (1e6 / fps).round();
    (fps > 0.0 && period >= 1.0 && period <= f64::from(u32::MAX)).then_some(period as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_of_whole_microseconds() {
        let periods = [15.0, 50.0, 1e7, 0.0, -3.0, f64::NAN, 1e-9].map(period);
        assert_eq!(
            periods,
            [Some(66_667), Some(20_000), None, None, None, None, None]
        );
    }
}
