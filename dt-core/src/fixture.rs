//! Small random policies for this crate's tests.

use crate::blob::{
    Affine, Choice, EmitError, Golden, LayerParameters, Manifest, MixerParameters, Parameters,
    Provenance, Sampling, Vectors, emit, emitted_len,
};
use crate::config::{
    Actions, Activation, Attention, Config, Dtype, Embeddings, Encoder, Head, MIXED_TOKENS, Math,
    Mixer, Network, Order, Predictions,
};

/// xorshift64*: enough randomness for weights, and no dependency.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    /// Uniform in ±1.
    pub fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vector(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| scale * self.unit()).collect()
    }
}

pub fn config() -> Config {
    Config {
        state_dim: 3,
        act_dim: 1,
        d_model: 8,
        n_layer: 2,
        n_head: 2,
        d_ff: 16,
        context_len: 4,
        max_ep_len: 9,
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
        network: Network::Transformer,
        encoder: Encoder::Linear,
        embeddings: Embeddings::GYM,
        order: Order::ReturnFirst,
    }
}

pub fn manifest(config: Config) -> Manifest<'static> {
    Manifest {
        return_scale: 100.0,
        target_return: -150.0,
        env: "pendulum",
        provenance: Provenance {
            dataset: "none",
            dataset_sha256: [7; 32],
            run: "fixture",
            version: "0",
            seed: 1,
            updates: 2,
            ..Manifest::new(config).provenance
        },
        choice: match config.actions {
            Actions::Continuous => Choice::Greedy,
            Actions::Discrete => Choice::Sampled(Sampling {
                temperature: 0.8,
                top_k: 2,
                seed: 11,
            }),
        },
        ..Manifest::new(config)
    }
}

/// A network with random weights, biases and norms.
pub struct Fixture {
    pub manifest: Manifest<'static>,
    pub seed: u64,
    pub golden: Vec<f32>,
    pub images: Vec<u8>,
}

impl Fixture {
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            manifest: manifest(config),
            seed,
            golden: Vec::new(),
            images: Vec::new(),
        }
    }

    /// The policy file, in 16-byte units so that it is aligned.
    pub fn emit(&self) -> Result<Vec<u128>, EmitError> {
        let config = &self.manifest.config;
        let [d, f, s, a, t] = [
            config.d_model,
            config.d_ff,
            config.state_vector_len(),
            config.act_dim,
            config.max_ep_len,
        ]
        .map(|dim| dim as usize);
        let mut random = Random::new(self.seed);
        let mut linear = |rows: usize, cols: usize, gain: f32| {
            let weight = random.vector(rows * cols, gain / (cols as f32).sqrt());
            (weight, random.vector(rows, 0.3))
        };
        // Actions that vary, but seldom saturate.
        let head_gain = match (config.head, config.actions) {
            (Head::Linear, Actions::Continuous) => 0.6,
            _ => 3.0,
        };
        let hidden: Vec<_> = (0..config.n_layer as usize)
            .filter(|_| config.is_mlp())
            .map(|index| {
                let (_, [rows, cols]) = config.hidden(index);
                linear(rows, cols, 2.0)
            })
            .collect();
        let image = config.image();
        let convolutions: Vec<_> = image
            .iter()
            .flat_map(|image| image.placed())
            .flatten()
            .map(|placed| {
                linear(
                    placed.convolution.filters as usize,
                    placed.cols() as usize,
                    1.5,
                )
            })
            .collect();
        let ends = [
            linear(d, 1, 2.0),
            linear(d, config.embedded_len() as usize, 2.0),
            linear(d, a, 2.0),
            linear(a, config.head_inputs() as usize, head_gain),
        ];
        let blocks: Vec<[_; 4]> = (0..config.n_layer)
            .filter(|_| !config.is_mlp())
            .map(|_| {
                let mixer = match config.mixer {
                    Mixer::Attention => [linear(3 * d, d, 2.0), linear(d, d, 2.0)],
                    Mixer::Folded => [
                        linear(config.folded_rows() as usize, d, 2.0),
                        linear(d, 1, 1.0),
                    ],
                    Mixer::Convolution => {
                        let (weight, _) = linear(3 * MIXED_TOKENS, d, 4.0);
                        let (_, bias) = linear(3 * d, 1, 1.0);
                        [(weight, bias), (Vec::new(), Vec::new())]
                    }
                };
                let [first, second] = mixer;
                [first, second, linear(f, d, 2.0), linear(d, f, 2.0)]
            })
            .collect();
        let table = random.vector(t * d, 1.0);
        let places = random.vector(config.position_rows() * d, 1.0);
        let mut norm = || {
            let weight = random.vector(d, 0.5).iter().map(|w| w + 1.0).collect();
            (weight, random.vector(d, 0.3))
        };
        let norms: [_; 2] = [norm(), norm()];
        let block_norms: Vec<[_; 2]> = (0..config.n_layer).map(|_| [norm(), norm()]).collect();
        let glu = config.glu.then(|| {
            let weight = random.vector(2 * d * d, 2.0 / (d as f32).sqrt());
            (weight, random.vector(2 * d, 0.3))
        });

        let mut head = |rows: usize| {
            let weight = random.vector(rows * d, 2.0 / (d as f32).sqrt());
            (weight, random.vector(rows, 0.3))
        };
        let state_head = config.predictions.state.then(|| head(s));
        let return_head = config.predictions.return_to_go.then(|| head(1));

        fn affine((weight, bias): &(Vec<f32>, Vec<f32>)) -> Affine<'_> {
            Affine { weight, bias }
        }
        let layers: Vec<_> = blocks
            .iter()
            .zip(&block_norms)
            .map(|([first, second, fc, out], [ln_1, ln_2])| LayerParameters {
                ln_1: affine(ln_1),
                mixer: match config.mixer {
                    Mixer::Attention => MixerParameters::Attention {
                        qkv: affine(first),
                        proj: affine(second),
                    },
                    Mixer::Folded => MixerParameters::Folded {
                        key_value: affine(first),
                        bias: &second.1,
                    },
                    Mixer::Convolution => MixerParameters::Convolution(affine(first)),
                },
                ln_2: affine(ln_2),
                mlp_fc: affine(fc),
                mlp_proj: affine(out),
            })
            .collect();
        let parameters = Parameters {
            embed_return: affine(&ends[0]),
            convolutions: &convolutions.iter().map(affine).collect::<Vec<_>>(),
            embed_state: affine(&ends[1]),
            embed_action: affine(&ends[2]),
            embed_timestep: &table,
            embed_position: &places,
            embed_ln: match config.has_embedding_norm() {
                true => affine(&norms[0]),
                false => Affine::default(),
            },
            layers: &layers,
            hidden: &hidden.iter().map(affine).collect::<Vec<_>>(),
            ln_f: affine(&norms[1]),
            glu: glu.as_ref().map_or(Affine::default(), affine),
            head: affine(&ends[3]),
            state_head: state_head.as_ref().map_or(Affine::default(), affine),
            return_head: return_head.as_ref().map_or(Affine::default(), affine),
        };
        let (action_low, action_high) = match config.actions {
            Actions::Continuous => (vec![-2.0; a], vec![2.0; a]),
            Actions::Discrete => (vec![0.0], vec![(a - 1) as f32]),
        };
        let vectors = Vectors {
            state_mean: &vec![0.1; s],
            state_std: &vec![0.9; s],
            state_low: &vec![-10.0; s],
            state_high: &vec![10.0; s],
            action_low: &action_low,
            action_high: &action_high,
            safe_action: &vec![0.0; action_low.len()],
        };
        let len = emitted_len(&self.manifest)?;
        let mut file = vec![0u128; len.div_ceil(16)];
        let written = emit(
            &self.manifest,
            &vectors,
            &parameters,
            Golden {
                records: &self.golden,
                images: &self.images,
            },
            bytemuck::cast_slice_mut(&mut file),
        )?;
        assert_eq!(written, len);
        Ok(file)
    }
}

pub fn bytes(file: &[u128]) -> &[u8] {
    bytemuck::cast_slice(file)
}

pub fn arena(config: &Config) -> Vec<u32> {
    // Whatever was in memory before must not matter.
    vec![0x7fc0_1234; config.arena_words()]
}

pub fn observation(random: &mut Random) -> [f32; 3] {
    core::array::from_fn(|_| 3.0 * random.unit())
}

/// An action in the environment's units: a number around the fixture's range, or the index of a choice.
pub fn applied(config: &Config, random: &mut Random) -> f32 {
    match config.actions {
        Actions::Continuous => 2.0 * random.unit(),
        Actions::Discrete => random.below(config.act_dim.into()) as f32,
    }
}

/// Configurations that differ in everything the engine branches on.
pub fn configs() -> impl Iterator<Item = Config> {
    use {Activation::*, Attention::*, Dtype::*, Math::*, Mixer as M};
    const TANH: Head = Head::Tanh;
    const LINEAR: Head = Head::Linear;
    let choices = [
        (F32, Streaming, M::Attention, Relu, TANH, Polynomial, 9),
        (Int8, Streaming, M::Attention, Relu, TANH, Polynomial, 9),
        (Int8, Window, M::Attention, GeluTanh, LINEAR, Libm, 0),
        (F32, Window, M::Attention, GeluTanh, LINEAR, Libm, 0),
        (Int8, Streaming, M::Attention, GeluTanh, TANH, Micromath, 0),
        (Int4, Streaming, M::Attention, Relu, TANH, Libm, 9),
        (Int4, Window, M::Attention, GeluTanh, TANH, Polynomial, 0),
        (F32, Streaming, M::Folded, GeluTanh, TANH, Polynomial, 0),
        (Int8, Streaming, M::Folded, Relu, TANH, Polynomial, 9),
        (Int8, Window, M::Folded, Relu, LINEAR, Libm, 9),
        (Int4, Streaming, M::Folded, GeluTanh, TANH, Polynomial, 9),
        (F32, Window, M::Attention, Gelu, LINEAR, Polynomial, 9),
        (Int8, Streaming, M::Folded, Gelu, TANH, Micromath, 0),
        (Int4, Streaming, M::Attention, Silu, TANH, Polynomial, 9),
        (Int8, Window, M::Attention, Tanh, LINEAR, Libm, 0),
    ];
    let networks = choices.into_iter().map(
        |(dtype, attention, mixer, activation, head, math, max_ep_len)| Config {
            dtype,
            attention,
            mixer,
            activation,
            head,
            math,
            max_ep_len,
            glu: matches!(activation, Gelu | Silu),
            n_head: if mixer == Mixer::Folded { 1 } else { 2 },
            // A whole group of int4's 32 columns and some more; heads of another size.
            d_model: if dtype == Int4 { 40 } else { 8 },
            ..config()
        },
    );
    // What has a linear head can choose as well.
    let discrete = networks.clone().filter(|config| config.head == LINEAR);
    // Predictions of either kind, and of both, streaming and window, in every dtype.
    let both = |state, return_to_go| Predictions {
        state,
        return_to_go,
    };
    let predicting = networks.clone().zip([
        both(true, true),
        both(true, false),
        both(true, true),
        both(false, true),
        both(false, true),
        both(true, true),
        both(true, false),
    ]);
    let choosing = discrete.map(|config| Config {
        actions: Actions::Discrete,
        act_dim: 3,
        ..config
    });
    let predicting = predicting.map(|(config, predictions)| Config {
        predictions,
        ..config
    });
    let all_at_once = choosing.clone().take(1).map(move |config| Config {
        predictions: both(true, true),
        ..config
    });
    // States first, streaming and window, in every dtype, folded, and where actions are chosen.
    let state_first = networks
        .clone()
        .chain(choosing.clone().take(2))
        .enumerate()
        .filter(|(index, _)| [0, 1, 2, 3, 5, 6, 8, 15, 16].contains(index))
        .map(move |(_, config)| Config {
            predictions: both(false, true),
            order: Order::StateFirst,
            ..config
        });
    // Convolutions over tokens, in every dtype, streaming and window, with predictions, states first, and where actions are chosen.
    let convolved = networks
        .clone()
        .chain(choosing.clone().take(1))
        .chain(predicting.clone().take(1))
        .chain(state_first.clone().take(3))
        .enumerate()
        .filter(|(index, _)| [0, 1, 2, 3, 5, 6, 11, 15, 16, 17, 18, 19].contains(index))
        .map(|(_, config)| Config {
            mixer: Mixer::Convolution,
            n_head: 1,
            ..config
        });
    // Without a norm wherever that may be; with places wherever there is a window.
    let embedded = networks
        .clone()
        .chain(choosing.clone().take(2))
        .chain(predicting.clone())
        .chain(state_first.clone())
        .filter(|config| config.attention == Window)
        .flat_map(|config| {
            [
                Embeddings::ATARI,
                Embeddings {
                    norm: true,
                    ..Embeddings::ATARI
                },
            ]
            .map(|embeddings| Config {
                embeddings,
                ..config
            })
        });
    let without_norm = networks.clone().take(9).map(|config| Config {
        embeddings: Embeddings {
            norm: false,
            ..Embeddings::GYM
        },
        ..config
    });
    networks
        .chain(choosing)
        .chain(embedded)
        .chain(without_norm)
        .chain(state_first)
        .chain(convolved)
        .chain(predicting)
        .chain(all_at_once)
        .chain(perceptrons())
}

/// Of one hidden layer and of several, that see one state and several, in every dtype, with vectors and choices.
pub fn perceptrons() -> impl Iterator<Item = Config> {
    use {Activation::*, Dtype::*, Math::*};
    [
        (F32, 1, 4, Relu, Polynomial, Head::Tanh),
        (Int8, 3, 1, Relu, Polynomial, Head::Tanh),
        (Int8, 2, 4, Tanh, Libm, Head::Linear),
        (Int4, 3, 4, Relu, Polynomial, Head::Tanh),
        (Int4, 1, 1, Silu, Micromath, Head::Linear),
        (F32, 2, 3, Gelu, Libm, Head::Linear),
    ]
    .into_iter()
    .flat_map(|(dtype, n_layer, k, activation, math, head)| {
        let continuous = Config {
            dtype,
            activation,
            math,
            head,
            // A whole group of int4's 32 columns and some more.
            ..Config::mlp([3, 1], [n_layer, 40], k)
        };
        let choosing = (head == Head::Linear).then_some(Config {
            actions: Actions::Discrete,
            act_dim: 3,
            ..continuous
        });
        [Some(continuous), choosing].into_iter().flatten()
    })
}
