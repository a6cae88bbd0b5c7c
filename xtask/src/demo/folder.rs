//! The demo's folder: an earlier demo's is replaced, anything else is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// In every folder that the demo made, from the start, so that an interrupted demo's is recognized as well.
const MARKER: &str = ".made-by-xtask-demo";

/// An empty folder at `path`.
///
/// # Errors
/// If something else is there and `force` does not allow to replace it, or the file system refuses.
pub fn make(path: &Path, force: bool) -> Result<PathBuf> {
    if path.exists() {
        ensure!(
            force || path.join(MARKER).exists(),
            "{} holds something else than a demo; move it away, or replace it with --force",
            path.display()
        );
        eprintln!("demo: replacing what is in {}", path.display());
        fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    fs::write(path.join(MARKER), "")
        .with_context(|| format!("cannot write into {}", path.display()))?;
    Ok(path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demo_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("demo");
        make(&path, false).unwrap();
        fs::write(path.join("result"), "").unwrap();
        make(&path, false).unwrap();
        assert!(!path.join("result").exists(), "an earlier demo is replaced");

        fs::remove_file(path.join(MARKER)).unwrap();
        fs::write(path.join("mine"), "").unwrap();
        let refusal = make(&path, false).unwrap_err().to_string();
        assert!(refusal.contains("holds something else"), "{refusal}");
        assert!(path.join("mine").exists());
        make(&path, true).unwrap();
        assert!(!path.join("mine").exists());
    }
}
