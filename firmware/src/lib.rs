//! Control-loop images for Cortex-M and RISC-V controllers: the policy of `dt-core`, bit for bit as on the host, in the
//! fixed-rate loop of `dt-control`, which fails safe.
//!
//! - [`board`]: the hardware, behind the traits of `dt-control`; the only module that touches registers.
//! - [`simulated`]: a robot for the loop that is a simulated plant.
//! - [`replay`]: recorded episodes fed to the policy.
//! - [`compare`]: differing bits.
//! - [`mod@bench`]: what a control step costs.
//! - `image`: what an image carries, and how it boots; only on a controller.
//! - `spare`: what the emulator leaves for an image; only on a controller.
#![cfg_attr(target_os = "none", no_std)]

pub mod bench;
pub mod board;
pub mod compare;
#[cfg(target_os = "none")]
pub mod image;
pub mod replay;
pub mod simulated;
#[cfg(target_os = "none")]
pub mod spare;
