//! Where a recipe comes from: shipped ones by name, files, and what they extend.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{ConfigError, syntax};

/// Where a recipe comes from.
///
/// One may begin with `extends = "gym-short"`: it is then that recipe but for the keys it has itself. A shipped recipe's
/// name, or a file, from the folder of the one that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// One that is shipped, by name.
    Shipped(&'static str, &'static str),
}

/// The key that names the recipe that one is but for its own keys.
const EXTENDS: &str = "extends";

/// Recipes by name: those of the folder `configs`.
pub(super) const SHIPPED: [(&str, &str); 15] = [
    ("default", include_str!("../../configs/default.toml")),
    ("paper", include_str!("../../configs/paper.toml")),
    ("gym-short", include_str!("../../configs/gym-short.toml")),
    ("bc", include_str!("../../configs/bc.toml")),
    ("td3bc", include_str!("../../configs/td3bc.toml")),
    ("iql", include_str!("../../configs/iql.toml")),
    ("awr", include_str!("../../configs/awr.toml")),
    ("cql", include_str!("../../configs/cql.toml")),
    ("pendulum", include_str!("../../configs/pendulum.toml")),
    ("cartpole", include_str!("../../configs/cartpole.toml")),
    ("graph", include_str!("../../configs/graph.toml")),
    (
        "key-to-door",
        include_str!("../../configs/key-to-door.toml"),
    ),
    ("minatar", include_str!("../../configs/minatar.toml")),
    ("atari", include_str!("../../configs/atari.toml")),
    (
        "atari-paper",
        include_str!("../../configs/atari-paper.toml"),
    ),
];

impl Source {
    /// What a recipe of algorithm `name` begins with: the shipped recipe of that name, if there is one.
    pub(super) fn of_algorithm(name: &str) -> Option<Self> {
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        shipped.map(|&(name, text)| Self::Shipped(name, text))
    }

    /// What `--config` says: a shipped recipe's name, or else a file.
    pub fn new(name: &Path) -> Self {
        let shipped = SHIPPED
            .iter()
            .find(|(shipped, _)| Path::new(shipped) == name);
        match shipped {
            Some(&(name, text)) => Self::Shipped(name, text),
            None => Self::File(name.to_owned()),
        }
    }

    /// This recipe's table after those that it extends, each with where it comes from.
    pub(super) fn layers(&self) -> Result<Vec<(String, toml::Table)>, ConfigError> {
        let mut chain = vec![self.clone()];
        let mut layers = Vec::new();
        loop {
            let source = &chain[chain.len() - 1];
            let mut table = source.read()?;
            let extends = table.remove(EXTENDS);
            layers.insert(0, (source.to_string(), table));
            let Some(extends) = extends else {
                return Ok(layers);
            };
            let refuse = |message: String| ConfigError::Value {
                origin: source.to_string(),
                key: EXTENDS.to_owned(),
                message,
            };
            let Some(name) = extends.as_str() else {
                return Err(refuse(format!(
                    "is {extends}; it names a recipe, such as \"gym-short\""
                )));
            };
            let base = match (Self::new(Path::new(name)), source) {
                (Self::File(path), Self::File(this)) => {
                    Self::File(this.parent().unwrap_or(Path::new("")).join(path))
                }
                (base, _) => base,
            };
            // By what they are, since `a.toml` and `./a.toml` are one.
            if chain.iter().any(|earlier| earlier.is(&base)) {
                let names: Vec<_> = chain.iter().map(ToString::to_string).collect();
                return Err(refuse(format!(
                    "is {extends}, which leads back here: {}, {base}",
                    names.join(", ")
                )));
            }
            chain.push(base);
        }
    }

    /// Whether both are the same recipe.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => {
                let place = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
                place(one) == place(other)
            }
            _ => self == other,
        }
    }

    fn read(&self) -> Result<toml::Table, ConfigError> {
        let text = match self {
            Self::File(path) => &std::fs::read_to_string(path).map_err(|source| {
                let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
                ConfigError::Read {
                    path: path.clone(),
                    source,
                    shipped: names.join(", "),
                }
            })?,
            Self::Shipped(_, text) => *text,
        };
        text.parse()
            .map_err(|e: toml::de::Error| syntax(&self.to_string(), &e))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Shipped(name, _) => write!(f, "recipe {name}"),
        }
    }
}
