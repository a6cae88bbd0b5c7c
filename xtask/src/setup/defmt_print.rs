//! `defmt-print`, which turns a controller's log back into text.

use std::path::PathBuf;

use anyhow::Result;

use super::{Step, cache, symlink};
use crate::process::{cargo, command, deps, output, run};

const VERSION: &str = "1.2.0";

/// The link that set-up makes.
pub fn program() -> PathBuf {
    deps().join("bin/defmt-print")
}

/// The step that installs it.
pub struct DefmtPrint;

impl Step for DefmtPrint {
    fn name(&self) -> &'static str {
        "defmt-print"
    }

    fn effect(&self) -> String {
        format!("compiling defmt-print {VERSION} into the cache (1 to 2 minutes)")
    }

    fn is_done(&self) -> Result<bool> {
        let link = program();
        Ok(std::fs::read_link(&link)
            .is_ok_and(|target| target == installed_at().unwrap_or_default())
            && link.exists()
            && output(command(&link).arg("--version")).is_ok_and(|text| text.contains(VERSION)))
    }

    fn perform(&self) -> Result<()> {
        let program = installed_at()?;
        if !program.exists() {
            run(cargo()
                .args([
                    "install",
                    "--locked",
                    "--quiet",
                    "defmt-print",
                    "--version",
                    VERSION,
                    "--root",
                ])
                .arg(root()?))?;
        }
        symlink(&program, &self::program())
    }
}

fn root() -> Result<PathBuf> {
    Ok(cache()?.join(format!("defmt-print-{VERSION}")))
}

fn installed_at() -> Result<PathBuf> {
    Ok(root()?.join("bin/defmt-print"))
}
