//! The weights of a model's folder, as its files name them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::description::holds;
use super::{INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, pickle};
use crate::nn::parameters::host_values;
use crate::run::checkpoint::Array;

/// Arrays by name.
pub type Tensors = BTreeMap<String, Array>;

/// Whether a tensor has no part in predicting anything: masks that older versions store, and the embedding of words.
pub(super) fn is_without_part(name: &str) -> bool {
    let masks = [".attn.bias", ".attn.masked_bias"];
    masks.iter().any(|mask| name.ends_with(mask)) || name.ends_with("wte.weight")
}

/// Every tensor that has part in predicting something, as f32: of a file, or of the files of a folder, which are one, or several
/// with their index. Safetensors are preferred; a pickle is not run.
///
/// # Errors
/// No such file, one that is cut off, or tensors that are not numbers with a point.
pub fn read(path: &Path) -> anyhow::Result<Tensors> {
    let mut tensors = Tensors::new();
    if !path.is_dir() {
        read_file(path, &mut tensors)?;
        return Ok(tensors);
    }
    let dir = path;
    let there = |name: &&str| dir.join(name).is_file();
    match [WEIGHTS, INDEX, PICKLED, PICKLED_INDEX]
        .iter()
        .copied()
        .find(there)
    {
        Some(index) if index.ends_with(".index.json") => {
            read_indexed(dir, &dir.join(index), &mut tensors)?;
        }
        Some(file) => read_file(&dir.join(file), &mut tensors)?,
        None => bail!(
            "{} holds no {WEIGHTS}{}; download the weights, too",
            dir.display(),
            holds(dir)
        ),
    }
    Ok(tensors)
}

/// Whether a folder holds a file that [`read`] reads.
pub(super) fn are_in(dir: &Path) -> bool {
    let names = [WEIGHTS, INDEX, PICKLED, PICKLED_INDEX];
    names.iter().any(|name| dir.join(name).is_file())
}

fn read_indexed(dir: &Path, index: &Path, tensors: &mut Tensors) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index)
        .with_context(|| format!("cannot read {}", index.display()))?;
    let Index { weight_map } =
        serde_json::from_str(&text).with_context(|| format!("{}", index.display()))?;
    let files: BTreeSet<&String> = weight_map.values().collect();
    // A name is a file's beside the index, and no path to somewhere else.
    let missing = |file: &&&String| file.contains(['/', '\\']) || !dir.join(file).is_file();
    let missing: Vec<_> = files
        .iter()
        .filter(missing)
        .map(|file| file.as_str())
        .collect();
    if !missing.is_empty() {
        bail!(
            "{} names files that are not beside it: {}; download them, too",
            index.display(),
            missing.join(", ")
        );
    }
    for file in files {
        read_file(&dir.join(file), tensors)?;
    }
    Ok(())
}

/// Safetensors by that name; everything else is a pickle, or nothing.
fn read_file(path: &Path, tensors: &mut Tensors) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_safetensors = path
        .extension()
        .is_some_and(|extension| extension == "safetensors");
    if !is_safetensors {
        return pickle::read(&bytes, tensors).with_context(|| path.display().to_string());
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        let remedy = "it is damaged or was cut off; download it again";
        anyhow::anyhow!(
            "{} is no safetensors file ({error}): {remedy}",
            path.display()
        )
    })?;
    for (name, view) in file.iter() {
        if is_without_part(name) {
            continue;
        }
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => bail!(
                "{}: tensor `{name}` is {other:?}; weights are F32, F64, F16 or BF16: load the model unquantized and save it \
                 again",
                path.display()
            ),
        };
        let shape = view.shape().to_vec();
        let size: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let values = Tensor::from_data_size(view.data(), &size, kind).to_kind(Kind::Float);
        let values = host_values(&values);
        tensors.insert(name.to_owned(), Array { shape, values });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_words_are_left_out_and_biases_are_not() {
        for name in [
            "encoder.h.0.attn.bias",
            "encoder.h.11.attn.masked_bias",
            "encoder.wte.weight",
        ] {
            assert!(is_without_part(name), "{name}");
        }
        for name in [
            "encoder.h.0.attn.c_attn.bias",
            "encoder.wpe.weight",
            "predict_action.0.bias",
            "predict_state.weight",
        ] {
            assert!(!is_without_part(name), "{name}");
        }
    }
}
