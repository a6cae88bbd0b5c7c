//! Bytes → [`Blob`].

use postcard::Deserializer;
use postcard::de_flavors::Flavor;

use super::requires::{Needs, Required};
use super::*;
#[cfg(feature = "images")]
use crate::config::Encoder;
use crate::config::{Embeddings, Order, Positions};
use crate::int4::Packed;
use crate::kernels::{self, packed_byte, packed_index, padded_cols};
use crate::linear::{Linear, Weights};
use crate::model::{Mixing, Norm, Table};
use crate::slices::{round_up, times};
use crate::tensors::Tensors;

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
        let (version, file, manifest_len) = check_header(bytes)?;
        let start = HEADER_LEN
            .checked_add(manifest_len)
            .ok_or(BlobError::Manifest)?;
        let manifest = file.get(HEADER_LEN..start).ok_or(BlobError::Manifest)?;
        let manifest = decode(version, manifest)?;
        check_manifest(&manifest)?;
        let end = Extent::of_file(&manifest, start);
        if end != Some(file.len()) {
            return Err(BlobError::Length {
                expected: end,
                found: file.len(),
            });
        }
        let config = &manifest.config;
        let mut tensors = Tensors::new(file, start, config.dtype, version);
        let vectors = vectors(config, &mut tensors);
        let model = Model::new(config, tensors);
        let mut tensors = model.after_blocks();
        if config.is_mlp() {
            tensors.head(config);
        } else {
            tensors.output(config);
            tensors.predictions(config);
        }
        let golden_len = times(manifest.golden_steps as usize, manifest.golden_record_len());
        let golden = tensors.f32(golden_len);
        let golden_images = match config.image() {
            Some(_) => tensors.bytes(times(
                manifest.golden_images as usize,
                config.state_dim as usize,
            )),
            None => &[],
        };
        let mut check = Check { file, at: start };
        check.vectors(&manifest.config, &vectors)?;
        match config.is_mlp() {
            false => check.transformer(&model)?,
            true => check.mlp(&model)?,
        }
        check.f32(TensorName::plain("golden"), golden)?;
        if config.image().is_some() {
            check.bytes(TensorName::plain("golden_images"), golden_images)?;
        }
        // Tensors past the end would have been empty ones.
        if check.at != file.len() {
            return Err(BlobError::Length {
                expected: Some(check.at),
                found: file.len(),
            });
        }
        Ok(Self {
            manifest,
            vectors,
            model,
            golden,
            golden_images,
            len: file.len(),
        })
    }
}

/// The manifest that `bytes` hold, and nothing else.
fn decode(version: u32, bytes: &[u8]) -> Result<Manifest<'_>, BlobError> {
    fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BlobError> {
        match first(bytes)? {
            (manifest, []) => Ok(manifest),
            _ => Err(BlobError::Manifest),
        }
    }
    if version == 1 {
        return whole::<version_1::Manifest1<'_>>(bytes).map(Into::into);
    }
    // What is required stands first: what follows may be laid out in a way this reader does not know.
    let (requires, rest) = first(bytes)?;
    let required = Required::parse(requires)?;
    let (mut manifest, rest) = first::<Manifest<'_>>(rest)?;
    let config = &mut manifest.config;
    config.glu = required.has(Needs::Glu);
    config.embeddings = Embeddings {
        tanh: required.has(Needs::EmbeddingTanh),
        norm: !required.has(Needs::NoEmbeddingNorm),
        positions: match required.has(Needs::WindowPositions) {
            true => Positions::Window,
            false => Positions::Timestep,
        },
    };
    config.predictions = Predictions {
        state: required.has(Needs::StateHead),
        return_to_go: required.has(Needs::ReturnHead),
    };
    if required.has(Needs::DiscreteActions) {
        config.actions = Actions::Discrete;
    }
    if required.has(Needs::StateFirst) {
        config.order = Order::StateFirst;
    }
    if required.has(Needs::Mlp) {
        config.network = Network::Mlp;
    }
    let rest = if required.has(Needs::SampledActions) {
        let (sampling, rest) = first(rest)?;
        manifest.choice = Choice::Sampled(sampling);
        rest
    } else {
        rest
    };
    #[cfg(feature = "images")]
    let rest = if required.has(Needs::Convolutions) {
        let ((image, golden_images), rest) = first(rest)?;
        manifest.config.encoder = Encoder::Image(image);
        manifest.golden_images = golden_images;
        rest
    } else {
        rest
    };
    // Whoever does not know a name must not get to what it stands for, so all of them are named, and no other.
    if rest.is_empty() && required == Required::by(&manifest) {
        Ok(manifest)
    } else {
        Err(BlobError::Manifest)
    }
}

/// What `bytes` begin with, and the rest of them.
fn first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), BlobError> {
    let mut decoder = Deserializer::from_flavor(Bytes(bytes));
    let value = T::deserialize(&mut decoder).map_err(|_| BlobError::Manifest)?;
    let rest = decoder.finalize().map_err(|_| BlobError::Manifest)?;
    Ok((value, rest))
}

/// Bytes to decode, once at boot: small beats fast. Those of postcard itself are a pair of pointers, of whose difference the
/// compiler knows nothing.
struct Bytes<'a>(&'a [u8]);

impl<'a> Flavor<'a> for Bytes<'a> {
    type Remainder = &'a [u8];
    type Source = &'a [u8];

    #[inline(never)]
    fn pop(&mut self) -> postcard::Result<u8> {
        let (&first, rest) = self.0.split_first().ok_or(UNEXPECTED_END)?;
        self.0 = rest;
        Ok(first)
    }

    fn try_take_n(&mut self, len: usize) -> postcard::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(UNEXPECTED_END)?;
        self.0 = rest;
        Ok(taken)
    }

    fn finalize(self) -> postcard::Result<&'a [u8]> {
        Ok(self.0)
    }
}

const UNEXPECTED_END: postcard::Error = postcard::Error::DeserializeUnexpectedEnd;

/// Returns the format version, the file without what follows it, and the length of its manifest.
fn check_header(bytes: &[u8]) -> Result<(u32, &[u8], usize), BlobError> {
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
    if !(1..=VERSION).contains(&version) {
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
    Ok((version, file, manifest_len))
}

pub(super) fn check_manifest(manifest: &Manifest<'_>) -> Result<(), BlobError> {
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
    if manifest.reward == RewardMode::Predicted && !manifest.config.is_state_first() {
        return field("reward");
    }
    if let Some(ReturnLimits { low, high, .. }) = manifest.return_limits
        && !(low.is_finite() && high.is_finite() && low <= high)
    {
        return field("return_limits");
    }
    let config = &manifest.config;
    for (field, components, dim) in [
        ("observation", manifest.observation, config.state_dim),
        ("action", manifest.action, config.act_dim),
    ] {
        if !components.fits(dim) {
            return Err(BlobError::Components { field, dim });
        }
    }
    if let Choice::Sampled(Sampling { temperature, .. }) = manifest.choice {
        if config.actions != Actions::Discrete {
            return field("choice");
        }
        if !(temperature.is_finite() && temperature > 0.0) {
            return field("temperature");
        }
    }
    // Each of them is shown, and every record shows one.
    let images = manifest.golden_images;
    if config.image().is_some() != (images > 0) && manifest.golden_steps > 0
        || images > manifest.golden_steps
    {
        return field("golden_images");
    }
    if manifest.at_max_ep_len == AtMaxEpLen::Fault && config.max_ep_len == 0 {
        return Err(BlobError::NoTable);
    }
    Ok(())
}

fn vectors<'a>(config: &Config, tensors: &mut Tensors<'a>) -> Vectors<'a> {
    let (s, a) = (
        config.state_vector_len() as usize,
        config.action_len() as usize,
    );
    Vectors {
        state_mean: tensors.f32(s),
        state_std: tensors.f32(s),
        state_low: tensors.f32(s),
        state_high: tensors.f32(s),
        action_low: tensors.f32(a),
        action_high: tensors.f32(a),
        safe_action: tensors.f32(a),
    }
}

/// Looks at every value of a file, tensor by tensor in the order of the file, and at the gaps
/// between them.
///
/// Runs once at boot, so `inline(never)`: small beats fast.
struct Check<'a> {
    file: &'a [u8],
    /// End of the tensor checked last.
    at: usize,
}

impl Check<'_> {
    #[inline(never)]
    fn bytes(&mut self, name: TensorName, tensor: &[u8]) -> Result<(), BlobError> {
        let start = round_up(self.at, ALIGNMENT);
        let gap = self.file.get(self.at..start).unwrap_or_default();
        if gap.iter().any(|&byte| byte != 0) {
            return Err(BlobError::Padding(name));
        }
        self.at = start.saturating_add(tensor.len());
        Ok(())
    }

    #[inline(never)]
    fn f32(&mut self, name: TensorName, tensor: &[f32]) -> Result<(), BlobError> {
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

    fn vectors(&mut self, config: &Config, vectors: &Vectors<'_>) -> Result<(), BlobError> {
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

    fn mlp(&mut self, model: &Model<'_>) -> Result<(), BlobError> {
        for index in 0..model.config.n_layer as usize {
            self.linear(TensorName::hidden(index), &model.hidden(index))?;
        }
        self.linear(TensorName::plain("head"), &model.mlp_head())
    }

    fn transformer(&mut self, model: &Model<'_>) -> Result<(), BlobError> {
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
        if let Some(ln) = &embedding.ln {
            self.norm(name("embed_ln"), ln)?;
        }
        for (index, layer) in (0..model.config.n_layer as usize).zip(model.layers()) {
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
            self.linear(name("mlp_proj"), &layer.mlp_proj)?;
        }
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
