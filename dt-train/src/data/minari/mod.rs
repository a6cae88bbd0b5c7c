//! Minari's data sets: a folder with the episodes, and their description beside them.
//!
//! | form | files | reader |
//! |---|---|---|
//! | `hdf5` | `main_data.hdf5`: a group per episode | `hdf5.rs` |
//! | `arrow`, `parquet` | `N/part-0.arrow`, `N/part-0.parquet`: a folder per episode | `table.rs` |
//!
//! `metadata.json` says which, names environment and algorithm, describes the two spaces and says how many episodes and
//! steps there should be (`description.rs`). Minari before 0.5 wrote the same as attributes of the file; without either,
//! nothing is known of them.

use std::path::{Path, PathBuf};

use super::{DataError, Dataset, Problem, Reading, Source};

mod description;
mod hdf5;
mod table;

use description::Description;
use table::Form;

/// What the names of an episode's group in HDF5 begin with; its number follows.
pub const EPISODE: &str = "episode_";

const DATA: &str = "main_data.hdf5";
const METADATA: &str = "metadata.json";

/// The folder of the two files: `folder` itself or, as Minari stores a data set, `data` in it.
pub fn locate(folder: &Path) -> Option<PathBuf> {
    [folder.to_owned(), folder.join("data")]
        .into_iter()
        .find(|folder| folder.join(DATA).exists() || folder.join(METADATA).exists())
}

/// Whether a file is the one of a Minari folder that holds the episodes.
pub fn is_main_data(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == DATA)
}

/// Reads the episodes of a folder, or of the `main_data.hdf5` in it, whatever it is called by now.
///
/// # Errors
/// [`DataError`] names the file, the field and what to do; see [`Problem`].
pub fn read(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    let (folder, data) = if path.is_dir() {
        let folder = locate(path)
            .ok_or_else(|| DataError::new(path, super::layout::no_trajectories(path)))?;
        let data = folder.join(DATA);
        (folder, data)
    } else {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        (folder, path.to_owned())
    };
    let metadata = folder.join(METADATA);
    let about =
        Description::read(&metadata).map_err(|problem| DataError::new(&metadata, problem))?;
    let source = Source {
        path: path.into(),
        ..Source::default()
    };
    match about.form() {
        "hdf5" => hdf5::read(&data, about, source, reading)
            .map_err(|problem| DataError::new(&data, problem)),
        "arrow" => table::read(&folder, Form::Arrow, about, source, reading),
        "parquet" => table::read(&folder, Form::Parquet, about, source, reading),
        other => Err(DataError::new(&metadata, Problem::MinariForm(other.into()))),
    }
}

fn complete(what: &'static str, found: usize, expected: Option<usize>) -> Result<(), Problem> {
    match expected {
        Some(expected) if expected != found => Err(Problem::Incomplete {
            what,
            found,
            description: METADATA,
            expected,
        }),
        _ => Ok(()),
    }
}

/// Whether an episode's last flag, one per step, is set; before it none may be.
fn last_flag(key: String, flags: &[bool]) -> Result<bool, Problem> {
    let steps = flags.len();
    match flags.iter().position(|&end| end) {
        Some(step) if step + 1 < steps => Err(Problem::EndInside { key, step, steps }),
        end => Ok(end.is_some()),
    }
}
