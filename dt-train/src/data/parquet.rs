//! The parquet form of replay data on model hubs: one episode per row, of T steps.
//!
//! | column | type | |
//! |---|---|---|
//! | `observations` | T lists of state_dim floats | before the action |
//! | `actions` | T lists of act_dim floats | |
//! | `rewards` | list of T floats | |
//! | `dones` | list of T bools or integers | the step ended in a terminal state |
//!
//! A row is a whole episode: it ends with its last step, in a terminal state or not. Other columns are ignored.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::{Compression, Type};
use ::parquet::column::reader::get_typed_column_reader;
use ::parquet::data_type::{BoolType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescPtr;

use super::{DataError, Dataset, Episode, Problem, Source, digest, quiet_panic};

/// What every parquet file begins with.
pub const SIGNATURE: [u8; 4] = *b"PAR1";

const LAYOUT: &str = "replay data in parquet";

/// Reads the episodes of a file.
///
/// # Errors
/// [`DataError`] names the column and what to do; see [`Problem`].
pub fn read(path: &Path) -> Result<Dataset, DataError> {
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
    let observations = Column::find(&file, "observations", "lists of floats")?.floats(VECTORS)?;
    let actions = Column::find(&file, "actions", "lists of floats")?.floats(VECTORS)?;
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
        state_dim: observations.width,
        act_dim: actions.width,
        episodes: episodes(&dones)?,
        observations: observations.values,
        actions: actions.values,
        rewards: rewards.values,
        sources: vec![Source {
            path: path.into(),
            sha256,
            env: None,
            policy: None,
            unfinished: 0,
        }],
    })
}

fn episodes(dones: &Lists<bool>) -> Result<Vec<Episode>, Problem> {
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
struct Lists<T> {
    values: Vec<T>,
    /// Steps of each episode, none of them 0.
    steps: Vec<usize>,
    /// Values per step.
    width: usize,
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

    /// Finite numbers.
    fn floats(&self, nesting: Nesting) -> Result<Lists<f32>, Problem> {
        let lists = match self.about.physical_type() {
            Type::FLOAT => self.lists::<FloatType, f32>(nesting, |value| value),
            Type::DOUBLE => self.lists::<DoubleType, f32>(nesting, |value| value as f32),
            Type::INT32 | Type::INT64 if self.key == "actions" => Err(Problem::Discrete {
                key: self.key.into(),
                found: self.about.physical_type().to_string(),
            }),
            _ => Err(self.wrong_type("32- or 64-bit floats")),
        }?;
        match lists.values.iter().position(|value| !value.is_finite()) {
            None => Ok(lists),
            Some(i) => {
                let mut step = i / lists.width;
                let mut row = 0;
                while step >= lists.steps[row] {
                    step -= lists.steps[row];
                    row += 1;
                }
                let mut index = vec![row, step];
                if lists.width > 1 {
                    index.push(i % lists.width);
                }
                let (key, value) = (self.key.into(), lists.values[i]);
                Err(Problem::NonFinite { key, index, value })
            }
        }
    }

    /// One flag per step.
    fn flags(&self) -> Result<Lists<bool>, Problem> {
        let integers = match self.about.physical_type() {
            Type::BOOLEAN => return self.lists::<BoolType, bool>(NUMBERS, |flag| flag),
            Type::INT32 => self.lists::<Int32Type, i64>(NUMBERS, i64::from),
            Type::INT64 => self.lists::<Int64Type, i64>(NUMBERS, |value| value),
            _ => return Err(self.wrong_type("bool or integers")),
        }?;
        match integers.values.iter().find(|value| !matches!(value, 0 | 1)) {
            None => Ok(Lists {
                values: integers
                    .values
                    .into_iter()
                    .map(|value| value == 1)
                    .collect(),
                steps: integers.steps,
                width: integers.width,
            }),
            Some(&value) => Err(Problem::NotAFlag {
                key: self.key.into(),
                row: integers
                    .values
                    .iter()
                    .position(|&v| v == value)
                    .unwrap_or(0),
                value,
            }),
        }
    }

    /// The whole column, row group by row group.
    fn lists<D: DataType, T>(
        &self,
        nesting: Nesting,
        convert: impl Fn(D::T) -> T,
    ) -> Result<Lists<T>, Problem> {
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
        let mut shape = Shape::new(self.key, self.about.max_def_level());
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
                    shape.push(definition, repetition)?;
                }
                out.extend(values.drain(..).map(&convert));
            }
        }
        let (steps, width) = shape.finish()?;
        Ok(Lists {
            values: out,
            steps,
            width,
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

/// Counts steps and widths by a column's levels: a repetition of 0 begins an episode, 1 a step, 2 goes on with a vector.
struct Shape {
    key: &'static str,
    /// Definition level of a value that is there.
    defined: i16,
    steps: Vec<usize>,
    /// Values of the step so far.
    values: usize,
    width: Option<usize>,
}

impl Shape {
    fn new(key: &'static str, defined: i16) -> Self {
        Self {
            key,
            defined,
            steps: Vec::new(),
            values: 0,
            width: None,
        }
    }

    fn push(&mut self, definition: i16, repetition: i16) -> Result<(), Problem> {
        if repetition < 2 {
            self.end_step()?;
        }
        match (repetition, self.steps.last_mut()) {
            (1, Some(steps)) => *steps += 1,
            (2.., _) => {}
            _ => self.steps.push(1),
        }
        if definition != self.defined {
            let (key, row) = (self.key.into(), self.steps.len() - 1);
            return Err(Problem::Hole { key, row });
        }
        self.values += 1;
        Ok(())
    }

    fn end_step(&mut self) -> Result<(), Problem> {
        match (std::mem::take(&mut self.values), self.width) {
            // Before the first one.
            (0, _) => {}
            (got, None) => self.width = Some(got),
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
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<usize>, usize), Problem> {
        self.end_step()?;
        Ok((self.steps, self.width.unwrap_or(0)))
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
