#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
//! The wire between a host and a controller, one definition for both ends.

/// Version of the protocol, in every frame. Ends of different versions refuse each other by it.
pub const VERSION: u8 = 1;
