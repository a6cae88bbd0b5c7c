//! The engine against PyTorch, on networks with random weights.
//!
//! `reference/dt_torch.py` made the vectors in `data/`; its head says how. The f32 engine and torch
//! round differently: torch's own f32 result lies within 1e-6 of its f64 one on these networks,
//! hence 1e-5. A band off by one token moves actions by more than 0.01 on average. With `--nocapture`
//! the tests print the largest difference they met.

use std::fs;
use std::path::{Path, PathBuf};

use host_sim::policy_file::PolicyFile;
use safetensors::SafeTensors;
use tests::recorded::{Recorded, Sequence};
use tests::{python, smallest_spread};

const TOLERANCE: f32 = 1e-5;

const STREAMING: [&str; 8] = [
    "streaming_h1_relu_tanh_table",
    "streaming_h4_gelu_linear",
    "streaming_h4_relu_tanh_deep",
    "streaming_h2_silu_glu_linear",
    "streaming_h2_predicting",
    "streaming_h2_state_first_predicting",
    "streaming_h1_convolution",
    "streaming_h2_without_embedding_norm",
];

const WINDOW: [&str; 8] = [
    "window_h1_gelu_tanh",
    "window_h4_relu_linear_table",
    "window_h1_gelu_glu_tanh_table",
    "window_h4_tanh_linear",
    "window_h1_predicting",
    "window_h1_state_first_predicting",
    "window_h1_convolution",
    "window_h4_atari",
];

#[test]
fn streaming_equals_the_banded_batch_over_1000_steps() {
    for name in STREAMING {
        let case = Recorded::load(&data(&format!("{name}.safetensors")));
        let policy = case.sample.emit();
        let episode = case.sequences("episode").remove(0);
        assert_eq!(episode.expected.len(), 1000, "{name}");
        assert!(smallest_spread(&episode.expected) >= 0.3, "{name}");
        let mut comparison = Comparison::new(name);
        comparison.add_episode(&episode, &policy);
    }
}

#[test]
fn window_equals_torch_for_every_length() {
    for name in WINDOW {
        let case = Recorded::load(&data(&format!("{name}.safetensors")));
        let policy = case.sample.emit();
        let mut comparison = Comparison::new(name);
        for length in 1..=case.sample.config.context_len as usize {
            let sequences = case.sequences(&format!("length_{length}"));
            assert!(sequences.len() > 1, "{name}");
            for sequence in sequences {
                assert_eq!(sequence.states.len(), length, "{name}");
                let (action, _) = sequence.run(&policy).pop().unwrap();
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
        let case = Recorded::load(&data(&format!("{name}.safetensors")));
        let policy = case.sample.emit();
        let episode = case.sequences("episode").remove(0);
        assert!(
            episode.expected.len() >= 2 * case.sample.config.context_len as usize,
            "{name}"
        );
        assert!(smallest_spread(&episode.expected) >= 0.3, "{name}");
        let mut comparison = Comparison::new(name);
        comparison.add_episode(&episode, &policy);
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

    /// Every action, and from the second step on every prediction, where there are any.
    fn add_episode(&mut self, episode: &Sequence, policy: &PolicyFile) {
        let steps = episode.run(policy);
        for (step, (action, _)) in steps.iter().enumerate() {
            self.add(action, &episode.expected[step], &format!("step {step}"));
        }
        assert_eq!(
            !episode.predicted.is_empty(),
            self.name.ends_with("predicting")
        );
        if episode.predicted.is_empty() {
            return;
        }
        assert!(smallest_spread(&episode.predicted) >= 0.3, "{}", self.name);
        let later = steps.iter().enumerate().skip(1);
        for ((step, (_, predicted)), expected) in later.zip(&episode.predicted) {
            self.add(predicted, expected, &format!("prediction at step {step}"));
        }
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
