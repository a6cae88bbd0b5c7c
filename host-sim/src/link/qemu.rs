//! QEMU's boards with the image on them.

use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use super::LinkError;
use super::emulator::Emulator;

const PROGRAM: &str = "qemu-system-arm";

/// How long the emulator may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// An emulated board with a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// Cortex-M4F.
    #[default]
    M4f,
    /// Cortex-M7.
    M7,
    /// Cortex-M3.
    M3,
    /// Code for a Cortex-M0+, run by the M3.
    M0plus,
    /// Cortex-M33.
    M33,
    /// Cortex-M55.
    M55,
}

/// All of them.
const MACHINES: [Machine; 6] = [
    Machine::M4f,
    Machine::M7,
    Machine::M3,
    Machine::M0plus,
    Machine::M33,
    Machine::M55,
];

impl Machine {
    /// As `cargo xtask firmware` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::M4f => "m4f",
            Self::M7 => "m7",
            Self::M3 => "m3",
            Self::M0plus => "m0plus",
            Self::M33 => "m33",
            Self::M55 => "m55",
        }
    }

    /// As QEMU calls it, and the image itself.
    #[must_use]
    pub const fn machine(self) -> &'static str {
        match self {
            Self::M4f => "mps2-an386",
            Self::M7 => "mps2-an500",
            Self::M3 | Self::M0plus => "mps2-an385",
            Self::M33 => "mps2-an505",
            Self::M55 => "mps3-an547",
        }
    }

    /// Whether an image that says it is of `board` is one of this machine.
    ///
    /// # Errors
    /// [`LinkError::OtherBoard`].
    pub fn check(self, board: &str) -> Result<(), LinkError> {
        if board == self.machine() {
            return Ok(());
        }
        Err(LinkError::OtherBoard {
            has: board.to_owned(),
            expected: self.machine(),
            board: self.name(),
        })
    }

    /// The compiler's name for its code.
    const fn target(self) -> &'static str {
        match self {
            Self::M4f | Self::M7 => "thumbv7em-none-eabihf",
            Self::M3 => "thumbv7m-none-eabi",
            Self::M0plus => "thumbv6m-none-eabi",
            Self::M33 | Self::M55 => "thumbv8m.main-none-eabihf",
        }
    }

    /// Where `cargo xtask firmware build --bin robot` leaves the image, from the project's folder.
    #[must_use]
    pub fn image(self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Path::new(&target)
            .join(self.target())
            .join("firmware/robot")
    }
}

impl FromStr for Machine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |machine: &&Machine| [machine.name(), machine.machine()].contains(&text);
        let known = || MACHINES.map(Machine::name).join(", ");
        let found = MACHINES.iter().find(named);
        found.copied().ok_or_else(|| {
            format!(
                "no board `{text}` is emulated with a wire; known: {}",
                known()
            )
        })
    }
}

/// Starts `image` on the board, with its wire connected.
///
/// One instruction takes one nanosecond of the board's time, so that deadlines do not depend on how busy this machine is.
///
/// # Errors
/// If there is no image, or the emulator cannot be started.
pub fn start(machine: Machine, image: Option<&Path>) -> Result<(Emulator, UnixStream), LinkError> {
    let image = image.map_or_else(|| machine.image(), Path::to_owned);
    if !image.is_file() {
        let board = machine.name();
        return Err(LinkError::NoImage { image, board });
    }
    let failed = |what: &str, error: io::Error| LinkError::Emulator(format!("{what}: {error}"));
    let folder = tempfile::tempdir().map_err(|error| failed("a folder for the socket", error))?;
    let socket = folder.path().join("wire");
    let listener = UnixListener::bind(&socket)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| failed("a socket for the emulator", error))?;
    let child = Command::new(PROGRAM)
        .args(["-M", machine.machine(), "-nographic", "-monitor", "none"])
        .args(["-icount", "shift=0"])
        .args(["-semihosting-config", "enable=on,target=native"])
        .arg("-serial")
        .arg(format!("unix:{}", socket.display()))
        .arg("-kernel")
        .arg(&image)
        .stdin(Stdio::null())
        // The image's log is binary.
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => LinkError::Emulator(format!(
                "{PROGRAM} is not installed; on Debian: `sudo apt-get install qemu-system-arm`"
            )),
            _ => failed(PROGRAM, error),
        })?;
    let mut emulator = Emulator::new(PROGRAM, child, folder);
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let blocking = stream.set_nonblocking(false);
                blocking.map_err(|error| failed("the emulator's socket", error))?;
                return Ok((emulator, stream));
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(failed("the emulator's socket", error));
            }
            Err(_) => {}
        }
        if let Some(ended) = emulator.ended() {
            return Err(ended);
        }
        if start.elapsed() > PATIENCE {
            let text = format!("{PROGRAM} did not open its serial line");
            return Err(LinkError::Emulator(text));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
