//! Words of a recipe: dt-core's enums spelled as in TOML.

use dt_core::blob::{AtMaxEpLen, BeyondLimits, RewardMode};
use dt_core::config::{Activation, Attention, Head, Math};
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attention", rename_all = "snake_case")]
pub(crate) enum AttentionName {
    Streaming,
    Window,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Activation", rename_all = "snake_case")]
pub(crate) enum ActivationName {
    Relu,
    GeluTanh,
    Gelu,
    Silu,
    Tanh,
}

/// As a recipe spells it.
pub(crate) const fn activation(of: Activation) -> &'static str {
    match of {
        Activation::Relu => "relu",
        Activation::GeluTanh => "gelu_tanh",
        Activation::Gelu => "gelu",
        Activation::Silu => "silu",
        Activation::Tanh => "tanh",
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Head", rename_all = "snake_case")]
pub(crate) enum HeadName {
    Tanh,
    Linear,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MathName {
    Libm,
    Micromath,
    Polynomial,
}

/// As `#[serde(remote)]` would do it if dt-core's list could not grow.
pub(crate) mod math_name {
    use super::*;

    pub fn serialize<S: Serializer>(math: &Math, serializer: S) -> Result<S::Ok, S::Error> {
        let name = match math {
            Math::Libm => MathName::Libm,
            Math::Micromath => MathName::Micromath,
            Math::Polynomial => MathName::Polynomial,
            other => return Err(S::Error::custom(format!("no recipe has {other:?}"))),
        };
        name.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Math, D::Error> {
        Ok(match MathName::deserialize(deserializer)? {
            MathName::Libm => Math::Libm,
            MathName::Micromath => Math::Micromath,
            MathName::Polynomial => Math::Polynomial,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RewardMode", rename_all = "snake_case")]
pub(crate) enum RewardModeName {
    Observed,
    Constant,
    External,
    /// Of policies that ask themselves, which a recipe says elsewhere.
    #[serde(skip)]
    Predicted,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AtMaxEpLen", rename_all = "snake_case")]
pub(crate) enum AtMaxEpLenName {
    Saturate,
    Fault,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BeyondLimits", rename_all = "snake_case")]
pub(crate) enum BeyondLimitsName {
    Clamp,
    Fault,
}
