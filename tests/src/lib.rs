//! Shared by the cross-crate tests: networks with random or recorded weights, as policy files.
//!
//! The tests themselves lie in `tests/`, the independent Python references in `reference/`, and the
//! vectors those made in `data/`.

pub mod episodes;
pub mod life;
pub mod plant;
pub mod recorded;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use dt_core::blob::{
    Affine, AtMaxEpLen, Choice, LayerParameters, Manifest, MixerParameters, Parameters, Provenance,
    ReturnLimits, RewardMode, Vectors,
};
use dt_core::config::{
    Actions, Activation, Attention, Config, Dtype, Embeddings, Encoder, Head, ImageEncoder,
    MAX_CONVOLUTIONS, MIXED_TOKENS, Math, Mixer, Network, Order, Placed, Predictions,
    TOKENS_PER_STEP,
};
use dt_core::engine::Engine;
use host_sim::policy_file::PolicyFile;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Parameters by name, each row-major, matrices (out, in); the names are the fields of
/// [`Parameters`], as in `embed_state.weight` or `layers.0.attn_qkv.bias`.
pub type Tensors = BTreeMap<String, Vec<f32>>;

/// A policy before it is a file.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Dimensions and choices.
    pub config: Config,
    /// Weights.
    pub tensors: Tensors,
    /// How the return-to-go moves on.
    pub reward: RewardMode,
    /// What happens after the last timestep of the table.
    pub at_max_ep_len: AtMaxEpLen,
    /// Divides returns-to-go.
    pub return_scale: f32,
    /// Limits of the return-to-go.
    pub return_limits: Option<ReturnLimits>,
    /// Per state component: mean, standard deviation, low, high.
    pub state: [Vec<f32>; 4],
    /// Per action component: low, high, safe.
    pub action: [Vec<f32>; 3],
    /// How a discrete action follows from the logits.
    pub choice: Choice,
}

impl Sample {
    /// A policy with these weights, whose inputs and actions are used as they are.
    pub fn new(config: Config, tensors: Tensors) -> Self {
        let (state, action) = (config.state_vector_len() as usize, config.act_dim as usize);
        Self {
            config,
            tensors,
            reward: RewardMode::Observed,
            at_max_ep_len: AtMaxEpLen::Saturate,
            return_scale: 1.0,
            return_limits: None,
            state: [0.0, 1.0, -100.0, 100.0].map(|value| vec![value; state]),
            action: match config.actions {
                Actions::Continuous => [-1.0, 1.0, 0.0].map(|value| vec![value; action]),
                Actions::Discrete => [0.0, (action - 1) as f32, 0.0].map(|value| vec![value]),
            },
            choice: Choice::Greedy,
        }
    }

    /// A policy in which nothing is left at a value that could hide a mistake: random weights,
    /// biases, norms, normalization and action ranges.
    pub fn random(config: Config, seed: u64) -> Self {
        let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
        let (state, action) = (config.state_vector_len() as usize, config.act_dim as usize);
        let mut sample = Self {
            return_scale: 50.0,
            state: [
                random.around(0.0, 0.5, state),
                random.around(1.0, 0.3, state),
                vec![-100.0; state],
                vec![100.0; state],
            ],
            action: [
                random.around(-2.0, 0.5, action),
                random.around(2.0, 0.5, action),
                random.around(0.0, 0.2, action),
            ],
            ..Self::new(config, random_tensors(&config, &mut random))
        };
        if config.actions == Actions::Discrete {
            let last = (config.act_dim - 1) as f32;
            sample.action = [0.0, last, last].map(|index| vec![index]);
        }
        sample.centre_head(&mut random);
        sample
    }

    /// Scales and shifts the head so that every action component varies widely about 0; left to
    /// chance, some hardly would.
    fn centre_head(&mut self, random: &mut Random) {
        const STEPS: usize = 100;
        let linear = Self {
            config: Config {
                dtype: Dtype::F32,
                head: Head::Linear,
                ..self.config
            },
            ..self.clone()
        };
        let episode = Episode::random(&self.config, STEPS, random);
        let actions = episode.run(&linear.emit(), 0);
        let width = self.tensors["head.weight"].len() / self.config.act_dim as usize;
        for i in 0..self.config.act_dim as usize {
            let mean = actions.iter().map(|a| a[i]).sum::<f32>() / STEPS as f32;
            let variance =
                actions.iter().map(|a| (a[i] - mean).powi(2)).sum::<f32>() / STEPS as f32;
            let gain = 0.7 / variance.sqrt();
            let weight = self.tensors.get_mut("head.weight").expect("a head");
            weight[i * width..][..width]
                .iter_mut()
                .for_each(|w| *w *= gain);
            let bias = self.tensors.get_mut("head.bias").expect("a head");
            bias[i] = (bias[i] - mean) * gain;
        }
    }

    /// The policy file.
    ///
    /// # Panics
    /// If `dt-core` refuses it.
    pub fn emit(&self) -> PolicyFile {
        self.emit_as(&self.manifest(), &[])
    }

    /// The policy file with another manifest, and its golden records.
    ///
    /// # Panics
    /// If `dt-core` refuses it.
    pub fn emit_as(&self, manifest: &Manifest<'_>, golden: &[f32]) -> PolicyFile {
        let [state_mean, state_std, state_low, state_high] = &self.state;
        let [action_low, action_high, safe_action] = &self.action;
        let vectors = Vectors {
            state_mean,
            state_std,
            state_low,
            state_high,
            action_low,
            action_high,
            safe_action,
        };
        let numbers = 0..self.config.n_layer;
        if self.config.is_mlp() {
            let hidden: Vec<_> = numbers
                .map(|i| self.affine(&format!("hidden.{i}")))
                .collect();
            let parameters = Parameters {
                hidden: &hidden,
                head: self.affine("head"),
                ..Parameters::default()
            };
            return PolicyFile::emit(manifest, &vectors, &parameters, golden)
                .expect("valid parameters");
        }
        let layers: Vec<_> = numbers.map(|i| self.layer(i)).collect();
        let parameters = Parameters {
            embed_return: self.affine("embed_return"),
            convolutions: &self.convolutions(),
            embed_state: self.affine("embed_state"),
            embed_action: self.affine("embed_action"),
            embed_timestep: self.table("embed_timestep"),
            embed_position: self.table("embed_position"),
            embed_ln: match self.config.has_embedding_norm() {
                true => self.affine("embed_ln"),
                false => Affine::default(),
            },
            layers: &layers,
            hidden: &[],
            ln_f: self.affine("ln_f"),
            glu: match self.config.glu {
                true => self.affine("glu"),
                false => Affine::default(),
            },
            head: self.affine("head"),
            state_head: match self.config.predictions.state {
                true => self.affine("state_head"),
                false => Affine::default(),
            },
            return_head: match self.config.predictions.return_to_go {
                true => self.affine("return_head"),
                false => Affine::default(),
            },
        };
        PolicyFile::emit(manifest, &vectors, &parameters, golden).expect("valid parameters")
    }

    /// What the policy declares; golden steps: none.
    pub fn manifest(&self) -> Manifest<'static> {
        Manifest {
            return_scale: self.return_scale,
            return_limits: self.return_limits,
            target_return: 40.0,
            reward: self.reward,
            at_max_ep_len: self.at_max_ep_len,
            env: "none",
            choice: self.choice,
            provenance: Provenance {
                dataset: "random",
                dataset_sha256: [7; 32],
                run: "tests",
                version: env!("CARGO_PKG_VERSION"),
                seed: 300,
                updates: 70_000,
                ..Manifest::new(self.config).provenance
            },
            ..Manifest::new(self.config)
        }
    }

    fn layer(&self, i: u32) -> LayerParameters<'_> {
        let affine = |name| self.affine(&format!("layers.{i}.{name}"));
        LayerParameters {
            ln_1: affine("ln_1"),
            mixer: match self.config.mixer {
                Mixer::Folded => MixerParameters::Folded {
                    key_value: affine("attn_folded"),
                    bias: &self.tensors[&format!("layers.{i}.attn_bias")],
                },
                Mixer::Convolution => MixerParameters::Convolution(affine("conv")),
                _ => MixerParameters::Attention {
                    qkv: affine("attn_qkv"),
                    proj: affine("attn_proj"),
                },
            },
            ln_2: affine("ln_2"),
            mlp_fc: affine("mlp_fc"),
            mlp_proj: affine("mlp_proj"),
        }
    }

    fn convolutions(&self) -> Vec<Affine<'_>> {
        let named = CONVOLUTIONS.into_iter().zip(placed(&self.config));
        named.map(|(name, _)| self.affine(name)).collect()
    }

    /// Empty if there is none.
    fn table(&self, name: &str) -> &[f32] {
        self.tensors.get(name).map_or(&[], Vec::as_slice)
    }

    fn affine(&self, name: &str) -> Affine<'_> {
        Affine {
            weight: &self.tensors[&format!("{name}.weight")],
            bias: &self.tensors[&format!("{name}.bias")],
        }
    }
}

/// Modules of an image encoder.
const CONVOLUTIONS: [&str; MAX_CONVOLUTIONS] = ["conv_1", "conv_2", "conv_3"];

fn placed(config: &Config) -> impl Iterator<Item = Placed> + use<> {
    let placed = config.image().map(ImageEncoder::placed);
    placed.into_iter().flatten().flatten()
}

/// A small network to start from: two layers, two heads, streaming, int8.
pub fn small_config() -> Config {
    Config {
        state_dim: 3,
        act_dim: 2,
        d_model: 16,
        n_layer: 2,
        n_head: 2,
        d_ff: 24,
        context_len: 5,
        max_ep_len: 40,
        dtype: Dtype::Int8,
        attention: Attention::Streaming,
        mixer: Mixer::Attention,
        activation: Activation::Relu,
        head: Head::Tanh,
        math: Math::Polynomial,
        layer_norm_eps: 1e-5,
        glu: false,
        actions: Actions::Continuous,
        predictions: Predictions::NONE,
        encoder: Encoder::Linear,
        embeddings: Embeddings::GYM,
        order: Order::ReturnFirst,
        network: Network::Transformer,
    }
}

/// A small perceptron to start from: three hidden layers, the last five states, int8.
pub fn small_perceptron() -> Config {
    Config {
        dtype: Dtype::Int8,
        ..Config::mlp([3, 2], [3, 24], 5)
    }
}

/// A seeded source of numbers for tests.
pub struct Random(pub ChaCha8Rng);

impl Random {
    /// A new source.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// `n` numbers, uniform, with this mean and standard deviation.
    pub fn around(&mut self, mean: f32, std: f32, n: usize) -> Vec<f32> {
        let half_width = std * 3f32.sqrt();
        let mut draw = || mean + self.0.random_range(-half_width..=half_width);
        (0..n).map(|_| draw()).collect()
    }

    /// What a policy sees: numbers around 0, or pixels.
    pub fn observation(&mut self, config: &Config) -> Vec<f32> {
        let len = config.state_dim as usize;
        match config.image() {
            None => self.around(0.0, 1.0, len),
            // Some are dark: noise alone would all look alike behind a convolution.
            Some(_) => {
                let light = 1 + self.below(256);
                (0..len).map(|_| self.below(light) as f32).collect()
            }
        }
    }

    /// One of 0…n − 1.
    pub fn below(&mut self, n: u32) -> u32 {
        self.0.random_range(0..n)
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }
}

/// Inputs of one episode as the network sees them.
pub struct Episode {
    /// Per step.
    pub returns_to_go: Vec<f32>,
    /// Per step (state_dim).
    pub states: Vec<Vec<f32>>,
    /// Per step (act_dim); the last is not looked at.
    pub actions: Vec<Vec<f32>>,
}

impl Episode {
    /// Independent inputs per step, so that every visible token matters.
    pub fn random(config: &Config, steps: usize, random: &mut Random) -> Self {
        let action = config.act_dim as usize;
        Self {
            returns_to_go: random.around(0.0, 1.0, steps),
            states: (0..steps).map(|_| random.observation(config)).collect(),
            actions: (0..steps)
                .map(|_| match config.actions {
                    Actions::Continuous => random.around(0.0, 0.5, action),
                    Actions::Discrete => one_hot(random.below(config.act_dim), action),
                })
                .collect(),
        }
    }

    /// Actions from timestep `start` on, by an engine that was reset there.
    ///
    /// # Panics
    /// If the engine fails.
    pub fn run(&self, file: &PolicyFile, start: usize) -> Vec<Vec<f32>> {
        let blob = file.blob();
        let arena = vec![0u32; blob.manifest().config.arena_words()];
        let mut engine = Engine::new(blob.model(), arena).expect("room enough");
        engine.reset();
        (start..self.states.len())
            .map(|t| {
                let previous = (t > start).then(|| self.actions[t - 1].as_slice());
                let timestep = u32::try_from(t).expect("a short episode");
                engine
                    .step(previous, self.returns_to_go[t], &self.states[t], timestep)
                    .expect("finite values")
                    .to_vec()
            })
            .collect()
    }
}

/// A choice as the network reads it.
fn one_hot(index: u32, choices: usize) -> Vec<f32> {
    let mut vector = vec![0.0; choices];
    vector[index as usize] = 1.0;
    vector
}

fn random_tensors(config: &Config, random: &mut Random) -> Tensors {
    let d = config.d_model as usize;
    let mut tensors = Tensors::new();
    let mut matrix = |random: &mut Random, name: &str, out: usize, inputs: usize, gain: f32| {
        let std = gain / (inputs as f32).sqrt();
        tensors.insert(
            format!("{name}.weight"),
            random.around(0.0, std, out * inputs),
        );
        tensors.insert(format!("{name}.bias"), random.around(0.0, 0.2, out));
    };
    if config.is_mlp() {
        let width = config.d_ff as usize;
        for i in 0..config.n_layer {
            let inputs = match i {
                0 => config.seen_len() as usize,
                _ => width,
            };
            matrix(random, &format!("hidden.{i}"), width, inputs, 1.5);
        }
        matrix(random, "head", config.act_dim as usize, width, 1.0);
        return tensors;
    }
    matrix(random, "embed_return", d, 1, 1.0);
    for (name, placed) in CONVOLUTIONS.into_iter().zip(placed(config)) {
        // Pixels are some hundred times as large as other inputs.
        let gain = if name == CONVOLUTIONS[0] { 0.01 } else { 1.5 };
        let filters = placed.convolution.filters as usize;
        matrix(random, name, filters, placed.cols() as usize, gain);
    }
    let gain = match config.image() {
        Some(image) if image.placed()[0].is_none() => 0.01,
        _ => 1.5,
    };
    matrix(
        random,
        "embed_state",
        d,
        config.embedded_len() as usize,
        gain,
    );
    matrix(random, "embed_action", d, config.act_dim as usize, 1.5);
    for i in 0..config.n_layer {
        let d_ff = config.d_ff as usize;
        if config.is_convolved() {
            // As many numbers as if it were one.
            let filters = TOKENS_PER_STEP * d;
            matrix(
                random,
                &format!("layers.{i}.conv"),
                filters,
                MIXED_TOKENS,
                1.0,
            );
        } else if config.is_folded() {
            let rows = config.folded_rows() as usize;
            matrix(random, &format!("layers.{i}.attn_folded"), rows, d, 1.2);
        } else {
            matrix(random, &format!("layers.{i}.attn_qkv"), 3 * d, d, 1.2);
            matrix(random, &format!("layers.{i}.attn_proj"), d, d, 1.0);
        }
        matrix(random, &format!("layers.{i}.mlp_fc"), d_ff, d, 1.0);
        matrix(random, &format!("layers.{i}.mlp_proj"), d, d_ff, 1.0);
    }
    if config.glu {
        matrix(random, "glu", 2 * d, d, 1.0);
    }
    matrix(random, "head", config.act_dim as usize, d, 1.0);

    for i in (0..config.n_layer).filter(|_| config.is_folded()) {
        tensors.insert(format!("layers.{i}.attn_bias"), random.around(0.0, 0.2, d));
    }
    let norms =
        (0..config.n_layer).flat_map(|i| ["ln_1", "ln_2"].map(|n| format!("layers.{i}.{n}")));
    for name in norms.chain(["embed_ln", "ln_f"].map(String::from)) {
        tensors.insert(format!("{name}.weight"), random.around(1.0, 0.3, d));
        tensors.insert(format!("{name}.bias"), random.around(0.0, 0.3, d));
    }
    if config.max_ep_len > 0 {
        let rows = config.max_ep_len as usize;
        tensors.insert("embed_timestep".into(), random.around(0.0, 0.5, rows * d));
    }
    // Last, so that the other tensors are those of the same network without.
    let heads = [
        (config.predictions.state, "state_head", config.state_dim),
        (config.predictions.return_to_go, "return_head", 1),
    ];
    for (_, name, outputs) in heads.into_iter().filter(|(is_there, ..)| *is_there) {
        let (outputs, std) = (outputs as usize, 1.0 / (d as f32).sqrt());
        tensors.insert(
            format!("{name}.weight"),
            random.around(0.0, std, outputs * d),
        );
        tensors.insert(format!("{name}.bias"), random.around(0.0, 0.2, outputs));
    }
    if config.is_placed_in_window() {
        let places = random.around(0.0, 0.5, config.position_rows() * d);
        tensors.insert("embed_position".into(), places);
    }
    tensors
}

/// One of the scripts in `reference/`, to be run by the interpreter that set-up installs.
///
/// # Panics
/// If set-up has not run.
pub fn python(script: &str) -> Command {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = tests.join("../.deps/python");
    assert!(
        interpreter.exists(),
        "{} is missing: run `cargo xtask setup`",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command.arg(tests.join("reference").join(script));
    command
}

/// The smallest standard deviation over time of any component of `actions` (steps × act_dim).
///
/// A policy that hardly moves would pass many a comparison; tests state how much theirs does.
pub fn smallest_spread(actions: &[Vec<f32>]) -> f64 {
    let n = actions.len() as f64;
    let components = actions.first().map_or(0, Vec::len);
    (0..components)
        .map(|i| {
            let mean = actions.iter().map(|a| f64::from(a[i])).sum::<f64>() / n;
            let square = |a: &Vec<f32>| (f64::from(a[i]) - mean).powi(2);
            (actions.iter().map(square).sum::<f64>() / n).sqrt()
        })
        .fold(f64::INFINITY, f64::min)
}
