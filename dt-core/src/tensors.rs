//! The tensors of a policy file, one after the other: dimensions determine where each lies.

use crate::blob::ALIGNMENT;
use crate::config::{
    Config, Dtype, MAX_CONVOLUTIONS, MIXED_TOKENS, Mixer, Predictions, TOKENS_PER_STEP,
};
use crate::int4;
use crate::kernels::packed_len;
use crate::linear::{Linear, Weights};
use crate::model::{Embedding, Filters, Layer, Mixing, Norm, Output, PredictionHeads, Table};
use crate::slices::{round_up, times};

/// Hands out tensors in the order of the file without looking at their values. Past the end of
/// the file they are empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensors<'a> {
    file: &'a [u8],
    at: usize,
    dtype: Dtype,
    /// Format version of the file.
    version: u32,
}

impl<'a> Tensors<'a> {
    /// The tensors of `file` that begin after byte `at`.
    pub(crate) fn new(file: &'a [u8], at: usize, dtype: Dtype, version: u32) -> Self {
        Self {
            file,
            at,
            dtype,
            version,
        }
    }

    /// End of the tensor handed out last.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The same file, `bytes` further on.
    pub(crate) fn skip(&self, bytes: usize) -> Self {
        Self {
            at: self.at.saturating_add(bytes),
            ..*self
        }
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let start = round_up(self.at, ALIGNMENT);
        self.at = start.saturating_add(len);
        self.file.get(start..self.at).unwrap_or_default()
    }

    // Casting aligned bytes to numbers cannot fail; every tensor is 16-byte aligned.

    pub(crate) fn f32(&mut self, len: usize) -> &'a [f32] {
        bytemuck::try_cast_slice(self.bytes(len.saturating_mul(4))).unwrap_or_default()
    }

    fn i8(&mut self, len: usize) -> &'a [i8] {
        bytemuck::try_cast_slice(self.bytes(len)).unwrap_or_default()
    }

    fn int4(&mut self, rows: usize, cols: usize) -> int4::Packed<'a> {
        int4::Packed {
            nibbles: self.bytes(int4::packed_len(rows, cols)),
            multipliers: self.bytes(int4::multipliers_len(rows, cols)),
        }
    }

    pub(crate) fn norm(&mut self, d_model: usize) -> Norm<'a> {
        Norm {
            weight: self.f32(d_model),
            bias: self.f32(d_model),
        }
    }

    fn linear(&mut self, dtype: Dtype, rows: usize, cols: usize) -> Linear<'a> {
        let weights = match dtype {
            Dtype::F32 => Weights::F32(self.f32(rows.saturating_mul(cols))),
            Dtype::Int8 if self.version == 1 => Weights::Int8Version1 {
                packed: self.i8(packed_len(rows, cols)),
                scale: self.f32(rows),
            },
            Dtype::Int8 => Weights::Int8 {
                packed: self.i8(packed_len(rows, cols)),
                scale: self.f32(rows),
            },
            Dtype::Int4 => Weights::Int4 {
                packed: self.int4(rows, cols),
                scale: self.f32(rows),
            },
        };
        Linear {
            rows,
            cols,
            weights,
            bias: self.f32(rows),
        }
    }

    fn table(&mut self, rows: usize, cols: usize) -> Table<'a> {
        // A model without the table has no bytes for it, not even alignment.
        let len = rows.saturating_mul(cols);
        match self.dtype {
            Dtype::F32 if rows == 0 => Table::F32 { cols, weight: &[] },
            Dtype::Int8 if rows == 0 => Table::Int8 {
                cols,
                weight: &[],
                scale: &[],
            },
            Dtype::Int4 if rows == 0 => Table::Int4 {
                cols,
                packed: int4::Packed {
                    nibbles: &[],
                    multipliers: &[],
                },
                scale: &[],
            },
            Dtype::F32 => Table::F32 {
                cols,
                weight: self.f32(len),
            },
            Dtype::Int8 => Table::Int8 {
                cols,
                weight: self.i8(len),
                scale: self.f32(rows),
            },
            Dtype::Int4 => Table::Int4 {
                cols,
                packed: self.int4(rows, cols),
                scale: self.f32(rows),
            },
        }
    }

    pub(crate) fn embedding(&mut self, config: &Config) -> Embedding<'a> {
        let (d, dtype) = (config.d_model as usize, self.dtype.outside_blocks());
        Embedding {
            return_to_go: self.linear(dtype, d, 1),
            convolutions: match config.image() {
                None => [None; MAX_CONVOLUTIONS],
                Some(image) => image.placed().map(|placed| {
                    let placed = placed?;
                    let filters = placed.convolution.filters as usize;
                    Some(self.linear(dtype, filters, placed.cols() as usize))
                }),
            },
            state: self.linear(dtype, d, config.embedded_len() as usize),
            action: self.linear(dtype, d, config.act_dim as usize),
            timestep: self.table(config.max_ep_len as usize, d),
            position: self.table(config.position_rows(), d),
            ln: config.has_embedding_norm().then(|| self.norm(d)),
        }
    }

    pub(crate) fn layer(&mut self, config: &Config) -> Layer<'a> {
        let (d, f, dtype) = (config.d_model as usize, config.d_ff as usize, self.dtype);
        Layer {
            ln_1: self.norm(d),
            mixer: match config.mixer {
                _ if config.is_convolved() => Mixing::Convolution(Filters {
                    weight: self.f32(times(times(TOKENS_PER_STEP, MIXED_TOKENS), d)),
                    bias: self.f32(times(TOKENS_PER_STEP, d)),
                }),
                Mixer::Folded => Mixing::Folded {
                    key_value: self.linear(dtype, config.folded_rows() as usize, d),
                    bias: self.f32(d),
                },
                _ => Mixing::Attention {
                    qkv: self.linear(dtype, times(3, d), d),
                    proj: self.linear(dtype, d, d),
                },
            },
            ln_2: self.norm(d),
            mlp_fc: self.linear(dtype, f, d),
            mlp_proj: self.linear(dtype, d, f),
        }
    }

    pub(crate) fn output(&mut self, config: &Config) -> Output<'a> {
        let (d, dtype) = (config.d_model as usize, self.dtype.outside_blocks());
        Output {
            ln_f: self.norm(d),
            glu: config.glu.then(|| self.linear(dtype, times(2, d), d)),
            head: self.head(config),
        }
    }

    /// A perceptron's hidden layer number `index`.
    pub(crate) fn hidden(&mut self, config: &Config, index: usize) -> Linear<'a> {
        let (dtype, [rows, cols]) = config.hidden(index);
        self.linear(dtype, rows, cols)
    }

    /// What gives the action, or logits.
    pub(crate) fn head(&mut self, config: &Config) -> Linear<'a> {
        let [rows, cols] = [config.act_dim, config.head_inputs()].map(|dim| dim as usize);
        self.linear(self.dtype.outside_blocks(), rows, cols)
    }

    /// What comes after [`output`](Self::output).
    pub(crate) fn predictions(&mut self, config: &Config) -> PredictionHeads<'a> {
        let (d, dtype) = (config.d_model as usize, self.dtype.outside_blocks());
        let Predictions {
            state,
            return_to_go,
        } = config.predictions;
        PredictionHeads {
            state: state.then(|| self.linear(dtype, config.state_dim as usize, d)),
            return_to_go: return_to_go.then(|| self.linear(dtype, 1, d)),
        }
    }
}
