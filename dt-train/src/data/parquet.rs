//! Parquet, as replay data come on model hubs and from loggers: one episode per row, or one step.
//!
//! | column | names | of an episode of T steps | of a step | |
//! |---|---|---|---|---|
//! | observations | `observations`, `obs`, … | T lists of numbers | list of numbers, or one | before the action |
//! | | | T lists of lists (of lists) of bytes | lists of such | images: height, width, channels |
//! | | | T integers | integer | one of several places |
//! | | | T structures | structure | a dictionary of such |
//! | actions | `actions`, `action`, … | as observations | | |
//! | rewards | `rewards`, `reward`, … | list of T numbers | number | |
//! | terminal ends | `terminals`, `terminateds`, … | list of T flags | flag | the step ended in a terminal state |
//! | other ends | `timeouts`, `truncateds`, … | | flag | it was the last one before a limit |
//! | ends | `dones`, `done`, … | list of T flags | flag | one or the other; taken for terminal |
//! | episode | `episode_id`, `eps_id`, … | | integer or text | the same in all rows of an episode |
//! | step | `t`, `frame_index`, … | | integer | grows within an episode |
//! | next | `next_observations`, `new_obs`, … | | as observations | after the action |
//!
//! `NAMES` has all names. Only observations, actions and rewards are always needed. A row with an episode ends with its
//! last step. Rows with steps end where the episode does, if something tells it apart, else where a flag is set, else
//! after `--max-episode-steps`. Other columns are ignored.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use ::parquet::basic::Compression;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use sha2::{Digest, Sha256};

use super::d4rl::ends::differ;
use super::gather::{Gathering, Whole};
use super::table::{At, Steps};
use super::{
    Column, DataError, Dataset, Problem, Reading, Source, dictionary, digest, join,
    layout::sorted_entries, quiet_panic,
};

/// What every parquet file begins with.
pub const SIGNATURE: [u8; 4] = *b"PAR1";

/// Rows of steps read at once, and of episodes: what is not yet converted stays small.
const STEPS: usize = 1 << 13;
const EPISODES: usize = 8;

/// The files of a folder, or of `data` in it as data sets on hubs have it, by name: the parts of one set.
pub fn locate(folder: &Path) -> Option<Vec<PathBuf>> {
    [folder.to_owned(), folder.join("data")]
        .iter()
        .map(|folder| parts(folder))
        .find(|parts| !parts.is_empty())
}

/// The parquet files right in a folder, by name.
pub fn parts(folder: &Path) -> Vec<PathBuf> {
    let mut files = sorted_entries(folder);
    files.retain(|path| path.extension().is_some_and(|end| end == "parquet") && path.is_file());
    files
}

/// Reads the episodes of a file.
///
/// # Errors
/// [`DataError`] names the column and what to do; see [`Problem`].
pub fn read(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    let source = Source {
        path: path.into(),
        ..Source::default()
    };
    read_parts(&[path.into()], source, false, reading)
}

/// Reads the episodes of the files of one set, one after the other; a set of steps need not end an episode with a file.
/// Its SHA-256 is that of the file, or of the SHA-256s of the files.
///
/// # Errors
/// [`DataError`] names the file, the column and what to do; see [`Problem`].
///
/// # Panics
/// If there is no file.
pub fn read_parts(
    files: &[PathBuf],
    mut source: Source,
    without_rewards: bool,
    reading: &Reading,
) -> Result<Dataset, DataError> {
    let last = files.last().expect("at least one file");
    let mut hashes = Vec::new();
    for file in files {
        let hash = digest(file);
        hashes.push(hash.map_err(|error| DataError::new(file, Problem::Unreadable(error)))?);
    }
    source.sha256 = match hashes[..] {
        [only] => only,
        _ => Sha256::digest(hashes.concat()).into(),
    };
    let mut walk = Walk {
        reading,
        without_rewards,
        gathering: Gathering::new(source, reading),
        columns: None,
        pending: None,
        before: None,
        seen: HashSet::new(),
        breaks: Breaks::default(),
        notes: Notes::default(),
    };
    for file in files {
        quiet_panic::catch(|| walk.read(file))
            // The crates take some of what they read for granted.
            .unwrap_or_else(|detail| {
                let what = "the file".into();
                Err(Problem::Damaged { what, detail })
            })
            .map_err(|problem| DataError::new(file, problem))?;
    }
    walk.finish()
        .map_err(|problem| DataError::new(last, problem))
}

const LEROBOT_STATE: &str = "observation.state";

/// What columns are called, the usual name first.
struct Names {
    observations: &'static [&'static str],
    actions: &'static [&'static str],
    rewards: &'static [&'static str],
    terminals: &'static [&'static str],
    timeouts: &'static [&'static str],
    dones: &'static [&'static str],
    episode: &'static [&'static str],
    step: &'static [&'static str],
    next: &'static [&'static str],
}

const NAMES: Names = Names {
    observations: &[
        "observations",
        "obs",
        "observation",
        LEROBOT_STATE,
        "continuous_observations",
        "discrete_observations",
        "states",
        "state",
    ],
    actions: &[
        "actions",
        "action",
        "continuous_actions",
        "discrete_actions",
    ],
    rewards: &["rewards", "reward", "next.reward"],
    terminals: &[
        "terminals",
        "terminateds",
        "terminated",
        "terminations",
        "terminal",
    ],
    timeouts: &[
        "timeouts",
        "truncateds",
        "truncated",
        "truncations",
        "timeout",
    ],
    dones: &["dones", "done", "next.done"],
    episode: &[
        "episode_id",
        "eps_id",
        "episode_index",
        "episode",
        "trajectory_id",
        "traj_id",
    ],
    step: &["t", "frame_index", "step", "timestep", "step_index"],
    next: &[
        "next_observations",
        "new_obs",
        "next_obs",
        "next_observation",
    ],
};

/// Where in the rows of a table what is.
#[derive(Clone, Debug)]
struct Columns {
    /// One column, or several to be joined.
    observations: Vec<String>,
    /// They are the user's observation keys.
    are_named: bool,
    actions: String,
    rewards: Option<String>,
    terminals: Option<String>,
    timeouts: Option<String>,
    dones: Option<String>,
    episode: Option<String>,
    step: Option<String>,
    next: Option<String>,
    /// A row is a whole episode.
    of_episodes: bool,
}

impl Columns {
    /// Tells columns by their names.
    fn find(schema: &Schema, without_rewards: bool, reading: &Reading) -> Result<Self, Problem> {
        let find = |names: &[&str]| -> Option<String> {
            let known = |name: &&&str| schema.column_with_name(name).is_some();
            names.iter().find(known).map(|&name| name.into())
        };
        let keys = &reading.observation_keys;
        let are_columns = keys
            .iter()
            .all(|key| schema.column_with_name(key).is_some());
        let observations = match find(NAMES.observations) {
            _ if are_columns && !keys.is_empty() => keys.clone(),
            Some(name) => vec![name],
            None => Vec::new(),
        };
        let [actions, rewards] = [NAMES.actions, NAMES.rewards].map(find);
        let is_list = |name: &String| -> bool {
            let kind = schema.field_with_name(name).map(|field| field.data_type());
            matches!(kind, Ok(DataType::List(_)))
        };
        let mut columns = Self {
            of_episodes: false,
            are_named: are_columns && !keys.is_empty(),
            observations,
            actions: actions.clone().unwrap_or_default(),
            rewards: rewards.clone(),
            terminals: find(NAMES.terminals),
            timeouts: find(NAMES.timeouts),
            dones: find(NAMES.dones),
            episode: find(NAMES.episode),
            step: find(NAMES.step),
            next: find(NAMES.next),
        };
        // Lists of rewards are those of episodes, unless flags show that a list is just one step's.
        columns.of_episodes = rewards.as_ref().is_some_and(is_list) && columns.flags().all(is_list);
        let no_ends = rewards.is_some()
            && !columns.of_episodes
            && !columns.is_bounded()
            && reading.max_episode_steps.is_none()
            && columns.timeouts.is_none()
            && columns.dones.is_none();
        let words = |names: &[&str]| format!("`{}` (or {})", names[0], names[1..].join(", "));
        let missing: Vec<String> = [
            (columns.observations.is_empty(), words(NAMES.observations)),
            (actions.is_none(), words(NAMES.actions)),
            (rewards.is_none() && !without_rewards, words(NAMES.rewards)),
            (
                no_ends,
                match &columns.terminals {
                    Some(terminals) => format!(
                        "end of episodes beside `{terminals}`, neither {} nor {}",
                        words(NAMES.timeouts),
                        words(NAMES.episode)
                    ),
                    None => format!(
                        "end of episodes, neither {} nor {}",
                        words(NAMES.episode),
                        words(NAMES.dones)
                    ),
                },
            ),
        ]
        .into_iter()
        .filter_map(|(missing, words)| missing.then_some(words))
        .collect();
        if missing.is_empty() {
            return Ok(columns);
        }
        let mut remedies = vec!["rename columns"];
        if columns.observations.is_empty() {
            remedies.push("name those of the observation with --observation-keys");
        }
        if no_ends {
            remedies.push("give the time limit of the environment with --max-episode-steps");
        }
        Err(Problem::Columns {
            missing: missing.join(" and no "),
            columns: describe(schema),
            remedy: remedies.join(", or "),
        })
    }

    /// Numbers that LeRobot keeps beside the state.
    fn other_observations(&self, schema: &Schema) -> Vec<String> {
        if self.observations != [LEROBOT_STATE] || self.are_named {
            return Vec::new();
        }
        let is_numeric = |kind: &DataType| match kind {
            DataType::List(inner) => inner.data_type().is_numeric(),
            kind => kind.is_numeric(),
        };
        schema
            .fields()
            .iter()
            .filter(|field| {
                field.name().starts_with("observation.") && is_numeric(field.data_type())
            })
            .map(|field| field.name().clone())
            .filter(|name| name != LEROBOT_STATE)
            .collect()
    }

    /// Whether something tells the rows of one episode from those of another, whatever flags say.
    fn is_bounded(&self) -> bool {
        self.episode.is_some() || (self.step.is_some() && self.flags().next().is_none())
    }

    /// The columns that mark ends.
    fn flags(&self) -> impl Iterator<Item = &String> {
        let flags = [&self.terminals, &self.dones, &self.timeouts];
        flags.into_iter().flatten()
    }

    /// All of them.
    fn names(&self) -> impl Iterator<Item = &String> {
        let optional = [
            &self.rewards,
            &self.terminals,
            &self.timeouts,
            &self.dones,
            &self.episode,
            &self.step,
            &self.next,
        ];
        let needed = self.observations.iter().chain([&self.actions]);
        needed.chain(optional.into_iter().flatten())
    }
}

/// `obs (list of numbers), eps_id (Utf8)`, the first of them.
fn describe(schema: &Schema) -> String {
    const MOST: usize = 16;
    fn kind(of: &DataType) -> String {
        match of {
            DataType::List(inner) | DataType::LargeList(inner) => {
                format!("lists of {}", kind(inner.data_type()))
            }
            DataType::Struct(_) => "structures".into(),
            other => other.to_string(),
        }
    }
    let fields = schema.fields();
    let mut words: Vec<String> = fields
        .iter()
        .take(MOST)
        .map(|field| format!("{} ({})", field.name(), kind(field.data_type())))
        .collect();
    if fields.len() > MOST {
        words.push(format!("{} more", fields.len() - MOST));
    }
    words.join(", ")
}

/// A way through the rows of all files.
struct Walk<'a> {
    reading: &'a Reading,
    without_rewards: bool,
    gathering: Gathering<'a>,
    /// Those of the last file.
    columns: Option<Columns>,
    /// The episode whose end has not come yet.
    pending: Option<Pending>,
    /// Episode and step of the row before.
    before: Option<(Option<String>, Option<i64>)>,
    /// Episodes of this file so far.
    seen: HashSet<String>,
    breaks: Breaks,
    notes: Notes,
}

/// Rows after which the next one does not go on, although no flag marks an end, in one file.
#[derive(Default)]
struct Breaks {
    /// What came after the action of the row before, if no flag marks its end.
    after: Option<Vec<f32>>,
    /// The first of them.
    first: Option<usize>,
    /// How many there are, of as many rows without an end.
    count: usize,
    inside: usize,
    /// Rows since the last end or break, and the most of them.
    steps: usize,
    longest: usize,
}

impl Breaks {
    /// Which of the rows from `first` on do not go on from the one before.
    fn find(
        &mut self,
        first: usize,
        [observations, next]: [&[f32]; 2],
        ends: &[Option<bool>],
    ) -> Vec<bool> {
        let width = observations.len() / ends.len();
        let rows = observations.chunks(width).zip(next.chunks(width));
        let mut starts = Vec::with_capacity(ends.len());
        for (i, ((observation, next), end)) in rows.zip(ends).enumerate() {
            let before = self.after.take();
            self.inside += usize::from(before.is_some());
            let is_other = before.is_some_and(|before| differ(&before, observation));
            if is_other {
                self.count += 1;
                self.first.get_or_insert(first + i - 1);
                self.steps = 0;
            }
            starts.push(is_other);
            self.steps += 1;
            self.longest = std::cmp::max(self.longest, self.steps);
            match end {
                Some(_) => self.steps = 0,
                None => self.after = Some(next.to_vec()),
            }
        }
        starts
    }

    /// Refuses them, or says what is odd.
    fn judge(&self, key: &str, limit: Option<usize>) -> Result<Option<String>, Problem> {
        let count = self.count;
        match self.first {
            None => Ok(None),
            Some(row) if limit.is_some() => Ok(Some(format!(
                "episodes end at {count} rows that no flag marks, as `{key}` shows, the first at row {row}: they count \
                 as cut off"
            ))),
            // So many are no ends: it is another observation, or the order of the rows is none.
            Some(_) if 2 * count > self.inside => Ok(Some(format!(
                "`{key}` differs from the observation of the next row in {count} of {} steps inside episodes; if the \
                 rows are not in the order of the steps, no sequence can be learned from them",
                self.inside
            ))),
            Some(row) => Err(Problem::UnmarkedEnd {
                key: key.into(),
                row,
                count,
                longest: self.longest,
            }),
        }
    }
}

/// What is odd about a table.
#[derive(Default)]
struct Notes {
    /// The flags that end episodes for a reason that they do not tell.
    dones: Option<String>,
    /// Nothing tells how episodes ended.
    unknown: bool,
    /// Episodes that a flag ends more than once, at their end.
    ends_early: usize,
    /// All rewards are 0 because there are none.
    without_rewards: bool,
    /// Parts of the observation that are not read.
    others: Vec<String>,
    /// Rows that do not go on, of each file.
    breaks: Vec<String>,
}

/// Steps of one episode so far.
struct Pending {
    /// Or what is wrong with it.
    whole: Result<Whole, Problem>,
    steps: usize,
    /// After which steps it ended: in a terminal state, or otherwise.
    ends: Vec<Option<bool>>,
    /// Its first row.
    row: usize,
}

impl Walk<'_> {
    fn read(&mut self, path: &Path) -> Result<(), Problem> {
        let damaged = |error: &dyn std::fmt::Display| Problem::Damaged {
            what: "the file".into(),
            detail: error.to_string().replace('\n', " "),
        };
        let file = File::open(path).map_err(Problem::Unreadable)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(|error| damaged(&error))?;
        let columns = Columns::find(reader.schema(), self.without_rewards, self.reading)?;
        if let Some(before) = self.columns.take()
            && (before.of_episodes, before.is_bounded())
                != (columns.of_episodes, columns.is_bounded())
        {
            // What told its episodes apart does not go on in this file.
            self.end(&before)?;
            self.before = None;
        }
        let roots: Vec<usize> = columns
            .names()
            .filter_map(|name| reader.schema().index_of(name).ok())
            .collect();
        let mask = ProjectionMask::roots(reader.parquet_schema(), roots);
        for group in reader.metadata().row_groups() {
            let chunks = group.columns().iter().enumerate();
            for (_, chunk) in chunks.filter(|(leaf, _)| mask.leaf_included(*leaf)) {
                match chunk.compression() {
                    Compression::UNCOMPRESSED
                    | Compression::SNAPPY
                    | Compression::GZIP(_)
                    | Compression::ZSTD(_) => {}
                    other => {
                        return Err(Problem::Compression {
                            key: chunk.column_path().parts()[0].clone(),
                            codec: other.to_string(),
                        });
                    }
                }
            }
        }
        let is_alone = columns.terminals.is_none() && !columns.of_episodes;
        self.notes.dones = columns.dones.clone().filter(|_| is_alone);
        self.notes.unknown = columns.dones.is_none() && columns.terminals.is_none();
        self.notes.without_rewards = columns.rewards.is_none();
        self.notes.others = columns.other_observations(reader.schema());
        self.seen.clear();
        self.breaks = Breaks::default();
        let rows = if columns.of_episodes { EPISODES } else { STEPS };
        let reader = reader.with_projection(mask).with_batch_size(rows);
        let mut row = 0;
        for batch in reader.build().map_err(|error| damaged(&error))? {
            let batch = batch.map_err(|error| damaged(&error))?;
            if columns.of_episodes {
                for i in 0..batch.num_rows() {
                    self.episode(&columns, &batch.slice(i, 1), row + i)?;
                }
            } else {
                self.steps(&columns, &batch, row)?;
            }
            row += batch.num_rows();
        }
        if let Some(key) = &columns.next {
            let note = self.breaks.judge(key, self.reading.max_episode_steps)?;
            self.notes.breaks.extend(note);
        }
        self.columns = Some(columns);
        Ok(())
    }

    /// A batch of one row, which is an episode.
    fn episode(
        &mut self,
        columns: &Columns,
        batch: &RecordBatch,
        row: usize,
    ) -> Result<(), Problem> {
        let whole = columns.arrays(batch, row).and_then(|arrays| {
            let ends = arrays.ends()?;
            let mut whole = arrays.whole(self.reading)?;
            arrays.same_lengths(row)?;
            let (end, early) = end(&ends, || arrays.flags_key(row))?;
            self.notes.ends_early += usize::from(early);
            whole.terminated = Some(end.unwrap_or(false));
            Ok(whole)
        });
        self.gathering.add(|name| format!("{name}[{row}]"), whole)
    }

    /// A batch of steps from that row on.
    fn steps(&mut self, columns: &Columns, batch: &RecordBatch, row: usize) -> Result<(), Problem> {
        let arrays = columns.arrays(batch, row)?;
        let ends = arrays.ends()?;
        let ids = columns.episode.as_ref();
        let ids = ids
            .map(|key| texts(key, column(batch, key), row))
            .transpose()?;
        let times = columns.step.as_ref().and_then(|key| {
            let (at, array) = (At::Rows(row), column(batch, key).clone());
            // Something else if it is no integer.
            Steps { key, at, array }.counts().ok()
        });
        let limit = self.reading.max_episode_steps;
        let limit = limit.filter(|_| columns.timeouts.is_none());
        let limited = self.reading.max_episode_steps.is_some();
        let pairs = arrays.next_pairs(self.reading);
        let breaks = pairs.filter(|_| !columns.is_bounded()).map(|pairs| {
            let [observations, next] = [&pairs[0], &pairs[1]].map(Vec::as_slice);
            self.breaks.find(row, [observations, next], &ends)
        });
        let mut start = 0;
        for i in 0..batch.num_rows() {
            if limited && breaks.as_ref().is_some_and(|breaks| breaks[i]) {
                self.take(columns, batch, &ends, start..i, row)?;
                self.cut(columns)?;
                start = i;
            }
            if columns.is_bounded() {
                let id = ids.as_ref().map(|ids| ids[i].as_str());
                let time = times.as_ref().map(|times| times[i]);
                if let Some((id_before, time_before)) = &self.before {
                    let is_other = id != id_before.as_deref();
                    if is_other || time.is_some_and(|time| Some(time) <= *time_before) {
                        self.take(columns, batch, &ends, start..i, row)?;
                        self.end(columns)?;
                        start = i;
                    }
                }
                let before = self.before.as_ref().and_then(|(id, _)| id.as_deref());
                if let (Some(id), Some(key)) = (id, &columns.episode)
                    && Some(id) != before
                    && !self.seen.insert(id.to_owned())
                {
                    let (key, id, row) = (key.clone(), id.to_owned(), row + i);
                    return Err(Problem::Scattered { key, row, id });
                }
                match &mut self.before {
                    Some((before, time_before)) if before.as_deref() == id => *time_before = time,
                    before => *before = Some((id.map(Into::into), time)),
                }
            } else {
                let pending = self.pending.as_ref().map_or(0, |pending| pending.steps);
                let at_limit = limit.is_some_and(|limit| pending + i + 1 - start >= limit);
                if ends[i].is_some() || at_limit {
                    self.take(columns, batch, &ends, start..i + 1, row)?;
                    self.cut(columns)?;
                    start = i + 1;
                }
            }
        }
        self.take(columns, batch, &ends, start..batch.num_rows(), row)
    }

    /// Adds steps to the episode whose end has not come yet.
    fn take(
        &mut self,
        columns: &Columns,
        batch: &RecordBatch,
        ends: &[Option<bool>],
        rows: Range<usize>,
        row: usize,
    ) -> Result<(), Problem> {
        if rows.is_empty() {
            return Ok(());
        }
        let row = row + rows.start;
        let whole = columns
            .arrays(&batch.slice(rows.start, rows.len()), row)
            .and_then(|arrays| arrays.whole(self.reading));
        let ends = &ends[rows.clone()];
        match &mut self.pending {
            None => {
                self.pending = Some(Pending {
                    whole,
                    steps: rows.len(),
                    ends: ends.to_vec(),
                    row,
                });
            }
            Some(pending) => {
                pending.steps += rows.len();
                pending.ends.extend_from_slice(ends);
                if let Ok(before) = &mut pending.whole
                    && let Err(problem) = whole.and_then(|whole| append(before, whole, row))
                {
                    pending.whole = Err(problem);
                }
            }
        }
        Ok(())
    }

    /// Ends the episode with its last step, as cut off if nothing else ends it.
    fn cut(&mut self, columns: &Columns) -> Result<(), Problem> {
        if let Some(pending) = &mut self.pending
            && let Some(end @ None) = pending.ends.last_mut()
        {
            *end = Some(false);
        }
        self.end(columns)
    }

    /// Hands the episode over.
    fn end(&mut self, columns: &Columns) -> Result<(), Problem> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let whole = pending.whole.and_then(|mut whole| {
            let key = || columns.flags().next().cloned().unwrap_or_default();
            let (end, early) = end(&pending.ends, key)?;
            self.notes.ends_early += usize::from(early);
            whole.terminated = match end {
                // That the next one begins tells nothing: a logger may have been stopped.
                None if !columns.is_bounded() || columns.timeouts.is_some() => None,
                end => Some(end.unwrap_or(false)),
            };
            Ok(whole)
        });
        let row = pending.row;
        self.gathering.add(|name| format!("{name}[{row}]"), whole)
    }

    fn finish(mut self) -> Result<Dataset, Problem> {
        if let Some(columns) = self.columns.take() {
            self.end(&columns)?;
        }
        let mut data = self.gathering.finish("the flags", "timeouts")?;
        let source = &mut data.sources[0];
        source.without_rewards = self.notes.without_rewards;
        source.notes.extend(self.notes.sentences());
        Ok(data)
    }
}

impl Notes {
    fn sentences(self) -> impl Iterator<Item = String> {
        let dones = self.dones.map(|key| {
            format!("`{key}` ends episodes without saying how: taken for terminal states")
        });
        let unknown = self
            .unknown
            .then(|| "nothing says how episodes ended: taken for time limits".to_owned());
        let early = (self.ends_early > 0).then(|| {
            let count = self.ends_early;
            format!(
                "{count} episode(s) go on for some steps after the flag of their end: they are kept"
            )
        });
        let rewards = self.without_rewards.then(|| {
            "there are no rewards: all are 0, from which only behaviour cloning learns, --algo bc"
                .to_owned()
        });
        let others = (!self.others.is_empty()).then(|| {
            let names = self.others.join(",");
            format!(
                "`{LEROBOT_STATE}` is the whole observation: --observation-keys {LEROBOT_STATE},{names} reads more of it"
            )
        });
        let notes = [dones, unknown, early, rewards, others];
        notes.into_iter().flatten().chain(self.breaks)
    }
}

/// Appends steps, the first of which is in `row`.
fn append(whole: &mut Whole, more: Whole, row: usize) -> Result<(), Problem> {
    const BEFORE: &str = "the row before";
    for (name, column, more) in [
        ("observations", &mut whole.observations, more.observations),
        ("actions", &mut whole.actions, more.actions),
    ] {
        join(format!("{name}[{row}]"), column, more, BEFORE)?;
    }
    whole.rewards.extend(more.rewards);
    whole.last_observation = more.last_observation;
    Ok(())
}

/// How an episode ended by its flags, if one is set at the last step; and whether one is also set before. Some loggers
/// go on after the end and set the flag of every step from there on; otherwise an end inside is none, and nor are flags
/// that are set from the first step on.
fn end(
    ends: &[Option<bool>],
    key: impl FnOnce() -> String,
) -> Result<(Option<bool>, bool), Problem> {
    let Some(step) = ends.iter().position(Option::is_some) else {
        return Ok((None, false));
    };
    if ends[step..].iter().any(Option::is_none) || (step == 0 && ends.len() > 1) {
        return Err(Problem::EndInside {
            key: key(),
            step,
            steps: ends.len(),
        });
    }
    Ok((ends[step], step + 1 < ends.len()))
}

/// The steps of some rows, by what they are.
struct Arrays<'a> {
    observations: Vec<Steps<'a>>,
    /// They are columns that the user named.
    are_named: bool,
    actions: Steps<'a>,
    rewards: Option<Steps<'a>>,
    terminals: Option<Steps<'a>>,
    timeouts: Option<Steps<'a>>,
    dones: Option<Steps<'a>>,
    next: Option<Steps<'a>>,
}

impl Columns {
    /// The columns of a batch that begins with `row`.
    fn arrays<'a>(&'a self, batch: &RecordBatch, row: usize) -> Result<Arrays<'a>, Problem> {
        let steps = |key: &'a String| -> Result<Steps<'a>, Problem> {
            let array = column(batch, key);
            if !self.of_episodes {
                let (at, array) = (At::Rows(row), array.clone());
                return Ok(Steps { key, at, array });
            }
            let hole = || Problem::Hole {
                key: key.clone(),
                row,
            };
            let lists = array.as_list_opt::<i32>();
            let lists = lists.ok_or_else(|| Problem::Nesting {
                key: key.clone(),
                found: array.data_type().to_string(),
                needs: "a list of one entry per step",
            })?;
            if lists.is_null(0) || lists.value(0).is_empty() {
                return Err(hole());
            }
            let (at, array) = (At::Within(row), lists.value(0));
            Ok(Steps { key, at, array })
        };
        let optional = |key: &'a Option<String>| key.as_ref().map(steps).transpose();
        Ok(Arrays {
            observations: self
                .observations
                .iter()
                .map(steps)
                .collect::<Result<_, _>>()?,
            are_named: self.are_named,
            actions: steps(&self.actions)?,
            rewards: optional(&self.rewards)?,
            terminals: optional(&self.terminals)?,
            timeouts: optional(&self.timeouts)?,
            dones: optional(&self.dones)?,
            next: optional(&self.next)?,
        })
    }
}

impl Arrays<'_> {
    fn len(&self) -> usize {
        self.actions.len()
    }

    /// After which steps an episode ended, in a terminal state or otherwise.
    fn ends(&self) -> Result<Vec<Option<bool>>, Problem> {
        let mut ends = vec![None; self.len()];
        for (flags, terminal) in [
            (&self.timeouts, false),
            (&self.dones, self.terminals.is_none()),
            (&self.terminals, true),
        ] {
            let Some(flags) = flags else { continue };
            for (end, flag) in ends.iter_mut().zip(flags.flags()?) {
                *end = if flag { Some(terminal) } else { *end };
            }
        }
        Ok(ends)
    }

    /// All but how it ended.
    fn whole(&self, reading: &Reading) -> Result<Whole, Problem> {
        let plain = |_: Option<&str>, steps: &Steps<'_>| steps.elements();
        let observations = match &self.observations[..] {
            [only] if self.are_named => only.observations(&[], plain)?,
            [only] => only.observations(&reading.observation_keys, plain)?,
            several => {
                let columns: Result<Vec<Column>, _> = several.iter().map(Steps::elements).collect();
                dictionary::beside("columns", &reading.observation_keys, &columns?)?
            }
        };
        let rewards = match &self.rewards {
            Some(rewards) => rewards.numbers()?,
            None => vec![0.0; self.len()],
        };
        let last = self
            .next
            .as_ref()
            .filter(|next| next.len() == self.len() && !self.are_named);
        // Nothing depends on it: what cannot be read is not known.
        let last_observation = last.and_then(|next| {
            let array = next.array.slice(next.len() - 1, 1);
            let last = Steps {
                array,
                ..next.clone()
            };
            let last = last.observations(&reading.observation_keys, plain).ok()?;
            (last.space() == observations.space()).then_some(last)
        });
        Ok(Whole {
            observations,
            last_observation,
            actions: self.actions.actions(Steps::elements)?,
            rewards,
            terminated: None,
        })
    }

    /// Observations before and after each action, where both are vectors that can be read.
    fn next_pairs(&self, reading: &Reading) -> Option<[Vec<f32>; 2]> {
        let ([observations], Some(next)) = (&self.observations[..], &self.next) else {
            return None;
        };
        let vectors = |steps: &Steps<'_>| {
            let plain = |_: Option<&str>, steps: &Steps<'_>| steps.elements();
            let column = steps.observations(&reading.observation_keys, plain);
            column.ok()?.into_vectors()
        };
        let pairs = [vectors(observations)?, vectors(next)?];
        (!self.are_named && pairs[0].len() == pairs[1].len()).then_some(pairs)
    }

    /// Whether all lists of an episode have as many entries.
    fn same_lengths(&self, row: usize) -> Result<(), Problem> {
        let first = &self.observations[0];
        let optional = [&self.rewards, &self.terminals, &self.timeouts, &self.dones];
        let others = self.observations[1..].iter().chain([&self.actions]);
        let mut others = others.chain(optional.into_iter().flatten());
        match others.find(|steps| steps.len() != first.len()) {
            None => Ok(()),
            Some(other) => Err(Problem::Length {
                key: format!("{}[{row}]", other.key),
                rows: other.len(),
                other: format!("{}[{row}]", first.key),
                other_rows: first.len(),
                rule: "every list needs one entry per step",
            }),
        }
    }

    fn flags_key(&self, row: usize) -> String {
        let flags = [&self.terminals, &self.dones, &self.timeouts];
        let key = flags
            .into_iter()
            .flatten()
            .next()
            .map_or("", |steps| steps.key);
        format!("{key}[{row}]")
    }
}

/// A column that is there.
fn column<'a>(batch: &'a RecordBatch, key: &str) -> &'a ArrayRef {
    batch.column_by_name(key).expect("a column of the schema")
}

/// What tells episodes apart, as text.
fn texts(key: &str, array: &ArrayRef, first: usize) -> Result<Vec<String>, Problem> {
    if let Some(row) = (0..array.len()).find(|&row| array.is_null(row)) {
        let (key, row) = (key.into(), first + row);
        return Err(Problem::Hole { key, row });
    }
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Ok(texts.iter().flatten().map(Into::into).collect());
    }
    let (at, array) = (At::Rows(first), array.clone());
    let numbers = Steps { key, at, array }.counts()?;
    Ok(numbers.iter().map(ToString::to_string).collect())
}
