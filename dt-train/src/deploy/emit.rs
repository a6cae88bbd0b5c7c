//! Network, recipe and data description → policy file.

use std::borrow::Cow;

use dt_core::blob::{
    Affine, Choice, EmitError, Golden, LayerParameters, Manifest, MixerParameters, Parameters,
    Provenance, ReturnLimits, RewardMode, Vectors,
};
use dt_core::config::{
    Actions, Config, Convolution, Dtype, MIXED_TOKENS, Mixer, Placed, TOKENS_PER_STEP,
};
use host_sim::policy_file::PolicyFile;

use super::fold::Folded;
use crate::data::select::describe;
use crate::nn::encoder::first;
use crate::run::checkpoint::{Checkpoint, CheckpointError, Weights};
use crate::run::{Image, Run, RunError};

/// A trained network with all that its policy file says about it.
#[derive(Clone, Copy, Debug)]
pub struct Trained<'a> {
    /// Recipe and data description.
    pub run: &'a Run,
    /// The network, in f32.
    pub network: Config,
    /// Parameters.
    pub weights: &'a Weights,
    /// Updates they have had.
    pub update: u64,
}

impl<'a> Trained<'a> {
    /// A checkpoint of `run`.
    ///
    /// # Errors
    /// [`RunError::NotDeployable`].
    pub fn new(run: &'a Run, checkpoint: &'a Checkpoint) -> Result<Self, RunError> {
        Ok(Self {
            run,
            network: run.deployed(Dtype::F32)?,
            weights: &checkpoint.weights,
            update: checkpoint.progress.update,
        })
    }
}

/// Why a network cannot become a policy file.
#[derive(Debug, thiserror::Error)]
pub enum EmitBytesError {
    /// The weights are not those of the run's network.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// dt-core refused to write it.
    #[error("cannot write the policy: {0}")]
    Emit(#[from] EmitError),
    /// The run's description holds something that is not a SHA-256.
    #[error("run.json: `dataset_sha256` is {0:?}, not 64 hexadecimal digits")]
    Digest(String),
}

/// The checkpoint with weights that read pixels as they are, 0…255, where the network in training reads them less a ground and
/// divided by a scale: a controller then has nothing to subtract and nothing to divide.
pub fn in_pixels<'c>(run: &Run, checkpoint: &'c Checkpoint) -> Cow<'c, Checkpoint> {
    let network = run.deployed(Dtype::F32).ok();
    let (Some(Image { scale, ground, .. }), Some(network)) = (run.info.image, network) else {
        return Cow::Borrowed(checkpoint);
    };
    let Some(names) = network.image().map(first) else {
        return Cow::Borrowed(checkpoint);
    };
    let mut raw = checkpoint.clone();
    if let [Some(weight), Some(bias)] = names.each_ref().map(|name| raw.weights.array(name)) {
        let (weight, bias) = (weight.clone(), bias.clone());
        let rows = weight
            .values
            .chunks(weight.values.len() / bias.values.len());
        // W(x − g)/s + b = (W/s)x + (b − ΣWg/s).
        let grounds = rows.map(|row| {
            let sum: f64 = row.iter().copied().map(f64::from).sum();
            sum * f64::from(ground) / f64::from(scale)
        });
        let biases = bias.values.iter().zip(grounds);
        let biases = biases.map(|(bias, ground)| (f64::from(*bias) - ground) as f32);
        let weights = weight.values.iter().map(|weight| weight / scale);
        let [of_weight, of_bias] = names;
        let (weights, biases) = (weights.collect(), biases.collect());
        raw.weights.insert(of_weight, weight.shape.clone(), weights);
        raw.weights.insert(of_bias, bias.shape.clone(), biases);
    }
    Cow::Owned(raw)
}

/// A policy file in memory, quantized to `dtype`, its attention as trained or folded. `golden` holds whole records
/// ([`Manifest::golden_record_len`] values each) and the images they show, or nothing. Weights read pixels as
/// [`in_pixels`] makes them.
///
/// # Errors
/// [`EmitBytesError`] names the tensor or field that is off.
pub fn emit_bytes(
    trained: &Trained<'_>,
    dtype: Dtype,
    mixer: Mixer,
    golden: Golden<'_>,
) -> Result<PolicyFile, EmitBytesError> {
    match grounded(trained, dtype, mixer)? {
        None => emit(trained, dtype, mixer, golden),
        Some(weights) => {
            let trained = Trained {
                weights: &weights,
                ..*trained
            };
            emit(&trained, dtype, mixer, golden)
        }
    }
}

/// The weights with a first bias that answers for rounding on the ground of images: most pixels are of its brightness, so that what
/// rounding takes off a filter's weights would not average out over them, but move all that the filter says. None where there is none.
fn grounded(
    trained: &Trained<'_>,
    dtype: Dtype,
    mixer: Mixer,
) -> Result<Option<Weights>, EmitBytesError> {
    let image = trained.run.info.image.zip(trained.network.image());
    let (ground, encoder) = match image {
        Some((Image { ground, .. }, encoder)) if ground != 0.0 && dtype != Dtype::F32 => {
            (ground, encoder)
        }
        _ => return Ok(None),
    };
    let file = emit(trained, dtype, mixer, Golden::default())?;
    Ok(answering(trained.weights, first(encoder), &file, ground))
}

/// `weights` whose `bias` makes up for what the rows of `weight` in `file` differ by on pixels of brightness `ground`.
fn answering(
    weights: &Weights,
    [weight, bias]: [String; 2],
    file: &PolicyFile,
    ground: f32,
) -> Option<Weights> {
    let (exact, biases) = (weights.array(&weight)?, weights.array(&bias)?);
    let blob = file.blob();
    let mut linears = blob.model().linears();
    let module = weight.trim_end_matches(".weight");
    let (_, rounded) = linears.find(|(name, _)| name.to_string() == module)?;
    let rows = exact.values.chunks(rounded.cols());
    let answers = rows.zip(&biases.values).enumerate();
    let answers = answers.map(|(r, (row, bias))| {
        let errors = row.iter().enumerate().map(|(c, exact)| {
            let rounded = rounded.weight(r, c).map_or(0.0, f64::from);
            rounded - f64::from(*exact)
        });
        (f64::from(*bias) - errors.sum::<f64>() * f64::from(ground)) as f32
    });
    let answers = answers.collect();
    let mut answering = weights.clone();
    answering.insert(bias, biases.shape.clone(), answers);
    Some(answering)
}

fn emit(
    trained: &Trained<'_>,
    dtype: Dtype,
    mixer: Mixer,
    golden: Golden<'_>,
) -> Result<PolicyFile, EmitBytesError> {
    let Run {
        recipe, info, dir, ..
    } = trained.run;
    let dataset = describe(&info.dataset, &recipe.data);
    let config = Config {
        dtype,
        // A convolution has one form.
        mixer: match trained.network.mixer {
            Mixer::Convolution => Mixer::Convolution,
            _ => mixer,
        },
        ..trained.network
    };
    let mut manifest = Manifest {
        return_scale: recipe.data.return_scale,
        target_return: info.target_return,
        // A perceptron is told no returns, so nobody has to count them and none is out of limits.
        return_limits: info
            .return_range
            .filter(|_| !config.is_mlp())
            .map(|[low, high]| ReturnLimits {
                low,
                high,
                beyond: recipe.control.return_limit,
            }),
        reward: match (config.is_mlp(), config.is_state_first()) {
            (true, _) => RewardMode::Constant,
            (false, true) => RewardMode::Predicted,
            (false, false) => recipe.control.reward,
        },
        control_period_us: info.control_period_us,
        at_max_ep_len: recipe.control.at_max_ep_len,
        env: &info.env,
        choice: match config.actions {
            Actions::Continuous => Choice::Greedy,
            Actions::Discrete => recipe.control.choice(recipe.train.seed),
        },
        provenance: Provenance {
            dataset: &dataset,
            dataset_sha256: digest(&info.dataset_sha256)?,
            run: dir
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default(),
            version: &info.version,
            seed: recipe.train.seed,
            updates: trained.update,
            ..Manifest::new(config).provenance
        },
        ..Manifest::new(config)
    };
    manifest.golden_steps =
        u32::try_from(golden.records.len() / manifest.golden_record_len()).unwrap_or(u32::MAX);
    manifest.golden_images =
        u32::try_from(golden.images.len() / config.state_dim as usize).unwrap_or(u32::MAX);
    let vectors = Vectors {
        state_mean: &info.state_mean,
        state_std: &info.state_std,
        state_low: &info.state_low,
        state_high: &info.state_high,
        action_low: &info.action_low,
        action_high: &info.action_high,
        safe_action: &info.safe_action,
    };
    let network = Network {
        weights: trained.weights,
        config: &manifest.config,
    };
    if config.is_mlp() {
        let hidden = (0..config.n_layer)
            .map(|i| network.hidden(i))
            .collect::<Result<Vec<_>, _>>()?;
        let [actions, width] = [config.act_dim, config.d_ff].map(|dim| dim as usize);
        let parameters = Parameters {
            hidden: &hidden,
            head: network.linear("head", [actions, width])?,
            ..Parameters::default()
        };
        return Ok(PolicyFile::emit(&manifest, &vectors, &parameters, golden)?);
    }
    let mixers = (0..config.n_layer)
        .map(|i| network.mixer(i))
        .collect::<Result<Vec<_>, _>>()?;
    let layers = (0..)
        .zip(&mixers)
        .map(|(i, mixer)| network.layer(i, mixer))
        .collect::<Result<Vec<_>, _>>()?;
    let convolutions = network.convolutions()?;
    let parameters = network.parameters(&convolutions, &layers)?;
    Ok(PolicyFile::emit(&manifest, &vectors, &parameters, golden)?)
}

/// The named arrays in the places that dt-core gives them.
struct Network<'a> {
    weights: &'a Weights,
    config: &'a Config,
}

/// What mixes the tokens of a block.
enum Mixing<'a> {
    Trained { qkv: Affine<'a>, proj: Affine<'a> },
    Folded(Folded),
    Convolution(Affine<'a>),
}

impl Mixing<'_> {
    fn parameters(&self) -> MixerParameters<'_> {
        match *self {
            Self::Trained { qkv, proj } => MixerParameters::Attention { qkv, proj },
            Self::Folded(ref folded) => folded.parameters(),
            Self::Convolution(filters) => MixerParameters::Convolution(filters),
        }
    }
}

impl<'a> Network<'a> {
    /// Those in front where states are images.
    fn convolutions(&self) -> Result<Vec<Affine<'a>>, CheckpointError> {
        let placed = self.config.image().map(|image| image.placed());
        let placed = placed.into_iter().flatten().flatten();
        let affine = |(i, placed): (usize, Placed)| {
            let Convolution {
                filters, kernel, ..
            } = placed.convolution;
            let shape = [filters, kernel, kernel, placed.input[2]].map(|n| n as usize);
            self.affine(&format!("conv_{}", i + 1), &shape)
        };
        placed.enumerate().map(affine).collect()
    }

    fn parameters<'l>(
        &self,
        convolutions: &'l [Affine<'l>],
        layers: &'l [LayerParameters<'l>],
    ) -> Result<Parameters<'l>, CheckpointError>
    where
        'a: 'l,
    {
        let [s, a, d, rows] = [
            self.config.state_dim,
            self.config.act_dim,
            self.config.d_model,
            self.config.max_ep_len,
        ]
        .map(|dim| dim as usize);
        let features = self.config.image().map_or(s, |image| image.flat() as usize);
        Ok(Parameters {
            embed_return: self.linear("embed_return", [d, 1])?,
            convolutions,
            embed_state: self.linear("embed_state", [d, features])?,
            embed_action: self.linear("embed_action", [d, a])?,
            embed_timestep: self.table("embed_timestep", [rows, d])?,
            embed_position: self.table("embed_position", [self.config.position_rows(), d])?,
            embed_ln: match self.config.has_embedding_norm() {
                true => self.norm("embed_ln")?,
                false => Affine::default(),
            },
            layers,
            hidden: &[],
            ln_f: self.norm("ln_f")?,
            glu: match self.config.glu {
                true => self.linear("glu", [2 * d, d])?,
                false => Affine::default(),
            },
            head: self.linear("head", [a, d])?,
            state_head: match self.config.predictions.state {
                true => self.linear("state_head", [s, d])?,
                false => Affine::default(),
            },
            return_head: match self.config.predictions.return_to_go {
                true => self.linear("return_head", [1, d])?,
                false => Affine::default(),
            },
        })
    }

    /// Nothing if it has no rows.
    fn table(&self, name: &str, [rows, cols]: [usize; 2]) -> Result<&'a [f32], CheckpointError> {
        match rows {
            0 => Ok(&[]),
            rows => self.weights.get(name, &[rows, cols]),
        }
    }

    /// A perceptron's hidden layer.
    fn hidden(&self, i: u32) -> Result<Affine<'a>, CheckpointError> {
        let width = self.config.d_ff as usize;
        let inputs = match i {
            0 => self.config.seen_len() as usize,
            _ => width,
        };
        self.linear(&format!("hidden.{i}"), [width, inputs])
    }

    fn mixer(&self, i: u32) -> Result<Mixing<'a>, CheckpointError> {
        let d = self.config.d_model as usize;
        Ok(match self.config.mixer {
            Mixer::Folded => Mixing::Folded(Folded::of(self.weights, i as usize, d)?),
            Mixer::Convolution => {
                let name = format!("layers.{i}.conv");
                let (places, tokens) = (TOKENS_PER_STEP, MIXED_TOKENS);
                Mixing::Convolution(Affine {
                    weight: (self.weights).get(&format!("{name}.weight"), &[places, tokens, d])?,
                    bias: self.weights.get(&format!("{name}.bias"), &[places, d])?,
                })
            }
            _ => Mixing::Trained {
                qkv: self.linear(&format!("layers.{i}.attn_qkv"), [3 * d, d])?,
                proj: self.linear(&format!("layers.{i}.attn_proj"), [d, d])?,
            },
        })
    }

    fn layer<'l>(
        &self,
        i: u32,
        mixer: &'l Mixing<'a>,
    ) -> Result<LayerParameters<'l>, CheckpointError>
    where
        'a: 'l,
    {
        let [d, f] = [self.config.d_model, self.config.d_ff].map(|dim| dim as usize);
        let name = |module: &str| format!("layers.{i}.{module}");
        Ok(LayerParameters {
            ln_1: self.norm(&name("ln_1"))?,
            mixer: mixer.parameters(),
            ln_2: self.norm(&name("ln_2"))?,
            mlp_fc: self.linear(&name("mlp_fc"), [f, d])?,
            mlp_proj: self.linear(&name("mlp_proj"), [d, f])?,
        })
    }

    fn norm(&self, name: &str) -> Result<Affine<'a>, CheckpointError> {
        self.affine(name, &[self.config.d_model as usize])
    }

    fn linear(&self, name: &str, [rows, cols]: [usize; 2]) -> Result<Affine<'a>, CheckpointError> {
        self.affine(name, &[rows, cols])
    }

    fn affine(&self, name: &str, weight_shape: &[usize]) -> Result<Affine<'a>, CheckpointError> {
        Ok(Affine {
            weight: self.weights.get(&format!("{name}.weight"), weight_shape)?,
            bias: self
                .weights
                .get(&format!("{name}.bias"), &weight_shape[..1])?,
        })
    }
}

fn digest(hexadecimal: &str) -> Result<[u8; 32], EmitBytesError> {
    let refuse = || EmitBytesError::Digest(hexadecimal.to_owned());
    if hexadecimal.len() != 64 {
        return Err(refuse());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hexadecimal.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| refuse())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| refuse())?;
    }
    Ok(bytes)
}
