//! Policy files on the host: aligned bytes that hold a checked policy.

use std::path::{Path, PathBuf};

use dt_core::blob::{Blob, BlobError, EmitError, Manifest, Parameters, Vectors};
use dt_core::blob::{emit, emitted_len};

/// A policy file in memory, checked once.
#[derive(Clone)]
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
    #[error("{path}: {error}")]
    Blob {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: BlobError,
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
        let len = Blob::parse(file.bytes())?.len;
        file.len = len;
        Ok(file)
    }

    /// Writes a policy to memory; the arguments are those of [`dt_core::blob::emit`].
    ///
    /// # Errors
    /// Whatever [`dt_core::blob::emit`] finds.
    pub fn emit(
        manifest: &Manifest<'_>,
        vectors: &Vectors<'_>,
        parameters: &Parameters<'_>,
        golden: &[f32],
    ) -> Result<Self, EmitError> {
        let mut file = Self::zeroed(emitted_len(manifest)?);
        emit(manifest, vectors, parameters, golden, file.bytes_mut())?;
        Ok(file)
    }

    /// The policy, borrowed from this file.
    pub fn blob(&self) -> Blob<'_> {
        Blob::parse(self.bytes()).expect("checked when the file was made")
    }

    /// The file's bytes, 16-byte aligned.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
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

#[cfg(test)]
mod tests {
    use super::*;

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
