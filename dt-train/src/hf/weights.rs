//! One network under two sets of names: transformers' and those of `BLOB.md`.

use anyhow::bail;
use dt_core::config::Config;

use super::description::Description;
use super::tensors::Tensors;
use crate::run::checkpoint::{Array, CheckpointError, Weights};

/// Where this program's names and transformers' differ: modules outside blocks, and within.
const MODULES: [(&str, &str); 8] = [
    ("embed_return", "embed_return"),
    ("embed_state", "embed_state"),
    ("embed_action", "embed_action"),
    ("embed_ln", "embed_ln"),
    ("ln_f", "encoder.ln_f"),
    ("head", "predict_action.0"),
    ("state_head", PREDICTIONS[0]),
    ("return_head", PREDICTIONS[1]),
];

/// What predicts states and returns there.
const PREDICTIONS: [&str; 2] = ["predict_state", "predict_return"];

/// Those whose matrices are [inputs, outputs] in transformers, as `Conv1D` has them, are marked.
const BLOCK: [(&str, &str, bool); 6] = [
    ("ln_1", "ln_1", false),
    ("attn_qkv", "attn.c_attn", true),
    ("attn_proj", "attn.c_proj", true),
    ("ln_2", "ln_2", false),
    ("mlp_fc", "mlp.c_fc", true),
    ("mlp_proj", "mlp.c_proj", true),
];

const TIMESTEPS: &str = "embed_timestep";
const TIMESTEPS_THERE: &str = "embed_timestep.weight";
const POSITIONS: &str = "encoder.wpe.weight";
/// What the body is called there, and in the code of the paper, which has no positions.
pub(super) const BODY: [&str; 2] = ["encoder.", "transformer."];

/// A tensor in both.
struct Pair {
    here: String,
    there: String,
    /// Here.
    shape: Vec<usize>,
    transposed: bool,
}

/// Every tensor of a network but `wpe`.
fn pairs(network: &Config) -> Vec<Pair> {
    let parameters = crate::nn::transformer::parameters(network, 0.0);
    let pairs = parameters.into_iter().map(|parameter| {
        let here = parameter.name;
        let (module, part) = here.rsplit_once('.').unwrap_or((&here, ""));
        let (there, conv) = if here == TIMESTEPS {
            (TIMESTEPS_THERE.to_owned(), false)
        } else if let Some(rest) = module.strip_prefix("layers.") {
            let (i, module) = rest.split_once('.').expect("a block's number");
            let found = BLOCK.iter().find(|(here, ..)| *here == module);
            let (_, there, conv) = found.expect("a block's module");
            (format!("encoder.h.{i}.{there}.{part}"), *conv)
        } else {
            let found = MODULES.iter().find(|(here, _)| *here == module);
            (format!("{}.{part}", found.expect("a module").1), false)
        };
        Pair {
            there,
            shape: parameter.shape.iter().map(|&n| n as usize).collect(),
            transposed: conv && part == "weight",
            here,
        }
    });
    pairs.collect()
}

/// The network's parameters under this program's names. What its engine has no place for is multiplied out: `wpe[0]` goes into
/// the bias of the embedding norm, scales of attention into queries.
///
/// # Errors
/// Tensors that are missing, misshapen, not finite, or more than the network has: all of them.
pub fn from_transformers(
    description: &Description,
    mut tensors: Tensors,
) -> anyhow::Result<Weights> {
    let network = description.network();
    let mut problems = Problems {
        found_in: description.found_in,
        ..Problems::default()
    };
    let [encoder, papers] = BODY;
    // Of the paper's own code, whose body has no positions.
    let is_papers = tensors.keys().any(|name| name.starts_with(papers));
    let mut take = |there: &str, shape: &[usize]| {
        let name = match there.strip_prefix(encoder) {
            Some(rest) if is_papers => format!("{papers}{rest}"),
            _ => there.to_owned(),
        };
        let Some(array) = tensors.remove(&name) else {
            problems.missing.push(name);
            return None;
        };
        problems.check(name, &array, shape).then_some(array.values)
    };
    let mut weights = Weights::default();
    let mut embedding_bias = Vec::new();
    for pair in pairs(&network) {
        let shape_there = pair.shape_there();
        let Some(mut values) = take(&pair.there, &shape_there) else {
            continue;
        };
        if pair.transposed {
            values = transposed(&values, shape_there[0]);
        }
        if let Some(rest) = pair.here.strip_prefix("layers.")
            && let Some((i, "attn_qkv.weight" | "attn_qkv.bias")) = rest.split_once('.')
        {
            let queries = values.len() / 3;
            let scale = query_scale(description, i.parse().expect("a block's number"));
            values[..queries].iter_mut().for_each(|q| *q *= scale);
        }
        if pair.here == "embed_ln.bias" {
            embedding_bias = values;
        } else {
            weights.insert(pair.here, pair.shape, values);
        }
    }
    if !is_papers {
        // As many rows as there are tokens in its longest window, of which none but the first is ever read.
        match tensors.remove(POSITIONS) {
            None => problems.missing.push(POSITIONS.into()),
            Some(array) => {
                let d = network.d_model as usize;
                let rows = array.shape.first().map_or(1, |&rows| rows.max(1));
                if problems.check(POSITIONS.into(), &array, &[rows, d]) {
                    let biases = embedding_bias.iter_mut().zip(&array.values);
                    // Adding 0 would turn -0 into 0, which is another file.
                    biases
                        .filter(|(_, position)| **position != 0.0)
                        .for_each(|(bias, position)| *bias += position);
                }
            }
        }
    }
    // Every model there has them; this one only if it is asked to.
    tensors.retain(|name, _| !is_prediction(name));
    // Exported without one, it got one of zeros.
    if network.max_ep_len == 0
        && let Some(table) = tensors.get(TIMESTEPS_THERE)
        && table.values.iter().all(|x| *x == 0.0)
    {
        tensors.remove(TIMESTEPS_THERE);
    }
    weights.insert(
        "embed_ln.bias".into(),
        vec![embedding_bias.len()],
        embedding_bias,
    );
    problems.extra.extend(tensors.into_keys());
    problems.finish()?;
    Ok(weights)
}

/// Whether a tensor belongs to what predicts states and returns.
fn is_prediction(name: &str) -> bool {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    PREDICTIONS.contains(&module)
}

/// Whether there is something that predicts states or returns: an export of a network without has zeros.
pub fn predicts(tensors: &Tensors) -> bool {
    let mut predictions = tensors.iter().filter(|(name, _)| is_prediction(name));
    predictions.any(|(_, array)| array.values.iter().any(|x| *x != 0.0))
}

/// Gives a network whose actions are in the environment's units, without a tanh behind them, those of this program, in which
/// `low` and `high` are −1 and 1: the head divides by half of the range, and the embedding of actions multiplies by it.
///
/// # Errors
/// If the weights are not the network's.
pub fn scale_actions(
    weights: &mut Weights,
    network: &Config,
    [low, high]: [f32; 2],
) -> Result<(), CheckpointError> {
    let [low, high] = [low, high].map(f64::from);
    let (half, centre) = (0.5 * (high - low), 0.5 * (high + low));
    let [a, d] = [network.act_dim, network.d_model].map(|n| n as usize);
    let values = |weights: &Weights, name: &str, shape: &[usize]| {
        let values = weights.get(name, shape)?.iter().copied().map(f64::from);
        Ok::<Vec<f64>, CheckpointError>(values.collect())
    };
    let head = values(weights, "head.weight", &[a, d])?;
    let head_bias = values(weights, "head.bias", &[a])?;
    let embedding = values(weights, "embed_action.weight", &[d, a])?;
    let embedding_bias = values(weights, "embed_action.bias", &[d])?;
    let rows = embedding.chunks_exact(a);
    let moved = rows.map(|row| centre * row.iter().sum::<f64>());
    let changed: [(&str, &[usize], Vec<f64>); 4] = [
        (
            "head.weight",
            &[a, d],
            head.iter().map(|w| w / half).collect(),
        ),
        (
            "head.bias",
            &[a],
            head_bias.iter().map(|b| (b - centre) / half).collect(),
        ),
        (
            "embed_action.weight",
            &[d, a],
            embedding.iter().map(|w| w * half).collect(),
        ),
        (
            "embed_action.bias",
            &[d],
            embedding_bias
                .iter()
                .zip(moved)
                .map(|(b, moved)| b + moved)
                .collect(),
        ),
    ];
    for (name, shape, values) in changed {
        let values = values.into_iter().map(|x| x as f32).collect();
        weights.insert(name.into(), shape.to_vec(), values);
    }
    Ok(())
}

/// What queries of block `i` are multiplied by, so that attention that divides their scores by √d_head computes what it
/// computed.
fn query_scale(description: &Description, i: u32) -> f32 {
    let mut scale = 1.0;
    if !description.scale_attn_weights {
        scale *= (description.network().d_head() as f32).sqrt();
    }
    if description.scale_attn_by_inverse_layer_idx {
        scale /= (i + 1) as f32;
    }
    scale
}

/// A network under transformers' names, for windows of so many tokens. Positions, the embedding of words and heads that
/// predict states and returns, where this network does not have them, are 0.
///
/// # Errors
/// If the weights are not the network's.
pub fn to_transformers(
    network: &Config,
    weights: &Weights,
    tokens: usize,
) -> Result<Tensors, CheckpointError> {
    let mut tensors = Tensors::new();
    for pair in pairs(network) {
        let values = weights.get(&pair.here, &pair.shape)?;
        let values = match pair.transposed {
            true => transposed(values, pair.shape[0]),
            false => values.to_vec(),
        };
        let shape = pair.shape_there();
        tensors.insert(pair.there, Array { shape, values });
    }
    let [d, state_dim] = [network.d_model, network.state_dim].map(|n| n as usize);
    let mut zeros = |name: &str, shape: &[usize]| {
        let values = vec![0.0; shape.iter().product()];
        let shape = shape.to_vec();
        tensors.insert(name.into(), Array { shape, values });
    };
    if network.max_ep_len == 0 {
        zeros(TIMESTEPS_THERE, &[super::export::NO_TABLE as usize, d]);
    }
    zeros(POSITIONS, &[tokens, d]);
    zeros("encoder.wte.weight", &[1, d]);
    let [state, critic] = PREDICTIONS;
    let heads = network.predictions;
    for (is_there, module, outputs) in [
        (heads.state, state, state_dim),
        (heads.return_to_go, critic, 1),
    ] {
        if !is_there {
            zeros(&format!("{module}.weight"), &[outputs, d]);
            zeros(&format!("{module}.bias"), &[outputs]);
        }
    }
    Ok(tensors)
}

impl Pair {
    fn shape_there(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

/// The transpose of a matrix with so many rows.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let cols = values.len() / rows;
    let of = |i: usize| values[i % rows * cols + i / rows];
    (0..values.len()).map(of).collect()
}

#[derive(Default)]
struct Problems {
    /// Where the network is described.
    found_in: &'static str,
    missing: Vec<String>,
    extra: Vec<String>,
    misshapen: Vec<String>,
    not_finite: Vec<String>,
}

impl Problems {
    /// Whether an array of this shape and of numbers.
    fn check(&mut self, name: String, array: &Array, shape: &[usize]) -> bool {
        if array.shape != shape {
            let has = &array.shape;
            self.misshapen
                .push(format!("{name} is {has:?}, by {} {shape:?}", self.found_in));
            return false;
        }
        let wrong = array.values.iter().filter(|x| !x.is_finite()).count();
        if wrong > 0 {
            self.not_finite
                .push(format!("{name} ({wrong} of {})", array.values.len()));
        }
        wrong == 0
    }

    fn finish(self) -> anyhow::Result<()> {
        let found_in = self.found_in;
        let parts: Vec<_> = [
            ("missing", self.missing),
            ("more than the network has", self.extra),
            ("of another shape", self.misshapen),
            ("NaN or infinite", self.not_finite),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", names.join(", ")))
        .collect();
        if !parts.is_empty() {
            bail!(
                "the weights are not those of the network by {found_in}: {}",
                parts.join("; ")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes() {
        assert_eq!(
            transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2),
            [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
        );
    }
}
