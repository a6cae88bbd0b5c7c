//! The process of an emulator.

use std::process::{Child, Command};

use tempfile::TempDir;

use super::LinkError;

/// A running emulator; ends with this value.
pub struct Emulator {
    program: &'static str,
    child: Child,
    /// It leads a process group, whose other members end with it.
    leads: bool,
    /// Its socket's.
    _folder: TempDir,
}

impl Emulator {
    /// A process, and the folder of its socket.
    pub(super) const fn new(program: &'static str, child: Child, folder: TempDir) -> Self {
        Self {
            program,
            child,
            leads: false,
            _folder: folder,
        }
    }

    /// The same of one that was started as the leader of a process group.
    pub(super) const fn leading(mut self) -> Self {
        self.leads = true;
        self
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<LinkError> {
        let status = self.child.try_wait().ok().flatten()?;
        let program = self.program;
        Some(LinkError::Emulator(format!(
            "the emulated board has stopped ({program}: {status}); `cargo xtask firmware run` shows an image's log"
        )))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        if self.leads {
            let group = format!("-{}", self.child.id());
            let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
