//! What a policy file asks of its reader beyond the first form of format version 2, by name.
//!
//! The names stand before everything else in the manifest, so that a reader which does not know one refuses the file
//! by that name instead of misreading it. They also are the values of the fields that they stand for: those came
//! later, and are not in the manifest itself.

use super::{BlobError, Choice, Feature, Manifest};
use crate::config::{Actions, Activation, VARIANTS};

/// What a build without feature `images` does not know.
pub(super) const CONVOLUTIONS: &str = "convolutions";

/// Something to know, in the order in which files name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    DiscreteActions,
    SampledActions,
    Glu,
    Gelu,
    Silu,
    TanhMlp,
    StateHead,
    ReturnHead,
    Mlp,
    Convolutions,
    EmbeddingTanh,
    StateFirst,
    ConvolutionMixer,
    NoEmbeddingNorm,
    WindowPositions,
}

impl Needs {
    pub(super) const ALL: [Self; 15] = [
        Self::DiscreteActions,
        Self::SampledActions,
        Self::Glu,
        Self::Gelu,
        Self::Silu,
        Self::TanhMlp,
        Self::StateHead,
        Self::ReturnHead,
        Self::Mlp,
        Self::Convolutions,
        Self::EmbeddingTanh,
        Self::StateFirst,
        Self::ConvolutionMixer,
        Self::NoEmbeddingNorm,
        Self::WindowPositions,
    ];

    /// Its name in files.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::DiscreteActions => "discrete-actions",
            Self::SampledActions => "sampled-actions",
            Self::Glu => "glu",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::TanhMlp => "tanh-mlp",
            Self::StateHead => "state-head",
            Self::ReturnHead => "return-head",
            Self::Mlp => "mlp",
            Self::Convolutions => CONVOLUTIONS,
            Self::EmbeddingTanh => "embedding-tanh",
            Self::StateFirst => "state-first",
            Self::ConvolutionMixer => "convolution-mixer",
            Self::NoEmbeddingNorm => "no-embedding-norm",
            Self::WindowPositions => "window-positions",
        }
    }

    /// Whether this build knows it.
    fn is_known(self) -> bool {
        let is_variant = matches!(
            self,
            Self::EmbeddingTanh
                | Self::StateFirst
                | Self::ConvolutionMixer
                | Self::NoEmbeddingNorm
                | Self::WindowPositions
        );
        (cfg!(any(test, feature = "mlp")) || self != Self::Mlp)
            && (cfg!(feature = "images") || self != Self::Convolutions)
            && (VARIANTS || !is_variant)
    }

    /// Whether the policy of `manifest` has it.
    fn is_in(self, manifest: &Manifest<'_>) -> bool {
        let config = &manifest.config;
        match self {
            Self::DiscreteActions => config.actions == Actions::Discrete,
            Self::SampledActions => matches!(manifest.choice, Choice::Sampled(_)),
            Self::Glu => config.glu,
            Self::Gelu => config.activation == Activation::Gelu,
            Self::Silu => config.activation == Activation::Silu,
            Self::TanhMlp => config.activation == Activation::Tanh,
            Self::StateHead => config.predictions.state,
            Self::ReturnHead => config.predictions.return_to_go,
            Self::Mlp => config.is_mlp(),
            Self::Convolutions => config.image().is_some(),
            Self::EmbeddingTanh => config.has_embedding_tanh(),
            Self::StateFirst => config.is_state_first(),
            Self::ConvolutionMixer => config.is_convolved(),
            // A perceptron has no embeddings at all.
            Self::NoEmbeddingNorm => !config.has_embedding_norm(),
            Self::WindowPositions => config.is_placed_in_window(),
        }
    }
}

/// A set of them: bit number i stands for the i-th.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Required(u32);

impl Required {
    /// What the policy of `manifest` requires.
    pub(super) fn by(manifest: &Manifest<'_>) -> Self {
        let mut required = Self::default();
        for needs in Needs::ALL {
            if needs.is_in(manifest) {
                required.add(needs);
            }
        }
        required
    }

    /// Names separated by commas.
    ///
    /// # Errors
    /// [`BlobError::Requires`] the first that this crate does not know.
    pub(super) fn parse(names: &str) -> Result<Self, BlobError> {
        let mut required = Self::default();
        // A set of one: where a single character is searched for, the compiler sees a panic it cannot rule out.
        for name in names.split([',']).filter(|name| !name.is_empty()) {
            let mut all = Needs::ALL.iter();
            match all.find(|needs| needs.is_known() && needs.name() == name) {
                Some(&needs) => required.add(needs),
                None => return Err(BlobError::Requires(Feature::first_of(name))),
            }
        }
        Ok(required)
    }

    pub(super) const fn has(self, needs: Needs) -> bool {
        self.0 >> (needs as u32) & 1 == 1
    }

    const fn add(&mut self, needs: Needs) {
        self.0 |= 1 << (needs as u32);
    }

    /// Each name, with a comma before all but the first.
    #[cfg(any(test, feature = "emit"))]
    pub(super) fn names(self) -> impl Iterator<Item = [&'static str; 2]> {
        let named = Needs::ALL.into_iter().filter(move |&needs| self.has(needs));
        (0..)
            .zip(named)
            .map(|(i, needs)| [if i > 0 { "," } else { "" }, needs.name()])
    }
}
