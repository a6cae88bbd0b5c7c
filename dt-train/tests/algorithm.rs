//! An algorithm that is only added to the registry is one like all others.

use std::path::Path;

use clap::Parser;
use dt_train::algo::{self, Dims, Entry, Mode, Supervised};
use dt_train::commands::Cli;
use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::nn::layers::Bound;
use dt_train::nn::parameters::{Parameter, ParameterList, framework_init};
use dt_train::nn::transformer::Inputs;
use dt_train::run::{Run, Which, read_metrics};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Linear feedback: an action that is a weighted sum of the present state's components.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Linear {}

// The ten lines.
impl Supervised for Linear {
    const NAME: &'static str = "linear";
    const TITLE: &'static str = "linear feedback";

    fn parameters(&self, dims: Dims) -> Vec<Parameter> {
        let [inputs, outputs] = [dims.state_dim as i64, dims.act_dim as i64];
        let mut list = ParameterList::default();
        list.linear("gain", [outputs, inputs], framework_init(inputs));
        list.into()
    }

    fn predict(&self, _: Dims, network: &Bound<'_>, inputs: &Inputs, _: Mode) -> Tensor {
        network.linear("gain").forward(&inputs.states)
    }
}

/// Episodes of a pendulum that is braked: the action is −1 per radian and second of its speed.
fn braked(path: &Path) {
    let steps = 200;
    let speed = |t: usize| ((t * 37 % 101) as f32 - 50.0) / 50.0;
    let observation = |t: usize| [speed(t + 1), speed(t + 2), speed(t)];
    let recording = Recording {
        frames: None,
        observations: (0..steps).flat_map(observation).collect(),
        actions: (0..steps).map(|t| -speed(t)).collect(),
        rewards: vec![-1.0; steps],
        next_observations: (1..=steps).flat_map(observation).collect(),
        terminals: vec![false; steps],
        timeouts: (1..=steps).map(|t| t % 50 == 0).collect(),
    };
    let metadata = Metadata {
        env: "pendulum",
        policy: "brake",
        seed: 0,
        choices: false,
    };
    d4rl::write(path, false, &recording, &metadata).unwrap();
}

fn dt_train(args: &[&str]) -> anyhow::Result<()> {
    Cli::parse_from([&["dt-train"], args].concat()).run()
}

#[test]
fn an_algorithm_in_the_registry_is_trained_evaluated_and_reported() {
    algo::register(Entry::from_data::<Linear>("linear feedback"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, run, json, page) = (path("d.hdf5"), path("run"), path("e.json"), path("r.html"));
    braked(Path::new(&data));
    let train = |more: &[&str]| {
        let fixed = [
            "train",
            "--algo",
            "linear",
            "--data",
            &data,
            "--out",
            &run,
            "--device",
            "cpu",
            "--set",
            "train.learning_rate=0.05",
            "--set",
            "train.warmup_updates=1",
            "--set",
            "train.dropout=0",
            "--set",
            "train.threads=1",
            "--set",
            "eval.episodes=2",
            "--set",
            "data.validation_percent=25",
        ];
        dt_train(&[fixed.as_slice(), more].concat())
    };
    train(&["--set", "train.updates=200"]).unwrap();

    // It has learned to brake: half of the range of ±2 per unit of speed, which is normalized.
    let opened = Run::open(Path::new(&run)).unwrap();
    assert_eq!(opened.recipe.algorithm.name(), "linear");
    assert_eq!(opened.parameters(), 4);
    let gains = opened.checkpoint(Which::Last).unwrap().weights;
    let gain = gains.get("gain.weight", &[1, 3]).unwrap()[2];
    let expected = -0.5 * opened.info.state_std[2];
    assert!((gain - expected).abs() < 1e-3, "{gain} {expected}");
    let record = read_metrics(&Path::new(&run).join("metrics.jsonl")).pop();
    let record = record.unwrap();
    assert!(record.validation_loss.unwrap() < 1e-4 && record.fit_loss.unwrap() < 1e-4);
    let eval = record.eval[0];
    // Both players are libtorch's.
    assert_eq!(eval.engine_mean_return, eval.torch_mean_return);

    let eval = [
        "eval",
        &run,
        "--env",
        "pendulum",
        "--target-return=-150",
        "--episodes",
        "3",
    ];
    dt_train(&[eval.as_slice(), &["--json", &json]].concat()).unwrap();
    dt_train(&["report", &run, "--out", &page]).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("linear feedback"));
    dt_train(&["inspect", &run]).unwrap();
    // Its section is checked like any other, and it makes no policy files.
    let error = train(&["--force", "--set", "linear.gain=1"]).unwrap_err();
    assert!(
        error.to_string().contains("unknown key `linear.gain`"),
        "{error}"
    );
    let error = dt_train(&["export", &run, "--out", &path("f.dtb")]).unwrap_err();
    assert!(error.to_string().contains("is linear feedback"), "{error}");
}
