//! The models that are measured: real dimensions, random weights. What a step costs does not depend on them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::firmware::Flash;
use anyhow::{Context, Result, anyhow};
use dt_core::blob::{
    Affine, Blob, Choice, Golden, LayerParameters, Manifest, MixerParameters, Parameters,
    Provenance, Sampling, Vectors, emit, emitted_len,
};
use dt_core::config::{
    Actions, Activation, Attention, Config, Convolution, Dtype, Embeddings, Encoder, Head,
    ImageEncoder, MIXED_TOKENS, Math, Mixer, Network, Order, Predictions, TOKENS_PER_STEP,
};
use dt_core::golden;
use dt_core::policy::Policy;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A model by its dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// As in the tables.
    pub name: &'static str,
    /// Dimensions.
    pub config: Config,
    /// The flash of a controller that it is for: an image with it that does not fit does not link.
    pub flash: Flash,
    /// Factor of the weights before the MLP's nonlinearity, whose inputs are then about as large.
    pub mlp_gain: f32,
    /// How it chooses, where its actions are discrete.
    pub choice: Choice,
}

/// The published model for locomotion (Chen et al. 2021), with Hopper's dimensions.
pub const PAPER: Model = Model {
    name: "paper",
    config: Config {
        state_dim: 11,
        act_dim: 3,
        d_model: 128,
        n_layer: 3,
        n_head: 1,
        d_ff: 512,
        context_len: 20,
        max_ep_len: 1000,
        dtype: Dtype::Int8,
        attention: Attention::Streaming,
        mixer: Mixer::Folded,
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
    },
    flash: Flash::Large,
    mlp_gain: 1.0,
    choice: Choice::Greedy,
};

/// The recipe of `dt-train/configs/pendulum.toml`.
pub const PENDULUM: Model = Model {
    name: "pendulum",
    config: Config {
        state_dim: 3,
        act_dim: 1,
        d_model: 64,
        n_layer: 2,
        d_ff: 256,
        context_len: 10,
        max_ep_len: 200,
        ..PAPER.config
    },
    ..PAPER
};

/// The published model with its width split over four heads.
pub const PAPER_4_HEADS: Model = Model {
    name: "paper, 4 heads",
    config: Config {
        n_head: 4,
        mixer: Mixer::Attention,
        ..PAPER.config
    },
    ..PAPER
};

/// The published model in half the bits, for half the flash.
pub const PAPER_INT4: Model = Model {
    name: "paper, int4",
    config: Config {
        dtype: Dtype::Int4,
        ..PAPER.config
    },
    flash: Flash::Small,
    ..PAPER
};

/// A model whose dimensions no kernel likes: no multiple of eight, few columns, several heads.
pub const ODD: Model = Model {
    name: "odd sizes",
    config: Config {
        state_dim: 5,
        act_dim: 3,
        d_model: 36,
        n_layer: 2,
        n_head: 3,
        d_ff: 108,
        context_len: 8,
        max_ep_len: 101,
        mixer: Mixer::Attention,
        ..PAPER.config
    },
    ..PAPER
};

/// A model in four bits whose MLP is wider than what the kernels take at a time.
pub const WIDE_INT4: Model = Model {
    name: "wide, int4",
    config: Config {
        d_model: 68,
        n_layer: 2,
        d_ff: 2100,
        max_ep_len: 100,
        dtype: Dtype::Int4,
        ..PAPER.config
    },
    ..PAPER
};

/// The paper's network for Atari (Chen et al. 2021) as it streams, with Breakout's actions: its convolutions, tanh behind them, 6
/// layers with 8 heads.
const ATARI: Model = Model {
    name: "atari",
    config: Config {
        act_dim: 4,
        n_layer: 6,
        n_head: 8,
        context_len: 30,
        mixer: Mixer::Attention,
        activation: Activation::Gelu,
        embeddings: Embeddings {
            tanh: true,
            ..Embeddings::GYM
        },
        ..seeing(
            [84, 84, 4],
            [[32, 8, 4], [64, 4, 2], [64, 3, 1]],
            PAPER.config,
        )
    },
    flash: Flash::Double,
    ..choosing("atari", sampled(0))
};

/// The same as it was published: over a window, whose places tokens are told.
const ATARI_WINDOW: Model = Model {
    name: "atari, window",
    config: Config {
        attention: Attention::Window,
        embeddings: Embeddings::ATARI,
        ..ATARI.config
    },
    ..ATARI
};

/// A small network for MinAtar's Breakout.
const MINATAR: Model = Model {
    name: "minatar",
    config: Config {
        act_dim: 6,
        d_model: 64,
        n_layer: 2,
        d_ff: 256,
        context_len: 10,
        ..seeing([10, 10, 4], [[16, 3, 1], [0; 3], [0; 3]], PAPER.config)
    },
    flash: Flash::Double,
    ..choosing("minatar", sampled(0))
};

/// Networks that see images, the paper's first.
pub const IMAGES: [Model; 3] = [ATARI, MINATAR, ATARI_WINDOW];

/// The network with an image, given by height, width and channels, for an observation. Convolutions: filters, kernel, stride.
const fn seeing(shape: [u32; 3], convolutions: [[u32; 3]; 3], config: Config) -> Config {
    const fn convolution([filters, kernel, stride]: [u32; 3]) -> Convolution {
        Convolution {
            filters,
            kernel,
            stride,
        }
    }
    let [first, second, third] = convolutions;
    let [height, width, channels] = shape;
    let image = ImageEncoder {
        height,
        width,
        channels,
        convolutions: [convolution(first), convolution(second), convolution(third)],
    };
    Config {
        state_dim: image.pixels(),
        encoder: Encoder::Image(image),
        actions: Actions::Discrete,
        head: Head::Linear,
        ..config
    }
}

/// The longest timestep table there can be, and little else: for a step to take the same time at its end as at its beginning,
/// which the image finds out.
pub const LONG: Model = Model {
    name: "long",
    config: Config {
        d_model: 8,
        n_layer: 1,
        d_ff: 8,
        context_len: 2,
        max_ep_len: 65_536,
        ..PAPER.config
    },
    flash: Flash::Emulated,
    ..PAPER
};

/// The published model as an engine that keeps nothing computes it.
pub const PAPER_WINDOW: Model = Model {
    name: "paper, window",
    config: Config {
        attention: Attention::Window,
        ..PAPER.config
    },
    ..PAPER
};

/// The published model with this activation and head.
const fn headed(name: &'static str, activation: Activation, head: Head, glu: bool) -> Model {
    Model {
        name,
        config: Config {
            activation,
            head,
            glu,
            ..PAPER.config
        },
        ..PAPER
    }
}

/// The published model that also predicts these.
const fn predicting(name: &'static str, state: bool, return_to_go: bool) -> Model {
    Model {
        name,
        config: Config {
            predictions: Predictions {
                state,
                return_to_go,
            },
            ..PAPER.config
        },
        ..PAPER
    }
}

/// The published model with states before returns, which they predict.
const STATE_FIRST: Model = {
    let predicting = predicting("relu, tanh, state first", false, true);
    Model {
        config: Config {
            order: Order::StateFirst,
            ..predicting.config
        },
        ..predicting
    }
};

/// The published model with convolutions over tokens.
const CONVOLVED: Model = Model {
    name: "relu, tanh, convolution",
    config: Config {
        mixer: Mixer::Convolution,
        ..PAPER.config
    },
    ..PAPER
};

/// The same with values for which tanh mostly takes the longest way: neither small nor so large that exp overflows.
const fn steep(name: &'static str, activation: Activation) -> Model {
    Model {
        mlp_gain: 4.0,
        ..headed(name, activation, Head::Tanh, false)
    }
}

/// The published model with as many choices as Atari's largest set of actions has.
const fn choosing(name: &'static str, choice: Choice) -> Model {
    Model {
        config: Config {
            actions: Actions::Discrete,
            act_dim: 18,
            head: Head::Linear,
            ..PAPER.config
        },
        name,
        choice,
        ..PAPER
    }
}

/// Drawn among so many.
const fn sampled(top_k: u32) -> Choice {
    Choice::Sampled(Sampling {
        temperature: 1.0,
        top_k,
        seed: 0,
    })
}

/// The published model with every activation and head, its own first.
pub const HEADS: [Model; 20] = {
    use Activation::{Gelu, GeluTanh, Relu, Silu, Tanh};
    use Head::Linear;
    const TANH: Head = Head::Tanh;
    [
        headed("relu, tanh", Relu, TANH, false),
        headed("relu, linear", Relu, Linear, false),
        headed("relu, GLU and tanh", Relu, TANH, true),
        headed("relu, GLU and linear", Relu, Linear, true),
        headed("gelu_tanh, tanh", GeluTanh, TANH, false),
        headed("gelu, tanh", Gelu, TANH, false),
        headed("gelu, GLU and linear", Gelu, Linear, true),
        headed("silu, tanh", Silu, TANH, false),
        headed("silu, GLU and tanh", Silu, TANH, true),
        headed("tanh, tanh", Tanh, TANH, false),
        predicting("relu, tanh and next state", true, false),
        predicting("relu, tanh and next return", false, true),
        predicting("relu, tanh and both", true, true),
        STATE_FIRST,
        CONVOLVED,
        steep("gelu_tanh, tanh; large values", GeluTanh),
        steep("tanh, tanh; large values", Tanh),
        choosing("18 choices, greedy", Choice::Greedy),
        choosing("18 choices, sampled", sampled(0)),
        choosing("18 choices, sampled among 9", sampled(9)),
    ]
};

/// A perceptron with Hopper's dimensions: hidden layers and their width, and the states that it sees.
const fn perceptron(
    name: &'static str,
    dtype: Dtype,
    n_layer: u32,
    width: u32,
    context_len: u32,
) -> Model {
    Model {
        name,
        config: Config {
            dtype,
            ..Config::mlp([11, 3], [n_layer, width], context_len)
        },
        ..PAPER
    }
}

/// Perceptrons, after the published model: behaviour cloning as that paper has it and of one state, actors as CORL has them, and
/// what no kernel likes.
pub const MLPS: [Model; 12] = {
    use Dtype::{Int4, Int8};
    const fn activated(name: &'static str, activation: Activation) -> Model {
        let bc = perceptron(name, Int8, 3, 128, 20);
        Model {
            config: Config {
                activation,
                ..bc.config
            },
            ..bc
        }
    }
    let bc = perceptron("BC, 3 × 128, K 20", Int8, 3, 128, 20);
    [
        PAPER,
        bc,
        perceptron("BC, 3 × 128, K 20, int4", Int4, 3, 128, 20),
        perceptron("BC, 3 × 128, K 1", Int8, 3, 128, 1),
        perceptron("actor, 2 × 256, K 1", Int8, 2, 256, 1),
        perceptron("actor, 2 × 256, K 1, int4", Int4, 2, 256, 1),
        perceptron("actor, 3 × 256, K 1", Int8, 3, 256, 1),
        activated("BC, 3 × 128, K 20, silu", Activation::Silu),
        activated("BC, 3 × 128, K 20, tanh", Activation::Tanh),
        Model {
            name: "BC, 3 × 128, K 20, 18 choices, sampled among 9",
            choice: sampled(9),
            config: Config {
                actions: Actions::Discrete,
                act_dim: 18,
                head: Head::Linear,
                ..bc.config
            },
            ..bc
        },
        Model {
            name: "odd sizes",
            config: Config {
                state_dim: 5,
                d_ff: 36,
                context_len: 3,
                ..bc.config
            },
            ..bc
        },
        perceptron("wide, int4", Int4, 2, 1100, 5),
    ]
};

impl Model {
    /// Whether a step takes the same time whatever its input. Without norms a huge state makes huge values, of which exp and tanh
    /// are done sooner.
    pub fn is_steady(&self) -> bool {
        !self.config.is_mlp() || self.config.activation == Activation::Relu
    }

    /// Writes `policy.dtb` and `policy.rs` into `folder`, as `dt-train export` does, and gives the former's place.
    ///
    /// # Errors
    /// If `dt-core` refuses the model or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let mut file = self.emit().with_context(|| self.name.to_owned())?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join("policy.dtb");
        let constants = format!(
            "/// 32-bit words of memory that the policy needs.\npub const ARENA_WORDS: usize = {};\n",
            self.config.arena_words()
        );
        fs::write(&path, file.bytes())
            .and_then(|()| fs::write(folder.join("policy.rs"), constants))
            .with_context(|| format!("cannot write into {}", folder.display()))?;
        Ok(path)
    }

    fn emit(&self) -> Result<Aligned> {
        let mut random = Random(ChaCha8Rng::seed_from_u64(0));
        let config = &self.config;
        let mut tensors = Tensors::random(config, &mut random);
        for [.., mlp_fc, _] in &mut tensors.layers {
            let [weight, _] = mlp_fc;
            weight
                .iter_mut()
                .for_each(|weight| *weight *= self.mlp_gain);
        }
        // Once around the ring and beyond, as an export has; the window engine takes too long for that.
        let steps = match config.attention {
            _ if config.is_mlp() => 2 * config.context_len + 3,
            Attention::Streaming => 2 * config.context_len + 3,
            Attention::Window => 1,
        };
        let manifest = Manifest {
            target_return: 1.0,
            golden_steps: steps,
            golden_images: match config.image() {
                Some(_) => steps.min(2),
                None => 0,
            },
            env: "none",
            choice: self.choice,
            provenance: Provenance {
                dataset: "random",
                run: self.name,
                version: env!("CARGO_PKG_VERSION"),
                ..Manifest::new(*config).provenance
            },
            ..Manifest::new(*config)
        };
        let mut golden = random.around(0.0, 1.0, steps as usize * manifest.golden_record_len());
        if config.actions == Actions::Discrete {
            let applied = 1 + config.state_vector_len() as usize;
            for record in golden.chunks_exact_mut(manifest.golden_record_len()) {
                record[applied] = random.0.random_range(0..config.act_dim) as f32;
            }
        }
        let images: Vec<u8> = (0..manifest.golden_images * config.state_dim)
            .map(|_| random.0.random())
            .collect();
        let unproven = tensors.emit(&manifest, with_images(&golden, &images))?;
        let blob = unproven.parse()?;
        let mut policy = Policy::new(&blob, vec![0; config.arena_words()])?;
        golden::record(&mut policy, &blob, &mut golden)?;
        tensors.emit(&manifest, with_images(&golden, &images))
    }
}

fn with_images<'g>(records: &'g [f32], images: &'g [u8]) -> Golden<'g> {
    Golden { records, images }
}

/// A file in memory that is aligned as `dt-core` asks.
pub struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    /// Room for a file.
    pub fn zeros(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(size_of::<u128>())],
            len,
        }
    }

    /// A file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut aligned = Self::zeros(bytes.len());
        aligned.bytes().copy_from_slice(&bytes);
        Ok(aligned)
    }

    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }

    /// What it holds.
    ///
    /// # Errors
    /// If it is not a policy.
    pub fn parse(&self) -> Result<Blob<'_>> {
        Blob::parse(&bytemuck::cast_slice(&self.words)[..self.len])
            .map_err(|error| anyhow!("{error}"))
    }
}

/// Weight and bias.
type Pair = [Vec<f32>; 2];

fn affine([weight, bias]: &Pair) -> Affine<'_> {
    Affine { weight, bias }
}

/// Random weights.
struct Tensors {
    config: Config,
    convolutions: Vec<Pair>,
    embed: [Pair; 3],
    embed_timestep: Vec<f32>,
    embed_position: Vec<f32>,
    /// Of embedding and output.
    norms: [Pair; 2],
    layers: Vec<[Pair; 6]>,
    /// Of a perceptron.
    hidden: Vec<Pair>,
    glu: Pair,
    head: Pair,
    state_head: Pair,
    return_head: Pair,
}

impl Tensors {
    fn random(config: &Config, random: &mut Random) -> Self {
        let [d, f, s, a] = [
            config.d_model,
            config.d_ff,
            config.embedded_len(),
            config.act_dim,
        ]
        .map(|dim| dim as usize);
        let placed = config.image().map(ImageEncoder::placed);
        let convolutions = placed.into_iter().flatten().flatten().map(|placed| {
            let [weight, bias] =
                random.linear(placed.convolution.filters as usize, placed.cols() as usize);
            // Pixels are some hundred times as large as what a matrix expects.
            let gain = if placed.input == config.image().map_or([0; 3], ImageEncoder::shape) {
                0.01
            } else {
                1.0
            };
            [
                weight.into_iter().map(|weight| gain * weight).collect(),
                bias,
            ]
        });
        Self {
            convolutions: convolutions.collect(),
            config: *config,
            embed: [1, s, a].map(|inputs| random.linear(d, inputs)),
            embed_timestep: random.around(0.0, 0.5, config.max_ep_len as usize * d),
            // None in most, and then no random number is drawn.
            embed_position: random.around(0.0, 0.5, config.position_rows() * d),
            norms: [(); 2].map(|()| random.norm(d)),
            layers: (0..config.n_layer)
                .filter(|_| !config.is_mlp())
                .map(|_| {
                    let [rows, cols] = match config.mixer {
                        Mixer::Folded => [config.folded_rows() as usize, d],
                        // As many numbers as if it were a matrix.
                        Mixer::Convolution => [TOKENS_PER_STEP * d, MIXED_TOKENS],
                        _ => [3 * d, d],
                    };
                    [
                        random.norm(d),
                        random.linear(rows, cols),
                        random.linear(d, d),
                        random.norm(d),
                        random.linear(f, d),
                        random.linear(d, f),
                    ]
                })
                .collect(),
            hidden: (0..config.n_layer)
                .filter(|_| config.is_mlp())
                .map(|i| match i {
                    0 => random.linear(f, config.seen_len() as usize),
                    _ => random.linear(f, f),
                })
                .collect(),
            // Drawn only where there is one, so that the other models keep their weights.
            glu: match config.glu {
                true => random.linear(2 * d, d),
                false => Pair::default(),
            },
            head: random.linear(a, if config.is_mlp() { f } else { d }),
            state_head: match config.predictions.state {
                true => random.linear(s, d),
                false => Pair::default(),
            },
            return_head: match config.predictions.return_to_go {
                true => random.linear(1, d),
                false => Pair::default(),
            },
        }
    }

    fn emit(&self, manifest: &Manifest<'_>, golden: Golden<'_>) -> Result<Aligned> {
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(
                |[ln_1, first, second, ln_2, mlp_fc, mlp_proj]| LayerParameters {
                    ln_1: affine(ln_1),
                    mixer: match self.config.mixer {
                        Mixer::Folded => MixerParameters::Folded {
                            key_value: affine(first),
                            bias: &second[1],
                        },
                        Mixer::Convolution => MixerParameters::Convolution(affine(first)),
                        _ => MixerParameters::Attention {
                            qkv: affine(first),
                            proj: affine(second),
                        },
                    },
                    ln_2: affine(ln_2),
                    mlp_fc: affine(mlp_fc),
                    mlp_proj: affine(mlp_proj),
                },
            )
            .collect();
        let hidden: Vec<_> = self.hidden.iter().map(affine).collect();
        let [embed_return, embed_state, embed_action] = &self.embed;
        let [embed_ln, ln_f] = &self.norms;
        let parameters = Parameters {
            embed_return: affine(embed_return),
            convolutions: &self.convolutions.iter().map(affine).collect::<Vec<_>>(),
            embed_state: affine(embed_state),
            embed_action: affine(embed_action),
            embed_timestep: &self.embed_timestep,
            embed_position: &self.embed_position,
            embed_ln: match manifest.config.has_embedding_norm() {
                true => affine(embed_ln),
                false => Affine::default(),
            },
            layers: &layers,
            hidden: &hidden,
            ln_f: affine(ln_f),
            glu: affine(&self.glu),
            head: affine(&self.head),
            state_head: affine(&self.state_head),
            return_head: affine(&self.return_head),
        };
        let of_state = |value| vec![value; self.config.state_vector_len() as usize];
        let of_action = |value| vec![value; self.config.action_len() as usize];
        let (low, high) = match self.config.actions {
            Actions::Continuous => (-1.0, 1.0),
            Actions::Discrete => (0.0, (self.config.act_dim - 1) as f32),
        };
        let vectors = Vectors {
            state_mean: &of_state(0.0),
            state_std: &of_state(1.0),
            state_low: &of_state(f32::MIN),
            state_high: &of_state(f32::MAX),
            action_low: &of_action(low),
            action_high: &of_action(high),
            safe_action: &of_action(0.0),
        };
        let mut file = Aligned::zeros(emitted_len(manifest)?);
        emit(manifest, &vectors, &parameters, golden, file.bytes())?;
        Ok(file)
    }
}

struct Random(ChaCha8Rng);

impl Random {
    /// `n` numbers, uniform, with this mean and standard deviation.
    fn around(&mut self, mean: f32, std: f32, n: usize) -> Vec<f32> {
        let half_width = std * 3f32.sqrt();
        (0..n)
            .map(|_| mean + self.0.random_range(-half_width..=half_width))
            .collect()
    }

    fn linear(&mut self, rows: usize, cols: usize) -> Pair {
        let weight = self.around(0.0, 1.0 / (cols as f32).sqrt(), rows * cols);
        [weight, self.around(0.0, 0.2, rows)]
    }

    fn norm(&mut self, len: usize) -> Pair {
        [self.around(1.0, 0.3, len), self.around(0.0, 0.3, len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_prove_themselves() {
        for model in [PENDULUM, PAPER_4_HEADS, PAPER_INT4, ODD, WIDE_INT4]
            .iter()
            .chain(&HEADS)
            .chain(&MLPS)
            .chain(&IMAGES)
        {
            let file = model.emit().unwrap();
            let blob = file.parse().unwrap();
            let mut policy = Policy::new(&blob, vec![0; model.config.arena_words()]).unwrap();
            let steps = golden::check(&mut policy, &blob).unwrap();
            // A window is made anew at every step, so it has no ring to go around.
            let beyond = match model.config.attention {
                Attention::Window => 0,
                Attention::Streaming => 2 * model.config.context_len as usize,
            };
            assert!(steps > beyond, "{}: {steps} golden steps", model.name);
        }
    }
}
