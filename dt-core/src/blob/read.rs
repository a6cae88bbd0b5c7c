//! Bytes → [`Blob`].

use postcard::Deserializer;
use postcard::de_flavors::Flavor;

use super::check::Check;
use super::extent::Extent;
use super::requires::{Needs, Required};
use super::*;
#[cfg(feature = "images")]
use crate::config::Encoder;
use crate::config::{Embeddings, Order, Positions};
use crate::slices::times;
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
