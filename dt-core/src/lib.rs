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
pub mod blob;
mod cache;
pub mod config;
pub mod kernels;
pub mod model;
pub mod ops;
pub mod quant;

pub use blob::{Blob, BlobError};
