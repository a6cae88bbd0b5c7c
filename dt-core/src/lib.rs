#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
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
#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! From the outside in:
//!
//! - [`Blob`] checks a policy file and borrows everything from it ([`blob`]);
//! - [`Policy`] turns observations into actions and keeps track of the return-to-go ([`policy`]);
//! - [`Guard`] stands between policy and actuators and latches a safe action ([`guard`]);
//! - [`golden`] is the self-test: what was computed at export must come out to the bit;
//! - [`Error`] is any error of these, for `?`;
//! - [`Engine`] is the network alone, in normalized units ([`engine`]);
//! - [`config`] is what a policy file says of its network, dimensions above all;
//! - [`probe`] tells a cycle counter where a control step spends its time;
//! - [`unstable`] is what lies below: rounding, float and integer arithmetic, the network's tensors.

#[cfg(target_endian = "big")]
compile_error!("policy files are little-endian and used in place");

mod arena;
mod attention;
pub mod blob;
mod cache;
mod chacha;
mod choice;
pub mod config;
mod cost;
mod encoder;
pub mod engine;
mod error;
#[cfg(test)]
mod fixture;
pub mod golden;
pub mod guard;
mod int4;
mod kernels;
mod linear;
mod model;
mod ops;
pub mod policy;
pub mod probe;
mod quant;
mod slices;
mod tensors;
pub mod unstable;
mod window;

pub use blob::{Blob, BlobError};
pub use config::Config;
pub use engine::{ArenaTooSmall, Engine};
pub use error::Error;
pub use golden::SelfTestError;
pub use guard::{Command, Fault, Guard};
pub use policy::{ActError, Policy};
pub use quant::NonFinite;

/// A policy file in the program's own image, as `&'static [u8]` at an address that [`Blob::parse`] accepts. The path is
/// relative to the source file, as with `include_bytes!`.
///
/// ```
/// static POLICY: &[u8] = dt_core::include_policy!("../examples/pendulum.dtb");
/// assert!(dt_core::Blob::parse(POLICY).is_ok());
/// ```
#[macro_export]
macro_rules! include_policy {
    ($path:expr $(,)?) => {{
        #[repr(C, align(16))]
        struct Aligned<T: ?Sized>(T);
        const FILE: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &FILE.0
    }};
}

/// [`include_policy`] relies on it.
const _: () = assert!(blob::ALIGNMENT == 16);
