#![cfg_attr(not(any(test, feature = "std")), no_std)]
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
//! The wire between a host and a controller, one definition for both ends. No allocation, no clock, no hardware:
//! bytes in, messages out. `LINK.md` beside this crate specifies it by the byte.
//!
//! # Map
//!
//! - [`ToDevice`] and [`ToHost`] are the messages, postcard's encoding of these very types ([`message`]).
//! - [`Frame`], [`encode`] and [`Decoder`]: a message between header and CRC, made free of zeros by COBS, with a zero
//!   after it ([`frame`]).
//! - [`Sender`] numbers the frames of a session, [`Receiver`] takes each of them once and in order, and counts what it
//!   refuses ([`session`]).
//! - [`plant`] is another protocol in the same frames, between a host and a simulator in a process of its own
//!   (`PLANT.md`); `stream` (feature `std`) carries it over pipes and sockets, in frames of any length.
//!
//! ```
//! use dt_link::{Direction, MAX_WIRE, Receiver, Sender, ToDevice, Values};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let mut wire = [0; 2 * MAX_WIRE];
//! let mut host = Sender::new(Direction::ToDevice);
//! host.begin(1); // a number that the last session did not have
//! let len = host.encode(&ToDevice::Hello, &mut wire)?;
//! let observation = ToDevice::Observation {
//!     step: 0,
//!     age_us: 150,
//!     reward: None,
//!     return_to_go: None,
//!     values: Values::new(&[-1.0, 0.0, 0.0]),
//! };
//! let len = len + host.encode(&observation, &mut wire[len..])?;
//!
//! let mut device = Receiver::<ToDevice<'static>>::new(Direction::ToDevice);
//! let mut messages = 0;
//! for byte in &wire[..len] {
//!     match device.feed(*byte) {
//!         None => {} // in the middle of a frame
//!         Some(Ok((_, ToDevice::Hello))) => messages += 1,
//!         Some(Ok((_, message))) => {
//!             assert_eq!(message, observation);
//!             messages += 1;
//!         }
//!         Some(Err(refused)) => return Err(refused.into()),
//!     }
//! }
//! assert_eq!(messages, 2);
//! # Ok(())
//! # }
//! ```

#[cfg(target_endian = "big")]
compile_error!("numbers travel as they lie in memory, which is little-endian");

pub mod frame;
pub mod message;
pub mod plant;
pub mod session;
#[cfg(feature = "std")]
pub mod stream;

pub use frame::{
    Decoder, Direction, Frame, FrameError, Header, MAX_FRAME, MAX_MESSAGE, MAX_VALUES, MAX_WIRE,
    TooLong, encode, encode_long,
};
pub use message::{
    Bytes, CHUNK, Cause, Hello, Mode, Pace, PolicyId, Refusal, Seal, Side, ToDevice, ToHost,
    UploadRefusal, Values,
};
pub use session::{Counts, Message, Receiver, Refused, Sender};

/// Version of the protocol, in every frame. Ends of different versions refuse each other by it.
pub const VERSION: u8 = 1;

#[cfg(test)]
mod tests;
