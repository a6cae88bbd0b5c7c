//! What can be wrong with a trajectory file.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that cannot be used, and why.
#[derive(Debug, Error)]
#[error("{path}: {problem}")]
pub struct DataError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl DataError {
    /// An error about `path`.
    pub fn new(path: &Path, problem: Problem) -> Self {
        Self {
            path: path.into(),
            problem,
        }
    }
}

/// What is wrong, in which field, and what to do about it.
#[derive(Debug, Error)]
pub enum Problem {
    /// It cannot be opened.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// Another program writes it.
    #[error("is locked: another program has it open for writing; close it there first")]
    Locked,
    /// It is another kind of file.
    #[error(
        "is not an HDF5 file; trajectories come as HDF5 in the D4RL layout, which `dt-train collect` writes"
    )]
    NotHdf5,
    /// HDF5 cannot make sense of it.
    #[error(
        "{what} cannot be read, the file is truncated or damaged; copy or download it again ({detail})"
    )]
    Damaged {
        /// `the file` or one dataset of it.
        what: String,
        /// What HDF5 said.
        detail: String,
    },
    /// A dataset is not there.
    #[error("has no dataset `{key}`; the D4RL layout needs {needs}")]
    Missing {
        /// Which.
        key: &'static str,
        /// What it should be.
        needs: &'static str,
    },
    /// A dataset has another number of dimensions.
    #[error("`{key}` has shape {shape:?}; reshape it to {needs}")]
    Rank {
        /// Which.
        key: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// What it should be.
        needs: &'static str,
    },
    /// A dataset holds another type.
    #[error("`{key}` holds {found}; convert it to {needs}")]
    Type {
        /// Which.
        key: &'static str,
        /// Its type.
        found: String,
        /// What it should be.
        needs: &'static str,
    },
    /// A dataset has more or fewer rows than the observations.
    #[error(
        "`{key}` has {rows} rows but `observations` has {expected}; every dataset needs one row per step"
    )]
    Length {
        /// Which.
        key: &'static str,
        /// Its rows.
        rows: usize,
        /// Rows of the observations.
        expected: usize,
    },
    /// A value is NaN, infinite or beyond f32.
    #[error("`{key}`{index:?} is {value}, not a finite 32-bit number; remove that episode")]
    NonFinite {
        /// Which.
        key: &'static str,
        /// Row, and column if there are several.
        index: Vec<usize>,
        /// The value.
        value: f32,
    },
    /// A flag is neither 0 nor 1.
    #[error("`{key}`[{row}] is {value}; flags are 0 or 1")]
    NotAFlag {
        /// Which.
        key: &'static str,
        /// Row.
        row: usize,
        /// The value.
        value: i64,
    },
    /// There is no step, or a step without features.
    #[error("`{key}` is empty (shape {shape:?}); collect at least one episode")]
    Empty {
        /// Which.
        key: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// No flag is set.
    #[error(
        "no episode ends: all {rows} rows of `terminals` and `timeouts` are 0; \
         set `timeouts` on the last step of each episode"
    )]
    NoEpisodeEnd {
        /// Steps in the file.
        rows: usize,
    },
    /// It does not go with the files before it.
    #[error(
        "`{key}` has {got} columns but {first} has {expected}; train on files of one environment"
    )]
    OtherDimensions {
        /// Which.
        key: &'static str,
        /// Columns here.
        got: usize,
        /// Columns there.
        expected: usize,
        /// The first file.
        first: PathBuf,
    },
}
