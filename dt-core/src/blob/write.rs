//! Weights → bytes, quantizing on the way.

use serde::Serializer;
use serde::ser::{Error as _, SerializeTuple as _};

use super::extent::Extent;
use super::requires::Required;
use super::*;
use crate::config::{Dtype, ImageEncoder, MIXED_TOKENS, Mixer, TOKENS_PER_STEP};
use crate::int4;
use crate::kernels::{packed_byte, packed_index, packed_len};
use crate::quant::{Grid, WEIGHT_MAX};
use crate::slices::Guaranteed;

/// Weight and bias of a linear layer (weight row-major, out × in) or of a norm, in f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Affine<'a> {
    /// Weight.
    pub weight: &'a [f32],
    /// Bias.
    pub bias: &'a [f32],
}

/// One transformer block in f32; shapes as in [`crate::unstable::model::Layer`].
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "named as in `crate::model::Layer`")]
pub struct LayerParameters<'a> {
    pub ln_1: Affine<'a>,
    pub mixer: MixerParameters<'a>,
    pub ln_2: Affine<'a>,
    pub mlp_fc: Affine<'a>,
    pub mlp_proj: Affine<'a>,
}

/// What mixes the tokens of a block, in f32. Which one it is must agree with [`Config::mixer`].
#[derive(Clone, Copy, Debug)]
pub enum MixerParameters<'a> {
    /// Attention as trained.
    Attention {
        /// d_model → queries, keys, values (3·d_model).
        qkv: Affine<'a>,
        /// d_model → d_model, after attention.
        proj: Affine<'a>,
    },
    /// Folded attention ([`crate::config::Mixer::Folded`]).
    Folded {
        /// [`Config::folded_rows`] × d_model: WqᵀWk, WoWv, Wkᵀbq and a row of zeros; biases likewise, 0 but where
        /// the exporter moves keys or values.
        key_value: Affine<'a>,
        /// What is added to the output: Wo·bv + bo (d_model).
        bias: &'a [f32],
    },
    /// A convolution ([`crate::config::Mixer::Convolution`]): for each place of a timestep and each token, itself first, d_model
    /// factors; for each place d_model biases.
    Convolution(Affine<'a>),
}

impl Default for MixerParameters<'_> {
    fn default() -> Self {
        Self::Attention {
            qkv: Affine::default(),
            proj: Affine::default(),
        }
    }
}

/// A network in f32, as trained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parameters<'a> {
    /// d_model × 1.
    pub embed_return: Affine<'a>,
    /// The convolutions of an image encoder, as many as there are: each filters × (kernel · kernel · channels), rows of a square
    /// one after the other and channels side by side.
    pub convolutions: &'a [Affine<'a>],
    /// d_model × state_dim; behind convolutions d_model × (height · width · filters) of what the last one makes.
    pub embed_state: Affine<'a>,
    /// d_model × act_dim.
    pub embed_action: Affine<'a>,
    /// max_ep_len × d_model.
    pub embed_timestep: &'a [f32],
    /// 3·context_len × d_model; empty without [`Positions::Window`](crate::config::Positions::Window).
    pub embed_position: &'a [f32],
    /// d_model; empty without [`Embeddings::norm`](crate::config::Embeddings::norm).
    pub embed_ln: Affine<'a>,
    /// n_layer of them.
    pub layers: &'a [LayerParameters<'a>],
    /// Hidden layers of a perceptron, d_ff × (context_len · state_dim), then d_ff × d_ff: n_layer of them. Besides these it has a
    /// head, act_dim × d_ff, and nothing else of what stands here.
    pub hidden: &'a [Affine<'a>],
    /// d_model.
    pub ln_f: Affine<'a>,
    /// 2·d_model × d_model; empty without [`Config::glu`].
    pub glu: Affine<'a>,
    /// act_dim × d_model.
    pub head: Affine<'a>,
    /// state_dim × d_model; empty without [`Predictions::state`](crate::config::Predictions::state).
    pub state_head: Affine<'a>,
    /// 1 × d_model; empty without [`Predictions::return_to_go`](crate::config::Predictions::return_to_go).
    pub return_head: Affine<'a>,
}

/// Golden vectors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Golden<'a> {
    /// `golden_steps` records of [`Manifest::golden_record_len`] values.
    pub records: &'a [f32],
    /// `golden_images` images of [`Config::state_dim`] bytes; none where observations are vectors.
    pub images: &'a [u8],
}

impl<'a> From<&'a [f32]> for Golden<'a> {
    fn from(records: &'a [f32]) -> Self {
        Self {
            records,
            images: &[],
        }
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for Golden<'a> {
    fn from(records: &'a [f32; N]) -> Self {
        records.as_slice().into()
    }
}

/// Bytes that the file of a policy takes.
///
/// # Errors
/// [`EmitError::Invalid`] if the manifest cannot be written or read back.
pub fn emitted_len(manifest: &Manifest<'_>) -> Result<usize, EmitError> {
    read::check_manifest(manifest).map_err(EmitError::Invalid)?;
    let size = postcard::experimental::serialized_size(&Encoded(manifest))
        .map_err(|_| EmitError::Invalid(BlobError::Manifest))?;
    Extent::of_file(manifest, HEADER_LEN + size)
        .filter(|&end| u32::try_from(end).is_ok())
        .ok_or(EmitError::Invalid(BlobError::Length {
            expected: None,
            found: 0,
        }))
}

/// Writes a policy file into `out` (16-byte aligned, at least [`emitted_len`] long) and returns
/// its length. Weights are quantized if `manifest.config.dtype` asks for it. What was written has
/// been read back by [`Blob::parse`].
///
/// # Errors
/// [`EmitError`] names the tensor or field that is off; the contents of `out` are then undefined.
pub fn emit<'g>(
    manifest: &Manifest<'_>,
    vectors: &Vectors<'_>,
    parameters: &Parameters<'_>,
    golden: impl Into<Golden<'g>>,
    out: &mut [u8],
) -> Result<usize, EmitError> {
    let (golden, needed) = (golden.into(), emitted_len(manifest)?);
    let have = out.len();
    let file = out
        .get_mut(..needed)
        .ok_or(EmitError::BufferTooSmall { needed, have })?;
    file.fill(0);
    let manifest_len = match file.get_mut(HEADER_LEN..) {
        Some(body) => postcard::to_slice(&Encoded(manifest), body)
            .map_err(|_| EmitError::Invalid(BlobError::Manifest))?
            .len(),
        None => 0,
    };
    let mut writer = Writer {
        file,
        at: HEADER_LEN + manifest_len,
        dtype: manifest.config.dtype,
    };
    writer.vectors(&manifest.config, vectors)?;
    match manifest.config.is_mlp() {
        false => writer.transformer(&manifest.config, parameters)?,
        true => writer.mlp(&manifest.config, parameters)?,
    }
    let values = manifest.golden_steps as usize * manifest.golden_record_len();
    writer.f32(TensorName::plain("golden"), golden.records, values)?;
    writer.golden_images(manifest, golden.images)?;

    let mut put = |field: Range<usize>, value: u32| {
        if let Some(field) = file.get_mut(field) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    };
    put(VERSION_FIELD, VERSION);
    put(LENGTH_FIELD, needed as u32);
    put(MANIFEST_LEN_FIELD, manifest_len as u32);
    if let Some(magic) = file.get_mut(..MAGIC.len()) {
        magic.copy_from_slice(&MAGIC);
    }
    let crc = checksum(file);
    if let Some(field) = file.get_mut(CRC_FIELD) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
    Blob::parse(file).map_err(EmitError::Invalid)?;
    Ok(needed)
}

/// A manifest as it stands in the file: what it requires, itself, and what only those know who know that.
struct Encoded<'m>(&'m Manifest<'m>);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(manifest) = self;
        let mut names = heapless::String::<REQUIRES_LEN>::new();
        for part in Required::by(manifest).names().flatten() {
            names.push_str(part).map_err(S::Error::custom)?;
        }
        let mut fields = serializer.serialize_tuple(3)?;
        fields.serialize_element(names.as_str())?;
        fields.serialize_element(manifest)?;
        if let Choice::Sampled(sampling) = &manifest.choice {
            fields.serialize_element(sampling)?;
        }
        if let Some(image) = manifest.config.image() {
            fields.serialize_element(&(image, manifest.golden_images))?;
        }
        fields.end()
    }
}

/// Room for every name at once.
const REQUIRES_LEN: usize = 256;

struct Writer<'o> {
    file: &'o mut [u8],
    at: usize,
    dtype: Dtype,
}

impl Writer<'_> {
    /// The next `len` bytes of the file, which are zero.
    fn tensor(&mut self, len: usize) -> &mut [u8] {
        let start = self.at.next_multiple_of(ALIGNMENT);
        self.at = start + len;
        self.file.get_mut(start..self.at).guaranteed()
    }

    /// The next two tensors, the first with the gap after it.
    fn two_tensors(&mut self, first: usize, second: usize) -> (&mut [u8], &mut [u8]) {
        let start = self.at.next_multiple_of(ALIGNMENT);
        let middle = (start + first).next_multiple_of(ALIGNMENT);
        self.at = middle + second;
        let both = self.file.get_mut(start..self.at).guaranteed();
        both.split_at_mut_checked(middle - start).guaranteed()
    }

    fn f32(&mut self, name: TensorName, values: &[f32], expected: usize) -> Result<(), EmitError> {
        check_len(name, values, expected)?;
        let bytes = self.tensor(4 * expected);
        for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        Ok(())
    }

    fn norm(&mut self, name: TensorName, norm: &Affine<'_>, len: usize) -> Result<(), EmitError> {
        self.f32(name.part("weight"), norm.weight, len)?;
        self.f32(name.part("bias"), norm.bias, len)
    }

    fn linear(
        &mut self,
        name: TensorName,
        linear: &Affine<'_>,
        dtype: Dtype,
        [rows, cols]: [usize; 2],
    ) -> Result<(), EmitError> {
        let weight = name.part("weight");
        match dtype {
            Dtype::F32 => self.f32(weight, linear.weight, rows * cols)?,
            Dtype::Int8 => self.quantized(
                weight,
                linear.weight,
                [rows, cols],
                packed_len(rows, cols),
                |row, col, weight| (packed_index(cols, row, col), packed_byte(row, weight)),
            )?,
            Dtype::Int4 => self.four_bits(weight, linear.weight, [rows, cols])?,
        }
        self.f32(name.part("bias"), linear.bias, rows)
    }

    /// Quantizes a matrix row by row: its values go into the next tensor, to the places and as the bytes that
    /// `place` tells, its scales into the tensor after that.
    fn quantized(
        &mut self,
        name: TensorName,
        values: &[f32],
        [rows, cols]: [usize; 2],
        len: usize,
        place: impl Fn(usize, usize, i8) -> (usize, i8),
    ) -> Result<(), EmitError> {
        check_len(name, values, rows * cols)?;
        let bytes = self.tensor(len);
        // Padding, where there is any, is what stands for zero.
        for (i, byte) in bytes.iter_mut().enumerate() {
            let row = (i + 1) % 2;
            *byte = place(row, 0, 0).1.cast_unsigned();
        }
        for (r, row) in crate::slices::rows(values, cols).enumerate() {
            let grid = row_grid(name, row, WEIGHT_MAX)?;
            for (c, value) in row.iter().enumerate() {
                let (index, weight) = place(r, c, grid.quantize(*value) as i8);
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = weight.cast_unsigned();
                }
            }
        }
        self.scales(name, values, [rows, cols], WEIGHT_MAX)
    }

    /// Quantizes a matrix to four bits: nibbles, multipliers and scales go to one tensor each.
    fn four_bits(
        &mut self,
        name: TensorName,
        values: &[f32],
        [rows, cols]: [usize; 2],
    ) -> Result<(), EmitError> {
        check_len(name, values, rows * cols)?;
        let groups = cols.div_ceil(int4::GROUP_COLS);
        let (nibbles, multipliers) = self.two_tensors(
            int4::packed_len(rows, cols),
            int4::multipliers_len(rows, cols),
        );
        for (r, row) in crate::slices::rows(values, cols).enumerate() {
            let grid = row_grid(name, row, int4::ROW_MAX)?;
            for (g, group) in row.chunks(int4::GROUP_COLS).enumerate() {
                let quantized = int4::quantize_group(group, grid.inverse);
                for (c, nibble) in (g * int4::GROUP_COLS..cols).zip(quantized.nibbles) {
                    if let Some(byte) = nibbles.get_mut(int4::packed_index(cols, r, c)) {
                        *byte = byte.wrapping_add(int4::encode_nibble(r, nibble));
                    }
                }
                if let Some(byte) = multipliers.get_mut(r / 2 * groups + g) {
                    *byte |= quantized.multiplier << (r % 2 * 4);
                }
            }
        }
        self.scales(name, values, [rows, cols], int4::ROW_MAX)
    }

    /// The scales of a matrix on whose rows' grids the largest value is `q_max` steps.
    fn scales(
        &mut self,
        name: TensorName,
        values: &[f32],
        [rows, cols]: [usize; 2],
        q_max: i32,
    ) -> Result<(), EmitError> {
        let scales = self.tensor(4 * rows).as_chunks_mut::<4>().0;
        for (bytes, row) in scales.iter_mut().zip(crate::slices::rows(values, cols)) {
            *bytes = row_grid(name, row, q_max)?.scale.to_le_bytes();
        }
        Ok(())
    }

    fn vectors(&mut self, config: &Config, vectors: &Vectors<'_>) -> Result<(), EmitError> {
        let (s, a) = (
            config.state_vector_len() as usize,
            config.action_len() as usize,
        );
        let vectors = [
            ("state_mean", vectors.state_mean, s),
            ("state_std", vectors.state_std, s),
            ("state_low", vectors.state_low, s),
            ("state_high", vectors.state_high, s),
            ("action_low", vectors.action_low, a),
            ("action_high", vectors.action_high, a),
            ("safe_action", vectors.safe_action, a),
        ];
        for (name, values, expected) in vectors {
            self.f32(TensorName::plain(name), values, expected)?;
        }
        Ok(())
    }

    fn mlp(&mut self, config: &Config, p: &Parameters<'_>) -> Result<(), EmitError> {
        let n_layer = config.n_layer as usize;
        if p.hidden.len() != n_layer {
            return Err(EmitError::WrongLength {
                tensor: TensorName::plain("hidden"),
                expected: n_layer,
                got: p.hidden.len(),
            });
        }
        for (index, hidden) in p.hidden.iter().enumerate() {
            let (dtype, shape) = config.hidden(index);
            self.linear(TensorName::hidden(index), hidden, dtype, shape)?;
        }
        let shape = [config.act_dim, config.d_ff].map(|dim| dim as usize);
        let dtype = config.dtype.outside_blocks();
        self.linear(TensorName::plain("head"), &p.head, dtype, shape)
    }

    fn golden_images(&mut self, manifest: &Manifest<'_>, images: &[u8]) -> Result<(), EmitError> {
        let expected = match manifest.config.image() {
            Some(image) => manifest.golden_images as usize * image.pixels() as usize,
            None => 0,
        };
        if images.len() != expected {
            return Err(EmitError::WrongLength {
                tensor: TensorName::plain("golden_images"),
                expected,
                got: images.len(),
            });
        }
        if expected > 0 {
            self.tensor(expected).copy_from_slice(images);
        }
        Ok(())
    }

    fn convolutions(&mut self, config: &Config, p: &Parameters<'_>) -> Result<(), EmitError> {
        let placed = config.image().map(ImageEncoder::placed);
        let placed = placed.iter().flatten().flatten();
        let expected = placed.clone().count();
        if p.convolutions.len() != expected {
            return Err(EmitError::WrongLength {
                tensor: TensorName::plain("convolutions"),
                expected,
                got: p.convolutions.len(),
            });
        }
        let outside = config.dtype.outside_blocks();
        for ((module, placed), p) in CONVOLUTION_MODULES
            .into_iter()
            .zip(placed)
            .zip(p.convolutions)
        {
            let shape = [placed.convolution.filters, placed.cols()].map(|dim| dim as usize);
            self.linear(TensorName::plain(module), p, outside, shape)?;
        }
        Ok(())
    }

    fn transformer(&mut self, config: &Config, p: &Parameters<'_>) -> Result<(), EmitError> {
        let [d, f, s, a] = [
            config.d_model,
            config.d_ff,
            config.embedded_len(),
            config.act_dim,
        ]
        .map(|dim| dim as usize);
        let name = TensorName::plain;
        let (dtype, outside) = (config.dtype, config.dtype.outside_blocks());
        self.linear(name("embed_return"), &p.embed_return, outside, [d, 1])?;
        self.convolutions(config, p)?;
        self.linear(name("embed_state"), &p.embed_state, outside, [d, s])?;
        self.linear(name("embed_action"), &p.embed_action, outside, [d, a])?;
        for (table, rows, values) in [
            (
                "embed_timestep",
                config.max_ep_len as usize,
                p.embed_timestep,
            ),
            ("embed_position", config.position_rows(), p.embed_position),
        ] {
            self.table(name(table), [rows, d], values)?;
        }
        if config.has_embedding_norm() {
            self.norm(name("embed_ln"), &p.embed_ln, d)?;
        }
        let n_layer = config.n_layer as usize;
        if p.layers.len() != n_layer {
            return Err(EmitError::WrongLength {
                tensor: name("layers"),
                expected: n_layer,
                got: p.layers.len(),
            });
        }
        for (layer, p) in p.layers.iter().enumerate() {
            let name = |module| TensorName::of_layer(layer, module);
            self.norm(name("ln_1"), &p.ln_1, d)?;
            match (config.mixer, &p.mixer) {
                (Mixer::Attention, MixerParameters::Attention { qkv, proj }) => {
                    self.linear(name("attn_qkv"), qkv, dtype, [3 * d, d])?;
                    self.linear(name("attn_proj"), proj, dtype, [d, d])?;
                }
                (Mixer::Folded, MixerParameters::Folded { key_value, bias }) => {
                    let rows = config.folded_rows() as usize;
                    self.linear(name("attn_folded"), key_value, dtype, [rows, d])?;
                    self.f32(name("attn_bias"), bias, d)?;
                }
                (Mixer::Convolution, MixerParameters::Convolution(filters)) => {
                    let places = TOKENS_PER_STEP * d;
                    self.f32(
                        name("conv").part("weight"),
                        filters.weight,
                        MIXED_TOKENS * places,
                    )?;
                    self.f32(name("conv").part("bias"), filters.bias, places)?;
                }
                _ => return Err(EmitError::Mixer { layer }),
            }
            self.norm(name("ln_2"), &p.ln_2, d)?;
            self.linear(name("mlp_fc"), &p.mlp_fc, dtype, [f, d])?;
            self.linear(name("mlp_proj"), &p.mlp_proj, dtype, [d, f])?;
        }
        self.norm(name("ln_f"), &p.ln_f, d)?;
        if config.glu {
            self.linear(name("glu"), &p.glu, outside, [2 * d, d])?;
        }
        self.linear(name("head"), &p.head, outside, [a, d])?;
        if config.predictions.state {
            self.linear(name("state_head"), &p.state_head, outside, [s, d])?;
        }
        if config.predictions.return_to_go {
            self.linear(name("return_head"), &p.return_head, outside, [1, d])?;
        }
        Ok(())
    }

    fn table(
        &mut self,
        name: TensorName,
        [rows, cols]: [usize; 2],
        values: &[f32],
    ) -> Result<(), EmitError> {
        let name = name.part("weight");
        match self.dtype {
            _ if rows == 0 => check_len(name, values, 0),
            Dtype::F32 => self.f32(name, values, rows * cols),
            Dtype::Int8 => {
                let place = |row, col, weight| (row * cols + col, weight);
                self.quantized(name, values, [rows, cols], rows * cols, place)
            }
            Dtype::Int4 => self.four_bits(name, values, [rows, cols]),
        }
    }
}

fn row_grid(tensor: TensorName, row: &[f32], q_max: i32) -> Result<Grid, EmitError> {
    Grid::of(row, q_max).map_err(|_| EmitError::Invalid(BlobError::NonFinite(tensor)))
}

fn check_len(tensor: TensorName, values: &[f32], expected: usize) -> Result<(), EmitError> {
    if values.len() == expected {
        Ok(())
    } else {
        Err(EmitError::WrongLength {
            tensor,
            expected,
            got: values.len(),
        })
    }
}
