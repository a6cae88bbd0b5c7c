//! Keys of a recipe: `--set`, older names, unknown ones.

use super::{ConfigError, Sections};
use crate::algo::Entry;

/// The key that names the algorithm.
pub(super) const ALGO: &str = "algo";

/// The section that every network had before algorithms had their own.
const MODEL: &str = "model";

/// Its key for the algorithm: `"transformer"` or `"bc"`.
const KIND: &str = "kind";

/// What was in `[train]`, for all algorithms alike, before.
const FORMERLY_TRAIN: [&str; 6] = [
    "sequence_len",
    "burn_in",
    "start_fraction",
    "best_fraction",
    "best_percent",
    "precision",
];

/// The algorithm that the last of several tables names, by origin; that of the defaults if none does.
pub(super) fn algorithm(layers: &[(String, toml::Table)]) -> Result<String, ConfigError> {
    let mut name = "dt".to_owned();
    for (origin, table) in layers {
        let kind = || table.get(MODEL)?.as_table()?.get(KIND);
        let Some(value) = table.get(ALGO).or_else(kind) else {
            continue;
        };
        match value.as_str() {
            Some("transformer") => "dt".clone_into(&mut name),
            Some(other) => other.clone_into(&mut name),
            None => {
                return Err(ConfigError::Value {
                    origin: origin.clone(),
                    key: ALGO.to_owned(),
                    message: format!("is {value}; it names an algorithm, such as \"dt\""),
                });
            }
        }
    }
    Ok(name)
}

/// The algorithm of that name that learns from data.
///
/// # Errors
/// In words.
pub(super) fn find(registry: &[Entry], name: &str) -> Result<Entry, String> {
    let known = |entry: &&Entry| entry.defaults().is_some();
    match registry.iter().find(|entry| entry.name == name) {
        Some(entry) if known(&entry) => Ok(*entry),
        Some(entry) => Err(format!(
            "{} ({name}) learns in its environment: `dt-train collect --agent {name}`",
            entry.about
        )),
        None => {
            let entries = registry.iter().filter(known);
            let names: Vec<_> = entries
                .map(|entry| format!("\"{}\" ({})", entry.name, entry.about))
                .collect();
            Err(format!(
                "there is no algorithm \"{name}\"; there are {}",
                names.join(", ")
            ))
        }
    }
}

/// Gives keys that have moved their present place, so that older recipes and runs stay readable.
pub(super) fn modernize(table: &mut toml::Table, algorithm: &Entry) {
    let section = algorithm.defaults().unwrap_or_default();
    if let Some(toml::Value::Table(model)) = table.get(MODEL) {
        for (key, value) in model.clone() {
            match key.as_str() {
                KIND => insert(table, ALGO, None, algorithm.name.into()),
                _ if section.contains_key(&key) => {
                    insert(table, algorithm.name, Some(&key), value);
                }
                // Behaviour cloning's recipes had the keys of transformers, too.
                _ => insert(table, "dt", Some(&key), value),
            }
        }
        table.remove(MODEL);
    }
    let Some(toml::Value::Table(train)) = table.get_mut("train") else {
        return;
    };
    let moved: Vec<_> = FORMERLY_TRAIN
        .iter()
        .filter_map(|&key| Some((key, train.remove(key)?)))
        .collect();
    for (key, value) in moved {
        insert(table, "dt", Some(key), value);
    }
}

/// Puts a value at `section.key`, unless there is one.
fn insert(table: &mut toml::Table, section: &str, key: Option<&str>, value: toml::Value) {
    let Some(key) = key else {
        table.entry(section).or_insert(value);
        return;
    };
    let section = table
        .entry(section)
        .or_insert_with(|| toml::Table::new().into());
    if let toml::Value::Table(section) = section {
        section.entry(key).or_insert(value);
    }
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

/// Refuses the first key that no recipe has. Of several that are as near to it, one of `algorithm` is named.
pub(super) fn refuse_unknown(
    origin: &str,
    table: &toml::Table,
    algorithm: &Entry,
    registry: &[Entry],
) -> Result<(), ConfigError> {
    let mut known = toml::Table::try_from(Sections::default()).expect("plain values only");
    for entry in registry {
        if let Some(section) = entry.defaults() {
            known.insert(entry.name.to_owned(), section.into());
        }
    }
    let mut sections: Vec<String> = known.keys().cloned().collect();
    sections.push(ALGO.to_owned());
    let known = dotted(&known);
    for key in dotted(table) {
        // A section given as a plain value is a type error, reported as such later.
        if known.contains(&key) || sections.contains(&key) {
            continue;
        }
        let nearest = known
            .iter()
            .min_by_key(|candidate| {
                let section = candidate.split('.').next();
                (distance(&key, candidate), section != Some(algorithm.name))
            })
            .expect("a recipe has keys");
        return Err(ConfigError::UnknownKey {
            origin: origin.to_owned(),
            nearest: nearest.clone(),
            key,
        });
    }
    Ok(())
}

/// Refuses a setting that would change nothing, because it is another algorithm's.
pub(super) fn refuse_others(
    origin: &str,
    table: &toml::Table,
    algorithm: &Entry,
    registry: &[Entry],
) -> Result<(), ConfigError> {
    let mut others = registry.iter().filter(|other| other.name != algorithm.name);
    let Some(other) = others.find(|other| table.contains_key(other.name)) else {
        return Ok(());
    };
    let key = dotted(table).into_iter().next().unwrap_or_default();
    Err(ConfigError::Value {
        origin: origin.to_owned(),
        key,
        message: format!(
            "is of {}, and this recipe trains {} (algo = \"{}\"), which has no such key",
            other.about, algorithm.about, algorithm.name
        ),
    })
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
