//! A `no_std`, no-alloc Decision Transformer.
#![no_std]
