//! Actions for given contexts: by libtorch, or by the engine that controllers run.

use std::ops::Range;

use dt_core::blob::Blob;
use dt_core::config::{Actions, Attention, Config, Order};
use dt_core::engine::Engine;
use dt_core::unstable::quant::NonFinite;
use serde::Deserialize;
use tch::{Device, Tensor};

use super::attention;
use crate::data::prepare::one_hot;
use crate::nn::flat::Flat;
use crate::nn::layers::Bound;
use crate::nn::parameters::loaded;
use crate::nn::transformer::{DecisionTransformer, Inputs, Outputs, attention_mask};
use crate::nn::{mlp, parameters_of};
use crate::run::checkpoint::{CheckpointError, Weights};

/// Consecutive timesteps as the network reads them: normalized and scaled.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Context {
    /// One per timestep.
    pub returns_to_go: Vec<f32>,
    /// (T, state_dim)
    pub states: Vec<Vec<f32>>,
    /// (T, act_dim), choices as one-hot vectors; the last is a placeholder that no prediction reads.
    pub actions: Vec<Vec<f32>>,
    /// One per timestep; arbitrary, saturating at the end of the model's table.
    pub timesteps: Vec<u32>,
}

/// Why a line is not a context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Not JSON, or fields missing or of another type.
    #[error(
        "not a context ({0}); expected {{\"returns_to_go\":[…],\"states\":[[…]],\"actions\":[[…]],\"timesteps\":[…]}}"
    )]
    Json(String),
    /// No timestep.
    #[error("`states` is empty; a context needs at least one timestep")]
    Empty,
    /// The fields disagree in length.
    #[error("`{field}` has {got} timesteps, `states` has {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// Timesteps in `states`.
        expected: usize,
        /// Timesteps in the field.
        got: usize,
    },
    /// An action is none of the choices.
    #[error("`actions[{step}]` is {got}; the policy chooses one of 0 to {}", n - 1)]
    Choice {
        /// Timestep within the context.
        step: usize,
        /// How many choices there are.
        n: usize,
        /// The index given.
        got: u32,
    },
    /// A state or action of the wrong length.
    #[error("`{field}[{step}]` has {got} values, the policy's have {expected}")]
    Width {
        /// The field.
        field: &'static str,
        /// Timestep within the context.
        step: usize,
        /// The policy's dimension.
        expected: usize,
        /// Values given.
        got: usize,
    },
}

/// A [`Context`] whose actions are choices.
#[derive(Deserialize)]
struct Choosing {
    returns_to_go: Vec<f32>,
    states: Vec<Vec<f32>>,
    actions: Vec<Chosen>,
    timesteps: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Chosen {
    Index(u32),
    Row(Vec<f32>),
}

impl Choosing {
    fn context(self, n: usize) -> Result<Context, ContextError> {
        let row = |(step, chosen)| match chosen {
            Chosen::Row(row) => Ok(row),
            Chosen::Index(index) if (index as usize) < n => Ok(one_hot(&[index], n)),
            Chosen::Index(got) => Err(ContextError::Choice { step, n, got }),
        };
        let actions = self.actions.into_iter().enumerate().map(row);
        Ok(Context {
            returns_to_go: self.returns_to_go,
            states: self.states,
            actions: actions.collect::<Result<_, _>>()?,
            timesteps: self.timesteps,
        })
    }
}

impl Context {
    /// Reads one JSON line for a policy with these dimensions. Actions that are choices are indices or one-hot rows.
    ///
    /// # Errors
    /// [`ContextError`] names the field and timestep.
    pub fn parse(line: &str, config: &Config) -> Result<Self, ContextError> {
        let json = |error: serde_json::Error| ContextError::Json(error.to_string());
        let context: Self = match config.actions {
            Actions::Continuous => serde_json::from_str(line).map_err(json)?,
            Actions::Discrete => serde_json::from_str::<Choosing>(line)
                .map_err(json)?
                .context(config.act_dim as usize)?,
        };
        context.check(config)?;
        Ok(context)
    }

    /// Number of timesteps.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is no timestep.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Some of the timesteps.
    ///
    /// # Panics
    /// If the range reaches beyond them.
    pub fn slice(&self, steps: Range<usize>) -> Self {
        Self {
            returns_to_go: self.returns_to_go[steps.clone()].to_vec(),
            states: self.states[steps.clone()].to_vec(),
            actions: self.actions[steps.clone()].to_vec(),
            timesteps: self.timesteps[steps].to_vec(),
        }
    }

    fn check(&self, config: &Config) -> Result<(), ContextError> {
        let expected = self.len();
        if expected == 0 {
            return Err(ContextError::Empty);
        }
        for (field, got) in [
            ("returns_to_go", self.returns_to_go.len()),
            ("actions", self.actions.len()),
            ("timesteps", self.timesteps.len()),
        ] {
            if got != expected {
                return Err(ContextError::Length {
                    field,
                    expected,
                    got,
                });
            }
        }
        for (field, rows, expected) in [
            ("states", &self.states, config.state_dim as usize),
            ("actions", &self.actions, config.act_dim as usize),
        ] {
            for (step, row) in rows.iter().enumerate() {
                if row.len() != expected {
                    let got = row.len();
                    return Err(ContextError::Width {
                        field,
                        step,
                        expected,
                        got,
                    });
                }
            }
        }
        Ok(())
    }

    /// What a policy sees of the context: window models the last K timesteps, streaming ones all.
    fn seen_by(&self, config: &Config) -> Self {
        let first = match config.attention {
            Attention::Window => self.len().saturating_sub(config.context_len as usize),
            Attention::Streaming => 0,
        };
        self.slice(first..self.len())
    }
}

/// Computes actions from contexts, each from scratch.
pub trait Predictor {
    /// The network.
    fn config(&self) -> &Config;

    /// The unscaled action, or logits, (act_dim) of every timestep that the newest one sees: all of them, or
    /// the last K for window models.
    ///
    /// # Errors
    /// A value inside the network is NaN or infinite.
    fn actions(&mut self, context: &Context) -> Result<Vec<Vec<f32>>, NonFinite>;

    /// The unscaled action, or logits, (act_dim) of the newest timestep.
    ///
    /// # Errors
    /// As [`actions`](Self::actions).
    fn action(&mut self, context: &Context) -> Result<Vec<f32>, NonFinite> {
        self.actions(context)?.pop().ok_or(NonFinite)
    }

    /// What the network predicts of the newest timestep from the action before it, unscaled: state, then return-to-go, as far as it
    /// predicts them; empty if it does not, or sees no such action. Where the state comes first, the return-to-go it makes possible.
    ///
    /// # Errors
    /// As [`actions`](Self::actions).
    fn predicted(&mut self, context: &Context) -> Result<Vec<f32>, NonFinite>;

    /// What each token of the timesteps that the newest one sees looks at; nothing if the network is no transformer. Of a policy file
    /// see [`attention::check_file`].
    ///
    /// # Errors
    /// As [`actions`](Self::actions).
    fn attention(&mut self, context: &Context) -> Result<attention::Weights, NonFinite>;

    /// The unscaled action of every timestep, each taken when it was the newest.
    ///
    /// # Errors
    /// As [`actions`](Self::actions).
    fn episode(&mut self, context: &Context) -> Result<Vec<Vec<f32>>, NonFinite> {
        match self.config().attention {
            Attention::Streaming => self.actions(context),
            Attention::Window => (1..=context.len())
                .map(|end| self.action(&context.slice(0..end)))
                .collect(),
        }
    }
}

/// The network in libtorch, on the CPU.
#[derive(Debug)]
pub struct Torch {
    config: Config,
    network: Network,
}

#[derive(Debug)]
enum Network {
    Transformer(Box<DecisionTransformer>),
    Mlp(Flat),
}

impl Torch {
    /// Binds the network to `weights`.
    ///
    /// # Errors
    /// They are not this network's.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self, CheckpointError> {
        let parameters = loaded(&parameters_of(config), weights, Device::Cpu)?;
        Ok(Self {
            config: *config,
            network: match config.is_mlp() {
                true => Network::Mlp(parameters),
                false => {
                    let bound = Bound::frozen(&parameters);
                    Network::Transformer(Box::new(DecisionTransformer::bind(config, &bound)))
                }
            },
        })
    }
}

impl Predictor for Torch {
    fn config(&self) -> &Config {
        &self.config
    }

    fn actions(&mut self, context: &Context) -> Result<Vec<Vec<f32>>, NonFinite> {
        let context = context.seen_by(&self.config);
        let actions = match &self.network {
            // Every timestep was told another when it was the newest.
            Network::Transformer(network) if self.config.is_placed_in_window() => {
                let newest = |end: usize| {
                    let outputs = self.outputs(network, context.slice(0..end));
                    outputs.actions.narrow(1, end as i64 - 1, 1)
                };
                Tensor::cat(&(1..=context.len()).map(newest).collect::<Vec<_>>(), 1)
            }
            Network::Transformer(network) => self.outputs(network, context).actions,
            Network::Mlp(parameters) => self.perceived(parameters, &context),
        };
        let width = self.config.act_dim as usize;
        Ok(finite(&actions)?
            .chunks(width)
            .map(<[f32]>::to_vec)
            .collect())
    }

    fn predicted(&mut self, context: &Context) -> Result<Vec<f32>, NonFinite> {
        let context = context.seen_by(&self.config);
        let known = context.len() as i64 - 1;
        let Network::Transformer(network) = &self.network else {
            return Ok(Vec::new());
        };
        let Outputs {
            states,
            returns_to_go,
            ..
        } = self.outputs(network, context);
        let mut predicted = Vec::new();
        for all in [states, returns_to_go].into_iter().flatten() {
            let from = match self.config.order {
                Order::ReturnFirst => known - 1,
                Order::StateFirst => known,
            };
            if from >= 0 {
                predicted.extend(finite(&all.select(1, from))?);
            }
        }
        Ok(predicted)
    }

    fn attention(&mut self, context: &Context) -> Result<attention::Weights, NonFinite> {
        let Network::Transformer(network) = &self.network else {
            return Ok(attention::Weights::default());
        };
        let seen = context.seen_by(&self.config);
        let tokens =
            attention::Weights::names(&self.config, context.len() - seen.len(), seen.len());
        let (inputs, mask) = self.inputs(seen);
        let layers = tch::no_grad(|| network.attention(&inputs, &mask));
        // The last token is the placeholder, which no other sees.
        let n = tokens.len() as i64;
        let layers = layers
            .iter()
            .map(|layer| finite(&layer.narrow(2, 0, n).narrow(3, 0, n)));
        Ok(attention::Weights {
            values: layers.collect::<Result<Vec<_>, _>>()?.concat(),
            shape: [self.config.n_layer, self.config.n_head].map(|n| n as usize),
            tokens,
        })
    }
}

impl Torch {
    fn outputs(&self, network: &DecisionTransformer, context: Context) -> Outputs {
        let (inputs, mask) = self.inputs(context);
        tch::no_grad(|| network.outputs(&inputs, &mask, 0.0))
    }

    /// A context as a transformer reads it, and its mask.
    fn inputs(&self, context: Context) -> (Inputs, Tensor) {
        let steps = context.len();
        let table = |rows: Vec<f32>| Tensor::from_slice(&rows).view([1, steps as i64, -1]);
        let timesteps: Vec<i64> = context.timesteps.iter().map(|&t| t.into()).collect();
        let inputs = Inputs {
            returns_to_go: table(context.returns_to_go),
            states: table(context.states.concat()),
            actions: table(context.actions.concat()),
            timesteps: Tensor::from_slice(&timesteps).view([1, -1]),
        };
        (inputs, attention_mask(&self.config, steps, Device::Cpu))
    }

    /// A perceptron's actions (T, act_dim), before whose first state there are zeros.
    fn perceived(&self, parameters: &Flat, context: &Context) -> Tensor {
        let k = self.config.context_len as usize;
        let missing = vec![vec![0.0; self.config.state_dim as usize]; k - 1];
        let states = [missing, context.states.clone()].concat();
        let seen: Vec<f32> = states.windows(k).flat_map(<[_]>::concat).collect();
        let [steps, k] = [context.len(), k].map(|n| n as i64);
        let states = Tensor::from_slice(&seen).view([steps, k, -1]);
        tch::no_grad(|| mlp::forward(&self.config, &Bound::frozen(parameters), &states, 0.0))
    }
}

/// The values of a tensor.
fn finite(tensor: &Tensor) -> Result<Vec<f32>, NonFinite> {
    let values = Vec::<f32>::try_from(&tensor.flatten(0, -1)).expect("an f32 tensor");
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(NonFinite),
    }
}

/// The engine of the controller, running a policy file.
#[derive(Debug)]
pub struct Core<'a> {
    config: Config,
    blob: Blob<'a>,
    engine: Engine<'a, Vec<u32>>,
}

impl<'a> Core<'a> {
    /// Prepares to run the policy.
    pub fn new(blob: &Blob<'a>) -> Self {
        let config = blob.manifest().config;
        let arena = vec![0; config.arena_words()];
        Self {
            config,
            blob: blob.clone(),
            engine: Engine::new(blob.model(), arena).expect("the arena has the size it asks for"),
        }
    }
}

impl Predictor for Core<'_> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn actions(&mut self, context: &Context) -> Result<Vec<Vec<f32>>, NonFinite> {
        self.episode(&context.seen_by(&self.config))
    }

    fn predicted(&mut self, context: &Context) -> Result<Vec<f32>, NonFinite> {
        let seen = context.seen_by(&self.config);
        self.episode(&seen)?;
        let is_known = self.config.predicts() && (seen.len() > 1 || self.config.is_state_first());
        Ok(match is_known {
            true => self.engine.predicted().to_vec(),
            false => Vec::new(),
        })
    }

    /// Not the engine's own: see [`attention`].
    fn attention(&mut self, context: &Context) -> Result<attention::Weights, NonFinite> {
        let seen = context.seen_by(&self.config);
        attention::of_file(&self.blob, &seen, context.len() - seen.len())
    }

    /// The engine slides its window by itself.
    fn episode(&mut self, context: &Context) -> Result<Vec<Vec<f32>>, NonFinite> {
        self.engine.reset();
        let steps = 0..context.len();
        steps
            .map(|t| {
                let previous = t.checked_sub(1).map(|p| context.actions[p].as_slice());
                let (return_to_go, timestep) = (context.returns_to_go[t], context.timesteps[t]);
                let state = &context.states[t];
                Ok(self
                    .engine
                    .step(previous, return_to_go, state, timestep)?
                    .to_vec())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::Dims;
    use crate::algo::dt::Dt;
    use dt_core::config::Dtype;
    use serde_json::{Value, json};

    #[test]
    fn bad_contexts_name_the_field() {
        let config = Dt::default().network(Dims::vectors(3, 1), Dtype::F32);
        let good = json!({"returns_to_go": [0.1], "states": [[0, 1, 0]], "actions": [[0]], "timesteps": [0]});
        assert!(Context::parse(&good.to_string(), &config).is_ok());
        let with = |field: &str, value: Value| {
            let mut line = good.clone();
            line[field] = value;
            line.to_string()
        };
        let cases = [
            ("{".to_owned(), "not a context"),
            (String::new(), "not a context"),
            (with("timesteps", json!([-1])), "not a context"),
            (with("returns_to_go", json!([1e39])), "out of range"),
            (with("states", json!([])), "`states` is empty"),
            (
                with("actions", json!([[0], [0]])),
                "`actions` has 2 timesteps, `states` has 1",
            ),
            (
                with("states", json!([[0, 1]])),
                "`states[0]` has 2 values, the policy's have 3",
            ),
            (
                good.to_string().replace("timesteps", "steps"),
                "missing field `timesteps`",
            ),
        ];
        for (line, message) in cases {
            let error = Context::parse(&line, &config).unwrap_err().to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
