//! Environments by name.

use crate::env::Env;
use crate::pendulum::{LibmTrig, Pendulum, StdTrig};

/// Names [`make`] accepts.
pub const NAMES: &[&str] = &["pendulum"];

/// Names that are specified but have no implementation yet: the MuJoCo environments.
pub const PLANNED: &[&str] = &[
    "hopper",
    "hopper-v4",
    "hopper-v5",
    "halfcheetah",
    "halfcheetah-v4",
    "halfcheetah-v5",
    "walker2d",
    "walker2d-v4",
    "walker2d-v5",
    "reacher",
    "reacher-v4",
    "reacher-v5",
];

/// Why there is no environment of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// Nobody has heard of it.
    #[error(
        "unknown environment `{name}`{}; known: {}",
        nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default(),
        NAMES.join(", ")
    )]
    Unknown {
        /// The name asked for.
        name: String,
        /// The most similar known name, if one is similar.
        nearest: Option<&'static str>,
    },
    /// One of [`PLANNED`].
    #[error(
        "environment `{name}` is not built yet: MuJoCo environments are to come; known: {}",
        NAMES.join(", ")
    )]
    NotBuilt {
        /// The name asked for.
        name: String,
    },
}

/// Opens an environment for rollouts: its bits are the same on every target.
///
/// # Errors
/// [`MakeError`] lists the known names and suggests the nearest.
pub fn make(name: &str) -> Result<Box<dyn Env>, MakeError> {
    match name {
        "pendulum" => Ok(Box::new(Pendulum::<LibmTrig>::new())),
        _ => Err(unavailable(name)),
    }
}

/// A maker of environments of that name, for the workers of a [`rollout`](fn@crate::rollout::rollout).
///
/// # Errors
/// As [`make`].
pub fn maker(name: &str) -> Result<impl Fn() -> Box<dyn Env> + Sync + use<>, MakeError> {
    make(name)?;
    let name = name.to_owned();
    Ok(move || make(&name).expect("made before"))
}

/// Opens an environment for comparison with Gymnasium: it uses the platform's mathematics, as
/// NumPy does, where that differs in the last bit from the portable one of [`make`].
///
/// # Errors
/// As [`make`].
pub fn make_reference(name: &str) -> Result<Box<dyn Env>, MakeError> {
    match name {
        "pendulum" => Ok(Box::new(Pendulum::<StdTrig>::new())),
        _ => make(name),
    }
}

fn unavailable(name: &str) -> MakeError {
    if PLANNED.contains(&name) {
        let name = name.to_owned();
        return MakeError::NotBuilt { name };
    }
    let lower = name.to_lowercase();
    let similarity = |known: &&str| strsim::jaro_winkler(known, &lower);
    let nearest = NAMES
        .iter()
        .chain(PLANNED)
        .copied()
        .map(|known| (similarity(&known), known))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known);
    let name = name.to_owned();
    MakeError::Unknown { name, nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_opens_under_its_own_id() {
        for name in NAMES {
            assert_eq!(make(name).unwrap().spec().id, *name);
            assert_eq!(make_reference(name).unwrap().spec().id, *name);
        }
    }

    #[test]
    fn errors_say_what_to_type() {
        let message = |name| make(name).err().unwrap().to_string();
        assert_eq!(
            message("Pendulum-v1"),
            "unknown environment `Pendulum-v1`, did you mean `pendulum`?; known: pendulum"
        );
        assert_eq!(
            message("cart"),
            "unknown environment `cart`; known: pendulum"
        );
        assert!(message("hopper-v4").contains("not built yet"));
    }
}
