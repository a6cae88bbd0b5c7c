//! Bytes → [`Blob`].

use super::*;
use crate::config::MAX_LAYERS;
use crate::kernels::padded_cols;
use crate::model::{Layer, Linear, Norm, Table, Weights};

impl<'a> Blob<'a> {
    /// Checks a whole policy file and returns views into it. Total: every input gives a usable
    /// policy or one error, and never a panic.
    ///
    /// `bytes` starts at a multiple of 16 bytes and may be longer than the file. Takes time
    /// proportional to the file's length.
    ///
    /// # Errors
    /// [`BlobError`] names the first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        if bytes.as_ptr().align_offset(ALIGNMENT) != 0 {
            return Err(BlobError::Misaligned);
        }
        let (file, manifest_len) = check_header(bytes)?;
        let start = HEADER_LEN
            .checked_add(manifest_len)
            .ok_or(BlobError::Manifest)?;
        let manifest = file.get(HEADER_LEN..start).ok_or(BlobError::Manifest)?;
        let (manifest, rest) =
            postcard::take_from_bytes::<Manifest<'a>>(manifest).map_err(|_| BlobError::Manifest)?;
        if !rest.is_empty() {
            return Err(BlobError::Manifest);
        }
        check_manifest(&manifest)?;
        let end = Extent::of_file(&manifest, start);
        if end != Some(file.len()) {
            return Err(BlobError::Length {
                expected: end,
                found: file.len(),
            });
        }
        let mut tensors = Tensors {
            file,
            at: start,
            dtype: manifest.config.dtype,
        };
        let vectors = tensors.vectors(&manifest.config)?;
        let model = tensors.model(&manifest.config)?;
        let values = manifest.golden_steps as usize * manifest.golden_record_len();
        let golden = tensors.f32(TensorName::plain("golden"), values)?;
        Ok(Self {
            manifest,
            vectors,
            model,
            golden,
            len: file.len(),
        })
    }
}

/// Returns the file without what follows it, and the length of its manifest.
fn check_header(bytes: &[u8]) -> Result<(&[u8], usize), BlobError> {
    let truncated = |needed| BlobError::Truncated {
        needed,
        have: bytes.len(),
    };
    let field = |range: Range<usize>| {
        bytes
            .get(range)
            .and_then(|field| field.try_into().ok())
            .map(u32::from_le_bytes)
            .ok_or(truncated(HEADER_LEN))
    };
    match bytes.get(..MAGIC.len()) {
        Some(magic) if magic == MAGIC => {}
        Some(_) => return Err(BlobError::Magic),
        None => return Err(truncated(HEADER_LEN)),
    }
    let version = field(VERSION_FIELD)?;
    if version != VERSION {
        return Err(BlobError::Version { found: version });
    }
    let stored = field(CRC_FIELD)?;
    let length = field(LENGTH_FIELD)? as usize;
    let manifest_len = field(MANIFEST_LEN_FIELD)? as usize;
    let file = bytes.get(..length).ok_or(truncated(length))?;
    let computed = checksum(file);
    if computed != stored {
        return Err(BlobError::Crc { stored, computed });
    }
    Ok((file, manifest_len))
}

fn check_manifest(manifest: &Manifest<'_>) -> Result<(), BlobError> {
    manifest.config.validate().map_err(BlobError::Config)?;
    let field = |field| Err(BlobError::Field { field });
    if !(manifest.return_scale.is_finite() && manifest.return_scale > 0.0) {
        return field("return_scale");
    }
    if !manifest.target_return.is_finite() {
        return field("target_return");
    }
    if manifest.control_period_us == 0 {
        return field("control_period_us");
    }
    Ok(())
}

/// Hands out the tensors of a file whose length has been checked, one after the other.
///
/// Runs once at boot, so `inline(never)`: small beats fast.
struct Tensors<'a> {
    file: &'a [u8],
    at: usize,
    dtype: Dtype,
}

impl<'a> Tensors<'a> {
    #[inline(never)]
    fn bytes(&mut self, name: TensorName, len: usize) -> Result<&'a [u8], BlobError> {
        let short = BlobError::Truncated {
            needed: self.at.saturating_add(len),
            have: self.file.len(),
        };
        let start = self.at.next_multiple_of(ALIGNMENT);
        let gap = self.file.get(self.at..start).ok_or(short)?;
        if gap.iter().any(|&byte| byte != 0) {
            return Err(BlobError::Padding(name));
        }
        self.at = start.saturating_add(len);
        self.file.get(start..self.at).ok_or(short)
    }

    #[inline(never)]
    fn f32(&mut self, name: TensorName, len: usize) -> Result<&'a [f32], BlobError> {
        let bytes = self.bytes(name, len.saturating_mul(4))?;
        let values: &[f32] = bytemuck::try_cast_slice(bytes).map_err(|_| BlobError::Misaligned)?;
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(BlobError::NonFinite(name))
        }
    }

    #[inline(never)]
    fn scales(&mut self, name: TensorName, len: usize) -> Result<&'a [f32], BlobError> {
        let scales = self.f32(name, len)?;
        if scales.iter().all(|&scale| scale >= 0.0) {
            Ok(scales)
        } else {
            Err(BlobError::Scale(name))
        }
    }

    #[inline(never)]
    fn i8(&mut self, name: TensorName, len: usize) -> Result<&'a [i8], BlobError> {
        let bytes = self.bytes(name, len)?;
        let values: &[i8] = bytemuck::try_cast_slice(bytes).map_err(|_| BlobError::Misaligned)?;
        if values.contains(&i8::MIN) {
            Err(BlobError::Weight(name))
        } else {
            Ok(values)
        }
    }

    #[inline(never)]
    fn norm(&mut self, name: TensorName, len: usize) -> Result<Norm<'a>, BlobError> {
        Ok(Norm {
            weight: self.f32(name.part("weight"), len)?,
            bias: self.f32(name.part("bias"), len)?,
        })
    }

    #[inline(never)]
    fn linear(
        &mut self,
        name: TensorName,
        rows: usize,
        cols: usize,
    ) -> Result<Linear<'a>, BlobError> {
        let weight = name.part("weight");
        let weights = match self.dtype {
            Dtype::F32 => Weights::F32(self.f32(weight, rows.saturating_mul(cols))?),
            Dtype::Int8 => {
                let packed = self.i8(weight, packed_len(rows, cols))?;
                if !padding_is_zero(packed, rows, cols) {
                    return Err(BlobError::Padding(weight));
                }
                let scale = self.scales(name.part("scale"), rows)?;
                Weights::Int8 { packed, scale }
            }
        };
        Ok(Linear {
            rows,
            cols,
            weights,
            bias: self.f32(name.part("bias"), rows)?,
        })
    }

    fn table(
        &mut self,
        name: TensorName,
        rows: usize,
        cols: usize,
    ) -> Result<Table<'a>, BlobError> {
        // A model without the table has no bytes for it, not even alignment.
        let len = rows.saturating_mul(cols);
        Ok(match self.dtype {
            Dtype::F32 if rows == 0 => Table::F32 { cols, weight: &[] },
            Dtype::Int8 if rows == 0 => Table::Int8 {
                cols,
                weight: &[],
                scale: &[],
            },
            Dtype::F32 => Table::F32 {
                cols,
                weight: self.f32(name.part("weight"), len)?,
            },
            Dtype::Int8 => Table::Int8 {
                cols,
                weight: self.i8(name.part("weight"), len)?,
                scale: self.scales(name.part("scale"), rows)?,
            },
        })
    }

    fn vectors(&mut self, config: &Config) -> Result<Vectors<'a>, BlobError> {
        let (s, a) = (config.state_dim as usize, config.act_dim as usize);
        let std_name = TensorName::plain("state_std");
        let vectors = Vectors {
            state_mean: self.f32(TensorName::plain("state_mean"), s)?,
            state_std: self.scales(std_name, s)?,
            state_low: self.f32(TensorName::plain("state_low"), s)?,
            state_high: self.f32(TensorName::plain("state_high"), s)?,
            action_low: self.f32(TensorName::plain("action_low"), a)?,
            action_high: self.f32(TensorName::plain("action_high"), a)?,
            safe_action: self.f32(TensorName::plain("safe_action"), a)?,
        };
        let ordered =
            |low: &[f32], high: &[f32]| low.iter().zip(high).all(|(low, high)| low <= high);
        if vectors.state_std.contains(&0.0) {
            return Err(BlobError::Scale(std_name));
        }
        if !ordered(vectors.state_low, vectors.state_high) {
            return Err(BlobError::Bounds(TensorName::plain("state_low")));
        }
        if !ordered(vectors.action_low, vectors.action_high) {
            return Err(BlobError::Bounds(TensorName::plain("action_low")));
        }
        if !ordered(vectors.action_low, vectors.safe_action)
            || !ordered(vectors.safe_action, vectors.action_high)
        {
            return Err(BlobError::SafeAction);
        }
        Ok(vectors)
    }

    fn model(&mut self, config: &Config) -> Result<Model<'a>, BlobError> {
        let [d, f, s, a] = [
            config.d_model,
            config.d_ff,
            config.state_dim,
            config.act_dim,
        ]
        .map(|dim| dim as usize);
        let name = TensorName::plain;
        let embed_return = self.linear(name("embed_return"), d, 1)?;
        let embed_state = self.linear(name("embed_state"), d, s)?;
        let embed_action = self.linear(name("embed_action"), d, a)?;
        let rows = config.max_ep_len as usize;
        let embed_timestep = self.table(name("embed_timestep"), rows, d)?;
        let embed_ln = self.norm(name("embed_ln"), d)?;
        let mut layers = heapless::Vec::<_, MAX_LAYERS>::new();
        for layer in 0..config.n_layer as usize {
            let name = |module| TensorName {
                layer: Some(layer),
                module,
                part: "",
            };
            let layer = Layer {
                ln_1: self.norm(name("ln_1"), d)?,
                attn_qkv: self.linear(name("attn_qkv"), 3 * d, d)?,
                attn_proj: self.linear(name("attn_proj"), d, d)?,
                ln_2: self.norm(name("ln_2"), d)?,
                mlp_fc: self.linear(name("mlp_fc"), f, d)?,
                mlp_proj: self.linear(name("mlp_proj"), d, f)?,
            };
            // `Config::validate` has bounded n_layer.
            layers.push(layer).map_err(|_| BlobError::Manifest)?;
        }
        Ok(Model {
            config: *config,
            embed_return,
            embed_state,
            embed_action,
            embed_timestep,
            embed_ln,
            layers,
            ln_f: self.norm(name("ln_f"), d)?,
            head: self.linear(name("head"), a, d)?,
        })
    }
}

/// Whether the columns and the row that pad a packed matrix hold nothing.
#[inline(never)]
fn padding_is_zero(packed: &[i8], rows: usize, cols: usize) -> bool {
    if rows.is_multiple_of(2) && cols.is_multiple_of(4) {
        return true;
    }
    let is_zero = |row, col| packed.get(crate::kernels::packed_index(cols, row, col)) == Some(&0);
    let width = padded_cols(cols);
    let beside = (0..rows).all(|row| (cols..width).all(|col| is_zero(row, col)));
    let below = (rows..rows.next_multiple_of(2)).all(|row| (0..width).all(|col| is_zero(row, col)));
    beside && below
}
