//! Controllers at the other end of a wire: real boards, and emulated ones, that run `dt-device`.
//!
//! - [`Place`] says where one is; [`Connection`] is the wire to it ([`wire`]), which for an emulated board also runs the
//!   emulator ([`qemu`], [`pico`]).
//! - [`Client`] asks and waits for answers, and asks again where none comes ([`client`]).
//! - [`Shared`] and [`Remote`] sit at the controls of a [`rollout`](fn@crate::rollout::rollout): each control step is an
//!   observation sent and an action received, in lock step ([`controller`]).
//! - `monitor` (feature of that name): what they do, drawn in a terminal.

pub mod client;
pub mod controller;
mod emulator;
#[cfg(feature = "monitor")]
pub mod monitor;
pub mod pico;
pub mod qemu;
pub mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dt_link::{PolicyId, Refusal};

pub use client::{Client, Greeting};
pub use controller::{Remote, RoundTrips, Shared};
pub use wire::{Connection, Place};

/// Why a controller at the other end of a wire cannot be used, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The device or the emulator's socket cannot be opened.
    #[error("cannot open {place}: {source}{hint}")]
    Open {
        /// Where.
        place: String,
        /// Cause.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// The emulator cannot be started, or has ended.
    #[error("{0}")]
    Emulator(String),
    /// There is no image to emulate.
    #[error(
        "--image: there is no {}; build it with `cargo xtask firmware build --bin robot --board {board} --policy F.dtb`, which prints where it lies", image.display()
    )]
    NoImage {
        /// Where it should be.
        image: PathBuf,
        /// The board, as xtask knows it.
        board: &'static str,
    },
    /// The wire failed.
    #[error("{place}: {source}")]
    Wire {
        /// Where.
        place: String,
        /// Cause.
        source: io::Error,
    },
    /// Nobody answers.
    #[error(
        "{place}: no answer to {asked} in {:.0} s; is it the right device, powered, and flashed with the `robot` program of this version?",
        waited.as_secs_f64()
    )]
    Silent {
        /// Where.
        place: String,
        /// What was asked.
        asked: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The other end speaks another version of the protocol.
    #[error(
        "{place}: the board speaks version {version} of the link, this program version {}; flash it with the program of this version",
        dt_link::VERSION
    )]
    Version {
        /// Where.
        place: String,
        /// Its version.
        version: u8,
    },
    /// The device said no.
    #[error("{place}: {asked} was refused: {why}{}", fault_of(why))]
    Refused {
        /// Where.
        place: String,
        /// What was asked.
        asked: &'static str,
        /// Why not.
        why: Refusal,
    },
    /// More numbers than a message of the link holds.
    #[error(
        "{place}: an observation does not fit a message of the link, which holds {} numbers",
        dt_link::MAX_VALUES
    )]
    TooLong {
        /// Where.
        place: String,
    },
    /// The device runs another policy.
    #[error(
        "{place}: the board runs policy {has}, not {expected}; give it this one: `host-sim upload F.dtb serial:DEV`, or for an emulated board `cargo xtask firmware build --bin robot --policy F.dtb`"
    )]
    OtherPolicy {
        /// Where.
        place: String,
        /// In the board.
        has: PolicyId,
        /// The policy file's.
        expected: PolicyId,
    },
    /// No policy in the device has passed its self-test.
    #[error(
        "{place}: no policy in the board has passed its self-test; give it one: `host-sim upload F.dtb serial:DEV`"
    )]
    NoPolicy {
        /// Where.
        place: String,
    },
    /// The image is for another board.
    #[error(
        "the image is for board {has}, not {expected}; build it with `cargo xtask firmware build --bin robot --board {board} --policy F.dtb`"
    )]
    OtherBoard {
        /// The image's.
        has: String,
        /// The emulated one.
        expected: &'static str,
        /// The same, as xtask knows it.
        board: &'static str,
    },
    /// The robot in the device has other dimensions.
    #[error("{place}: the board is for {field} {has}, but the environment has {field} {expected}")]
    Dimensions {
        /// Where.
        place: String,
        /// `state_dim` or `act_dim`.
        field: &'static str,
        /// The board's.
        has: u16,
        /// The environment's.
        expected: usize,
    },
    /// The safe action is out.
    #[error("the board latched a fault in step {step}: {fault}")]
    Fault {
        /// Step of the episode.
        step: u32,
        /// What it said.
        fault: String,
    },
}

/// The fault that a refusal is about, after a colon.
fn fault_of(why: &Refusal) -> String {
    match why {
        Refusal::Disarmed(mode) | Refusal::Faulted(mode) => format!(": {}", in_words(*mode)),
        _ => String::new(),
    }
}

/// A device's mode in words; of a fault its reason alone.
#[must_use]
pub fn in_words(mode: dt_link::Mode) -> String {
    use dt_control::Mode;
    match Mode::from_bytes(mode.0) {
        None => format!("{:02x?}, which this version has no name for", mode.0),
        Some(Mode::Boot) => "booting".into(),
        Some(Mode::SelfTest) => "self-test".into(),
        Some(Mode::Idle) => "idle".into(),
        Some(Mode::Arming { left }) => format!("arming, {left} readings to come"),
        Some(Mode::Armed) => "armed".into(),
        Some(Mode::Running) => "running".into(),
        Some(Mode::Faulted(fault)) => fault.to_string(),
    }
}
