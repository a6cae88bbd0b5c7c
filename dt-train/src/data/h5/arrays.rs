//! The arrays of a group, and what can be wrong with them.

use hdf5::Group;
use hdf5::types::{IntSize, TypeDescriptor};

use super::{damaged, first_line, holds, unreadable};
use crate::data::error::Needed;
use crate::data::frames::Frames;
use crate::data::{Column, Problem};

/// A layout's word for itself, and where its arrays lie.
#[derive(Clone, Copy, Debug)]
pub struct Arrays<'a> {
    /// As errors name it.
    pub layout: &'static str,
    /// The group that holds the arrays.
    pub group: &'a Group,
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
        let column = self.unchecked_elements(name, needs)?;
        finite(self.key(name), &column)?;
        Ok(column)
    }

    /// As [`elements`](Self::elements), of numbers that need not be finite.
    pub fn unchecked_elements(&self, name: &str, needs: &'static str) -> Result<Column, Problem> {
        let dataset = self.find(name, needs)?;
        let found = self.type_of(&dataset, name)?;
        let shape = dataset.shape();
        let key = self.key(name);
        let unreadable = |error| unreadable(&dataset, &self.key(name), &error);
        match (&found, shape.as_slice()) {
            (Ok(TypeDescriptor::Float(_)), _) => self.vectors(&dataset, name, needs),
            _ if shape.contains(&0) => Err(Problem::Empty { key, shape }),
            (Ok(TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)), [_] | [_, 1]) => {
                choices(key, &dataset.read_raw().map_err(unreadable)?)
            }
            (Ok(TypeDescriptor::Unsigned(IntSize::U1)), &[_, height, width, ref rest @ ..])
                if rest.len() <= 1 =>
            {
                let shape = [height, width, rest.first().copied().unwrap_or(1)];
                self.images(&dataset, shape).map_err(unreadable)
            }
            (Ok(found), _) if is_image(found, &shape) => {
                let found = format!("{found}, shape {shape:?}");
                Err(Problem::Images { key, found })
            }
            _ => Err(self.wrong_type(name, found, FLOATS)),
        }
    }

    /// As [`unchecked_elements`](Self::unchecked_elements), but whole numbers (N, dim) are vectors as well.
    pub fn unchecked_observations(
        &self,
        name: &str,
        needs: &'static str,
    ) -> Result<Column, Problem> {
        let dataset = self.find(name, needs)?;
        match (self.type_of(&dataset, name)?, dataset.shape().as_slice()) {
            (Ok(TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)), &[_, width])
                if width > 1 =>
            {
                self.vectors(&dataset, name, needs)
            }
            _ => self.unchecked_elements(name, needs),
        }
    }

    /// As [`elements`](Self::elements), but floats (N) are vectors of one number.
    pub fn entry(&self, name: &str, needs: &'static str) -> Result<Column, Problem> {
        let dataset = self.find(name, needs)?;
        match (self.type_of(&dataset, name)?, dataset.ndim()) {
            (Ok(TypeDescriptor::Float(_)), 1) => {
                Ok(Column::unbounded(1, self.column(name, needs)?))
            }
            _ => self.elements(name, needs),
        }
    }

    /// A number per row: finite numbers, at least one.
    pub fn column(&self, name: &str, needs: &'static str) -> Result<Vec<f32>, Problem> {
        let values = self.unchecked_column(name, needs)?;
        finite_numbers(self.key(name), &values, 1)?;
        Ok(values)
    }

    /// As [`column`](Self::column), of numbers that need not be finite.
    pub fn unchecked_column(&self, name: &str, needs: &'static str) -> Result<Vec<f32>, Problem> {
        let dataset = self.find(name, needs)?;
        let found = self.type_of(&dataset, name)?;
        let shape = dataset.shape();
        if is_number(&found) && !is_column(&shape) {
            let key = self.key(name);
            return Err(Problem::Rank { key, shape, needs });
        }
        self.numbers(&dataset, name)
    }

    /// `rows` flags.
    pub fn flags(&self, name: &str, rows: usize, beside: &str) -> Result<Vec<bool>, Problem> {
        let needs = "a bool array (N)";
        let dataset = self.find(name, needs)?;
        let found = self.type_of(&dataset, name)?;
        let is_flag = |found: &TypeDescriptor| {
            matches!(found, TypeDescriptor::Boolean | TypeDescriptor::Enum(_))
        };
        if !is_number(&found) && !found.as_ref().is_ok_and(is_flag) {
            return Err(self.wrong_type(name, found, "bool or 8-bit integers"));
        }
        let shape = dataset.shape();
        let key = self.key(name);
        if !is_column(&shape) {
            return Err(Problem::Rank { key, shape, needs });
        }
        self.same_length(name, shape[0], beside, rows)?;
        let read = |error| unreadable(&dataset, &key, &error);
        if matches!(found, Ok(TypeDescriptor::Float(_))) {
            let values: Vec<f32> = dataset.read_raw().map_err(read)?;
            return match values.iter().position(|value| ![0.0, 1.0].contains(value)) {
                None => Ok(values.into_iter().map(|value| value == 1.0).collect()),
                Some(row) => {
                    let value = values[row];
                    Err(Problem::NotAFloatFlag { key, row, value })
                }
            };
        }
        // As integers: a byte that is neither 0 nor 1 must not become a `bool`. What does not fit into an i8 becomes its
        // largest or smallest value, which are no flags either.
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

    /// A whole number or a flag that stands alone; not below 0.
    pub fn whole_number(&self, name: &str) -> Result<u64, Problem> {
        let needs = "a single whole number or flag";
        let dataset = self.find(name, needs)?;
        let (key, shape) = (self.key(name), dataset.shape());
        if dataset.size() != 1 {
            return Err(Problem::Rank { key, shape, needs });
        }
        match self.type_of(&dataset, name)? {
            Ok(
                TypeDescriptor::Integer(_)
                | TypeDescriptor::Unsigned(_)
                | TypeDescriptor::Boolean
                | TypeDescriptor::Enum(_),
            ) => {}
            found => return Err(self.wrong_type(name, found, needs)),
        }
        // What is below 0 becomes 0.
        let values: Vec<u64> = dataset
            .read_raw()
            .map_err(|error| unreadable(&dataset, &key, &error))?;
        Ok(values[0])
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

    /// Refuses a group in which some of these arrays are not, all of them at once.
    /// `needed`: their names and what they should be.
    pub fn require(&self, needed: &[(&str, &'static str)]) -> Result<(), Problem> {
        let lacks = |(name, _): &&(&str, _)| !self.group.link_exists(name);
        let missing: Vec<_> = needed.iter().filter(lacks).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.lacks(&missing))
    }

    /// What to say where arrays are missing.
    pub fn lacks(&self, missing: &[(&str, &'static str)]) -> Problem {
        let needed = |&(name, needs): &(&str, _)| Needed {
            key: self.key(name),
            needs,
        };
        Problem::Lacks {
            missing: missing.iter().map(needed).collect(),
            layout: self.layout,
            holds: holds(self.group),
        }
    }

    /// Pixels (N, height, width[, channels]), some rows at a time: all of them would be several times what is kept.
    fn images(&self, dataset: &hdf5::Dataset, shape: [usize; 3]) -> hdf5::Result<Column> {
        /// Bytes read at once, about; no chunk of the file is decompressed twice.
        const BLOCK: usize = 1 << 24;
        let rows = dataset.shape()[0];
        let mut frames = Frames::new(shape);
        let chunk = dataset.chunk().map_or(1, |chunk| chunk[0]);
        let step = std::cmp::max(BLOCK / frames.frame_len(), 1).next_multiple_of(chunk);
        for first in (0..rows).step_by(step) {
            let block = first..std::cmp::min(first + step, rows);
            let pixels = match dataset.ndim() {
                3 => {
                    dataset
                        .read_slice::<u8, _, ndarray::Ix3>((block, .., ..))?
                        .into_raw_vec_and_offset()
                        .0
                }
                _ => {
                    dataset
                        .read_slice::<u8, _, ndarray::Ix4>((block, .., .., ..))?
                        .into_raw_vec_and_offset()
                        .0
                }
            };
            frames.push_all(&pixels);
        }
        Ok(Column::Image(frames))
    }

    /// Numbers (N, dim), at least one.
    fn vectors(
        &self,
        dataset: &hdf5::Dataset,
        name: &str,
        needs: &'static str,
    ) -> Result<Column, Problem> {
        let shape = dataset.shape();
        match shape.as_slice() {
            &[_, width] => Ok(Column::unbounded(width, self.numbers(dataset, name)?)),
            // A number per pixel: what to do is not to make one row of it.
            &[_, _, _] | &[_, _, _, _] if name.contains("observation") => Err(Problem::Images {
                key: self.key(name),
                found: format!("numbers of shape {shape:?}"),
            }),
            _ => {
                let key = self.key(name);
                Err(Problem::Rank { key, shape, needs })
            }
        }
    }

    /// Numbers of any shape, at least one. Whole numbers are read exactly or refused.
    fn numbers(&self, dataset: &hdf5::Dataset, name: &str) -> Result<Vec<f32>, Problem> {
        let found = self.type_of(dataset, name)?;
        if !is_number(&found) {
            return Err(self.wrong_type(name, found, FLOATS));
        }
        let shape = dataset.shape();
        let key = self.key(name);
        if shape.contains(&0) {
            return Err(Problem::Empty { key, shape });
        }
        let read = |error| unreadable(dataset, &key, &error);
        let Ok(TypeDescriptor::Integer(size) | TypeDescriptor::Unsigned(size)) = found else {
            return dataset.read_raw().map_err(read);
        };
        if matches!(size, IntSize::U1 | IntSize::U2) {
            return dataset.read_raw().map_err(read);
        }
        // What does not fit into an i64 becomes its largest value, which is no f32 either.
        let values: Vec<i64> = dataset.read_raw().map_err(read)?;
        let is_rounded = |&value: &i64| value as f32 as i128 != i128::from(value);
        match values.iter().position(is_rounded) {
            None => Ok(values.into_iter().map(|value| value as f32).collect()),
            Some(i) => Err(Problem::Inexact {
                key,
                index: index(i, shape.iter().skip(1).product()),
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
        if !is_number(&found) || dataset.shape() != [rows, columns] {
            return None;
        }
        let chunk = dataset.chunk().map_or(1, |chunk| chunk[0]);
        let step = std::cmp::max(BLOCK / columns, 1).next_multiple_of(chunk);
        let key = self.key(name);
        Some((0..rows).step_by(step).map(move |first| {
            let block = first..std::cmp::min(first + step, rows);
            let values = dataset.read_slice_2d::<f32, _>((block, ..));
            let values = values.map_err(|error| unreadable(&dataset, &key, &error))?;
            Ok((first, values.into_raw_vec_and_offset().0))
        }))
    }

    fn find(&self, name: &str, needs: &'static str) -> Result<hdf5::Dataset, Problem> {
        if !self.group.link_exists(name) {
            return Err(self.lacks(&[(name, needs)]));
        }
        let key = self.key(name);
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
    ) -> Result<Result<TypeDescriptor, hdf5::Error>, Problem> {
        let dtype = dataset
            .dtype()
            .map_err(|error| damaged(&format!("`{}`", self.key(name)), &error))?;
        Ok(dtype.to_descriptor())
    }

    fn wrong_type(
        &self,
        name: &str,
        found: Result<TypeDescriptor, hdf5::Error>,
        needs: &'static str,
    ) -> Problem {
        Problem::Type {
            key: self.key(name),
            found: found.map_or_else(|unknown| first_line(&unknown), |known| known.to_string()),
            needs,
        }
    }
}

const FLOATS: &str = "16-, 32- or 64-bit floats";

/// (N) or (N, 1).
fn is_column(shape: &[usize]) -> bool {
    matches!(shape, [_] | [_, 1])
}

fn is_number(found: &hdf5::Result<TypeDescriptor>) -> bool {
    matches!(
        found,
        Ok(TypeDescriptor::Float(_) | TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_))
    )
}

/// Refuses a column with a number in it that is not finite.
pub fn finite(key: String, column: &Column) -> Result<(), Problem> {
    match column.vectors() {
        Some(values) => finite_numbers(key, values, column.width()),
        None => Ok(()),
    }
}

/// As [`finite`], of `values` in rows of `width`.
pub fn finite_numbers(key: String, values: &[f32], width: usize) -> Result<(), Problem> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Problem::NonFinite {
            key,
            index: index(i, width),
            value: values[i],
        }),
    }
}

/// Row of value number `i`, and its column if there are several.
fn index(i: usize, columns: usize) -> Vec<usize> {
    match columns {
        1 => vec![i],
        _ => vec![i / columns, i % columns],
    }
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
