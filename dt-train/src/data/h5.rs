//! Reading HDF5: what the layouts built on it have in common.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hdf5::Group;
use hdf5::types::{FloatSize, IntSize, TypeDescriptor, VarLenUnicode};

use super::{Column, Problem};

/// What every HDF5 file begins with.
pub const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// A layout's word for itself, and where its arrays lie.
#[derive(Clone, Copy, Debug)]
pub struct Arrays<'a> {
    /// As errors name it.
    pub layout: &'static str,
    /// The group that holds the arrays.
    pub group: &'a Group,
}

/// Opens a file for reading; one that is being written is waited for, a little.
pub fn open(path: &Path) -> Result<hdf5::File, Problem> {
    File::open(path).map_err(Problem::Unreadable)?;
    for _ in 0..LOCK_ATTEMPTS {
        match hdf5::File::open(path) {
            Err(error) if is_locked(&error) => thread::sleep(LOCK_WAIT),
            other => return other.map_err(|error| damaged("the file", &error)),
        }
    }
    Err(Problem::Locked)
}

/// HDF5 locks the files it has open, and a lock can outlive its file for a moment: a process that was
/// just being started holds it until it has loaded.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

fn is_locked(error: &hdf5::Error) -> bool {
    error.to_string().contains("unable to lock file")
}

impl Arrays<'_> {
    /// The name of an array in errors.
    pub fn key(&self, name: &str) -> String {
        match self.group.name().trim_start_matches('/') {
            "" => name.to_owned(),
            group => format!("{group}/{name}"),
        }
    }

    /// Observations or actions, an element per row, at least one row. What they are is told from type and shape: floats
    /// (N, dim) are vectors, all finite; integers (N) or (N, 1) choices; bytes (N, height, width) or (N, height, width,
    /// channels) pixels.
    pub fn elements(&self, name: &str, needs: &'static str) -> Result<Column, Problem> {
        let dataset = self.find(name, needs)?;
        let found = self.type_of(&dataset, name)?;
        let shape = dataset.shape();
        let key = self.key(name);
        let unreadable = |error| damaged(&format!("`{}`", self.key(name)), &error);
        match (&found, shape.as_slice()) {
            (Ok(TypeDescriptor::Float(_)), _) => {
                let values = self.numbers(name, needs, |shape| shape.len() == 2)?;
                Ok(Column::unbounded(shape[1], values))
            }
            _ if shape.contains(&0) => Err(Problem::Empty { key, shape }),
            (Ok(TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)), [_] | [_, 1]) => {
                choices(key, &dataset.read_raw().map_err(unreadable)?)
            }
            (Ok(TypeDescriptor::Unsigned(IntSize::U1)), &[_, height, width, ref rest @ ..])
                if rest.len() <= 1 =>
            {
                Ok(Column::Image {
                    shape: [height, width, rest.first().copied().unwrap_or(1)],
                    values: dataset.read_raw().map_err(unreadable)?,
                })
            }
            (Ok(found), _) if is_image(found, &shape) => {
                let found = format!("{found}, shape {shape:?}");
                Err(Problem::Images { key, found })
            }
            _ => Err(self.wrong_type(name, found, "32- or 64-bit floats")),
        }
    }

    /// A number per row: finite numbers, at least one.
    pub fn column(&self, name: &str, needs: &'static str) -> Result<Vec<f32>, Problem> {
        self.numbers(name, needs, is_column)
    }

    /// `rows` flags.
    pub fn flags(&self, name: &str, rows: usize, beside: &str) -> Result<Vec<bool>, Problem> {
        let needs = "a bool array (N)";
        let dataset = self.find(name, needs)?;
        match self.type_of(&dataset, name)? {
            Ok(
                TypeDescriptor::Boolean
                | TypeDescriptor::Enum(_)
                | TypeDescriptor::Integer(_)
                | TypeDescriptor::Unsigned(_),
            ) => {}
            other => return Err(self.wrong_type(name, other, "bool or 8-bit integers")),
        }
        let shape = dataset.shape();
        let key = self.key(name);
        if !is_column(&shape) {
            return Err(Problem::Rank { key, shape, needs });
        }
        self.same_length(name, shape[0], beside, rows)?;
        // As integers: a byte that is neither 0 nor 1 must not become a `bool`. What does not fit into an i8 becomes its
        // largest or smallest value, which are no flags either.
        let read = |error| damaged(&format!("`{key}`"), &error);
        let values: Vec<i8> = dataset.read_raw().map_err(read)?;
        match values.iter().position(|value| !matches!(value, 0 | 1)) {
            None => Ok(values.into_iter().map(|value| value == 1).collect()),
            Some(row) => {
                let exact: Vec<i64> = dataset.read_raw().map_err(read)?;
                let value = exact[row];
                Err(Problem::NotAFlag { key, row, value })
            }
        }
    }

    /// Refuses an array that is longer or shorter than the one `beside` it.
    pub fn same_length(
        &self,
        name: &str,
        rows: usize,
        beside: &str,
        expected: usize,
    ) -> Result<(), Problem> {
        if rows == expected {
            return Ok(());
        }
        Err(Problem::Length {
            key: self.key(name),
            rows,
            other: self.key(beside),
            other_rows: expected,
            rule: "every array needs one row per step",
        })
    }

    fn numbers(
        &self,
        name: &str,
        needs: &'static str,
        fits: impl Fn(&[usize]) -> bool,
    ) -> Result<Vec<f32>, Problem> {
        let dataset = self.find(name, needs)?;
        let shape = dataset.shape();
        let key = self.key(name);
        match self.type_of(&dataset, name)? {
            Ok(TypeDescriptor::Float(FloatSize::U4 | FloatSize::U8)) => {}
            other => return Err(self.wrong_type(name, other, "32- or 64-bit floats")),
        }
        if !fits(&shape) {
            return Err(Problem::Rank { key, shape, needs });
        }
        if shape.contains(&0) {
            return Err(Problem::Empty { key, shape });
        }
        let values: Vec<f32> = dataset
            .read_raw()
            .map_err(|error| damaged(&format!("`{key}`"), &error))?;
        let columns: usize = shape.iter().skip(1).product();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(i) => Err(Problem::NonFinite {
                key,
                index: if columns == 1 {
                    vec![i]
                } else {
                    vec![i / columns, i % columns]
                },
                value: values[i],
            }),
        }
    }

    /// The rows of a float array of that shape, some at a time with the number of the first; none if the array is
    /// another one.
    pub fn blocks(
        &self,
        name: &str,
        [rows, columns]: [usize; 2],
    ) -> Option<impl Iterator<Item = Result<(usize, Vec<f32>), Problem>>> {
        /// Values read at once, about: little beside the data, and no chunk of the file is decompressed twice.
        const BLOCK: usize = 1 << 19;
        let dataset = self.group.dataset(name).ok()?;
        let found = dataset.dtype().and_then(|dtype| dtype.to_descriptor());
        if !matches!(
            found,
            Ok(TypeDescriptor::Float(FloatSize::U4 | FloatSize::U8))
        ) || dataset.shape() != [rows, columns]
        {
            return None;
        }
        let chunk = dataset.chunk().map_or(1, |chunk| chunk[0]);
        let step = std::cmp::max(BLOCK / columns, 1).next_multiple_of(chunk);
        let key = self.key(name);
        Some((0..rows).step_by(step).map(move |first| {
            let block = first..std::cmp::min(first + step, rows);
            let values = dataset.read_slice_2d::<f32, _>((block, ..));
            let values = values.map_err(|error| damaged(&format!("`{key}`"), &error))?;
            Ok((first, values.into_raw_vec_and_offset().0))
        }))
    }

    fn find(&self, name: &str, needs: &'static str) -> Result<hdf5::Dataset, Problem> {
        let key = self.key(name);
        if !self.group.link_exists(name) {
            return Err(Problem::Missing {
                key,
                layout: self.layout,
                needs,
            });
        }
        if let Ok(group) = self.group.group(name) {
            let entries = group.member_names().unwrap_or_default().join(", ");
            return Err(Problem::Dictionary { key, entries });
        }
        self.group
            .dataset(name)
            .map_err(|error| damaged(&format!("`{key}`"), &error))
    }

    /// The type of a dataset; the inner error describes one that has no counterpart here.
    fn type_of(
        &self,
        dataset: &hdf5::Dataset,
        name: &str,
    ) -> Result<Result<TypeDescriptor, String>, Problem> {
        let dtype = dataset
            .dtype()
            .map_err(|error| damaged(&format!("`{}`", self.key(name)), &error))?;
        Ok(dtype.to_descriptor().map_err(|error| first_line(&error)))
    }

    fn wrong_type(
        &self,
        name: &str,
        found: Result<TypeDescriptor, String>,
        needs: &'static str,
    ) -> Problem {
        Problem::Type {
            key: self.key(name),
            found: found.map_or_else(|unknown| unknown, |known| known.to_string()),
            needs,
        }
    }
}

/// (N) or (N, 1).
fn is_column(shape: &[usize]) -> bool {
    matches!(shape, [_] | [_, 1])
}

/// The numbers of choices, all of them in the range of 16 bits.
pub fn choices(key: String, values: &[i64]) -> Result<Column, Problem> {
    match values
        .iter()
        .position(|&value| u16::try_from(value).is_err())
    {
        None => Ok(Column::choices(
            values.iter().map(|&value| value as u32).collect(),
        )),
        Some(row) => {
            let value = values[row];
            Err(Problem::NotAChoice { key, row, value })
        }
    }
}

/// Pixels of another form, or a JPEG file per row.
fn is_image(found: &TypeDescriptor, shape: &[usize]) -> bool {
    match found {
        TypeDescriptor::Unsigned(_) => shape.len() >= 3,
        TypeDescriptor::VarLenArray(of) => matches!(**of, TypeDescriptor::Unsigned(_)),
        _ => false,
    }
}

/// What HDF5 could not read.
pub fn damaged(what: &str, error: &hdf5::Error) -> Problem {
    Problem::Damaged {
        what: what.into(),
        detail: first_line(error),
    }
}

/// HDF5 reports a whole stack of calls; its first line says what happened.
pub fn first_line(error: &hdf5::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().into()
}

/// A text attribute, if there is one.
pub fn text_attribute(group: &Group, name: &str) -> Option<String> {
    let attribute = group.attr(name).ok()?;
    attribute
        .read_scalar::<VarLenUnicode>()
        .ok()
        .map(|text| text.to_string())
}
