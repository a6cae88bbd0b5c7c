//! Keys and words of a recipe: dt-core's enums spelled as in TOML, `--set`, unknown keys.

use dt_core::blob::{AtMaxEpLen, BeyondLimits, RewardMode};
use dt_core::config::{Activation, Attention, Head, Math};
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Config, ConfigError};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attention", rename_all = "snake_case")]
pub(super) enum AttentionName {
    Streaming,
    Window,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Activation", rename_all = "snake_case")]
pub(super) enum ActivationName {
    Relu,
    GeluTanh,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Head", rename_all = "snake_case")]
pub(super) enum HeadName {
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
pub(super) mod math_name {
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
pub(super) enum RewardModeName {
    Observed,
    Constant,
    External,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AtMaxEpLen", rename_all = "snake_case")]
pub(super) enum AtMaxEpLenName {
    Saturate,
    Fault,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BeyondLimits", rename_all = "snake_case")]
pub(super) enum BeyondLimitsName {
    Clamp,
    Fault,
}

/// Parses `a.b=value` into nested tables. A value that is not TOML is taken as a string, so that
/// shells need no second pair of quotes.
pub(super) fn parse_setting(origin: &str, setting: &str) -> Result<toml::Table, ConfigError> {
    let Some((key, value)) = setting.split_once('=') else {
        return Err(ConfigError::Syntax {
            origin: origin.to_owned(),
            message: "expected KEY=VALUE, such as train.updates=2000".to_owned(),
        });
    };
    let (key, value) = (key.trim(), value.trim());
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut table = toml::Table::new();
    match key.split_once('.') {
        Some((section, name)) => {
            let inner = toml::Table::from_iter([(name.to_owned(), value)]);
            table.insert(section.to_owned(), toml::Value::Table(inner));
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
    Ok(table)
}

/// Overwrites values of `base` with those of `over`, section by section.
pub(super) fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Refuses the first key that [`Config`] does not have.
pub(super) fn refuse_unknown(origin: &str, table: &toml::Table) -> Result<(), ConfigError> {
    let known = toml::Table::try_from(Config::default()).expect("plain values only");
    let sections: Vec<String> = known.keys().cloned().collect();
    let known = dotted(&known);
    for key in dotted(table) {
        // A section given as a plain value is a type error, reported as such later.
        if known.contains(&key) || sections.contains(&key) {
            continue;
        }
        let nearest = known
            .iter()
            .min_by_key(|candidate| distance(&key, candidate))
            .expect("a recipe has keys");
        return Err(ConfigError::UnknownKey {
            origin: origin.to_owned(),
            nearest: nearest.clone(),
            key,
        });
    }
    Ok(())
}

fn dotted(table: &toml::Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (section, value) in table {
        match value.as_table() {
            Some(inner) if inner.is_empty() => keys.push(section.clone()),
            Some(inner) => keys.extend(inner.keys().map(|key| format!("{section}.{key}"))),
            None => keys.push(section.clone()),
        }
    }
    keys
}

/// Edits between two keys; a forgotten or wrong section counts as one edit.
fn distance(key: &str, candidate: &str) -> usize {
    let whole = strsim::damerau_levenshtein(key, candidate);
    let name = key.rsplit('.').next().unwrap_or(key);
    let candidate_name = candidate.rsplit('.').next().unwrap_or(candidate);
    std::cmp::min(whole, 1 + strsim::damerau_levenshtein(name, candidate_name))
}
