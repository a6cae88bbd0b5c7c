//! Vectors of numbers: whatever NumPy takes for one comes in as f32.

use std::path::Path;

use numpy::prelude::*;
use numpy::{AllowTypeChange, PyArray1, PyArrayLikeDyn};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Copies `value` to `into`, rounded to f32 as `host-sim` rounds what it simulates in f64.
///
/// `name` is what the value is, and `file` whose policy takes it, for messages.
///
/// # Errors
/// `TypeError` if it does not consist of numbers, `ValueError` if its shape is not that of `into`; `into` is then
/// as it was.
pub fn read(name: &str, file: &Path, value: &Bound<'_, PyAny>, into: &mut [f32]) -> PyResult<()> {
    let check = |shape: &[usize]| {
        if shape == [into.len()] {
            return Ok(());
        }
        Err(wrong_shape(name, file, shape, into.len()))
    };
    // What environments give, without a detour over NumPy's conversion.
    if let Ok(array) = value.cast::<PyArray1<f32>>() {
        check(array.shape())?;
        copy(array.try_readonly()?.as_array().iter().copied(), into);
    } else if let Ok(array) = value.cast::<PyArray1<f64>>() {
        check(array.shape())?;
        let array = array.try_readonly()?;
        copy(array.as_array().iter().map(|&value| value as f32), into);
    } else {
        let array: PyArrayLikeDyn<'_, f32, AllowTypeChange> = value
            .extract()
            .map_err(|cause| not_numbers(name, value, &cause))?;
        check(array.shape())?;
        copy(array.as_array().iter().copied(), into);
    }
    Ok(())
}

/// A new array, which the caller may keep and change.
pub fn array<'py>(py: Python<'py>, values: &[f32]) -> Bound<'py, PyArray1<f32>> {
    PyArray1::from_slice(py, values)
}

fn copy(values: impl Iterator<Item = f32>, into: &mut [f32]) {
    for (into, value) in into.iter_mut().zip(values) {
        *into = value;
    }
}

fn wrong_shape(name: &str, file: &Path, shape: &[usize], expected: usize) -> PyErr {
    let file = file.display();
    let remedy = match shape {
        [_, width] if *width == expected => {
            "; a Policy is for one robot: give each row to a Policy of its own"
        }
        _ => "",
    };
    PyValueError::new_err(format!(
        "the {name} has shape {}; {file} takes ({expected},){remedy}",
        tuple(shape)
    ))
}

/// As Python shows it.
fn tuple(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        _ => {
            let dims: Vec<_> = shape.iter().map(usize::to_string).collect();
            format!("({})", dims.join(", "))
        }
    }
}

fn not_numbers(name: &str, value: &Bound<'_, PyAny>, cause: &PyErr) -> PyErr {
    if value.is_instance_of::<PyDict>() {
        return PyTypeError::new_err(format!(
            "the {name} is a dictionary; join its parts in the order of the training data: numpy.concatenate([{name}[key] for key in keys])"
        ));
    }
    PyTypeError::new_err(format!(
        "the {name} is {}, which NumPy does not take for a vector of numbers: {cause}",
        value.get_type()
    ))
}
