//! `.deps`: stable names inside the project for what lies in the cache, so that nothing has to be exported by hand.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Step, python, symlink};
use crate::process::deps;

/// `.deps/torch`, `.deps/mujoco`, `.deps/gymnasium-assets` and `.deps/python`.
pub struct Links;

impl Step for Links {
    fn name(&self) -> &'static str {
        "links"
    }

    fn effect(&self) -> String {
        "making .deps/torch, .deps/mujoco, .deps/gymnasium-assets and .deps/python".into()
    }

    fn is_done(&self) -> Result<bool> {
        let links_stand = links()?.iter().all(|(link, target)| {
            fs::read_link(link).is_ok_and(|is| is == *target) && target.exists()
        });
        Ok(links_stand
            && fs::read_to_string(deps().join("python"))
                .is_ok_and(|script| Some(script) == launcher().ok()))
    }

    fn perform(&self) -> Result<()> {
        for (link, target) in links()? {
            symlink(&target, &link)?;
        }
        write_launcher()
    }
}

fn links() -> Result<[(PathBuf, PathBuf); 3]> {
    let installed = python::installed()?;
    Ok([
        (
            deps().join("torch"),
            installed.site_packages().join("torch"),
        ),
        (deps().join("mujoco"), installed.mujoco_lib()),
        (
            deps().join("gymnasium-assets"),
            installed
                .site_packages()
                .join("gymnasium/envs/mujoco/assets"),
        ),
    ])
}

/// Not a link: Python looks for its environment beside the name it was started by.
fn launcher() -> Result<String> {
    let interpreter = python::installed()?.interpreter();
    let quoted = interpreter
        .to_str()
        .context("the cache folder's name is not UTF-8")?
        .replace('\'', r"'\''");
    Ok(format!("#!/bin/sh\nexec '{quoted}' \"$@\"\n"))
}

fn write_launcher() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = deps().join("python");
    let temporary = deps().join(format!("python.new-{}", std::process::id()));
    fs::write(&temporary, launcher()?)
        .and_then(|()| fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&temporary, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}
