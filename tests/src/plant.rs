//! Episodes of an independent simulator, as `reference/*.py` writes them: tensors called `<case>.<name>`.

use std::collections::BTreeSet;

use safetensors::SafeTensors;

/// A file of such episodes.
#[derive(Debug)]
pub struct Episodes<'d>(SafeTensors<'d>);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    file: &'a SafeTensors<'a>,
    /// What it is called.
    pub name: &'a str,
}

impl<'d> Episodes<'d> {
    /// Reads the file.
    ///
    /// # Panics
    /// If it is none.
    pub fn new(bytes: &'d [u8]) -> Self {
        Self(SafeTensors::deserialize(bytes).expect("a file of the reference"))
    }

    /// All episodes, by name.
    pub fn cases(&self) -> Vec<Case<'_>> {
        let names = self.0.names().into_iter();
        let cases: BTreeSet<&str> = names
            .filter_map(|name| Some(name.split_once('.')?.0))
            .collect();
        cases.into_iter().map(|name| self.case(name)).collect()
    }

    /// The episode of that name.
    pub fn case<'a>(&'a self, name: &'a str) -> Case<'a> {
        let file = &self.0;
        Case { file, name }
    }
}

impl Case<'_> {
    /// A tensor of this episode, as the file has it.
    ///
    /// # Panics
    /// As all of these: if there is none of that name.
    pub fn bytes(&self, name: &str) -> &[u8] {
        let name = format!("{}.{name}", self.name);
        let tensor = self.file.tensor(&name);
        tensor.unwrap_or_else(|_| panic!("no {name}")).data()
    }

    /// A tensor of f32, in rows of `N`.
    pub fn f32s<const N: usize>(&self, name: &str) -> Vec<[f32; N]> {
        rows(self.bytes(name), f32::from_le_bytes)
    }

    /// A tensor of f64, in rows of `N`.
    pub fn f64s<const N: usize>(&self, name: &str) -> Vec<[f64; N]> {
        rows(self.bytes(name), f64::from_le_bytes)
    }

    /// A vector of f64.
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        self.f64s::<1>(name).into_iter().flatten().collect()
    }

    /// A vector of zeros and ones.
    pub fn flags(&self, name: &str) -> Vec<bool> {
        self.bytes(name).iter().map(|byte| *byte == 1).collect()
    }
}

fn rows<const N: usize, const B: usize, T: Copy + Default>(
    bytes: &[u8],
    parse: fn([u8; B]) -> T,
) -> Vec<[T; N]> {
    let (values, []) = bytes.as_chunks() else {
        panic!("a value is cut off")
    };
    let values: Vec<T> = values.iter().copied().map(parse).collect();
    let (rows, []) = values.as_chunks() else {
        panic!("a row is cut off")
    };
    rows.to_vec()
}
