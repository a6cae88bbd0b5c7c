//! Policy files on the host: aligned bytes that hold a checked policy.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use dt_core::blob::{Blob, BlobError, EmitError, Golden, Manifest, Parameters, Vectors};
use dt_core::blob::{emit, emitted_len};
use dt_core::config::Actions;

use crate::controller::PolicyController;
use crate::env::EnvSpec;
use crate::space::Space;

/// A policy file in memory, checked once.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Words of the alignment that [`Blob::parse`] asks for.
    words: Vec<u128>,
    len: usize,
}

/// Why a file is not a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file cannot be read.
    #[error("cannot read policy {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// It is damaged, of another version, or no policy at all.
    #[error("{path}: {error}; write it again with `dt-train export`")]
    Blob {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: BlobError,
    },
}

/// Why a policy cannot act in an environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvMismatch {
    /// It was trained for another task.
    #[error("the policy was trained for environment `{trained_for}`, not `{env}`")]
    Name {
        /// `env` in its manifest.
        trained_for: String,
        /// The environment asked for.
        env: String,
    },
    /// It reads and gives vectors, and the environment has something else.
    #[error("{0}")]
    Space(String),
    /// It chooses, and the environment has something else to choose from.
    #[error(
        "the policy makes one of {choices} choices, but the actions of environment `{env}` are {actions}"
    )]
    Choices {
        /// The policy's number of choices.
        choices: usize,
        /// The environment asked for.
        env: String,
        /// Its actions.
        actions: String,
    },
    /// A dimension differs.
    #[error("the policy has {field} {policy}, but environment `{env}` has {field} {expected}")]
    Dimension {
        /// `state_dim` or `act_dim`.
        field: &'static str,
        /// The policy's.
        policy: usize,
        /// The environment asked for.
        env: String,
        /// The environment's.
        expected: usize,
    },
}

impl PolicyFile {
    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// [`PolicyFileError`] names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, PolicyFileError> {
        let bytes = std::fs::read(path).map_err(|source| PolicyFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|error| PolicyFileError::Blob {
            path: path.to_owned(),
            error,
        })
    }

    /// Copies `bytes` to aligned memory and checks them; what follows the file is dropped.
    ///
    /// # Errors
    /// Whatever [`Blob::parse`] finds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlobError> {
        let mut file = Self::zeroed(bytes.len());
        file.bytes_mut().copy_from_slice(bytes);
        let len = Blob::parse(file.bytes())?.file_len();
        file.len = len;
        Ok(file)
    }

    /// Writes a policy to memory; the arguments are those of [`dt_core::blob::emit`].
    ///
    /// # Errors
    /// Whatever [`dt_core::blob::emit`] finds.
    pub fn emit<'g>(
        manifest: &Manifest<'_>,
        vectors: &Vectors<'_>,
        parameters: &Parameters<'_>,
        golden: impl Into<Golden<'g>>,
    ) -> Result<Self, EmitError> {
        let mut file = Self::zeroed(emitted_len(manifest)?);
        emit(manifest, vectors, parameters, golden, file.bytes_mut())?;
        Ok(file)
    }

    /// The policy, borrowed from this file. Checks it again, which takes a moment: clone the blob
    /// rather than call this often.
    pub fn blob(&self) -> Blob<'_> {
        Blob::parse(self.bytes()).expect("checked when the file was made")
    }

    /// The file's bytes, 16-byte aligned.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// The CRC field of the file, which identifies it.
    pub fn crc(&self) -> u32 {
        let field: [u8; 4] = std::array::from_fn(|i| self.bytes()[12 + i]);
        u32::from_le_bytes(field)
    }

    /// Whether this policy can act in an environment: the dimensions agree, and so does the name
    /// apart from its version (`hopper-v4` and `hopper` are one task). A policy that names no
    /// environment fits any with its dimensions.
    ///
    /// # Errors
    /// [`EnvMismatch`] names what differs.
    pub fn check_env(&self, spec: &EnvSpec<'_>) -> Result<(), EnvMismatch> {
        let manifest = *self.blob().manifest();
        let config = manifest.config;
        let (state_dim, act_dim) = (config.state_dim as usize, config.act_dim as usize);
        check_env(manifest.env, state_dim, act_dim, config.actions, spec)
    }

    /// A maker of controllers that run this policy, for the workers of a
    /// [`rollout`](fn@crate::rollout::rollout).
    pub fn controllers<'a>(&'a self) -> impl Fn() -> PolicyController<'a> + Sync {
        let blob = self.blob();
        move || PolicyController::new(&blob)
    }

    fn zeroed(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(16)],
            len,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

/// Checks that a policy trained in `trained_for` (empty: unknown) fits an environment. `act_dim` is the length of its
/// actions or, if they are discrete, the number of choices.
///
/// # Errors
/// [`EnvMismatch`] says in what it does not.
pub fn check_env(
    trained_for: &str,
    state_dim: usize,
    act_dim: usize,
    actions: Actions,
    spec: &EnvSpec<'_>,
) -> Result<(), EnvMismatch> {
    let env = spec.id.to_owned();
    let task = |env: &str| unversioned(&bare(env)).to_owned();
    if !trained_for.is_empty() && task(trained_for) != task(spec.id) {
        let trained_for = trained_for.to_owned();
        return Err(EnvMismatch::Name { trained_for, env });
    }
    let no_vectors = |error: crate::space::NotABox<'_>| EnvMismatch::Space(error.to_string());
    if !matches!(spec.observation, Space::Image { .. }) {
        spec.observation_bounds().map_err(no_vectors)?;
    }
    let choices = match spec.action {
        Space::Discrete { n } => Some(n),
        Space::Box { .. } | Space::Image { .. } => None,
    };
    let expected = match actions {
        Actions::Continuous => {
            spec.action_bounds().map_err(no_vectors)?;
            spec.act_dim()
        }
        Actions::Discrete if choices == Some(act_dim) => act_dim,
        Actions::Discrete => {
            return Err(EnvMismatch::Choices {
                choices: act_dim,
                env,
                actions: spec.action.to_string(),
            });
        }
    };
    let dims = [
        ("state_dim", state_dim, spec.state_dim()),
        ("act_dim", act_dim, expected),
    ];
    match dims.into_iter().find(|(_, policy, env)| policy != env) {
        None => Ok(()),
        Some((field, policy, expected)) => Err(EnvMismatch::Dimension {
            field,
            policy,
            env,
            expected,
        }),
    }
}

/// The name of an environment without its version: `hopper` of `hopper-v4`.
#[must_use]
pub fn unversioned(env: &str) -> &str {
    match env.rsplit_once("-v") {
        Some((name, version)) if version.parse::<u32>().is_ok() => name,
        _ => env,
    }
}

/// A name without saying that it is Gymnasium's, and with what arguments: its Hopper is ours, and to see how a policy does
/// with another gravity is what arguments are for.
fn bare(env: &str) -> Cow<'_, str> {
    match env.strip_prefix("gym:") {
        Some(gym) => gym.split('?').next().unwrap_or(gym).to_lowercase().into(),
        None => env.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gymnasiums_is_the_same_task_as_ours_with_whatever_arguments() {
        assert_eq!(unversioned(&bare("gym:Hopper-v5")), unversioned("hopper"));
        let lander = "gym:LunarLander-v3";
        assert_eq!(bare("gym:LunarLander-v3?gravity=-5.0"), bare(lander));
        assert_ne!(bare("gym:Walker2d-v5"), bare("gym:Hopper-v5"));
    }

    #[test]
    fn versions_do_not_make_another_task() {
        assert_eq!(unversioned("hopper-v4"), unversioned("hopper"));
        assert_eq!(unversioned("my-valve"), "my-valve");
    }

    #[test]
    fn a_policy_of_vectors_acts_on_vectors_alone() {
        let spec = EnvSpec {
            id: "graph",
            action: Space::Discrete { n: 3 },
            ..crate::pendulum::SPEC
        };
        let error = check_env("", 3, 1, Actions::Continuous, &spec)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the actions of environment `graph` are Discrete(3);"),
            "{error}"
        );
        let pendulum = &crate::pendulum::SPEC;
        assert_eq!(check_env("", 3, 1, Actions::Continuous, pendulum), Ok(()));

        let chooses = |n, spec| check_env("", 3, n, Actions::Discrete, spec);
        assert_eq!(chooses(3, &spec), Ok(()));
        for (refused, text) in [
            (
                chooses(2, &spec),
                "the policy makes one of 2 choices, but the actions of environment `graph` are Discrete(3)",
            ),
            (
                chooses(1, pendulum),
                "the policy makes one of 1 choices, but the actions of environment `pendulum` are Box(1), -2…2",
            ),
        ] {
            assert_eq!(refused.unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn errors_name_the_file_and_the_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.dtb");
        let message = |path: &Path| PolicyFile::load(path).err().unwrap().to_string();
        assert!(
            message(&path).contains("cannot read policy"),
            "{}",
            message(&path)
        );
        std::fs::write(&path, b"some other file of more than a header's length").unwrap();
        assert!(
            message(&path).contains("policy.dtb: not a policy file"),
            "{}",
            message(&path)
        );
    }
}
