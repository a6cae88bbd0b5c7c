//! `defmt-print`, which turns a controller's log back into text.

use std::path::{Path, PathBuf};

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
        format!(
            "taking defmt-print {VERSION} from PATH, or else compiling it into the cache (1 to 2 minutes)"
        )
    }

    fn is_done(&self) -> Result<bool> {
        Ok(is_right(&program()))
    }

    fn perform(&self) -> Result<()> {
        if let Some(found) = on_path() {
            return symlink(&found, &program());
        }
        let root = cache()?.join(format!("defmt-print-{VERSION}"));
        let installed = root.join("bin/defmt-print");
        if !is_right(&installed) {
            run(cargo()
                .args(["install", "--locked", "--force", "--quiet", "defmt-print"])
                .args(["--version", VERSION, "--root"])
                .arg(&root))?;
        }
        symlink(&installed, &program())
    }
}

fn on_path() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join("defmt-print"))
        .find(|program| is_right(program))
}

fn is_right(program: &Path) -> bool {
    program.exists()
        && output(command(program).arg("--version"))
            .is_ok_and(|text| text.lines().next() == Some(&format!("defmt-print {VERSION}")))
}
