//! The Python environment whose wheels bring libtorch and MuJoCo, and the references that tests compare with.
//!
//! It lies in the user's cache under a name made from what it was asked to hold, so that clones share it and a changed
//! requirement makes a new one. The marker `complete` is written last: a folder without it is the remains of an interrupted run.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Step, cache, symlink};
use crate::process::{command, output, run, succeeds};

const REQUIREMENTS: &str = include_str!("../../python/requirements.txt");

/// The oldest Python for which all pinned wheels exist.
const OLDEST: (u32, u32) = (3, 10);

/// The step that makes the environment.
pub struct Environment;

/// An environment's place in the cache, whether or not it is there yet.
pub struct Installed {
    folder: PathBuf,
    version: (u32, u32),
}

/// Where the environment for this machine's `python3` and our requirements belongs.
///
/// # Errors
/// If there is no `python3`, or too old a one, or no cache folder.
pub fn installed() -> Result<Installed> {
    let version = python_version()?;
    if version < OLDEST {
        let (major, minor) = version;
        bail!(
            "python3 is {major}.{minor}; install Python {}.{} or newer and put it first on PATH",
            OLDEST.0,
            OLDEST.1
        );
    }
    Ok(Installed {
        folder: cache()?.join(key(REQUIREMENTS, version)),
        version,
    })
}

impl Installed {
    /// The environment's own Python.
    pub fn interpreter(&self) -> PathBuf {
        self.folder.join("venv/bin/python")
    }

    /// Where its packages lie.
    pub fn site_packages(&self) -> PathBuf {
        let (major, minor) = self.version;
        self.folder
            .join(format!("venv/lib/python{major}.{minor}/site-packages"))
    }

    /// A folder with `libmujoco.so`; the wheel only has the versioned name, for which `-lmujoco` does not look.
    pub fn mujoco_lib(&self) -> PathBuf {
        self.folder.join("mujoco")
    }

    fn marker(&self) -> PathBuf {
        self.folder.join("complete")
    }

    fn is_complete(&self) -> bool {
        // The second look catches a base Python that has been removed since.
        self.marker().exists() && succeeds(command(self.interpreter()).args(["-I", "-c", ""]))
    }

    fn make(&self) -> Result<()> {
        if self.folder.join("venv").exists() {
            fs::remove_dir_all(self.folder.join("venv"))?;
        }
        // pip keeps finished downloads here, for a next try after an interruption; removed once all is well.
        let downloads = self.folder.join("downloads");
        run(command("python3")
            .args(["-I", "-m", "venv"])
            .arg(self.folder.join("venv")))?;
        let requirements = self.folder.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS)?;
        run(command(self.interpreter())
            .args([
                "-I",
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-input",
                "--no-compile",
            ])
            .args(["--only-binary", ":all:", "--cache-dir"])
            .arg(&downloads)
            .arg("--requirement")
            .arg(&requirements))?;
        self.link_mujoco()?;
        run(command(self.interpreter()).args([
            "-I",
            "-c",
            "import torch, mujoco, gymnasium, stable_baselines3",
        ]))?;
        if downloads.exists() {
            fs::remove_dir_all(&downloads)?;
        }
        fs::write(self.marker(), "")?;
        Ok(())
    }

    fn link_mujoco(&self) -> Result<()> {
        let wheel = self.site_packages().join("mujoco");
        let library = fs::read_dir(&wheel)
            .with_context(|| format!("cannot read {}", wheel.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| file_name(path).starts_with("libmujoco.so."))
            .with_context(|| format!("no libmujoco.so.* in {}", wheel.display()))?;
        symlink(&library, &self.mujoco_lib().join("libmujoco.so"))?;
        // The loader asks for this name.
        symlink(&library, &self.mujoco_lib().join(file_name(&library)))
    }
}

impl Step for Environment {
    fn name(&self) -> &'static str {
        "Python environment"
    }

    fn effect(&self) -> String {
        let place = installed()
            .map(|installed| installed.folder.display().to_string())
            .unwrap_or_default();
        format!(
            "downloading libtorch and MuJoCo as wheels, about 3 GB (5.5 GB unpacked), into {place} (a few minutes)"
        )
    }

    fn is_done(&self) -> Result<bool> {
        Ok(installed()?.is_complete())
    }

    fn perform(&self) -> Result<()> {
        let installed = installed()?;
        fs::create_dir_all(&installed.folder)
            .with_context(|| format!("cannot make {}", installed.folder.display()))?;
        let _lock = lock(&installed.folder.join("lock"))?;
        // Another run may have finished while this one waited.
        if installed.is_complete() {
            Ok(())
        } else {
            installed.make()
        }
    }
}

/// Held until the file is dropped, or the process ends in whatever way.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("setup: another run is making the same environment; waiting for it");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}

pub(super) fn python_version() -> Result<(u32, u32)> {
    let printed =
        output(command("python3").args(["-I", "-c", "import sys; print(*sys.version_info[:2])"]))?;
    let mut numbers = printed.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("python3 gives `{}` as its version", printed.trim()),
    }
}

/// A folder name from everything that decides what is in the environment.
pub(super) fn key(requirements: &str, (major, minor): (u32, u32)) -> String {
    let hash = fnv1a(requirements.as_bytes());
    format!(
        "python{major}.{minor}-{}-{hash:016x}",
        std::env::consts::ARCH
    )
}

/// FNV-1a, 64 bits: short, and the same for every build of this program, unlike the standard library's hashers.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_matches_its_published_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn another_requirement_or_python_is_another_environment() {
        let key_of = |text, minor| key(text, (3, minor));
        assert_eq!(key_of("torch==2.11.0", 11), key_of("torch==2.11.0", 11));
        assert_ne!(key_of("torch==2.11.0", 11), key_of("torch==2.11.1", 11));
        assert_ne!(key_of("torch==2.11.0", 11), key_of("torch==2.11.0", 12));
    }

    #[test]
    fn every_requirement_is_pinned() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            assert!(line.contains("=="), "{line}");
        }
    }
}
