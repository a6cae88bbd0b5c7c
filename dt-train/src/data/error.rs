//! What can be wrong with a trajectory file.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that cannot be used, and why.
#[derive(Debug, Error)]
#[error("{path}: {problem}{}", problem.command(path))]
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
///
/// A `key` is the name of an array as the file spells it: `rewards`, `episode_3/rewards`.
#[derive(Debug, Error)]
pub enum Problem {
    /// It cannot be opened.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// Another program writes it.
    #[error("is locked: another program has it open for writing; close it there first")]
    Locked,
    /// A program that wrote it was killed, or still writes it.
    #[error(
        "was not closed by the program that wrote it; if that runs no more, type, with both options (-s alone cuts \
         data off),"
    )]
    NotClosed,
    /// The library is too old for it.
    #[error(
        "{what} cannot be read: a newer version of HDF5 than {library}, which this program has, wrote it, or it is \
         damaged; to write it in the old form, type"
    )]
    Newer {
        /// `the file` or one array of it.
        what: String,
        /// Version of the library.
        library: String,
    },
    /// An array is stored by a filter that the library does not have.
    #[error(
        "`{key}` is compressed with {filter}, which HDF5 cannot undo here; {}write the file with gzip where it can:",
        plugin(*is_plugin)
    )]
    Filter {
        /// Which.
        key: String,
        /// The filter.
        filter: String,
        /// It is one of those that can be added to the library.
        is_plugin: bool,
    },
    /// It is another kind of file.
    #[error(
        "is not a trajectory file; trajectories come as HDF5 in the D4RL layout, which `dt-train collect` writes, \
         as a Minari or LeRobot folder, as parquet, or as Dopamine's $store$_…_ckpt.N.gz"
    )]
    UnknownFormat,
    /// It is HDF5 of another layout.
    #[error(
        "holds no trajectories as D4RL (`observations`, `actions`, `rewards`), Minari (`episode_0/`), robomimic \
         (`data/demo_0/`) or d3rlpy (`observations_0`) store them; name its arrays as D4RL does; it holds {holds}"
    )]
    UnknownLayout {
        /// What is in it.
        holds: String,
    },
    /// It is a folder of something else.
    #[error(
        "is a folder without trajectories: it has none of Minari (main_data.hdf5), of LeRobot (meta/info.json) or of a hub \
         (*.parquet); {remedy}"
    )]
    NoTrajectories {
        /// Where there are some, or what it holds.
        remedy: String,
    },
    /// A folder of several logs of Dopamine's, each as large as a data set.
    #[error("holds the logs {logs} of Dopamine's; name those to read by one of their files, such as {}", first.display())]
    SeveralLogs {
        /// Their numbers.
        logs: String,
        /// One of the files of the first.
        first: PathBuf,
    },
    /// A form of Minari's that came after this version.
    #[error(
        "is a Minari data set in the `{0}` form; `hdf5`, `arrow` and `parquet` are read: \
         collect or convert it with data_format=\"hdf5\""
    )]
    MinariForm(String),
    /// The library cannot make sense of it.
    #[error(
        "{what} cannot be read, the file is truncated or damaged; copy or download it again ({detail})"
    )]
    Damaged {
        /// `the file` or one array of it.
        what: String,
        /// What the library said.
        detail: String,
    },
    /// Fewer episodes or steps than its description promises.
    #[error(
        "holds {found} {what}, but {description} says {expected}; copy or download the whole data set again"
    )]
    Incomplete {
        /// `episodes` or `steps`.
        what: &'static str,
        /// The file that describes it.
        description: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// An array is not there.
    #[error("has no `{key}`; {layout} needs {needs}")]
    Missing {
        /// Which.
        key: String,
        /// The layout of which it is a part.
        layout: &'static str,
        /// What it should be.
        needs: &'static str,
    },
    /// Arrays are not there.
    #[error(
        "has no {}; {layout} needs {}; it holds {holds}",
        names(missing),
        needs(missing)
    )]
    Lacks {
        /// Which, at least one.
        missing: Vec<Needed>,
        /// The layout of which they are a part.
        layout: &'static str,
        /// What is there instead.
        holds: String,
    },
    /// A value per step is not a vector but several named ones.
    #[error(
        "`{key}` is a dictionary ({entries}); join its entries to one vector per step, \
         as gymnasium.wrappers.FlattenObservation does"
    )]
    Dictionary {
        /// Which.
        key: String,
        /// Its entries.
        entries: String,
    },
    /// A value per step is an image, but not as pixels of a byte per channel.
    #[error(
        "`{key}` are images ({found}); this version reads their pixels: \
         store them as 8-bit integers (N, height, width, channels), or features of them as vectors"
    )]
    Images {
        /// Which.
        key: String,
        /// Their type or shape.
        found: String,
    },
    /// An integer is not the number of a choice.
    #[error("`{key}`[{row}] is {value}; choices are counted from 0 to at most 65535")]
    NotAChoice {
        /// Which.
        key: String,
        /// Row.
        row: usize,
        /// The value.
        value: i64,
    },
    /// An array has another number of dimensions.
    #[error("`{key}` has shape {shape:?}; reshape it to {needs}")]
    Rank {
        /// Which.
        key: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What it should be.
        needs: &'static str,
    },
    /// Rows and columns are the other way round.
    #[error(
        "`{key}` has shape {shape:?} but there are {rows} steps: it is transposed, as MATLAB's arrays are in HDF5; \
         every array needs one row per step; to turn all of them, type"
    )]
    Transposed {
        /// Which.
        key: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Steps, as `rewards` has them.
        rows: usize,
    },
    /// A column nests its lists otherwise.
    #[error("`{key}` is {found}; it has to be {needs}, for each episode")]
    Nesting {
        /// Which.
        key: String,
        /// What it is.
        found: String,
        /// What it should be.
        needs: &'static str,
    },
    /// An array holds another type.
    #[error("`{key}` holds {found}; convert it to {needs}")]
    Type {
        /// Which.
        key: String,
        /// Its type.
        found: String,
        /// What it should be.
        needs: &'static str,
    },
    /// A column is compressed in a way this version cannot undo.
    #[error("`{key}` is compressed with {codec}; write it with compression=\"snappy\" or \"zstd\"")]
    Compression {
        /// Which.
        key: String,
        /// How.
        codec: String,
    },
    /// An array has more or fewer rows than it should.
    #[error("`{key}` has {rows} rows but `{other}` has {other_rows}; {rule}")]
    Length {
        /// Which.
        key: String,
        /// Its rows.
        rows: usize,
        /// What it was compared with.
        other: String,
        /// Rows there.
        other_rows: usize,
        /// How many it should have.
        rule: &'static str,
    },
    /// A value is NaN, infinite or beyond f32.
    #[error("`{key}`{index:?} is {value}, not a finite 32-bit number; remove that episode")]
    NonFinite {
        /// Which.
        key: String,
        /// Row, and column if there are several.
        index: Vec<usize>,
        /// The value.
        value: f32,
    },
    /// A list holds nothing or no value.
    #[error("`{key}`[{row}] has an empty list or a null in it; remove that episode")]
    Hole {
        /// Which.
        key: String,
        /// Episode.
        row: usize,
    },
    /// A vector is longer or shorter than the first one.
    #[error(
        "`{key}`[{row}] has a vector of length {got}, the first has {expected}; make them equal"
    )]
    Ragged {
        /// Which.
        key: String,
        /// Episode.
        row: usize,
        /// Its length.
        got: usize,
        /// Length of the first.
        expected: usize,
    },
    /// A flag is neither 0 nor 1.
    #[error("`{key}`[{row}] is {value}; flags are 0 or 1")]
    NotAFlag {
        /// Which.
        key: String,
        /// Row.
        row: usize,
        /// The value.
        value: i64,
    },
    /// A flag that is a float is neither 0 nor 1.
    #[error("`{key}`[{row}] is {value}; flags are 0 or 1")]
    NotAFloatFlag {
        /// Which.
        key: String,
        /// Row.
        row: usize,
        /// The value.
        value: f32,
    },
    /// There is no step, or a step without features.
    #[error("`{key}` is empty (shape {shape:?}); collect at least one episode")]
    Empty {
        /// Which.
        key: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// No flag is set.
    #[error(
        "no episode ends: all {rows} rows of {flags} are 0; set `{set}` on the last step of each episode"
    )]
    NoEpisodeEnd {
        /// Steps in the file.
        rows: usize,
        /// The arrays that mark ends.
        flags: &'static str,
        /// The one to set.
        set: &'static str,
    },
    /// Neither a flag nor a limit ends an episode.
    #[error("no episode ends: {}", no_end(*rows, flags, *limit))]
    NoMarkedEnd {
        /// Steps in the file.
        rows: usize,
        /// The arrays that mark ends, in words; empty if there is none.
        flags: String,
        /// Steps after which an episode is over.
        limit: Option<usize>,
    },
    /// The next row does not go on, but no flag says so.
    #[error(
        "`{key}`[{row}] is not the observation of row {} ({count} such rows in all): there an episode ends that no \
         flag marks, or steps are missing; with --max-episode-steps {longest} episodes end at each of these rows, as \
         cut off (no stretch between them is longer); or set `timeouts` there; or, if these rows do go on, delete \
         `{key}`",
        row + 1
    )]
    UnmarkedEnd {
        /// The array that shows it.
        key: String,
        /// The first such row.
        row: usize,
        /// How many there are.
        count: usize,
        /// Steps of the longest stretch between ends.
        longest: usize,
    },
    /// An episode goes on after its end.
    #[error(
        "`{key}` is set at step {step} of {steps}; an episode ends at its last step, so split it there"
    )]
    EndInside {
        /// Which.
        key: String,
        /// Step, from 0.
        step: usize,
        /// Steps of the episode.
        steps: usize,
    },
    /// It does not go with the files before it: the elements are of another kind.
    #[error("`{key}` are {got} but {first} has {expected}; use data of one environment")]
    OtherSpace {
        /// Which.
        key: String,
        /// Space here.
        got: String,
        /// Space there.
        expected: String,
        /// The first file, or the first array.
        first: String,
    },
    /// It does not go with the files before it.
    #[error("`{key}` has {got} columns but {first} has {expected}; use data of one environment")]
    OtherDimensions {
        /// Which.
        key: String,
        /// Columns here.
        got: usize,
        /// Columns there.
        expected: usize,
        /// The first file, or the first array.
        first: String,
    },
    /// Observations are several named arrays per step.
    #[error(
        "`{key}` is a dictionary: {entries}; name those that the policy is to see, in its order: --observation-keys {keys}"
    )]
    DictionaryObservations {
        /// Which.
        key: String,
        /// Its entries and their shapes.
        entries: String,
        /// What to type.
        keys: String,
    },
    /// A dictionary lacks an entry that was asked for.
    #[error(
        "`{key}` has no entry `{asked}`; name some of these with --observation-keys: {entries}"
    )]
    NoSuchEntry {
        /// The dictionary.
        key: String,
        /// The entry, or several.
        asked: String,
        /// Its entries and their shapes.
        entries: String,
    },
    /// An entry of a dictionary cannot be part of a vector.
    #[error("`{key}` is {found}, which does not join a vector; leave it out of --observation-keys")]
    NotJoined {
        /// Which.
        key: String,
        /// Its space.
        found: String,
    },
    /// Entries were asked for of what has none.
    #[error("`{key}` is no dictionary; leave --observation-keys out")]
    NotADictionary {
        /// Which.
        key: String,
    },
    /// Actions are several named arrays per step.
    #[error(
        "`{key}` is a dictionary: {entries}; a policy acts with one vector or one choice: \
         store the actions as one array per step"
    )]
    DictionaryActions {
        /// Which.
        key: String,
        /// Its entries and their shapes.
        entries: String,
    },
    /// One episode of several cannot be used.
    #[error("{0}; --skip-bad-episodes leaves such episodes out")]
    BadEpisode(Box<Self>),
    /// An episode without an end is longer than the limit that was given for such.
    #[error(
        "`{key}` has {steps} steps and no end is marked, but --max-episode-steps is {limit}; \
         give the time limit of the environment"
    )]
    BeyondLimit {
        /// Which.
        key: String,
        /// Its steps.
        steps: usize,
        /// The limit.
        limit: usize,
    },
    /// An integer that is to be an f32 is none.
    #[error(
        "`{key}`{index:?} is {value}, which 32-bit floats round; store it in larger units, as floats"
    )]
    Inexact {
        /// Which.
        key: String,
        /// Row, and column if there are several.
        index: Vec<usize>,
        /// The value.
        value: i64,
    },
    /// A table has columns, but not those that are needed.
    #[error("has no {missing}; its columns are {columns}: {remedy}")]
    Columns {
        /// Those that are not there, and the names that each may have.
        missing: String,
        /// Those that are.
        columns: String,
        /// What to do.
        remedy: String,
    },
    /// The rows of an episode are not together.
    #[error(
        "`{key}`[{row}] is {id} again after the rows of another; sort the rows by `{key}` and time"
    )]
    Scattered {
        /// The column that tells episodes apart.
        key: String,
        /// Row.
        row: usize,
        /// The episode.
        id: String,
    },
}

impl Problem {
    /// Whether other episodes of the same file may well be without it, so that it can be used without this one.
    pub fn is_of_an_episode(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Missing { .. }
                | Self::Lacks { .. }
                | Self::NotAChoice { .. }
                | Self::Length { .. }
                | Self::NonFinite { .. }
                | Self::Hole { .. }
                | Self::Ragged { .. }
                | Self::NotAFlag { .. }
                | Self::NotAFloatFlag { .. }
                | Self::Empty { .. }
                | Self::EndInside { .. }
                | Self::OtherSpace { .. }
                | Self::OtherDimensions { .. }
                | Self::BeyondLimit { .. }
                | Self::Inexact { .. }
        )
    }
}

/// An array that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Its name.
    pub key: String,
    /// What it should be.
    pub needs: &'static str,
}

/// `a`, `b`
fn names(of: &[Needed]) -> String {
    let names: Vec<String> = of
        .iter()
        .map(|needed| format!("`{}`", needed.key))
        .collect();
    names.join(", ")
}

/// What they should be, by name if there are several.
fn needs(of: &[Needed]) -> String {
    match of {
        [only] => only.needs.into(),
        many => {
            let named = |needed: &Needed| format!("`{}`, {}", needed.key, needed.needs);
            many.iter().map(named).collect::<Vec<_>>().join("; ")
        }
    }
}

/// How to add filters to the library.
fn plugin(is_one: bool) -> &'static str {
    match is_one {
        true => {
            "type `pip install hdf5plugin`, then \
             `export HDF5_PLUGIN_PATH=\"$(python -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)')\"`, and the \
             same command again; or "
        }
        false => "",
    }
}

/// Why no episode ends.
fn no_end(rows: usize, flags: &str, limit: Option<usize>) -> String {
    match limit {
        Some(limit) => format!(
            "--max-episode-steps {limit} is more than its {rows} rows; give the steps of an episode"
        ),
        None => format!(
            "all {rows} rows of {flags} are 0; set `timeouts` on the last step of each episode, or give \
             --max-episode-steps N if each has N steps"
        ),
    }
}

impl Problem {
    /// The command that mends `path`, to stand behind the words; empty if there is none.
    fn command(&self, path: &Path) -> String {
        let (file, new) = match path.to_str() {
            Some(plain)
                if plain
                    .chars()
                    .all(|c| c.is_alphanumeric() || "/._-+=".contains(c)) =>
            {
                let new = path.with_extension("new.hdf5");
                (plain.to_owned(), new.display().to_string())
            }
            _ => ("FILE".into(), "NEW".into()),
        };
        let python = |change: &str| {
            format!(
                " `python -c \"import h5py; a, b = h5py.File('{file}'), h5py.File('{new}', 'x'); \
                 a.visititems(lambda k, v: b.update({{k: v[()]{change}}}) if hasattr(v, 'dtype') else None); \
                 b.attrs.update(a.attrs)\"`"
            )
        };
        match self {
            Self::BadEpisode(problem) => problem.command(path),
            Self::NotClosed => format!(" `h5clear -s --increment=0 {file}`"),
            Self::Newer { .. } => python(""),
            Self::Transposed { .. } => python(".T"),
            Self::Filter { .. } => format!(" `h5repack -f GZIP=4 {file} {new}`"),
            _ => String::new(),
        }
    }
}
