//! Control-loop images for Cortex-M controllers.
//!
//! - [`board`]: the hardware, behind a trait; the only module that touches registers.
#![cfg_attr(target_os = "none", no_std)]

pub mod board;
