//! Why a configuration is refused.

#[cfg(doc)]
use super::Config;

/// Why a [`Config`] cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfigError {
    /// A dimension is 0 or larger than its bound.
    OutOfRange {
        /// Name of the dimension.
        field: &'static str,
        /// Its value.
        value: u32,
        /// Largest accepted value.
        max: u32,
    },
    /// `d_model` is not a multiple of `4 · n_head` (heads are processed in words of four values).
    HeadSize {
        /// Width of the residual stream.
        d_model: u32,
        /// Attention heads.
        n_head: u32,
    },
    /// `d_ff` is not a multiple of 4.
    MlpSize {
        /// Width of the MLP's hidden layer.
        d_ff: u32,
    },
    /// A convolution mixes components, of which there are no heads.
    Convolved {
        /// Attention heads.
        n_head: u32,
    },
    /// Only single-head attention can be folded: with more heads the folded matrices are larger.
    Folded {
        /// Attention heads.
        n_head: u32,
    },
    /// A multilayer perceptron does not have that.
    NotInMlp {
        /// What it has a value for.
        field: &'static str,
    },
    /// `layer_norm_eps` is not a positive finite number.
    Epsilon,
    /// Choices are made by logits, of which tanh would leave no more than ±1.
    TanhLogits,
    /// `state_dim` is not the number of an image's bytes.
    Pixels {
        /// Length of an observation.
        state_dim: u32,
        /// height · width · channels.
        pixels: u32,
    },
    /// A convolution's filters are not a multiple of 4 (they are processed in words of four values).
    Filters {
        /// Channels that the convolution makes.
        filters: u32,
    },
    /// A convolution without filters has a kernel or a stride, or another one behind it.
    NoFilters,
    /// The next image cannot be predicted: the head would be as long as the image.
    PredictsImages,
    /// Where the state's token comes first, it predicts a return-to-go, and nothing else is predicted.
    StateFirst,
    /// Places in a window are those of tokens that attend to it.
    WindowPositions,
    /// Mixer, order or embeddings are those of a variant, and this build of the crate is without feature `variants`.
    Variant,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::OutOfRange { field, value, max } => {
                write!(f, "{field} is {value}; it must lie in 1..={max}")
            }
            Self::HeadSize { d_model, n_head } => write!(
                f,
                "d_model {d_model} is not a multiple of 4 * n_head = {}",
                n_head.saturating_mul(4)
            ),
            Self::MlpSize { d_ff } => write!(f, "d_ff {d_ff} is not a multiple of 4"),
            Self::Folded { n_head } => {
                write!(f, "folded attention has one head, but n_head is {n_head}")
            }
            Self::Convolved { n_head } => {
                write!(
                    f,
                    "a convolution has no heads, but n_head is {n_head} instead of 1"
                )
            }
            Self::NotInMlp { field } => write!(
                f,
                "a multilayer perceptron has no {field}; leave it as in Config::mlp"
            ),
            Self::Epsilon => f.write_str("layer_norm_eps must be a positive finite number"),
            Self::TanhLogits => {
                f.write_str("actions are discrete, so the head must be linear instead of tanh")
            }
            Self::Pixels { state_dim, pixels } => write!(
                f,
                "state_dim is {state_dim}, but an image has height * width * channels = {pixels} bytes"
            ),
            Self::Filters { filters } => {
                write!(
                    f,
                    "a convolution's filters, {filters}, are not a multiple of 4"
                )
            }
            Self::NoFilters => f.write_str(
                "a convolution without filters has a kernel, a stride or a convolution behind it",
            ),
            Self::PredictsImages => {
                f.write_str("observations are images, so no state-head can predict them")
            }
            Self::StateFirst => f.write_str(
                "order is state first, so returns-to-go must be predicted and states must not",
            ),
            Self::WindowPositions => f.write_str(
                "positions are places in the window, so attention must be over a window, and the mixer attention",
            ),
            Self::Variant => f.write_str(
                "mixer, order or embeddings are those of a variant, and dt-core was built without its feature `variants`",
            ),
        }
    }
}

impl core::error::Error for ConfigError {}
