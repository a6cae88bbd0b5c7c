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
//! - [`board`]: what it asks of a board.

pub mod blackbox;
pub mod board;
pub mod session;

pub use board::{History, Indicator, Port, Sleep, Updates};
pub use session::{Device, Loaded, Next, Wire};
