//! Loading models: versions, files, MuJoCo's own messages.

use std::path::{Path, PathBuf};
use std::sync::Once;

use mujoco_rs::prelude::{MjLogMessage, MjModel, MjModelError, MjtLogLevel, set_log_handler};

/// The MuJoCo this program is made for; parity with Gymnasium to the bit holds for the same version only.
pub const VERSION: &str = "3.17.0";

/// Where set-up's Gymnasium keeps its model files.
const INSTALLED: Option<&str> = option_env!("GYMNASIUM_ASSETS");

/// Why a MuJoCo environment cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The description cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The description is not what [`description`](super::description) specifies.
    #[error("{file}: {cause}")]
    Toml {
        /// The file, or the name of a built-in task.
        file: String,
        /// What is wrong, with its line.
        cause: toml::de::Error,
    },
    /// A value of the description makes no sense.
    #[error("{file}: {field}: {problem}")]
    Value {
        /// The file, or the name of a built-in task.
        file: String,
        /// Which field.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// There is no such model file.
    #[error("there is no model file {path}; {remedy}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// MuJoCo refuses the model.
    #[error("{path}: {problem}")]
    Mjcf {
        /// The file.
        path: PathBuf,
        /// What MuJoCo said.
        problem: String,
    },
    /// The library found is another version.
    #[error(
        "this program needs MuJoCo {VERSION} but found {found}; run `cargo xtask setup` and build it again"
    )]
    Version {
        /// Its version.
        found: String,
    },
}

/// The folder with Gymnasium's model files.
///
/// # Errors
/// [`LoadError::Missing`] if neither `--assets` nor set-up says where they are.
pub fn assets(given: Option<&Path>) -> Result<PathBuf, LoadError> {
    let installed = || INSTALLED.map(PathBuf::from);
    given
        .map(Path::to_owned)
        .or_else(installed)
        .ok_or(LoadError::Missing {
            path: PathBuf::from("(Gymnasium's assets)"),
            remedy: REMEDY,
        })
}

/// What to do about missing model files of Gymnasium.
pub const REMEDY: &str = "run `cargo xtask setup`, which installs Gymnasium's model files, or name their folder with --assets DIR";

/// Loads an MJCF file.
///
/// # Errors
/// [`LoadError::Missing`] with `remedy`, [`LoadError::Mjcf`] or [`LoadError::Version`].
pub fn load(path: &Path, remedy: &'static str) -> Result<MjModel, LoadError> {
    prepare()?;
    let path = path.to_owned();
    if !path.is_file() {
        return Err(LoadError::Missing { path, remedy });
    }
    MjModel::from_xml(&path).map_err(|error| refused(path, error))
}

/// Loads MJCF text; `name` stands for it in errors.
///
/// # Errors
/// [`LoadError::Mjcf`] or [`LoadError::Version`].
pub fn from_text(name: &str, text: &str) -> Result<MjModel, LoadError> {
    prepare()?;
    MjModel::from_xml_string(text).map_err(|error| refused(name.into(), error))
}

fn refused(path: PathBuf, error: MjModelError) -> LoadError {
    let problem = match error {
        MjModelError::LoadFailed(message) => message.trim().replace('\n', "; "),
        other => other.to_string(),
    };
    LoadError::Mjcf { path, problem }
}

/// Before anything else is asked of MuJoCo.
fn prepare() -> Result<(), LoadError> {
    check_version(mujoco_rs::mujoco_version())?;
    keep_quiet();
    Ok(())
}

fn check_version(found: &str) -> Result<(), LoadError> {
    if found == VERSION {
        Ok(())
    } else {
        Err(LoadError::Version {
            found: found.to_owned(),
        })
    }
}

/// Keeps MuJoCo from writing `MUJOCO_LOG.TXT` and to the terminal: warnings of the simulation are read from its counters.
#[expect(unsafe_code, reason = "the handler is a global variable of MuJoCo")]
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: no other thread uses MuJoCo yet. Whatever uses it here needs a model first, models come from `load`
        // only, and `load` waits for this call.
        unsafe { set_log_handler(report_errors) };
    });
}

/// MuJoCo ends the process after an error, so its reason has to be told here.
fn report_errors(message: &MjLogMessage) {
    if message.level() == MjtLogLevel::mjLOG_ERROR {
        eprintln!("error: MuJoCo: {}", message.subject());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_by_number() {
        check_version(mujoco_rs::mujoco_version()).unwrap();
        let message = check_version("3.3.2").unwrap_err().to_string();
        assert_eq!(
            message,
            "this program needs MuJoCo 3.17.0 but found 3.3.2; run `cargo xtask setup` and build it again"
        );
    }
}
