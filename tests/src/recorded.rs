//! Networks, inputs and the actions that torch computed: the files that `reference/dt_torch.py`
//! writes.

use std::fs;
use std::path::Path;

use dt_core::config::{
    Actions, Activation, Attention, Config, Dtype, Embeddings, Encoder, Head, Math, Mixer, Network,
    Order, Predictions,
};
use dt_core::engine::Engine;
use host_sim::policy_file::PolicyFile;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{Sample, Tensors};

/// One file.
pub struct Recorded {
    file: Vec<u8>,
    /// The network, in f32.
    pub sample: Sample,
}

/// Network inputs of consecutive steps, and the actions torch computed: of every step, or of the
/// last alone.
pub struct Sequence {
    /// Per step.
    pub returns_to_go: Vec<f32>,
    /// Per step (state_dim).
    pub states: Vec<Vec<f32>>,
    /// Per step (act_dim); the last is not looked at.
    pub actions: Vec<Vec<f32>>,
    /// Per step.
    pub timesteps: Vec<u32>,
    /// Per step, or one (act_dim).
    pub expected: Vec<Vec<f32>>,
    /// What is known at the second step and the following ones of what its predecessor's action predicted: state and return-to-go
    /// (state_dim + 1); or of what its state predicts, where that comes first: return-to-go (1). Empty where nothing was recorded.
    pub predicted: Vec<Vec<f32>>,
}

impl Recorded {
    /// Reads a file.
    ///
    /// # Panics
    /// If it is not one of those that the generator writes.
    pub fn load(path: &Path) -> Self {
        let file = fs::read(path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&file).expect("a safetensors file");
        let metadata = header.metadata().as_ref().expect("metadata");
        let config = config(&serde_json::from_str(&metadata["config"]).expect("JSON"));
        let parameters: Tensors = SafeTensors::deserialize(&file)
            .expect("a safetensors file")
            .iter()
            // What comes before the dot is the sequence's prefix.
            .filter(|(name, _)| !Sequence::PARTS.iter().any(|part| name.ends_with(part)))
            .map(|(name, view)| (name.to_owned(), bytemuck::pod_collect_to_vec(view.data())))
            .collect();
        let sample = Sample::new(config, parameters);
        Self { file, sample }
    }

    /// The sequences stored as one batch under `prefix`.
    ///
    /// # Panics
    /// If there are none.
    pub fn sequences(&self, prefix: &str) -> Vec<Sequence> {
        let file = SafeTensors::deserialize(&self.file).expect("read before");
        let tensor = |name: &str| file.tensor(&format!("{prefix}.{name}")).expect(name);
        let batch = tensor("returns_to_go").shape()[0];
        let floats = |name: &str| -> Vec<Vec<f32>> {
            let data: Vec<f32> = bytemuck::pod_collect_to_vec(tensor(name).data());
            data.chunks(data.len() / batch)
                .map(<[f32]>::to_vec)
                .collect()
        };
        let rows = |name: &str| -> Vec<Vec<Vec<f32>>> {
            let width = tensor(name).shape()[2];
            let sequences = floats(name).into_iter();
            sequences
                .map(|s| s.chunks(width).map(<[f32]>::to_vec).collect())
                .collect()
        };
        let timesteps: Vec<u32> = bytemuck::pod_collect_to_vec(tensor("timesteps").data());
        let parts = floats("returns_to_go")
            .into_iter()
            .zip(rows("states"))
            .zip(rows("actions"))
            .zip(timesteps.chunks(timesteps.len() / batch))
            .zip(rows("expected"));
        let mut predicted = match file.tensor(&format!("{prefix}.predicted")) {
            Ok(_) => rows("predicted"),
            Err(_) => vec![Vec::new(); batch],
        }
        .into_iter();
        parts
            .map(
                |((((returns_to_go, states), actions), timesteps), expected)| Sequence {
                    returns_to_go,
                    states,
                    actions,
                    timesteps: timesteps.to_vec(),
                    expected,
                    predicted: predicted.next().expect("as many as the others"),
                },
            )
            .collect()
    }
}

impl Sequence {
    const PARTS: [&str; 6] = [
        ".returns_to_go",
        ".states",
        ".actions",
        ".timesteps",
        ".expected",
        ".predicted",
    ];

    /// The engine's action at every step, and what it then had predicted for the one before.
    ///
    /// # Panics
    /// If the engine fails.
    pub fn run(&self, policy: &PolicyFile) -> Vec<(Vec<f32>, Vec<f32>)> {
        let blob = policy.blob();
        let arena = vec![0u32; blob.manifest().config.arena_words()];
        let mut engine = Engine::new(blob.model(), arena).expect("room enough");
        engine.reset();
        (0..self.states.len())
            .map(|t| {
                let previous = t.checked_sub(1).map(|p| self.actions[p].as_slice());
                let (rtg, timestep) = (self.returns_to_go[t], self.timesteps[t]);
                let action = engine
                    .step(previous, rtg, &self.states[t], timestep)
                    .expect("finite values")
                    .to_vec();
                (action, engine.predicted().to_vec())
            })
            .collect()
    }
}

fn config(json: &Value) -> Config {
    let dim = |name: &str| u32::try_from(json[name].as_u64().unwrap()).unwrap();
    let says = |name: &str| json[name].as_bool().unwrap_or(false);
    Config {
        state_dim: dim("state_dim"),
        act_dim: dim("act_dim"),
        d_model: dim("d_model"),
        n_layer: dim("n_layer"),
        n_head: dim("n_head"),
        d_ff: dim("d_ff"),
        context_len: dim("context_len"),
        max_ep_len: dim("max_ep_len"),
        dtype: Dtype::F32,
        attention: match json["attention"].as_str() {
            Some("streaming") => Attention::Streaming,
            Some("window") => Attention::Window,
            other => panic!("unknown attention {other:?}"),
        },
        activation: match json["activation"].as_str() {
            Some("relu") => Activation::Relu,
            Some("gelu_tanh") => Activation::GeluTanh,
            Some("gelu") => Activation::Gelu,
            Some("silu") => Activation::Silu,
            Some("tanh") => Activation::Tanh,
            other => panic!("unknown activation {other:?}"),
        },
        head: match json["head"].as_str() {
            Some("tanh") => Head::Tanh,
            Some("linear") => Head::Linear,
            other => panic!("unknown head {other:?}"),
        },
        mixer: match json["mixer"].as_str() {
            None => Mixer::Attention,
            Some("convolution") => Mixer::Convolution,
            other => panic!("unknown mixer {other:?}"),
        },
        math: Math::Polynomial,
        layer_norm_eps: json["layer_norm_eps"].as_f64().unwrap() as f32,
        glu: says("glu"),
        actions: Actions::Continuous,
        predictions: Predictions {
            state: says("predictions"),
            return_to_go: says("predictions") || says("state_first"),
        },
        network: Network::Transformer,
        encoder: Encoder::Linear,
        embeddings: match json["embeddings"].as_str() {
            None => Embeddings::GYM,
            Some("atari") => Embeddings::ATARI,
            Some("no norm") => Embeddings {
                norm: false,
                ..Embeddings::GYM
            },
            other => panic!("unknown embeddings {other:?}"),
        },
        order: match says("state_first") {
            true => Order::StateFirst,
            false => Order::ReturnFirst,
        },
    }
}
