//! The immutable network: a view of the policy file, built anew from offsets wherever it is used.

use crate::blob::{ALIGNMENT, CONVOLUTION_MODULES, TensorName};
use crate::config::{Config, MAX_CONVOLUTIONS, MIXED_TOKENS};
use crate::int4;
use crate::kernels;
pub use crate::linear::Linear;
use crate::quant::NonFinite;
use crate::slices::{Guaranteed, minus, part, round_up, rows, rows_mut, times};
use crate::tensors::Tensors;

/// A network whose weights lie where the policy file lies.
///
/// Holds offsets, not tensors: dimensions determine where each lies, and all blocks are alike, as are all hidden layers of a
/// perceptron but the first.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    pub(crate) config: Config,
    /// The network's first tensor is next.
    start: Tensors<'a>,
    /// The first tensor of the first block is next, or of a perceptron's second hidden layer.
    blocks: Tensors<'a>,
    /// Bytes from one of them to the next.
    block_len: usize,
}

impl<'a> Model<'a> {
    /// `start` is where the file's network begins. Expects a validated configuration.
    pub(crate) fn new(config: &Config, start: Tensors<'a>) -> Self {
        let mut blocks = start;
        if config.is_mlp() {
            blocks.hidden(config, 0);
        } else {
            blocks.embedding(config);
        }
        // Tensors begin at multiples of 16 bytes; so do blocks.
        let aligned = round_up(blocks.at(), ALIGNMENT);
        let blocks = blocks.skip(minus(aligned, blocks.at()));
        let mut second = blocks;
        if config.is_mlp() {
            second.hidden(config, 1);
        } else {
            second.layer(config);
        }
        Self {
            config: *config,
            start,
            blocks,
            block_len: minus(round_up(second.at(), ALIGNMENT), aligned),
        }
    }

    /// Dimensions and choices.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What makes tokens out of inputs; of a transformer, as are [`layer`](Self::layer), [`output`](Self::output) and
    /// [`predictions`](Self::predictions).
    pub fn embedding(&self) -> Embedding<'a> {
        { self.start }.embedding(&self.config)
    }

    /// Transformer block number `index`, the input side's is 0.
    pub fn layer(&self, index: usize) -> Layer<'a> {
        self.blocks
            .skip(times(index, self.block_len))
            .layer(&self.config)
    }

    /// The transformer blocks, input side first.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'a>> {
        (0..self.config.n_layer as usize).map(|index| self.layer(index))
    }

    /// What makes the action.
    pub fn output(&self) -> Output<'a> {
        self.after_blocks().output(&self.config)
    }

    /// What predicts more than the action.
    pub fn predictions(&self) -> PredictionHeads<'a> {
        let mut tensors = self.after_blocks();
        tensors.output(&self.config);
        tensors.predictions(&self.config)
    }

    /// A perceptron's hidden layer number `index`: d_ff from context_len · state_dim values, the oldest state's first, or from
    /// d_ff.
    pub fn hidden(&self, index: usize) -> Linear<'a> {
        let mut tensors = match index.checked_sub(1) {
            None => self.start,
            Some(before) => self.blocks.skip(times(before, self.block_len)),
        };
        tensors.hidden(&self.config, index)
    }

    /// A perceptron's head: d_ff → action (act_dim).
    pub fn mlp_head(&self) -> Linear<'a> {
        self.after_blocks().head(&self.config)
    }

    /// Every linear layer with its name, in the order of the file.
    pub fn linears(&self) -> impl Iterator<Item = (TensorName, Linear<'a>)> + use<'a> {
        let model = *self;
        let is_mlp = model.config.is_mlp();
        let perceptron = is_mlp.then(|| model.perceptron_linears());
        let transformer = (!is_mlp).then(|| model.transformer_linears());
        let perceptron = perceptron.into_iter().flatten();
        perceptron.chain(transformer.into_iter().flatten())
    }

    fn perceptron_linears(self) -> impl Iterator<Item = (TensorName, Linear<'a>)> + use<'a> {
        let hidden = (0..self.config.n_layer as usize)
            .map(move |index| (TensorName::hidden(index), self.hidden(index)));
        hidden.chain([(TensorName::plain("head"), self.mlp_head())])
    }

    fn transformer_linears(self) -> impl Iterator<Item = (TensorName, Linear<'a>)> + use<'a> {
        let (embedding, output) = (self.embedding(), self.output());
        let predictions = self.predictions();
        let blocks = (0..self.config.n_layer as usize).flat_map(move |index| {
            let layer = self.layer(index);
            let mixer = match layer.mixer {
                Mixing::Attention { qkv, proj } => {
                    [Some(("attn_qkv", qkv)), Some(("attn_proj", proj))]
                }
                Mixing::Folded { key_value, .. } => [Some(("attn_folded", key_value)), None],
                Mixing::Convolution(_) => [None, None],
            };
            let mlp = [("mlp_fc", layer.mlp_fc), ("mlp_proj", layer.mlp_proj)];
            let linears = mixer.into_iter().flatten().chain(mlp);
            linears.map(move |(module, linear)| (TensorName::of_layer(index, module), linear))
        });
        let convolutions = CONVOLUTION_MODULES.into_iter().zip(embedding.convolutions);
        let convolutions = convolutions.filter_map(|(module, linear)| Some((module, linear?)));
        [("embed_return", embedding.return_to_go)]
            .into_iter()
            .chain(convolutions)
            .chain([
                ("embed_state", embedding.state),
                ("embed_action", embedding.action),
            ])
            .map(|(module, linear)| (TensorName::plain(module), linear))
            .chain(blocks)
            .chain(output.glu.map(|glu| (TensorName::plain("glu"), glu)))
            .chain([(TensorName::plain("head"), output.head)])
            .chain(
                predictions
                    .state
                    .map(|state| (TensorName::plain("state_head"), state)),
            )
            .chain(
                predictions
                    .return_to_go
                    .map(|critic| (TensorName::plain("return_head"), critic)),
            )
    }

    /// The tensors after the last block, or a perceptron's last hidden layer.
    pub(crate) fn after_blocks(&self) -> Tensors<'a> {
        let first = usize::from(self.config.is_mlp());
        let blocks = minus(self.config.n_layer as usize, first);
        self.blocks.skip(times(blocks, self.block_len))
    }
}

/// The layers before the first block.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a> {
    /// Return-to-go → d_model.
    pub return_to_go: Linear<'a>,
    /// What an image goes through, input side first: filters × (kernel · kernel · channels); none where states are vectors.
    pub convolutions: [Option<Linear<'a>>; MAX_CONVOLUTIONS],
    /// State (state_dim), or what the convolutions leave of an image, → d_model.
    pub state: Linear<'a>,
    /// Action (act_dim) → d_model.
    pub action: Linear<'a>,
    /// Added to every token of a timestep.
    pub timestep: Table<'a>,
    /// Added to the token in that place of a window (3·context_len); has no rows where tokens are not told their places.
    pub position: Table<'a>,
    /// Norm of the sum.
    pub ln: Option<Norm<'a>>,
}

/// One pre-norm transformer block (GPT-2).
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Norm before attention.
    pub ln_1: Norm<'a>,
    /// What mixes the tokens.
    pub mixer: Mixing<'a>,
    /// Norm before the MLP.
    pub ln_2: Norm<'a>,
    /// d_model → d_ff.
    pub mlp_fc: Linear<'a>,
    /// d_ff → d_model.
    pub mlp_proj: Linear<'a>,
}

/// The matrices of a block's [`Mixer`](crate::config::Mixer).
#[derive(Clone, Copy, Debug)]
pub enum Mixing<'a> {
    /// Attention as trained.
    Attention {
        /// d_model → queries, keys, values (3·d_model).
        qkv: Linear<'a>,
        /// d_model → d_model, after attention.
        proj: Linear<'a>,
    },
    /// Folded attention.
    Folded {
        /// d_model → key, value (d_model each), the key's bias, and nothing.
        key_value: Linear<'a>,
        /// Added to the output (d_model).
        bias: &'a [f32],
    },
    /// A convolution over tokens.
    Convolution(Filters<'a>),
}

/// Filters over the last [`MIXED_TOKENS`] tokens, for each of the three places of a timestep.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    /// (place, token, d_model), the token itself first and then those before it.
    pub weight: &'a [f32],
    /// (place, d_model).
    pub bias: &'a [f32],
}

impl<'a> Filters<'a> {
    /// Of the token at `place`: a factor for each token (d_model each), and what is added (d_model).
    pub(crate) fn at(&self, place: usize, d_model: usize) -> (&'a [f32], &'a [f32]) {
        let weight = self.weight.get(part(place, times(MIXED_TOKENS, d_model)));
        let bias = self.bias.get(part(place, d_model));
        (weight.guaranteed(), bias.guaranteed())
    }
}

/// The layers after the last block.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Last norm.
    pub ln_f: Norm<'a>,
    /// d_model → 2·d_model before the head, if the network has a gated linear unit there.
    pub glu: Option<Linear<'a>>,
    /// d_model → action (act_dim).
    pub head: Linear<'a>,
}

/// What action tokens predict with, behind the same last norm.
#[derive(Clone, Copy, Debug)]
pub struct PredictionHeads<'a> {
    /// d_model → next state (state_dim), if the network predicts it.
    pub state: Option<Linear<'a>>,
    /// d_model → next return-to-go (1), if the network predicts it.
    pub return_to_go: Option<Linear<'a>>,
}

/// Weight and bias of a layer norm, each d_model long.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Multiplies what is normalized.
    pub weight: &'a [f32],
    /// Is added to it then.
    pub bias: &'a [f32],
}

impl Norm<'_> {
    /// Normalizes each of the tokens in `x` (each d_model long) into `out`.
    ///
    /// # Errors
    /// [`NonFinite`] if a variance is.
    pub(crate) fn forward(&self, eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NonFinite> {
        let width = self.weight.len();
        for (x, out) in rows(x, width).zip(rows_mut(out, width)) {
            let inverse = kernels::layer_norm(x, self.weight, self.bias, eps, out);
            if inverse.is_nan() || inverse <= 0.0 {
                return Err(NonFinite);
            }
        }
        Ok(())
    }
}

/// An embedding table, (rows, d_model); may have no rows.
#[derive(Clone, Copy, Debug)]
pub enum Table<'a> {
    /// Row by row.
    F32 {
        /// Row length.
        cols: usize,
        /// Values.
        weight: &'a [f32],
    },
    /// Row by row, with one scale per row.
    Int8 {
        /// Row length.
        cols: usize,
        /// Values in grid steps.
        weight: &'a [i8],
        /// Size of a grid step per row.
        scale: &'a [f32],
    },
    /// Packed in four bits (`BLOB.md`), with one scale per row.
    Int4 {
        /// Row length.
        cols: usize,
        /// Values in grid steps.
        packed: int4::Packed<'a>,
        /// Size of a grid step per row.
        scale: &'a [f32],
    },
}

impl Table<'_> {
    /// Adds a row to `x`; nothing if there is no such row.
    pub fn add(&self, row: usize, x: &mut [f32]) {
        match *self {
            Table::F32 { cols, weight } => {
                for (x, w) in x.iter_mut().zip(row_of(weight, cols, row)) {
                    *x += w;
                }
            }
            Table::Int8 {
                cols,
                weight,
                scale,
            } => {
                if let Some(scale) = scale.get(row) {
                    for (x, w) in x.iter_mut().zip(row_of(weight, cols, row)) {
                        *x += f32::from(*w) * scale;
                    }
                }
            }
            Table::Int4 {
                cols,
                packed,
                scale,
            } => {
                if let Some(scale) = scale.get(row) {
                    for (col, x) in (0..cols).zip(x) {
                        let w = packed.weight(cols, row, col).guaranteed();
                        *x += f32::from(w) * scale;
                    }
                }
            }
        }
    }
}

/// One row of a row-major matrix, in the same time whichever it is; empty if there is no such row.
fn row_of<T>(matrix: &[T], cols: usize, row: usize) -> &[T] {
    let start = row.saturating_mul(cols);
    matrix
        .get(start..start.saturating_add(cols))
        .unwrap_or_default()
}
