//! The engine against PyTorch, on networks with random weights.
//!
//! `reference/dt_torch.py` made the vectors in `data/`; its head says how. The f32 engine and torch
//! round differently: torch's own f32 result lies within 1e-6 of its f64 one on these networks,
//! hence 1e-5. A band off by one token moves actions by more than 0.01 on average. With `--nocapture`
//! the tests print the largest difference they met.

use std::fs;
use std::path::{Path, PathBuf};

use dt_core::config::{Activation, Attention, Config, Dtype, Head, Math};
use dt_core::engine::Engine;
use host_sim::policy_file::PolicyFile;
use safetensors::SafeTensors;
use serde_json::Value;
use tests::{Sample, Tensors, python, smallest_spread};

const TOLERANCE: f32 = 1e-5;

const STREAMING: [&str; 3] = [
    "streaming_h1_relu_tanh_table",
    "streaming_h4_gelu_linear",
    "streaming_h4_relu_tanh_deep",
];

const WINDOW: [&str; 2] = ["window_h1_gelu_tanh", "window_h4_relu_linear_table"];

#[test]
fn streaming_equals_the_banded_batch_over_1000_steps() {
    for name in STREAMING {
        let case = Case::load(name);
        let episode = case.sequences("episode").remove(0);
        assert_eq!(episode.expected.len(), 1000, "{name}");
        assert!(smallest_spread(&episode.expected) >= 0.3, "{name}");
        let mut comparison = Comparison::new(name);
        for (step, action) in case.run(&episode).iter().enumerate() {
            comparison.add(action, &episode.expected[step], &format!("step {step}"));
        }
    }
}

#[test]
fn window_equals_torch_for_every_length() {
    for name in WINDOW {
        let case = Case::load(name);
        let mut comparison = Comparison::new(name);
        for length in 1..=case.config.context_len as usize {
            let sequences = case.sequences(&format!("length_{length}"));
            assert!(sequences.len() > 1, "{name}");
            for sequence in sequences {
                assert_eq!(sequence.states.len(), length, "{name}");
                let action = case.run(&sequence).pop().unwrap();
                let first = sequence.timesteps[0];
                let place = format!("length {length} from timestep {first}");
                comparison.add(&action, &sequence.expected[0], &place);
            }
        }
    }
}

#[test]
fn window_slides_along_an_episode() {
    for name in WINDOW {
        let case = Case::load(name);
        let episode = case.sequences("episode").remove(0);
        assert!(
            episode.expected.len() >= 2 * case.config.context_len as usize,
            "{name}"
        );
        assert!(smallest_spread(&episode.expected) >= 0.3, "{name}");
        let mut comparison = Comparison::new(name);
        for (step, action) in case.run(&episode).iter().enumerate() {
            comparison.add(action, &episode.expected[step], &format!("step {step}"));
        }
    }
}

/// The committed vectors are what the committed generator makes, on this machine as well.
#[test]
fn vectors_can_be_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let generator = python("dt_torch.py")
        .arg("--out")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(
        generator.status.success(),
        "{}",
        String::from_utf8_lossy(&generator.stderr)
    );
    for name in STREAMING.iter().chain(&WINDOW) {
        let file = format!("{name}.safetensors");
        let [committed, again] =
            [data(&file), folder.path().join(&file)].map(|path| fs::read(path).unwrap());
        let committed = SafeTensors::deserialize(&committed).unwrap();
        let again = SafeTensors::deserialize(&again).unwrap();
        assert_eq!(committed.len(), again.len(), "{name}");
        for (tensor, ours) in committed
            .iter()
            .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32)
        {
            let theirs = again.tensor(tensor).unwrap();
            assert_eq!(ours.shape(), theirs.shape(), "{name}: {tensor}");
            let [ours, theirs] =
                [ours, theirs].map(|view| bytemuck::pod_collect_to_vec::<_, f32>(view.data()));
            // Another processor may round torch's sums in another way.
            let close = ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= 1e-4);
            assert!(close, "{name}: {tensor}");
        }
    }
}

/// The largest difference so far, printed at the end.
struct Comparison {
    name: &'static str,
    largest: f32,
}

impl Comparison {
    fn new(name: &'static str) -> Self {
        Self { name, largest: 0.0 }
    }

    fn add(&mut self, action: &[f32], expected: &[f32], place: &str) {
        assert_eq!(action.len(), expected.len(), "{}, {place}", self.name);
        for (got, want) in action.iter().zip(expected) {
            let error = (got - want).abs();
            assert!(
                error <= TOLERANCE,
                "{}, {place}: got {got}, torch has {want}",
                self.name
            );
            if error > self.largest {
                self.largest = error;
            }
        }
    }
}

impl Drop for Comparison {
    fn drop(&mut self) {
        println!("{}: largest difference {:.1e}", self.name, self.largest);
    }
}

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(file)
}

/// One file of `data/`.
struct Case {
    file: Vec<u8>,
    config: Config,
    policy: PolicyFile,
}

/// Network inputs of consecutive steps, and the actions torch computed: of every step, or of the
/// last alone.
struct Sequence {
    returns_to_go: Vec<f32>,
    states: Vec<Vec<f32>>,
    actions: Vec<Vec<f32>>,
    timesteps: Vec<u32>,
    expected: Vec<Vec<f32>>,
}

impl Case {
    fn load(name: &str) -> Self {
        let file = fs::read(data(&format!("{name}.safetensors"))).unwrap();
        let (_, header) = SafeTensors::read_metadata(&file).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let config = config(&serde_json::from_str(&metadata["config"]).unwrap());
        let parameters: Tensors = SafeTensors::deserialize(&file)
            .unwrap()
            .iter()
            .filter(|(name, _)| !name.starts_with("episode.") && !name.starts_with("length_"))
            .map(|(name, view)| (name.to_owned(), bytemuck::pod_collect_to_vec(view.data())))
            .collect();
        let policy = Sample::new(config, parameters).emit();
        Self {
            file,
            config,
            policy,
        }
    }

    /// The sequences stored as one batch under `prefix`.
    fn sequences(&self, prefix: &str) -> Vec<Sequence> {
        let file = SafeTensors::deserialize(&self.file).unwrap();
        let tensor = |name: &str| file.tensor(&format!("{prefix}.{name}")).unwrap();
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
        parts
            .map(
                |((((returns_to_go, states), actions), timesteps), expected)| Sequence {
                    returns_to_go,
                    states,
                    actions,
                    timesteps: timesteps.to_vec(),
                    expected,
                },
            )
            .collect()
    }

    /// The engine's action at every step.
    fn run(&self, sequence: &Sequence) -> Vec<Vec<f32>> {
        let blob = self.policy.blob();
        let arena = vec![0u32; self.config.arena_words()];
        let mut engine = Engine::new(&blob.model, arena).unwrap();
        engine.reset();
        (0..sequence.states.len())
            .map(|t| {
                let previous = t.checked_sub(1).map(|p| sequence.actions[p].as_slice());
                let (rtg, timestep) = (sequence.returns_to_go[t], sequence.timesteps[t]);
                engine
                    .step(previous, rtg, &sequence.states[t], timestep)
                    .unwrap()
                    .to_vec()
            })
            .collect()
    }
}

fn config(json: &Value) -> Config {
    let dim = |name: &str| u32::try_from(json[name].as_u64().unwrap()).unwrap();
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
            other => panic!("unknown activation {other:?}"),
        },
        head: match json["head"].as_str() {
            Some("tanh") => Head::Tanh,
            Some("linear") => Head::Linear,
            other => panic!("unknown head {other:?}"),
        },
        math: Math::Libm,
        layer_norm_eps: json["layer_norm_eps"].as_f64().unwrap() as f32,
    }
}
