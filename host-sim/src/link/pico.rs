//! The emulated Raspberry Pi Pico, as `cargo xtask firmware pico` runs it.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, absolute};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::LinkError;
use super::emulator::Emulator;

const PROGRAM: &str = "cargo xtask firmware pico";

/// Builds the Pico's program if need be, flashes it with `policy` and boots it; its log goes to stderr. Takes as long as that takes.
///
/// # Errors
/// If this is not the project's folder, or the emulator cannot be started.
pub fn start(policy: &Path) -> Result<(Emulator, UnixStream), LinkError> {
    if !Path::new("xtask/Cargo.toml").is_file() {
        return Err(LinkError::Emulator(format!(
            "--controller pico runs `{PROGRAM}`, for which this has to be the project's folder; elsewhere start that yourself and give its socket as --controller serial:SOCKET"
        )));
    }
    let failed =
        |what: &str, error: std::io::Error| LinkError::Emulator(format!("{what}: {error}"));
    let folder = tempfile::tempdir().map_err(|error| failed("a folder for the socket", error))?;
    let socket = folder.path().join("uart");
    let policy = absolute(policy).map_err(|error| failed("the policy's path", error))?;
    let child = Command::new("cargo")
        .args(["--quiet", "xtask", "firmware", "pico", "--policy"])
        .arg(policy)
        .arg("--serial")
        .arg(&socket)
        .stdin(Stdio::null())
        // Results have stdout to themselves.
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(PROGRAM, error))?;
    let mut emulator = Emulator::new(PROGRAM, child, folder).leading();
    loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => return Ok((emulator, stream)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(failed("the emulator's socket", error)),
        }
        if let Some(ended) = emulator.ended() {
            return Err(ended);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
