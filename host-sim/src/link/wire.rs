//! Wires to boards.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::emulator::Emulator;
use super::qemu::{self, Machine};
use super::{LinkError, pico};

/// Baud rate where none is given.
const BAUD: u32 = 921_600;

/// Where a controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `qemu`, `qemu:BOARD`: an emulated board, which runs an image.
    Qemu {
        /// The board.
        machine: Machine,
        /// The image; by default where cargo leaves it.
        image: Option<PathBuf>,
    },
    /// `pico`: an emulated Raspberry Pi Pico, which boots what a user flashes.
    Pico {
        /// The policy file to flash.
        policy: PathBuf,
    },
    /// `serial:DEV`, `serial:DEV@BAUD`: a serial device, a pseudo-terminal or a Unix socket.
    Serial {
        /// Its path.
        device: PathBuf,
        /// Its speed; of no meaning for USB and sockets.
        baud: u32,
    },
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("qemu", board) => Ok(Self::Qemu {
                machine: match board {
                    "" => Machine::default(),
                    _ => board.parse()?,
                },
                image: None,
            }),
            ("pico", "") => Ok(Self::Pico {
                policy: PathBuf::new(),
            }),
            ("serial", device) if !device.is_empty() => {
                let (device, baud) = match device.rsplit_once('@') {
                    None => (device, BAUD),
                    Some((device, baud)) => {
                        let wrong =
                            |_| format!("`{baud}` is no baud rate; write e.g. {device}@115200");
                        (device, baud.parse().map_err(wrong)?)
                    }
                };
                Ok(Self::Serial {
                    device: device.into(),
                    baud,
                })
            }
            _ => Err("expected qemu, qemu:BOARD, pico or serial:DEV".into()),
        }
    }
}

impl Place {
    /// As [`FromStr`], but a path alone is a serial device.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(text: &str) -> Result<Self, String> {
        match text.split_once(':').map_or(text, |(kind, _)| kind) {
            "qemu" | "pico" | "serial" => text.parse(),
            _ => format!("serial:{text}").parse(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qemu { machine, .. } => write!(f, "qemu:{}", machine.name()),
            Self::Pico { .. } => f.write_str("pico"),
            Self::Serial { device, .. } => write!(f, "{}", device.display()),
        }
    }
}

/// Bytes to and from a board.
trait Wire: Read + Write + Send {
    /// How long a `read` waits for the first byte.
    fn set_patience(&mut self, patience: Duration) -> io::Result<()>;
}

impl Wire for UnixStream {
    fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))
    }
}

impl Wire for Box<dyn serialport::SerialPort> {
    fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        Ok(self.set_timeout(patience)?)
    }
}

/// An open wire, and the emulator at its other end where there is one.
pub struct Connection {
    wire: Box<dyn Wire>,
    place: Place,
    emulator: Option<Emulator>,
}

impl Connection {
    /// Opens the device, or starts the emulator.
    ///
    /// # Errors
    /// [`LinkError`] says what to do about it.
    pub fn open(place: &Place) -> Result<Self, LinkError> {
        let (wire, emulator): (Box<dyn Wire>, _) = match place {
            Place::Qemu { machine, image } => {
                let (emulator, stream) = qemu::start(*machine, image.as_deref())?;
                (Box::new(stream), Some(emulator))
            }
            Place::Pico { policy } => {
                let (emulator, stream) = pico::start(policy)?;
                (Box::new(stream), Some(emulator))
            }
            Place::Serial { device, baud } => (serial(device, *baud)?, None),
        };
        Ok(Self {
            wire,
            place: place.clone(),
            emulator,
        })
    }

    /// A wire of one's own making, e.g. to a simulated device.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        Self {
            wire: Box::new(stream),
            place: Place::Serial {
                device: "a socket".into(),
                baud: BAUD,
            },
            emulator: None,
        }
    }

    /// Where it leads.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// [`LinkError::Wire`], or how the emulator has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let sent = self.wire.write_all(bytes).and_then(|()| self.wire.flush());
        sent.map_err(|source| self.broken(source))
    }

    /// Bytes that have come, or come within `patience`; none after it.
    ///
    /// # Errors
    /// [`LinkError::Wire`], or how the emulator has ended.
    pub fn receive<'b>(
        &mut self,
        buffer: &'b mut [u8],
        patience: Duration,
    ) -> Result<&'b [u8], LinkError> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        // A patience of zero would mean for ever.
        let patience = patience.max(Duration::from_millis(1));
        let received = self.wire.set_patience(patience);
        match received.and_then(|()| self.wire.read(buffer)) {
            Ok(0) => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => Ok(&buffer[..len]),
            Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => Ok(&[]),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&mut self, source: io::Error) -> LinkError {
        if let Some(ended) = self.emulator.as_mut().and_then(Emulator::ended) {
            return ended;
        }
        let place = self.place.to_string();
        LinkError::Wire { place, source }
    }
}

fn serial(device: &Path, baud: u32) -> Result<Box<dyn Wire>, LinkError> {
    let failed = |source: io::Error| LinkError::Open {
        place: device.display().to_string(),
        hint: match source.kind() {
            io::ErrorKind::NotFound => {
                "; connect the board, and see `ls /dev/ttyACM* /dev/ttyUSB*`"
            }
            io::ErrorKind::PermissionDenied => {
                "; add yourself to the device's group: `sudo usermod -aG dialout $USER`, and log in again"
            }
            _ => "",
        },
        source,
    };
    let kind = device.metadata().map_err(failed)?.file_type();
    if kind.is_socket() {
        return Ok(Box::new(UnixStream::connect(device).map_err(failed)?));
    }
    let port = serialport::new(device.to_string_lossy(), baud).open();
    Ok(Box::new(port.map_err(|error| failed(error.into()))?))
}
