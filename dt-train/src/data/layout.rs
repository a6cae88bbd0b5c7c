//! Who reads what: a file's contents tell its layout, never its name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{
    DataError, Dataset, Problem, Reading, Source, d3rlpy, d4rl, dopamine, h5, lerobot, minari,
    parquet, robomimic,
};

/// Reads a file or folder in whatever format it is.
pub(super) fn read(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    if path.is_dir() {
        return read_folder(path, reading);
    }
    if minari::is_main_data(path) {
        return minari::read(path, reading);
    }
    if dopamine::number(path).is_some() {
        return dopamine::read(path, reading);
    }
    let about = |problem| DataError::new(path, problem);
    let unreadable = |error| about(Problem::Unreadable(error));
    let mut file = File::open(path).map_err(unreadable)?;
    let mut signature = Vec::new();
    Read::take(&mut file, 8)
        .read_to_end(&mut signature)
        .map_err(unreadable)?;
    if signature.starts_with(&parquet::SIGNATURE) {
        parquet::read(path, reading)
    } else if h5::is_hdf5(&mut file).map_err(unreadable)? {
        read_hdf5(path, reading)
    } else {
        Err(about(Problem::UnknownFormat))
    }
}

/// Whether a folder holds trajectories.
pub(crate) fn is_folder(path: &Path) -> bool {
    minari::locate(path).is_some()
        || lerobot::is_set(path)
        || parquet::locate(path).is_some()
        || !dopamine::numbers(path).is_empty()
}

fn read_folder(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    if minari::locate(path).is_some() {
        minari::read(path, reading)
    } else if lerobot::is_set(path) {
        lerobot::read(path, reading)
    } else if let Some(files) = parquet::locate(path) {
        let source = Source {
            path: path.into(),
            ..Source::default()
        };
        parquet::read_parts(&files, source, false, reading)
    } else if !dopamine::numbers(path).is_empty() {
        dopamine::read(path, reading)
    } else {
        Err(DataError::new(path, no_trajectories(path)))
    }
}

/// Folders with trajectories somewhere in `folder`, the first of them.
pub(crate) fn folders_in(folder: &Path) -> Vec<PathBuf> {
    /// Folders as deep as Minari's and the hubs' names.
    const DEPTH: usize = 4;
    const MOST: usize = 4;
    fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for path in sorted_entries(folder) {
            if found.len() == MOST || !path.is_dir() {
                continue;
            }
            if is_folder(&path) {
                found.push(path);
            } else if depth > 0 {
                find(&path, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    find(folder, DEPTH, &mut found);
    found
}

/// What is in a folder, by name.
pub(super) fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What to say of a folder that holds no trajectories itself.
pub(super) fn no_trajectories(folder: &Path) -> Problem {
    const MOST: usize = 8;
    let inside = folders_in(folder);
    let inside: Vec<String> = inside
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let names = sorted_entries(folder).into_iter().take(MOST);
    let names: Vec<String> = names
        .filter_map(|path| Some(path.file_name()?.display().to_string()))
        .collect();
    let remedy = match (&inside[..], &names[..]) {
        ([], []) => "it is empty".into(),
        ([], names) => format!("it holds {}", names.join(", ")),
        (inside, _) => format!("give one that is inside: {}", inside.join(", ")),
    };
    Problem::NoTrajectories { remedy }
}

/// Reads an HDF5 file in whatever layout its contents show.
fn read_hdf5(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    let about = |problem| DataError::new(path, problem);
    let (file, note) = h5::open_noting(path).map_err(about)?;
    let reader = if robomimic::is_layout(&file) {
        robomimic::read
    } else if d4rl::is_layout(&file) {
        d4rl::read
    } else if !h5::numbered(&file, minari::EPISODE).is_empty() {
        minari::read
    } else if d3rlpy::is_layout(&file) {
        d3rlpy::read
    } else {
        let holds = h5::holds(&file);
        return Err(about(Problem::UnknownLayout { holds }));
    };
    drop(file);
    let mut data = reader(path, reading)?;
    data.sources[0].notes.extend(note);
    Ok(data)
}
