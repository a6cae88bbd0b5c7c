#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
//! What stands around the control loop in a machine: no hardware, no executor, no allocation.

pub mod board;
