//! The parquet form of replay data on model hubs: one episode per row, of T steps.
//!
//! | column | type | |
//! |---|---|---|
//! | `observations` | T lists of state_dim floats | before the action |
//! | | T lists of lists (of lists) of 8-bit integers | images: height, width, channels |
//! | | list of T integers | one of several places |
//! | `actions` | T lists of act_dim floats | |
//! | | list of T integers | one of several choices |
//! | `rewards` | list of T floats | |
//! | `dones` | list of T bools or integers | the step ended in a terminal state |
//!
//! A row is a whole episode: it ends with its last step, in a terminal state or not. Other columns are ignored.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::{Compression, ConvertedType, LogicalType, Type};
use ::parquet::column::reader::get_typed_column_reader;
use ::parquet::data_type::{BoolType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescPtr;

use super::h5::choices;
use super::{
    Column as Elements, DataError, Dataset, Episode, Problem, Reading, Source, digest, quiet_panic,
};

/// What every parquet file begins with.
pub const SIGNATURE: [u8; 4] = *b"PAR1";

const LAYOUT: &str = "replay data in parquet";

/// Reads the episodes of a file.
///
/// # Errors
/// [`DataError`] names the column and what to do; see [`Problem`].
pub fn read(path: &Path, _reading: &Reading) -> Result<Dataset, DataError> {
    quiet_panic::catch(|| parse(path))
        // The parquet crate takes some of what it reads for granted.
        .unwrap_or_else(|detail| {
            let what = "the file".into();
            Err(Problem::Damaged { what, detail })
        })
        .map_err(|problem| DataError::new(path, problem))
}

fn parse(path: &Path) -> Result<Dataset, Problem> {
    let sha256 = digest(path).map_err(Problem::Unreadable)?;
    let file = File::open(path).map_err(Problem::Unreadable)?;
    let file = SerializedFileReader::new(file).map_err(|error| damaged("the file", &error))?;
    let observations = Column::find(&file, "observations", "lists of floats")?.elements()?;
    let actions = Column::find(&file, "actions", "lists of floats")?.elements()?;
    let rewards = Column::find(&file, "rewards", "a list of floats")?.floats(NUMBERS)?;
    let dones = Column::find(&file, "dones", "a list of bools")?.flags()?;
    if observations.steps.is_empty() {
        return Err(Problem::Empty {
            key: "observations".into(),
            shape: vec![0],
        });
    }
    for (name, steps) in [
        ("actions", &actions.steps),
        ("rewards", &rewards.steps),
        ("dones", &dones.steps),
    ] {
        let pairs = observations.steps.iter().zip(steps).enumerate();
        if let Some((row, (&other_rows, &rows))) = pairs.into_iter().find(|(_, (o, n))| o != n) {
            return Err(Problem::Length {
                key: format!("{name}[{row}]"),
                rows,
                other: format!("observations[{row}]"),
                other_rows,
                rule: "every list needs one entry per step",
            });
        }
    }
    Ok(Dataset {
        episodes: episodes(&dones)?,
        last_observations: observations.values.emptied(),
        observations: observations.values,
        actions: actions.values,
        rewards: rewards.values,
        sources: vec![Source {
            path: path.into(),
            sha256,
            ..Source::default()
        }],
    })
}

fn episodes(dones: &Lists<Vec<bool>>) -> Result<Vec<Episode>, Problem> {
    let mut end = 0;
    let episode = |(row, &steps): (usize, &usize)| {
        let rows = end..end + steps;
        end = rows.end;
        let flags = &dones.values[rows.clone()];
        if let Some(step) = flags[..steps - 1].iter().position(|&done| done) {
            let key = format!("dones[{row}]");
            return Err(Problem::EndInside { key, step, steps });
        }
        Ok(Episode {
            rows,
            terminated: flags[steps - 1],
            ..Episode::default()
        })
    };
    dones.steps.iter().enumerate().map(episode).collect()
}

/// Lists nested `depth` deep in each row of the file.
#[derive(Clone, Copy)]
struct Nesting {
    depth: i16,
    needs: &'static str,
}

const NUMBERS: Nesting = Nesting {
    depth: 1,
    needs: "a list of one number per step",
};
const VECTORS: Nesting = Nesting {
    depth: 2,
    needs: "a list of one list of numbers per step",
};

/// A column's values, flat, and how they were nested.
struct Lists<V> {
    values: V,
    /// Steps of each episode, none of them 0.
    steps: Vec<usize>,
    /// Lengths of the lists of a step, from the outermost; empty where a step is a number.
    shape: Vec<usize>,
}

impl<V> Lists<V> {
    /// Values per step.
    fn width(&self) -> usize {
        self.shape.iter().product()
    }

    fn map<U>(self, convert: impl FnOnce(V) -> U) -> Lists<U> {
        Lists {
            values: convert(self.values),
            steps: self.steps,
            shape: self.shape,
        }
    }
}

/// A column that holds numbers.
struct Column<'a> {
    file: &'a SerializedFileReader<File>,
    key: &'static str,
    /// Its place among the file's leaves.
    leaf: usize,
    about: ColumnDescPtr,
}

impl<'a> Column<'a> {
    fn find(
        file: &'a SerializedFileReader<File>,
        key: &'static str,
        needs: &'static str,
    ) -> Result<Self, Problem> {
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let leaves: Vec<usize> = (0..schema.num_columns())
            .filter(|&leaf| schema.column(leaf).path().parts()[0] == key)
            .collect();
        let [leaf] = leaves[..] else {
            if leaves.is_empty() {
                let layout = LAYOUT;
                return Err(Problem::Missing {
                    key: key.into(),
                    layout,
                    needs,
                });
            }
            let leaves: Vec<_> = leaves.iter().map(|&leaf| schema.column(leaf)).collect();
            return Err(structure(key, &leaves));
        };
        let about = schema.column(leaf);
        if about.physical_type() == Type::BYTE_ARRAY || !entry(&about).is_empty() {
            return Err(structure(key, &[about]));
        }
        Ok(Self {
            file,
            key,
            leaf,
            about,
        })
    }

    /// Observations or actions.
    fn elements(&self) -> Result<Lists<Elements>, Problem> {
        let depth = self.about.max_rep_level();
        match self.about.physical_type() {
            Type::INT32 | Type::INT64 if depth == NUMBERS.depth => {
                let lists = self.integers(NUMBERS)?;
                Ok(Lists {
                    values: choices(self.key.into(), &lists.values)?,
                    steps: lists.steps,
                    shape: lists.shape,
                })
            }
            Type::INT32 if matches!(depth, 3 | 4) && self.is_byte() => {
                let pixels = Nesting {
                    depth,
                    needs: "a list of one image per step",
                };
                // The format keeps bytes in 32 bits, and the schema says that they are bytes.
                let lists = self.lists::<Int32Type, u8>(pixels, |value| value as u8)?;
                let [height, width] = [lists.shape[0], lists.shape[1]];
                let channels = lists.shape.get(2).copied().unwrap_or(1);
                Ok(lists.map(|values| Elements::Image {
                    shape: [height, width, channels],
                    values,
                }))
            }
            _ => {
                let lists = self.floats(VECTORS)?;
                let width = lists.width();
                Ok(lists.map(|values| Elements::unbounded(width, values)))
            }
        }
    }

    /// Whether the schema calls the integers unsigned ones of 8 bits.
    fn is_byte(&self) -> bool {
        self.about.logical_type_ref() == Some(&LogicalType::integer(8, false))
            || self.about.converted_type() == ConvertedType::UINT_8
    }

    /// Integers, whatever their size.
    fn integers(&self, nesting: Nesting) -> Result<Lists<Vec<i64>>, Problem> {
        match self.about.physical_type() {
            Type::INT32 => self.lists::<Int32Type, i64>(nesting, i64::from),
            Type::INT64 => self.lists::<Int64Type, i64>(nesting, |value| value),
            _ => Err(self.wrong_type("bool or integers")),
        }
    }

    /// Finite numbers.
    fn floats(&self, nesting: Nesting) -> Result<Lists<Vec<f32>>, Problem> {
        let lists = match self.about.physical_type() {
            Type::FLOAT => self.lists::<FloatType, f32>(nesting, |value| value),
            Type::DOUBLE => self.lists::<DoubleType, f32>(nesting, |value| value as f32),
            _ => Err(self.wrong_type("32- or 64-bit floats")),
        }?;
        match lists.values.iter().position(|value| !value.is_finite()) {
            None => Ok(lists),
            Some(i) => {
                let width = lists.width();
                let mut step = i / width;
                let mut row = 0;
                while step >= lists.steps[row] {
                    step -= lists.steps[row];
                    row += 1;
                }
                let mut index = vec![row, step];
                if width > 1 {
                    index.push(i % width);
                }
                let (key, value) = (self.key.into(), lists.values[i]);
                Err(Problem::NonFinite { key, index, value })
            }
        }
    }

    /// One flag per step.
    fn flags(&self) -> Result<Lists<Vec<bool>>, Problem> {
        if self.about.physical_type() == Type::BOOLEAN {
            return self.lists::<BoolType, bool>(NUMBERS, |flag| flag);
        }
        let integers = self.integers(NUMBERS)?;
        match integers
            .values
            .iter()
            .position(|value| !matches!(value, 0 | 1))
        {
            None => Ok(integers.map(|values| values.iter().map(|&value| value == 1).collect())),
            Some(row) => Err(Problem::NotAFlag {
                key: self.key.into(),
                row,
                value: integers.values[row],
            }),
        }
    }

    /// The whole column, row group by row group.
    fn lists<D: DataType, T>(
        &self,
        nesting: Nesting,
        convert: impl Fn(D::T) -> T,
    ) -> Result<Lists<Vec<T>>, Problem> {
        /// Episodes at a time; what is not yet converted stays small.
        const EPISODES: usize = 8;
        self.check(nesting)?;
        let damaged = |error| damaged(&format!("`{}`", self.key), &error);
        let groups = self.file.metadata().row_groups();
        let count: i64 = groups
            .iter()
            .map(|group| group.column(self.leaf).num_values())
            .sum();
        let mut out = Vec::new();
        // A damaged file may say anything.
        let _ = out.try_reserve_exact(usize::try_from(count).unwrap_or(0));
        let mut nest = Nest::new(self.key, nesting.depth, self.about.max_def_level());
        let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..groups.len() {
            let pages = self
                .file
                .get_row_group(group)
                .and_then(|group| group.get_column_reader(self.leaf))
                .map_err(damaged)?;
            let mut pages = get_typed_column_reader::<D>(pages);
            loop {
                let (episodes, _, _) = pages
                    .read_records(
                        EPISODES,
                        Some(&mut definition),
                        Some(&mut repetition),
                        &mut values,
                    )
                    .map_err(damaged)?;
                if episodes == 0 {
                    break;
                }
                for (definition, repetition) in definition.drain(..).zip(repetition.drain(..)) {
                    nest.push(definition, repetition)?;
                }
                out.extend(values.drain(..).map(&convert));
            }
        }
        let (steps, shape) = nest.finish()?;
        Ok(Lists {
            values: out,
            steps,
            shape,
        })
    }

    fn check(&self, nesting: Nesting) -> Result<(), Problem> {
        let key = self.key.to_owned();
        let found = match self.about.max_rep_level() {
            depth if depth == nesting.depth => {
                for group in self.file.metadata().row_groups() {
                    match group.column(self.leaf).compression() {
                        Compression::UNCOMPRESSED
                        | Compression::SNAPPY
                        | Compression::GZIP(_)
                        | Compression::ZSTD(_) => {}
                        other => {
                            let codec = other.to_string();
                            return Err(Problem::Compression { key, codec });
                        }
                    }
                }
                return Ok(());
            }
            0 => "one number",
            1 => "a list of numbers",
            2 => "a list of lists",
            _ if nesting.depth == VECTORS.depth => {
                let found = "nested lists".to_owned();
                return Err(Problem::Images { key, found });
            }
            _ => "lists of lists of lists",
        };
        Err(Problem::Nesting {
            key,
            found: found.into(),
            needs: nesting.needs,
        })
    }

    fn wrong_type(&self, needs: &'static str) -> Problem {
        Problem::Type {
            key: self.key.into(),
            found: self.about.physical_type().to_string(),
            needs,
        }
    }
}

/// Counts steps and the lengths of the lists in them by a column's levels: a repetition of 0 begins an episode, 1 a
/// step, 2 the next list of a step or, if these hold numbers, the next number; and so on inwards.
struct Nest {
    key: &'static str,
    /// Definition level of a value that is there.
    defined: i16,
    steps: Vec<usize>,
    /// Of the lists of a step, from the outermost.
    levels: Vec<Level>,
}

/// The lists of one depth.
#[derive(Clone, Default)]
struct Level {
    /// Entries of the list so far.
    entries: usize,
    /// Entries of every list before.
    all: Option<usize>,
}

impl Nest {
    fn new(key: &'static str, depth: i16, defined: i16) -> Self {
        Self {
            key,
            defined,
            steps: Vec::new(),
            levels: vec![Level::default(); usize::try_from(depth - 1).unwrap_or(0)],
        }
    }

    fn push(&mut self, definition: i16, repetition: i16) -> Result<(), Problem> {
        // Lists inside the one that goes on have ended.
        let goes_on = usize::try_from(repetition).unwrap_or(0);
        self.end_lists(goes_on.saturating_sub(1))?;
        match (repetition, self.steps.last_mut()) {
            (1, Some(steps)) => *steps += 1,
            (2.., _) => {}
            _ => self.steps.push(1),
        }
        if definition != self.defined {
            let (key, row) = (self.key.into(), self.steps.len() - 1);
            return Err(Problem::Hole { key, row });
        }
        // The list that goes on has another entry, and so have those that begin with it.
        for level in &mut self.levels[goes_on.saturating_sub(2)..] {
            level.entries += 1;
        }
        Ok(())
    }

    /// Ends the lists from that depth on; outermost last, though each is judged alone.
    fn end_lists(&mut self, from: usize) -> Result<(), Problem> {
        for level in self.levels.iter_mut().skip(from) {
            match (std::mem::take(&mut level.entries), level.all) {
                // Before the first one.
                (0, _) => {}
                (got, None) => level.all = Some(got),
                (got, Some(expected)) if got != expected => {
                    return Err(Problem::Ragged {
                        key: self.key.into(),
                        row: self.steps.len() - 1,
                        got,
                        expected,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<usize>, Vec<usize>), Problem> {
        self.end_lists(0)?;
        let lengths = self.levels.iter().map(|level| level.all.unwrap_or(0));
        Ok((self.steps, lengths.collect()))
    }
}

/// A column that is no list of numbers: a dictionary, or encoded images.
fn structure(key: &str, leaves: &[ColumnDescPtr]) -> Problem {
    let bytes = |leaf: &ColumnDescPtr| leaf.physical_type() == Type::BYTE_ARRAY;
    let key = key.to_owned();
    if leaves.iter().any(bytes) {
        let found = "binary data".to_owned();
        return Problem::Images { key, found };
    }
    let entries: Vec<String> = leaves.iter().map(entry).collect();
    let entries = entries.join(", ");
    Problem::Dictionary { key, entries }
}

/// The part of a leaf's path that says which entry of a dictionary it is; the names of list levels are left out.
fn entry(leaf: &ColumnDescPtr) -> String {
    const LEVELS: [&str; 6] = ["list", "element", "item", "bag", "array", "array_element"];
    let parts = leaf.path().parts().iter().skip(1);
    let named: Vec<&str> = parts
        .map(String::as_str)
        .filter(|part| !LEVELS.contains(part))
        .collect();
    named.join(".")
}

fn damaged(what: &str, error: &ParquetError) -> Problem {
    Problem::Damaged {
        what: what.into(),
        detail: error.to_string().replace('\n', " "),
    }
}
