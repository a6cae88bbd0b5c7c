//! How long a policy file is.

use super::{ALIGNMENT, Manifest};
use crate::config::{Config, Dtype, MIXED_TOKENS, TOKENS_PER_STEP};
use crate::int4;
use crate::kernels::packed_len;
use crate::slices::times;

/// Walks the file's tensors in order and adds up where they end.
///
/// Reader and writer each name the tensors themselves; this is the one place that knows how many
/// bytes each takes.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    end: Option<usize>,
}

impl Extent {
    #[inline(never)]
    fn tensor(&mut self, bytes: usize) {
        self.end = self
            .end
            .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
            .and_then(|start| start.checked_add(bytes));
    }

    fn f32(&mut self, len: usize) {
        self.tensor(times(4, len));
    }

    #[inline(never)]
    fn linear(&mut self, dtype: Dtype, rows: usize, cols: usize) {
        match dtype {
            Dtype::F32 => self.f32(times(rows, cols)),
            Dtype::Int8 => {
                self.tensor(packed_len(rows, cols));
                self.f32(rows);
            }
            Dtype::Int4 => {
                self.tensor(int4::packed_len(rows, cols));
                self.tensor(int4::multipliers_len(rows, cols));
                self.f32(rows);
            }
        }
        self.f32(rows);
    }

    fn norm(&mut self, d_model: usize) {
        self.f32(d_model);
        self.f32(d_model);
    }

    /// Nothing if it has no rows.
    #[inline(never)]
    fn table(&mut self, dtype: Dtype, rows: usize, cols: usize) {
        if rows == 0 {
            return;
        }
        match dtype {
            Dtype::F32 => return self.f32(times(rows, cols)),
            Dtype::Int8 => self.tensor(times(rows, cols)),
            Dtype::Int4 => {
                self.tensor(int4::packed_len(rows, cols));
                self.tensor(int4::multipliers_len(rows, cols));
            }
        }
        self.f32(rows);
    }

    fn transformer(&mut self, config: &Config) {
        let [d, f, s, a] = [
            config.d_model,
            config.d_ff,
            config.state_vector_len(),
            config.act_dim,
        ]
        .map(|dim| dim as usize);
        let (dtype, outside) = (config.dtype, config.dtype.outside_blocks());
        self.linear(outside, d, 1);
        if let Some(image) = config.image() {
            for placed in image.placed().iter().flatten() {
                let filters = placed.convolution.filters as usize;
                self.linear(outside, filters, placed.cols() as usize);
            }
        }
        self.linear(outside, d, config.embedded_len() as usize);
        self.linear(outside, d, a);
        self.table(dtype, config.max_ep_len as usize, d);
        self.table(dtype, config.position_rows(), d);
        if config.has_embedding_norm() {
            self.norm(d);
        }
        for _ in 0..config.n_layer {
            self.norm(d);
            if config.is_convolved() {
                self.f32(times(times(TOKENS_PER_STEP, MIXED_TOKENS), d));
                self.f32(times(TOKENS_PER_STEP, d));
            } else if config.is_folded() {
                self.linear(dtype, config.folded_rows() as usize, d);
                self.f32(d);
            } else {
                self.linear(dtype, times(3, d), d);
                self.linear(dtype, d, d);
            }
            self.norm(d);
            self.linear(dtype, f, d);
            self.linear(dtype, d, f);
        }
        self.norm(d);
        if config.glu {
            self.linear(outside, times(2, d), d);
        }
        self.linear(outside, a, d);
        if config.predictions.state {
            self.linear(outside, s, d);
        }
        if config.predictions.return_to_go {
            self.linear(outside, 1, d);
        }
    }

    fn mlp(&mut self, config: &Config) {
        for index in 0..config.n_layer as usize {
            let (dtype, [rows, cols]) = config.hidden(index);
            self.linear(dtype, rows, cols);
        }
        let [actions, width] = [config.act_dim, config.d_ff].map(|dim| dim as usize);
        self.linear(config.dtype.outside_blocks(), actions, width);
    }

    /// End of the file whose tensors start after byte `start`; `None` if it overflows `usize`.
    ///
    /// Expects a validated configuration.
    pub(super) fn of_file(manifest: &Manifest<'_>, start: usize) -> Option<usize> {
        let config = &manifest.config;
        let mut extent = Extent { end: Some(start) };
        let (state, action) = (
            config.state_vector_len() as usize,
            config.action_len() as usize,
        );
        for len in [state, state, state, state, action, action, action] {
            extent.f32(len);
        }
        match config.is_mlp() {
            false => extent.transformer(config),
            true => extent.mlp(config),
        }
        let golden = (manifest.golden_steps as usize)
            .checked_mul(manifest.golden_record_len())
            .and_then(|values| values.checked_mul(4))?;
        extent.tensor(golden);
        if config.image().is_some() {
            extent
                .tensor((manifest.golden_images as usize).checked_mul(config.state_dim as usize)?);
        }
        extent.end
    }
}
