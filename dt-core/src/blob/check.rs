//! What the values of a policy file have to be.

use super::*;
use crate::int4::Packed;
use crate::kernels::{self, packed_byte, packed_index, padded_cols};
use crate::linear::{Linear, Weights};
use crate::model::{Layer, Mixing, Norm, Table};
use crate::slices::round_up;

/// Looks at every value of a file, tensor by tensor in the order of the file, and at the gaps
/// between them.
///
/// Runs once at boot, so `inline(never)`: small beats fast.
pub(super) struct Check<'a> {
    pub(super) file: &'a [u8],
    /// End of the tensor checked last.
    pub(super) at: usize,
}

impl Check<'_> {
    #[inline(never)]
    pub(super) fn bytes(&mut self, name: TensorName, tensor: &[u8]) -> Result<(), BlobError> {
        let start = round_up(self.at, ALIGNMENT);
        let gap = self.file.get(self.at..start).unwrap_or_default();
        if gap.iter().any(|&byte| byte != 0) {
            return Err(BlobError::Padding(name));
        }
        self.at = start.saturating_add(tensor.len());
        Ok(())
    }

    #[inline(never)]
    pub(super) fn f32(&mut self, name: TensorName, tensor: &[f32]) -> Result<(), BlobError> {
        self.bytes(name, bytemuck::cast_slice(tensor))?;
        if tensor.iter().all(|value| value.is_finite()) {
            Ok(())
        } else {
            Err(BlobError::NonFinite(name))
        }
    }

    #[inline(never)]
    fn scales(&mut self, name: TensorName, tensor: &[f32]) -> Result<(), BlobError> {
        self.f32(name, tensor)?;
        if tensor.iter().all(|&scale| scale >= 0.0) {
            Ok(())
        } else {
            Err(BlobError::Scale(name))
        }
    }

    #[inline(never)]
    fn i8(&mut self, name: TensorName, tensor: &[i8]) -> Result<(), BlobError> {
        self.bytes(name, bytemuck::cast_slice(tensor))?;
        if tensor.contains(&i8::MIN) {
            Err(BlobError::Weight(name))
        } else {
            Ok(())
        }
    }

    fn int4(&mut self, name: TensorName, packed: &Packed<'_>) -> Result<(), BlobError> {
        self.bytes(name.part("weight"), packed.nibbles)?;
        self.bytes(name.part("multiplier"), packed.multipliers)
    }

    #[inline(never)]
    fn norm(&mut self, name: TensorName, norm: &Norm<'_>) -> Result<(), BlobError> {
        self.f32(name.part("weight"), norm.weight)?;
        self.f32(name.part("bias"), norm.bias)
    }

    #[inline(never)]
    fn linear(&mut self, name: TensorName, linear: &Linear<'_>) -> Result<(), BlobError> {
        let weight = name.part("weight");
        match linear.weights {
            Weights::F32(values) => self.f32(weight, values)?,
            Weights::Int8 { packed, scale } => {
                self.bytes(weight, bytemuck::cast_slice(packed))?;
                if holds_minus_128(packed) {
                    return Err(BlobError::Weight(weight));
                }
                let index = |row, col| packed_index(linear.cols, row, col);
                if !padding_is_zero(packed, [linear.rows, linear.cols], index, packed_byte) {
                    return Err(BlobError::Padding(weight));
                }
                self.scales(name.part("scale"), scale)?;
            }
            Weights::Int8Version1 { packed, scale } => {
                self.i8(weight, packed)?;
                let index = |row, col| kernels::version_1::packed_index(linear.cols, row, col);
                let byte = |_, weight| weight;
                if !padding_is_zero(packed, [linear.rows, linear.cols], index, byte) {
                    return Err(BlobError::Padding(weight));
                }
                self.scales(name.part("scale"), scale)?;
            }
            Weights::Int4 { packed, scale } => {
                self.int4(name, &packed)?;
                self.scales(name.part("scale"), scale)?;
            }
        }
        self.f32(name.part("bias"), linear.bias)
    }

    fn table(&mut self, name: TensorName, table: &Table<'_>) -> Result<(), BlobError> {
        match *table {
            // No table: no tensor, not even alignment.
            Table::F32 { weight: [], .. }
            | Table::Int8 { weight: [], .. }
            | Table::Int4 { scale: [], .. } => Ok(()),
            Table::F32 { weight, .. } => self.f32(name.part("weight"), weight),
            Table::Int8 { weight, scale, .. } => {
                self.i8(name.part("weight"), weight)?;
                self.scales(name.part("scale"), scale)
            }
            Table::Int4 {
                cols,
                packed,
                scale,
            } => {
                self.int4(name, &packed)?;
                // An odd last row is paired with nothing.
                let rows = scale.len();
                let is_zero = |col| packed.weight(cols, rows, col) == Some(0);
                if rows % 2 == 1 && !(0..cols).all(is_zero) {
                    return Err(BlobError::Padding(name.part("weight")));
                }
                self.scales(name.part("scale"), scale)
            }
        }
    }

    pub(super) fn vectors(
        &mut self,
        config: &Config,
        vectors: &Vectors<'_>,
    ) -> Result<(), BlobError> {
        let name = TensorName::plain;
        self.f32(name("state_mean"), vectors.state_mean)?;
        self.scales(name("state_std"), vectors.state_std)?;
        self.f32(name("state_low"), vectors.state_low)?;
        self.f32(name("state_high"), vectors.state_high)?;
        self.f32(name("action_low"), vectors.action_low)?;
        self.f32(name("action_high"), vectors.action_high)?;
        self.f32(name("safe_action"), vectors.safe_action)?;
        let ordered =
            |low: &[f32], high: &[f32]| low.iter().zip(high).all(|(low, high)| low <= high);
        if vectors.state_std.contains(&0.0) {
            return Err(BlobError::Scale(name("state_std")));
        }
        if !ordered(vectors.state_low, vectors.state_high) {
            return Err(BlobError::Bounds(name("state_low")));
        }
        if !ordered(vectors.action_low, vectors.action_high) {
            return Err(BlobError::Bounds(name("action_low")));
        }
        if !ordered(vectors.action_low, vectors.safe_action)
            || !ordered(vectors.safe_action, vectors.action_high)
        {
            return Err(BlobError::SafeAction);
        }
        if config.actions == Actions::Discrete {
            let choices = config.act_dim;
            let last = choices.saturating_sub(1) as f32;
            if vectors.action_low != [0.0] || vectors.action_high != [last] {
                return Err(BlobError::Choices { choices });
            }
            // Between them, as was seen above.
            if !vectors
                .safe_action
                .iter()
                .all(|&index| index as u32 as f32 == index)
            {
                return Err(BlobError::SafeAction);
            }
        }
        Ok(())
    }

    pub(super) fn mlp(&mut self, model: &Model<'_>) -> Result<(), BlobError> {
        for index in 0..model.config.n_layer as usize {
            self.linear(TensorName::hidden(index), &model.hidden(index))?;
        }
        self.linear(TensorName::plain("head"), &model.mlp_head())
    }

    pub(super) fn transformer(&mut self, model: &Model<'_>) -> Result<(), BlobError> {
        self.embedding(model)?;
        for index in 0..model.config.n_layer as usize {
            self.layer(index, &model.layer(index))?;
        }
        self.output(model)
    }

    // Views of several tensors are large, so each kind of them is gone from the stack before the next.

    #[inline(never)]
    fn embedding(&mut self, model: &Model<'_>) -> Result<(), BlobError> {
        let name = TensorName::plain;
        let embedding = model.embedding();
        self.linear(name("embed_return"), &embedding.return_to_go)?;
        for (module, convolution) in CONVOLUTION_MODULES
            .iter()
            .zip(embedding.convolutions.iter().flatten())
        {
            self.linear(name(module), convolution)?;
        }
        self.linear(name("embed_state"), &embedding.state)?;
        self.linear(name("embed_action"), &embedding.action)?;
        self.table(name("embed_timestep"), &embedding.timestep)?;
        self.table(name("embed_position"), &embedding.position)?;
        match &embedding.ln {
            Some(ln) => self.norm(name("embed_ln"), ln),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn layer(&mut self, index: usize, layer: &Layer<'_>) -> Result<(), BlobError> {
        let name = |module| TensorName::of_layer(index, module);
        self.norm(name("ln_1"), &layer.ln_1)?;
        match &layer.mixer {
            Mixing::Attention { qkv, proj } => {
                self.linear(name("attn_qkv"), qkv)?;
                self.linear(name("attn_proj"), proj)?;
            }
            Mixing::Folded { key_value, bias } => {
                self.linear(name("attn_folded"), key_value)?;
                self.f32(name("attn_bias"), bias)?;
            }
            Mixing::Convolution(filters) => {
                self.f32(name("conv").part("weight"), filters.weight)?;
                self.f32(name("conv").part("bias"), filters.bias)?;
            }
        }
        self.norm(name("ln_2"), &layer.ln_2)?;
        self.linear(name("mlp_fc"), &layer.mlp_fc)?;
        self.linear(name("mlp_proj"), &layer.mlp_proj)
    }

    #[inline(never)]
    fn output(&mut self, model: &Model<'_>) -> Result<(), BlobError> {
        let name = TensorName::plain;
        let output = model.output();
        self.norm(name("ln_f"), &output.ln_f)?;
        if let Some(glu) = &output.glu {
            self.linear(name("glu"), glu)?;
        }
        self.linear(name("head"), &output.head)?;
        let predictions = model.predictions();
        if let Some(state) = &predictions.state {
            self.linear(name("state_head"), state)?;
        }
        if let Some(return_to_go) = &predictions.return_to_go {
            self.linear(name("return_head"), return_to_go)?;
        }
        Ok(())
    }
}

/// Whether a weight of a packed matrix is −128, by four bytes at a time.
#[inline(never)]
fn holds_minus_128(packed: &[i8]) -> bool {
    // A packed matrix consists of whole words. In these bytes −128 becomes zero.
    let words: &[u32] = bytemuck::try_cast_slice(packed).unwrap_or_default();
    let [odd, even] = [packed_byte(1, i8::MIN), i8::MIN].map(i8::cast_unsigned);
    let lowest = u32::from_ne_bytes([odd, even, odd, even]);
    words.iter().fold(0, |found, word| {
        // A byte's highest bit is set if it is zero, or above one that is.
        let word = word ^ lowest;
        found | (word.wrapping_sub(0x0101_0101) & !word & 0x8080_8080)
    }) != 0
}

/// Whether the columns and the row that pad a packed matrix hold nothing.
#[inline(never)]
fn padding_is_zero(
    packed: &[i8],
    [rows, cols]: [usize; 2],
    index: impl Fn(usize, usize) -> usize,
    byte: impl Fn(usize, i8) -> i8,
) -> bool {
    if rows.is_multiple_of(2) && cols.is_multiple_of(4) {
        return true;
    }
    let is_zero = |row, col| packed.get(index(row, col)) == Some(&byte(row, 0));
    let width = padded_cols(cols);
    let beside = (0..rows).all(|row| (cols..width).all(|col| is_zero(row, col)));
    let below = (rows..round_up(rows, 2)).all(|row| (0..width).all(|col| is_zero(row, col)));
    beside && below
}
