//! `config.json`: every field is honoured, or is of no consequence to what the network computes, or is refused by name. The
//! paper's own code writes none; the shapes of its tensors say most of it.

use std::path::Path;

use anyhow::{Context, bail};
use dt_core::config::{Activation, Attention, Config, Dtype, Head};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tensors::Tensors;
use super::{CONFIG, EMBEDDING_NORM_EPS, OWN};
use crate::algo::Dims;
use crate::algo::dt::Dt;
use crate::run::RunInfo;

/// The network that a `config.json` describes.
#[derive(Clone, Debug)]
pub struct Description {
    /// Lengths of states and actions.
    pub dims: Dims,
    /// The network, its context length that of `max_length`; 0: the file says none.
    pub dt: Dt,
    /// Whether attention's scores are divided by √d_head.
    pub scale_attn_weights: bool,
    /// Whether those of block i, counted from 0, are divided by i + 1.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Dropout while it was trained, where all of it was alike.
    pub dropout: Option<f64>,
    /// What [`export`](super::export) put there.
    pub own: Option<Own>,
    /// Where all this was found.
    pub found_in: &'static str,
    /// Options for what was not found.
    pub asks: Vec<&'static str>,
}

/// What the tensors of the paper's own code do not say.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Attention heads per block.
    pub n_head: Option<u32>,
    /// Nonlinearity, as transformers calls it.
    pub activation: Option<String>,
}

/// What a run has besides its network, under the key [`OWN`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Own {
    /// Its recipe, with every key.
    pub recipe: Value,
    /// Its data and control problem; `state_mean`, `state_std` and `target_return` among them.
    pub run: RunInfo,
}

/// Fields that say nothing about what the network computes: training, generation of text, book-keeping. Names that end in `_`
/// are beginnings.
const WITHOUT_CONSEQUENCE: [&str; 25] = [
    "_name_or_path",
    "_attn_implementation_autoset",
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "torch_dtype",
    "id2label",
    "label2id",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "n_ctx",
    "n_positions",
    "output_",
    "problem_type",
    // The same sums in another order and, for f16, a wider format.
    "reorder_and_upcast_attn",
    "return_dict",
    "summary_",
    "tie_word_embeddings",
    "transformers_version",
    "use_cache",
    "vocab_size",
];

impl Description {
    /// Reads the `config.json` in `dir`, all fields of it but those to `ignore`.
    ///
    /// # Errors
    /// No such file, another architecture, or fields that this version has no counterpart of, all of them.
    pub fn read(dir: &Path, ignore: &[String]) -> anyhow::Result<Self> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            bail!(
                "{} holds no {CONFIG}{}; a model's folder has it beside the weights: download both",
                dir.display(),
                holds(dir)
            );
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, ignore).with_context(|| format!("{}", path.display()))
    }

    /// The network that tensors of the paper's own code are of, which puts a tanh behind its head.
    ///
    /// # Errors
    /// Tensors that say its sizes are missing; a nonlinearity that this version does not have.
    pub fn of_papers(tensors: &Tensors, said: &Said) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        let mut size = |name: &'static str, dim: usize| {
            let shape = tensors.get(name).map(|array| array.shape.as_slice());
            match shape {
                Some(&[rows, cols]) => u32::try_from([rows, cols][dim]).unwrap_or(u32::MAX),
                _ => {
                    if !missing.contains(&name) {
                        missing.push(name);
                    }
                    0
                }
            }
        };
        let dims = Dims::vectors(
            size("embed_state.weight", 1) as usize,
            size("embed_action.weight", 1) as usize,
        );
        let of_block = |name: &&String| name.starts_with("transformer.h.");
        let block = |name: &String| name.split('.').nth(2)?.parse::<u32>().ok();
        let last = tensors.keys().filter(of_block).filter_map(block).max();
        let dt = Dt {
            d_model: size("embed_state.weight", 0),
            d_ff: size("transformer.h.0.mlp.c_fc.weight", 1),
            max_ep_len: size("embed_timestep.weight", 0),
            n_layer: last.map_or(0, |last| last.saturating_add(1)),
            n_head: said.n_head.unwrap_or(1),
            context_len: 0,
            attention: Attention::Window,
            activation: match &said.activation {
                Some(name) => activation(name).with_context(|| {
                    format!("--activation {name}: this version's engine has {}", names())
                })?,
                None => Activation::Relu,
            },
            head: Head::Tanh,
            ..Dt::default()
        };
        if !missing.is_empty() {
            bail!(
                "its tensors are named as the paper's code does, and those that say the network's sizes are missing: {}",
                missing.join(", ")
            );
        }
        let asks = [
            (
                said.n_head.is_none(),
                "--n-head N (attention heads: 1 in the paper)",
            ),
            (
                said.activation.is_none(),
                "--activation NAME (of the MLP: relu in the paper)",
            ),
        ];
        let asks = asks.into_iter().filter_map(|(is, ask)| is.then_some(ask));
        Ok(Self {
            dims,
            dt,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            dropout: None,
            own: None,
            found_in: "its other tensors",
            asks: asks.collect(),
        })
    }

    fn parse(text: &str, ignore: &[String]) -> anyhow::Result<Self> {
        let fields: Map<String, Value> = serde_json::from_str(text)?;
        match fields.get("model_type").map(|value| value.as_str()) {
            Some(Some("decision_transformer")) => {}
            Some(other) => bail!(
                "`model_type` is {:?}, and this imports \"decision_transformer\" alone",
                other.unwrap_or_default()
            ),
            None => bail!("no `model_type`; this imports \"decision_transformer\" alone"),
        }
        let mut fields = Fields {
            fields,
            problems: Vec::new(),
        };
        fields.fields.remove("model_type");
        for name in ignore {
            fields.fields.remove(name);
        }
        let description = Self::of(&mut fields);
        fields.finish()?;
        Ok(description)
    }

    /// Where a field is not there, transformers' own default holds.
    fn of(fields: &mut Fields) -> Self {
        let dims = Dims::vectors(
            fields.number(&["state_dim"], 17) as usize,
            fields.number(&["act_dim"], 4) as usize,
        );
        let dropouts = ["resid_pdrop", "embd_pdrop", "attn_pdrop"]
            .map(|name| fields.take(name, 0.1, "a probability", Value::as_f64));
        let dt = Dt {
            d_model: fields.number(&["hidden_size"], 128),
            n_layer: fields.number(&["n_layer", "num_hidden_layers"], 3),
            n_head: fields.number(&["n_head", "num_attention_heads"], 1),
            // Null, as 0 here: four times the width.
            d_ff: fields.number(&["n_inner"], 0),
            max_ep_len: fields.number(&["max_ep_len"], 4096),
            context_len: fields.number(&["max_length"], 0),
            attention: Attention::Window,
            activation: fields.activation(),
            head: match fields.flag("action_tanh", true) {
                true => Head::Tanh,
                false => Head::Linear,
            },
            ..Dt::default()
        };
        let eps = fields.take("layer_norm_epsilon", 1e-5, "a number", Value::as_f64);
        if eps as f32 != EMBEDDING_NORM_EPS {
            fields.problems.push(format!(
                "`layer_norm_epsilon` is {eps}, and transformers' embedding norm has {EMBEDDING_NORM_EPS:e} in any case; this \
                 version has one for all norms"
            ));
        }
        if fields.flag("add_cross_attention", false) {
            fields.problems.push(
                "`add_cross_attention` is true; this version attends to the sequence alone".into(),
            );
        }
        Self {
            dims,
            dt,
            scale_attn_weights: fields.flag("scale_attn_weights", true),
            scale_attn_by_inverse_layer_idx: fields.flag("scale_attn_by_inverse_layer_idx", false),
            dropout: dropouts
                .iter()
                .all(|dropout| *dropout == dropouts[0])
                .then_some(dropouts[0]),
            own: fields.own(),
            found_in: CONFIG,
            asks: Vec::new(),
        }
    }

    /// The network in f32.
    pub fn network(&self) -> Config {
        self.dt.network(self.dims, Dtype::F32)
    }
}

/// What transformers calls a nonlinearity; those names that are one function, but for its rounding, come after the one to
/// write. (`quick_gelu` and `gelu_10` are others.)
const ACTIVATIONS: [(&str, Activation); 11] = [
    ("relu", Activation::Relu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
];

fn names() -> String {
    ACTIVATIONS.map(|(name, _)| name).join(", ")
}

fn activation(name: &str) -> Option<Activation> {
    let mut known = ACTIVATIONS.iter();
    Some(known.find(|(known, _)| *known == name)?.1)
}

/// What `activation_function` is to say.
pub fn activation_name(activation: Activation) -> Option<&'static str> {
    let mut known = ACTIVATIONS.iter();
    known
        .find(|(_, known)| *known == activation)
        .map(|(name, _)| *name)
}

/// Fields that are left, and what was wrong with those that were taken.
struct Fields {
    fields: Map<String, Value>,
    problems: Vec<String>,
}

impl Fields {
    /// `parse` makes none of what is not `expected`.
    fn take<T>(
        &mut self,
        name: &str,
        default: T,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> T {
        match self.fields.remove(name) {
            None | Some(Value::Null) => default,
            Some(value) => parse(&value).unwrap_or_else(|| {
                self.problems
                    .push(format!("`{name}` is {value}; it must be {expected}"));
                default
            }),
        }
    }

    /// A size, under the first of its names that is there.
    fn number(&mut self, names: &[&str], default: u32) -> u32 {
        let there = |name: &&&str| self.fields.contains_key(**name);
        let name = names.iter().find(there).unwrap_or(&names[0]);
        let parse = |value: &Value| u32::try_from(value.as_u64()?).ok();
        self.take(name, default, "a whole number", parse)
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        self.take(name, default, "true or false", Value::as_bool)
    }

    fn activation(&mut self) -> Activation {
        let expected = format!("one of those that this version's engine has: {}", names());
        let known = |value: &Value| activation(value.as_str()?);
        self.take("activation_function", Activation::Relu, &expected, known)
    }

    fn own(&mut self) -> Option<Own> {
        let own = self.fields.remove(OWN)?;
        match serde_json::from_value(own) {
            Ok(own) => Some(own),
            Err(error) => {
                self.problems
                    .push(format!("`{OWN}` is not as export-hf writes it: {error}"));
                None
            }
        }
    }

    /// Refuses what nothing above asked for.
    fn finish(self) -> anyhow::Result<()> {
        let Self {
            fields,
            mut problems,
        } = self;
        let known = |name: &str| {
            WITHOUT_CONSEQUENCE.iter().any(|known| match known {
                known if known.ends_with('_') => name.starts_with(known),
                known => name == *known,
            })
        };
        let unknown: Vec<_> = fields.keys().filter(|name| !known(name)).cloned().collect();
        if !unknown.is_empty() {
            problems.push(format!(
                "`{}`: no such field is known here; if it changes nothing that the network computes, add --ignore {}",
                unknown.join("`, `"),
                unknown.join(",")
            ));
        }
        if !problems.is_empty() {
            bail!("{}", problems.join("; "));
        }
        Ok(())
    }
}

/// The names of the first files in a folder, for refusals.
pub(super) fn holds(dir: &Path) -> String {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten(),
        Err(error) => return format!(" ({error})"),
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    match names.len() {
        0 => " (it is empty)".into(),
        1..=8 => format!(" (it holds {})", names.join(", ")),
        n => format!(" (it holds {} and {} more)", names[..8].join(", "), n - 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(fields: Value) -> Result<Description, String> {
        let mut all = json!({"model_type": "decision_transformer"});
        for (name, value) in fields.as_object().unwrap() {
            all[name] = value.clone();
        }
        Description::parse(&all.to_string(), &[]).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_is_not_said_is_transformers_default() {
        let Description { dims, dt, own, .. } = parse(json!({})).unwrap();
        assert_eq!((dims.state_dim, dims.act_dim), (17, 4));
        assert_eq!((dt.d_model, dt.n_layer, dt.n_head, dt.d_ff), (128, 3, 1, 0));
        assert_eq!((dt.max_ep_len, dt.context_len), (4096, 0));
        assert_eq!(
            (dt.activation, dt.head, dt.attention),
            (Activation::Relu, Head::Tanh, Attention::Window)
        );
        assert!(own.is_none());
    }

    #[test]
    fn fields_are_honoured() {
        let read = parse(json!({
            "state_dim": 3, "act_dim": 2, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "n_inner": 36,
            "max_ep_len": 50, "max_length": 7, "activation_function": "gelu_new", "action_tanh": false,
            "scale_attn_weights": false, "scale_attn_by_inverse_layer_idx": true, "resid_pdrop": 0.2, "use_cache": true,
            "output_hidden_states": false,
        }))
        .unwrap();
        let dt = &read.dt;
        assert_eq!((read.dims.state_dim, read.dims.act_dim), (3, 2));
        assert_eq!((dt.d_model, dt.n_layer, dt.n_head, dt.d_ff), (24, 4, 3, 36));
        assert_eq!((dt.max_ep_len, dt.context_len), (50, 7));
        assert_eq!(
            (dt.activation, dt.head),
            (Activation::GeluTanh, Head::Linear)
        );
        assert!(!read.scale_attn_weights && read.scale_attn_by_inverse_layer_idx);
        // Three that are not alike are no recipe's dropout.
        assert_eq!(read.dropout, None);
    }

    /// What is written for a nonlinearity is read as it.
    #[test]
    fn names_of_nonlinearities_lead_back() {
        for (name, activation) in ACTIVATIONS {
            let read = |name: &str| parse(json!({"activation_function": name})).unwrap().dt;
            assert_eq!(read(name).activation, activation);
            let written = activation_name(activation).unwrap();
            assert_eq!(read(written).activation, activation, "{written}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_refused_by_name_all_at_once() {
        let error = parse(json!({
            "activation_function": "quick_gelu", "layer_norm_epsilon": 1e-6, "add_cross_attention": true, "state_dim": -3,
            "quantization_config": {}, "action_tanh": 1,
        }))
        .unwrap_err();
        for part in [
            "`activation_function` is \"quick_gelu\"",
            "relu, gelu_new",
            "`layer_norm_epsilon` is 0.000001",
            "`add_cross_attention` is true",
            "`state_dim` is -3",
            "`action_tanh` is 1",
            "--ignore quantization_config",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let text = r#"{"model_type": "decision_transformer", "gate": true}"#;
        assert!(Description::parse(text, &[]).is_err());
        assert!(Description::parse(text, &["gate".into()]).is_ok());
        let error = |text| Description::parse(text, &[]).unwrap_err().to_string();
        assert!(error(r#"{"model_type": "gpt2"}"#).contains("`model_type` is \"gpt2\""));
        assert!(error("{}").contains("no `model_type`"));
    }
}
