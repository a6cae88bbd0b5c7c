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
//! A `no_std`, no-alloc Decision Transformer that runs a policy file in place from flash.

#[cfg(target_endian = "big")]
compile_error!("policy files are little-endian and used in place");

mod arena;
mod attention;
pub mod blob;
mod cache;
pub mod config;
pub mod engine;
#[cfg(test)]
mod fixture;
pub mod golden;
pub mod guard;
pub mod kernels;
pub mod model;
pub mod ops;
pub mod policy;
pub mod quant;
mod slices;
mod window;

pub use blob::{Blob, BlobError};
pub use config::Config;
pub use engine::{ArenaTooSmall, Engine};
pub use golden::SelfTestError;
pub use guard::{Command, Fault, Guard};
pub use policy::{ActError, Policy};
