//! Output files: never overwritten by accident, never half-written.
//!
//! A file is written under a temporary name in its own folder and renamed when it is complete, so that a killed
//! process leaves either the old file or the new one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Why an output file was not written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The output is there already.
    #[error("{0} already exists; choose another name or pass --force to replace it")]
    Exists(PathBuf),
    /// Its folder is not there.
    #[error("cannot write {path}: the folder {folder} does not exist; create it first")]
    NoFolder {
        /// The output.
        path: PathBuf,
        /// The missing folder.
        folder: PathBuf,
    },
    /// The output names a folder.
    #[error("cannot write {0}: it is a folder; name a file")]
    IsFolder(PathBuf),
    /// The file system refused.
    #[error("cannot write {path}")]
    Io {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OutputError {
    /// What the system said of `path`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}

/// Refuses a `path` that could not be written later, before any work is done for it.
///
/// # Errors
/// The file exists and `force` is not given, it is a folder, or its folder does not exist.
pub fn check(path: &Path, force: bool) -> Result<(), OutputError> {
    let folder = folder(path);
    if path.is_dir() {
        Err(OutputError::IsFolder(path.into()))
    } else if !folder.is_dir() {
        Err(OutputError::NoFolder {
            path: path.into(),
            folder: folder.into(),
        })
    } else if path.exists() && !force {
        Err(OutputError::Exists(path.into()))
    } else {
        Ok(())
    }
}

/// Writes `bytes` to `path`.
///
/// # Errors
/// As [`check`], and when the file system refuses; `path` is then as it was before.
pub fn write(path: &Path, force: bool, bytes: &[u8]) -> Result<(), OutputError> {
    let mut staged = Staged::new(path, force)?;
    staged
        .file()
        .write_all(bytes)
        .map_err(OutputError::io(path))?;
    staged.commit()
}

/// A file that is still being written; dropped without [`commit`](Self::commit), it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    temporary: NamedTempFile,
    path: PathBuf,
    force: bool,
}

impl Staged {
    /// Opens a temporary file in the folder of `path`.
    ///
    /// # Errors
    /// As [`check`], and when the file system refuses.
    pub fn new(path: &Path, force: bool) -> Result<Self, OutputError> {
        check(path, force)?;
        let temporary = tempfile::Builder::new()
            .prefix(".writing-")
            .permissions(permissions())
            .tempfile_in(folder(path))
            .map_err(OutputError::io(path))?;
        Ok(Self {
            temporary,
            path: path.into(),
            force,
        })
    }

    /// The open temporary file.
    pub fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Its present name, for libraries that open files themselves.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Flushes the file to the disk and gives it its final name.
    ///
    /// # Errors
    /// The file system refuses, or (without `force`) another process wrote the file meanwhile.
    pub fn commit(self) -> Result<(), OutputError> {
        let Self {
            temporary,
            path,
            force,
        } = self;
        let io = |source| OutputError::Io {
            path: path.clone(),
            source,
        };
        temporary.as_file().sync_all().map_err(io)?;
        if force {
            temporary.persist(&path).map_err(|error| io(error.error))?;
        } else {
            temporary
                .persist_noclobber(&path)
                .map_err(|error| match error.error.kind() {
                    io::ErrorKind::AlreadyExists => OutputError::Exists(path.clone()),
                    _ => io(error.error),
                })?;
        }
        Ok(())
    }
}

/// Temporary files are private by default; outputs get the permissions any new file gets.
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write(&path, false, b"first").unwrap();
        assert!(matches!(
            write(&path, false, b"second"),
            Err(OutputError::Exists(_))
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        write(&path, true, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn an_abandoned_file_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut staged = Staged::new(&folder.path().join("out"), false).unwrap();
        staged.file().write_all(b"half").unwrap();
        drop(staged);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let staged = Staged::new(&path, false).unwrap();
        std::fs::write(&path, b"theirs").unwrap();
        assert!(matches!(staged.commit(), Err(OutputError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    }

    #[test]
    fn folders_are_named_in_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            check(folder.path(), true),
            Err(OutputError::IsFolder(_))
        ));
        let missing = folder.path().join("no/out");
        let message = check(&missing, false).unwrap_err().to_string();
        assert!(message.contains("/no does not exist"), "{message}");
    }
}
