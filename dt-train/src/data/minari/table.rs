//! Minari's Arrow and Parquet forms: a folder per episode, `0`, `1`, …, with its steps in `part-0.arrow` or
//! `part-0.parquet`.
//!
//! | column | type of a row | |
//! |---|---|---|
//! | `observations` | list of numbers | before each action, and the last one; images as lists of their pixels |
//! | | integer | one of several places |
//! | | structure of such | a dictionary; a tuple has entries `0`, `1`, … |
//! | `actions` | list of numbers, or integer | |
//! | `rewards` | number | |
//! | `terminations`, `truncations` | bool | |
//!
//! An episode of T steps has T + 1 rows; the last one has an observation, and padding in the other columns.

use std::fs::File;
use std::path::{Path, PathBuf};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::FileReader;
use arrow_schema::{ArrowError, Schema};
use arrow_select::concat::concat_batches;
use sha2::{Digest, Sha256};

use super::description::{Described, Description};
use super::{complete, last_flag};
use crate::data::gather::{Gathering, Whole};
use crate::data::table::{At, Steps};
use crate::data::{
    Column, DataError, Dataset, Problem, Reading, Source, digest, layout::sorted_entries,
    quiet_panic,
};

const COLUMNS: [(&str, &str); 5] = [
    ("observations", "lists of numbers"),
    ("actions", "lists of numbers"),
    ("rewards", "numbers"),
    ("terminations", "bools"),
    ("truncations", "bools"),
];

/// How the rows of an episode are stored.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Arrow's IPC files.
    Arrow,
    /// Parquet.
    Parquet,
}

/// Reads the episodes of the folders in `folder`. The SHA-256 is that of the SHA-256s of their files.
///
/// # Errors
/// [`DataError`] names the file, the column and what to do; see [`Problem`].
pub fn read(
    folder: &Path,
    form: Form,
    about: Description,
    source: Source,
    reading: &Reading,
) -> Result<Dataset, DataError> {
    let in_folder = |problem| DataError::new(folder, problem);
    let episodes = episodes(folder);
    if episodes.is_empty() {
        return Err(in_folder(Problem::Missing {
            key: "0".into(),
            layout: "a Minari data set",
            needs: "a folder per episode",
        }));
    }
    complete("episodes", episodes.len(), about.total_episodes).map_err(in_folder)?;
    let mut hash = Sha256::new();
    let files: Vec<Vec<PathBuf>> = episodes.iter().map(|(_, path)| parts(path, form)).collect();
    for file in files.iter().flatten() {
        let digest = digest(file);
        hash.update(digest.map_err(|error| DataError::new(file, Problem::Unreadable(error)))?);
    }
    let source = about.describe(Source {
        sha256: hash.finalize().into(),
        ..source
    });
    let spaces = [about.observations(), about.actions()];
    let mut gathering = Gathering::new(source, reading);
    for ((number, path), files) in episodes.iter().zip(&files) {
        let whole = table(files, form).and_then(|rows| episode(*number, &rows, &spaces, reading));
        let file = files.first().unwrap_or(path);
        gathering
            .add(|array| format!("{number}/{array}"), whole)
            .map_err(|problem| DataError::new(file, problem))?;
    }
    if !gathering.has_left_out() {
        complete("steps", gathering.steps(), about.total_steps).map_err(in_folder)?;
    }
    gathering
        .finish("`terminations` and `truncations`", "truncations")
        .map_err(in_folder)
}

/// The folders of the episodes, by number.
fn episodes(folder: &Path) -> Vec<(u64, PathBuf)> {
    let number = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    let mut episodes: Vec<(u64, PathBuf)> = sorted_entries(folder)
        .into_iter()
        .filter_map(|path| Some((number(&path)?, path)))
        .collect();
    episodes.sort();
    episodes
}

/// The files of an episode, `part-10` after `part-9`.
fn parts(folder: &Path, form: Form) -> Vec<PathBuf> {
    let end = match form {
        Form::Arrow => "arrow",
        Form::Parquet => "parquet",
    };
    let mut files = sorted_entries(folder);
    files.retain(|path| path.extension().is_some_and(|extension| extension == end));
    // Of equal lengths by name: numbers without zeros before them.
    files.sort_by_key(|path| path.as_os_str().len());
    files
}

/// All rows of an episode.
fn table(files: &[PathBuf], form: Form) -> Result<RecordBatch, Problem> {
    if files.is_empty() {
        return Err(Problem::Missing {
            key: "part-0".into(),
            layout: "a Minari episode",
            needs: "a file with its steps",
        });
    }
    let damaged = |detail: String| Problem::Damaged {
        what: "the file".into(),
        detail: detail.replace('\n', " "),
    };
    let mut batches = Vec::new();
    for path in files {
        let file = File::open(path).map_err(Problem::Unreadable)?;
        // The crates take some of what they read for granted.
        let read = quiet_panic::catch(|| match form {
            Form::Arrow => arrow(file),
            Form::Parquet => parquet(file),
        });
        batches.extend(
            read.map_err(damaged)?
                .map_err(|error| damaged(error.to_string()))?,
        );
    }
    let schema = match batches.first() {
        Some(batch) => batch.schema(),
        None => Schema::empty().into(),
    };
    concat_batches(&schema, &batches).map_err(|error| damaged(error.to_string()))
}

fn arrow(file: File) -> Result<Vec<RecordBatch>, ArrowError> {
    let all = FileReader::try_new_buffered(file.try_clone()?, None)?;
    let needed = needed(&all.schema());
    drop(all);
    FileReader::try_new_buffered(file, Some(needed))?.collect()
}

fn parquet(file: File) -> Result<Vec<RecordBatch>, ArrowError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
    let needed = ProjectionMask::roots(reader.parquet_schema(), needed(reader.schema()));
    reader.with_projection(needed).build()?.collect()
}

/// Which columns are read.
fn needed(schema: &Schema) -> Vec<usize> {
    let names = COLUMNS.iter();
    names
        .filter_map(|(name, _)| schema.index_of(name).ok())
        .collect()
}

/// One episode as its table has it.
fn episode(
    number: u64,
    rows: &RecordBatch,
    [of_observations, of_actions]: &[Described; 2],
    reading: &Reading,
) -> Result<Whole, Problem> {
    let key = |name: &str| format!("{number}/{name}");
    let keys = COLUMNS.map(|(name, _)| key(name));
    if rows.num_rows() < 2 {
        let (key, shape) = (key("rewards"), vec![rows.num_rows().saturating_sub(1)]);
        return Err(Problem::Empty { key, shape });
    }
    let steps = rows.num_rows() - 1;
    let column = |i: usize, len: usize| {
        let (name, needs) = COLUMNS[i];
        let array = rows.column_by_name(name).ok_or_else(|| Problem::Missing {
            key: keys[i].clone(),
            layout: "a Minari episode",
            needs,
        })?;
        Ok(Steps {
            key: &keys[i],
            at: At::Rows(0),
            array: array.slice(0, len),
        })
    };
    let observations = column(0, steps + 1)?;
    let mut observations =
        observations.observations(&reading.observation_keys, |entry, steps| match entry {
            Some(entry) => elements(&of_observations.entry(entry), steps),
            None => elements(of_observations, steps),
        })?;
    let actions = column(1, steps)?.actions(|steps| elements(of_actions, steps))?;
    let rewards = column(2, steps)?.numbers()?;
    let last = |i: usize| last_flag(keys[i].clone(), &column(i, steps)?.flags()?);
    let ends = [last(3)?, last(4)?];
    Ok(Whole {
        last_observation: Some(observations.split_off(steps)),
        observations,
        actions,
        rewards,
        terminated: (ends != [false, false]).then(|| ends[0]),
    })
}

/// Elements of a space.
fn elements(of: &Described, steps: &Steps<'_>) -> Result<Column, Problem> {
    if let Some(shape) = of.image()
        && !steps.is_encoded()
    {
        return steps.pixels(shape);
    }
    let column = steps.elements();
    let mut column = column.map_err(|problem| of.as_jpeg(problem))?;
    of.complete(steps.key.into(), &mut column)?;
    Ok(column)
}
