//! What can be wrong with a policy file.

use core::fmt;

use crate::config::ConfigError;

/// A tensor of the file, as named in `BLOB.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TensorName {
    /// Transformer block it belongs to, or which hidden layer of a perceptron it is.
    pub layer: Option<usize>,
    /// Module, such as `attn_qkv` or `hidden`.
    pub module: &'static str,
    /// Part of it: `weight`, `multiplier`, `scale` or `bias`; empty for plain vectors.
    pub part: &'static str,
}

impl TensorName {
    const HIDDEN: &str = "hidden";

    /// A perceptron's hidden layer.
    pub(crate) const fn hidden(index: usize) -> Self {
        Self::of_layer(index, Self::HIDDEN)
    }

    pub(crate) const fn plain(module: &'static str) -> Self {
        Self {
            layer: None,
            module,
            part: "",
        }
    }

    pub(crate) const fn of_layer(index: usize, module: &'static str) -> Self {
        Self {
            layer: Some(index),
            module,
            part: "",
        }
    }

    pub(crate) const fn part(self, part: &'static str) -> Self {
        Self { part, ..self }
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            // A hidden layer is a module by itself.
            Some(layer) if self.module == Self::HIDDEN => write!(f, "{}.{layer}", self.module)?,
            Some(layer) => write!(f, "layers.{layer}.{}", self.module)?,
            None => f.write_str(self.module)?,
        }
        if !self.part.is_empty() {
            write!(f, ".{}", self.part)?;
        }
        Ok(())
    }
}

/// What a policy file requires of its reader, by name. Names longer than 24 bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    bytes: [u8; 24],
    len: usize,
}

impl Feature {
    /// The first of names that commas separate.
    pub(crate) fn first_of(names: &str) -> Self {
        let mut feature = Self {
            bytes: [0; 24],
            len: 0,
        };
        let name = names.bytes().take_while(|&c| c != b',');
        let places = (1..25).zip(&mut feature.bytes);
        for ((len, place), c) in places.zip(name) {
            // Names are ASCII; anything else would make no text when cut.
            *place = if c.is_ascii_graphic() { c } else { b'?' };
            feature.len = len;
        }
        feature
    }

    /// The name.
    pub fn name(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Feature {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.name());
    }
}

/// Why bytes are not a usable policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BlobError {
    /// The buffer does not start at a multiple of 16 bytes.
    Misaligned,
    /// The buffer ends before the file does.
    Truncated {
        /// Bytes the file has.
        needed: usize,
        /// Bytes there are.
        have: usize,
    },
    /// The first eight bytes are not "DTPOLICY".
    Magic,
    /// Another format version than this reader knows.
    Version {
        /// The file's version.
        found: u32,
    },
    /// The checksum does not match: the file was damaged.
    Crc {
        /// Checksum in the file.
        stored: u32,
        /// Checksum of its bytes.
        computed: u32,
    },
    /// The policy needs something that this reader does not know.
    Requires(Feature),
    /// The manifest does not decode, or has bytes left over.
    Manifest,
    /// The manifest describes a network that cannot be run.
    Config(ConfigError),
    /// A number of the manifest is not finite, or not positive where it has to be.
    Field {
        /// Name of the field.
        field: &'static str,
    },
    /// The tensors that the manifest describes do not end where the file does.
    Length {
        /// Where the tensors end; `None`: beyond any address.
        expected: Option<usize>,
        /// Where the file ends.
        found: usize,
    },
    /// A value is NaN or infinite.
    NonFinite(TensorName),
    /// A scale or standard deviation is negative, or a standard deviation is zero.
    Scale(TensorName),
    /// A weight is −128, for which sums could overflow.
    Weight(TensorName),
    /// Padding is not zero.
    Padding(TensorName),
    /// A lower bound lies above its upper bound.
    Bounds(TensorName),
    /// The names of the components of observation or action are not one for each.
    Components {
        /// Which text.
        field: &'static str,
        /// Components that there are.
        dim: u32,
    },
    /// The policy is to stop at the end of its timestep table, but has none.
    NoTable,
    /// The action bounds of a policy that chooses are not its first and last index.
    Choices {
        /// Choices that there are.
        choices: u32,
    },
    /// The safe action lies outside the action bounds, or is the index of no choice.
    SafeAction,
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => f.write_str("the buffer must start at a multiple of 16 bytes"),
            Self::Truncated { needed, have } => {
                write!(
                    f,
                    "truncated: {have} bytes of {needed}; copy the file again"
                )
            }
            Self::Magic => f.write_str("not a policy file (it does not begin with DTPOLICY)"),
            Self::Version { found } => write!(
                f,
                "format version {found}, but this program reads versions 1 to {}; export the policy again with a matching dt-train",
                super::VERSION
            ),
            Self::Requires(feature) if feature.name() == super::requires::CONVOLUTIONS => f.write_str(
                "the policy sees images (`convolutions`), which this program was built without; build it with dt-core's feature `images`",
            ),
            Self::Requires(feature) => write!(
                f,
                "the policy needs `{feature}`, which this program does not know; use a newer one"
            ),
            Self::Crc { stored, computed } => write!(
                f,
                "damaged: checksum {computed:08x}, but {stored:08x} is stored; copy the file again"
            ),
            Self::Manifest => f.write_str("the manifest does not decode"),
            Self::Config(error) => write!(f, "the manifest's network cannot be run: {error}"),
            Self::Field { field } => {
                write!(f, "the manifest's {field} is not a usable number")
            }
            Self::Length {
                expected: Some(expected),
                found,
            } => write!(
                f,
                "the manifest's tensors end at byte {expected}, but the file at {found}"
            ),
            Self::Length { expected: None, .. } => {
                f.write_str("the manifest's tensors do not fit any memory")
            }
            Self::NonFinite(name) => write!(f, "{name} holds NaN or infinity"),
            Self::Scale(name) => write!(f, "{name} holds a scale that is not positive"),
            Self::Weight(name) => write!(f, "{name} holds a weight of -128"),
            Self::Padding(name) => write!(f, "the padding around {name} is not zero"),
            Self::Bounds(name) => write!(f, "{name} lies above its upper bound"),
            Self::Components { field, dim } => write!(
                f,
                "the manifest's {field} must name each of the {dim} components on a line of its own, or none"
            ),
            Self::NoTable => f.write_str(
                "at_max_ep_len is Fault, but the model has no timestep table (max_ep_len is 0): there is no end to stop at",
            ),
            Self::Choices { choices } => write!(
                f,
                "actions are one of {choices} choices, so action_low must be 0 and action_high {}",
                choices.saturating_sub(1)
            ),
            Self::SafeAction => f.write_str(
                "safe_action lies outside action_low..action_high, or is the index of no choice",
            ),
        }
    }
}

impl core::error::Error for BlobError {}

/// Why a policy file cannot be written.
#[cfg(any(test, feature = "emit"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EmitError {
    /// The output buffer is too small.
    BufferTooSmall {
        /// Bytes the file takes.
        needed: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A tensor has the wrong number of values.
    WrongLength {
        /// The tensor.
        tensor: TensorName,
        /// Values the manifest calls for.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// A layer's parameters are of another mixer than the configuration says.
    Mixer {
        /// Which layer.
        layer: usize,
    },
    /// The written file would be refused by [`super::Blob::parse`].
    Invalid(BlobError),
}

#[cfg(any(test, feature = "emit"))]
impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed, have } => {
                write!(f, "the file takes {needed} bytes, the buffer has {have}")
            }
            Self::WrongLength {
                tensor,
                expected,
                got,
            } => write!(f, "{tensor} has {got} values instead of {expected}"),
            Self::Mixer { layer } => write!(
                f,
                "the parameters of layer {layer} are of another mixer than the configuration says"
            ),
            Self::Invalid(error) => write!(f, "the policy would not be readable: {error}"),
        }
    }
}

#[cfg(any(test, feature = "emit"))]
impl core::error::Error for EmitError {}
