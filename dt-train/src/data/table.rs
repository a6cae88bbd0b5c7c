//! The steps of an episode in a table: an Arrow array with an entry per step, which may be a number, lists of numbers or
//! a structure of such. Parquet and Arrow files come as these.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::dictionary::{self, Entry};
use super::h5::choices;
use super::{Column, Problem};

/// Where steps are in their file, as errors name it.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// A step per row, from that one on.
    Rows(usize),
    /// All in that row.
    Within(usize),
}

impl At {
    fn row(self, step: usize) -> usize {
        match self {
            Self::Rows(first) => first + step,
            Self::Within(row) => row,
        }
    }

    fn index(self, step: usize) -> Vec<usize> {
        match self {
            Self::Rows(first) => vec![first + step],
            Self::Within(row) => vec![row, step],
        }
    }
}

/// An array with an entry per step.
#[derive(Clone)]
pub struct Steps<'a> {
    /// As errors call it.
    pub key: &'a str,
    /// Its place.
    pub at: At,
    /// The entries.
    pub array: ArrayRef,
}

/// Numbers without the lists around them.
struct Flat {
    numbers: ArrayRef,
    /// Lengths of the lists of a step, from the outermost; empty where a step is a number.
    shape: Vec<usize>,
}

impl Steps<'_> {
    /// Number of steps.
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Observations, as `read` reads them; of a dictionary the entries `keys` side by side, each as `read` reads it by
    /// its name.
    pub fn observations(
        &self,
        keys: &[String],
        read: impl Fn(Option<&str>, &Steps<'_>) -> Result<Column, Problem>,
    ) -> Result<Column, Problem> {
        if !matches!(self.array.data_type(), DataType::Struct(_)) {
            return match keys {
                [] => read(None, self),
                _ => Err(Problem::NotADictionary {
                    key: self.key.into(),
                }),
            };
        }
        let entries = self.entries();
        if keys.is_empty() && self.is_encoded() {
            return Err(self.encoded());
        }
        dictionary::check(self.key, &entries, keys)?;
        let columns: Result<Vec<Column>, Problem> = keys
            .iter()
            .map(|entry| {
                let array = self.entry(entry)?;
                let named = format!("{}/{entry}", self.key);
                let (key, at) = (named.as_str(), self.at);
                read(Some(entry), &Steps { key, at, array })
            })
            .collect();
        dictionary::beside(self.key, keys, &columns?)
    }

    /// Actions, as `read` reads them; a dictionary they may not be.
    pub fn actions(
        &self,
        read: impl Fn(&Self) -> Result<Column, Problem>,
    ) -> Result<Column, Problem> {
        match self.array.data_type() {
            DataType::Struct(_) if !self.is_encoded() => Err(Problem::DictionaryActions {
                key: self.key.into(),
                entries: dictionary::list(&self.entries()),
            }),
            _ => read(self),
        }
    }

    /// Vectors, choices or pixels, as type and nesting tell: integers are choices, or the components of vectors of two
    /// or more; bytes in lists of lists are pixels; other numbers are vectors.
    pub fn elements(&self) -> Result<Column, Problem> {
        if self.is_encoded() {
            return Err(self.encoded());
        }
        let flat = self.flat()?;
        let kind = flat.numbers.data_type();
        let is_integer = kind.is_integer();
        match flat.shape[..] {
            [] | [1] if is_integer => choices(self.key.into(), &self.integers(&flat)?),
            [] | [_] => Ok(Column::unbounded(
                flat.shape.first().copied().unwrap_or(1),
                self.numbers_of(&flat)?,
            )),
            [height, width, ref rest @ ..] if *kind == DataType::UInt8 && rest.len() <= 1 => {
                let shape = [height, width, rest.first().copied().unwrap_or(1)];
                let pixels = flat.numbers.as_primitive::<UInt8Type>().values();
                Ok(Column::image(shape, pixels))
            }
            _ => Err(Problem::Images {
                key: self.key.into(),
                found: format!("nested lists of {kind}, shape {:?}", flat.shape),
            }),
        }
    }

    /// The bytes of images of that many pixels, in whatever lists.
    pub fn pixels(&self, shape: [usize; 3]) -> Result<Column, Problem> {
        let flat = self.flat()?;
        let width: usize = shape.iter().product();
        if *flat.numbers.data_type() != DataType::UInt8 || flat.numbers.len() != self.len() * width
        {
            return Err(self.wrong_type(&flat.numbers, "8-bit integers"));
        }
        let values = flat.numbers.as_primitive::<UInt8Type>().values();
        Ok(Column::image(shape, values))
    }

    /// A finite number per step.
    pub fn numbers(&self) -> Result<Vec<f32>, Problem> {
        let flat = self.flat()?;
        self.of_one_number(&flat)?;
        self.numbers_of(&flat)
    }

    /// A flag per step.
    pub fn flags(&self) -> Result<Vec<bool>, Problem> {
        let flat = self.flat()?;
        self.of_one_number(&flat)?;
        if let Some(flags) = flat.numbers.as_boolean_opt() {
            return Ok(flags.values().iter().collect());
        }
        let values = if flat.numbers.data_type().is_floating() {
            let numbers = self.numbers_of(&flat)?;
            // What is no integer is no flag either.
            let whole = |x: f32| if x.fract() == 0.0 { x as i64 } else { -1 };
            numbers.into_iter().map(whole).collect()
        } else {
            self.integers(&flat)?
        };
        match values.iter().position(|value| !matches!(value, 0 | 1)) {
            None => Ok(values.iter().map(|&value| value == 1).collect()),
            Some(step) => Err(Problem::NotAFlag {
                key: self.key.into(),
                row: self.at.row(step),
                value: values[step],
            }),
        }
    }

    /// An integer per step.
    pub fn counts(&self) -> Result<Vec<i64>, Problem> {
        let flat = self.flat()?;
        self.of_one_number(&flat)?;
        self.integers(&flat)
    }

    fn of_one_number(&self, flat: &Flat) -> Result<(), Problem> {
        match flat.shape[..] {
            [] | [1] => Ok(()),
            _ => Err(Problem::Nesting {
                key: self.key.into(),
                found: format!("of shape {:?}", flat.shape),
                needs: "one number per step",
            }),
        }
    }

    /// Takes the lists away. Those of one depth have one length, and nothing is empty or null.
    fn flat(&self) -> Result<Flat, Problem> {
        let mut array = self.array.clone();
        let mut shape = Vec::new();
        loop {
            let per_step: usize = shape.iter().product();
            let row = |entry: usize| self.at.row(entry / per_step);
            if let Some(entry) = first_null(&array) {
                let (key, row) = (self.key.into(), row(entry));
                return Err(Problem::Hole { key, row });
            }
            let (inner, lengths): (ArrayRef, Vec<usize>) = match array.data_type() {
                DataType::List(_) => {
                    let lists = array.as_list::<i32>();
                    let [first, last] = ends(lists.offsets()).map(|at| at as usize);
                    let inner = lists.values().slice(first, last - first);
                    (inner, lists.offsets().lengths().collect())
                }
                DataType::LargeList(_) => {
                    let lists = array.as_list::<i64>();
                    let [first, last] = ends(lists.offsets()).map(|at| at as usize);
                    let inner = lists.values().slice(first, last - first);
                    (inner, lists.offsets().lengths().collect())
                }
                DataType::FixedSizeList(_, length) => {
                    let lists = array.as_fixed_size_list();
                    let length = usize::try_from(*length).unwrap_or(0);
                    (lists.values().clone(), vec![length; lists.len()])
                }
                _ => {
                    return Ok(Flat {
                        numbers: array,
                        shape,
                    });
                }
            };
            let expected = lengths.first().copied().unwrap_or(0);
            let differs = |&length: &usize| length == 0 || length != expected;
            if let Some(entry) = lengths.iter().position(differs) {
                let (key, row) = (self.key.into(), row(entry));
                return Err(match lengths[entry] {
                    0 => Problem::Hole { key, row },
                    got => Problem::Ragged {
                        key,
                        row,
                        got,
                        expected,
                    },
                });
            }
            shape.push(expected);
            array = inner;
        }
    }

    /// All numbers as finite f32: floats rounded, integers exact.
    fn numbers_of(&self, flat: &Flat) -> Result<Vec<f32>, Problem> {
        fn of<T: ArrowPrimitiveType>(
            array: &ArrayRef,
            convert: impl Fn(T::Native) -> f32,
        ) -> Vec<f32> {
            let values = array.as_primitive::<T>().values();
            values.iter().map(|&value| convert(value)).collect()
        }
        let array = &flat.numbers;
        let numbers = match array.data_type() {
            DataType::Float16 => of::<Float16Type>(array, |x| x.to_f32()),
            DataType::Float32 => of::<Float32Type>(array, |x| x),
            DataType::Float64 => of::<Float64Type>(array, |x| x as f32),
            kind if kind.is_integer() => {
                /// f32 holds every integer up to here.
                const EXACT: u64 = 1 << 24;
                let integers = self.integers(flat)?;
                if let Some(i) = integers.iter().position(|x| x.unsigned_abs() > EXACT) {
                    return Err(Problem::Inexact {
                        key: self.key.into(),
                        index: self.index(flat, i),
                        value: integers[i],
                    });
                }
                integers.into_iter().map(|x| x as f32).collect()
            }
            _ => return Err(self.wrong_type(array, "numbers")),
        };
        match numbers.iter().position(|x| !x.is_finite()) {
            None => Ok(numbers),
            Some(i) => Err(Problem::NonFinite {
                key: self.key.into(),
                index: self.index(flat, i),
                value: numbers[i],
            }),
        }
    }

    fn integers(&self, flat: &Flat) -> Result<Vec<i64>, Problem> {
        fn of<T: ArrowPrimitiveType>(array: &ArrayRef) -> Vec<i64>
        where
            T::Native: TryInto<i64>,
        {
            let values = array.as_primitive::<T>().values();
            // What does not fit is too large for everything that integers are here.
            let convert = |&value: &T::Native| value.try_into().unwrap_or(i64::MAX);
            values.iter().map(convert).collect()
        }
        let array = &flat.numbers;
        Ok(match array.data_type() {
            DataType::Int8 => of::<Int8Type>(array),
            DataType::Int16 => of::<Int16Type>(array),
            DataType::Int32 => of::<Int32Type>(array),
            DataType::Int64 => of::<Int64Type>(array),
            DataType::UInt8 => of::<UInt8Type>(array),
            DataType::UInt16 => of::<UInt16Type>(array),
            DataType::UInt32 => of::<UInt32Type>(array),
            DataType::UInt64 => of::<UInt64Type>(array),
            _ => return Err(self.wrong_type(array, "bool or integers")),
        })
    }

    /// Place of number `i` of all.
    fn index(&self, flat: &Flat, i: usize) -> Vec<usize> {
        let width: usize = flat.shape.iter().product();
        let mut index = self.at.index(i / width);
        if width > 1 {
            index.push(i % width);
        }
        index
    }

    /// The arrays of a structure and of the structures in it.
    pub fn entries(&self) -> Vec<Entry> {
        fn add(steps: &Steps<'_>, prefix: &str, entries: &mut Vec<Entry>) {
            let Some(structure) = steps.array.as_struct_opt() else {
                let flat = steps.flat();
                entries.push(Entry {
                    name: prefix.into(),
                    shape: flat.map_or_else(|_| Vec::new(), |flat| flat.shape),
                });
                return;
            };
            for (name, array) in structure.column_names().iter().zip(structure.columns()) {
                let name = match prefix {
                    "" => (*name).to_owned(),
                    _ => format!("{prefix}/{name}"),
                };
                let inner = Steps {
                    array: array.clone(),
                    ..*steps
                };
                add(&inner, &name, entries);
            }
        }
        let mut entries = Vec::new();
        add(self, "", &mut entries);
        entries
    }

    /// The entry `a/b` of a structure that has it.
    fn entry(&self, path: &str) -> Result<ArrayRef, Problem> {
        let mut array = self.array.clone();
        for name in path.split('/') {
            if let Some(step) = first_null(&array) {
                let (key, row) = (self.key.into(), self.at.row(step));
                return Err(Problem::Hole { key, row });
            }
            let inner = array
                .as_struct_opt()
                .and_then(|all| all.column_by_name(name));
            array = inner.expect("an entry of the structure").clone();
        }
        Ok(array)
    }

    /// Whether it holds files, say of pictures, and no numbers.
    pub fn is_encoded(&self) -> bool {
        fn only_bytes(kind: &DataType) -> bool {
            match kind {
                DataType::Struct(fields) => {
                    fields.iter().all(|field| only_bytes(field.data_type()))
                }
                DataType::List(inner) | DataType::LargeList(inner) => only_bytes(inner.data_type()),
                _ => matches!(
                    kind,
                    DataType::Binary
                        | DataType::LargeBinary
                        | DataType::BinaryView
                        | DataType::Utf8
                        | DataType::LargeUtf8
                        | DataType::Utf8View
                ),
            }
        }
        only_bytes(self.array.data_type())
    }

    fn encoded(&self) -> Problem {
        use DataType::{LargeUtf8, Utf8, Utf8View};
        if matches!(self.array.data_type(), Utf8 | LargeUtf8 | Utf8View) {
            return self.wrong_type(&self.array, "lists of numbers");
        }
        Problem::Images {
            key: self.key.into(),
            found: "binary data".into(),
        }
    }

    fn wrong_type(&self, found: &ArrayRef, needs: &'static str) -> Problem {
        Problem::Type {
            key: self.key.into(),
            found: found.data_type().to_string(),
            needs,
        }
    }
}

/// The first entry that is null.
fn first_null(array: &ArrayRef) -> Option<usize> {
    let nulls = array.logical_nulls()?;
    (0..array.len()).find(|&entry| nulls.is_null(entry))
}

/// First and last offset.
fn ends<T: Copy>(offsets: &[T]) -> [T; 2] {
    [offsets[0], offsets[offsets.len() - 1]]
}
