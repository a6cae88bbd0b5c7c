#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]
//! What stands around the control loop in a machine: no hardware, no executor, no allocation.
//!
//! - [`session`]: the device, a control loop at a wire, which every board's main runs.
//! - [`blackbox`]: the last seconds, kept over a fault and a warm reset.
//! - [`slots`]: policies in flash, and which of them runs; [`upload`]: how a new one gets there.
//! - [`board`]: what it asks of a board.

#[cfg(any(test, feature = "emulated"))]
extern crate std;

pub mod blackbox;
pub mod board;
#[cfg(any(test, feature = "emulated"))]
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "runs on a host, in tests"
)]
pub mod nor;
pub mod session;
pub mod slots;
pub mod upload;

pub use board::{History, Indicator, Port, Sleep, Updates};
pub use session::{Device, Loaded, Next, Wire};
pub use upload::Updater;
