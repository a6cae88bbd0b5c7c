//! Environments and the rollout loop shared by training, simulation and firmware.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
pub mod atomic;
#[cfg(feature = "std")]
pub mod controller;
pub mod env;
pub mod pendulum;
#[cfg(feature = "std")]
pub mod policy_file;
#[cfg(feature = "std")]
pub mod progress;
#[cfg(feature = "std")]
pub mod registry;
#[cfg(feature = "std")]
pub mod replay;
#[cfg(feature = "std")]
pub mod report;
pub mod rollout;
pub mod trace;

pub use env::{Env, EnvSpec, Step};
#[cfg(feature = "std")]
pub use registry::{MakeError, make, make_reference, maker};
