//! Slots for policies in flash: a new one beside the one that runs, and a power cut at any time leaves one that runs.
//!
//! An update erases the slot that does *not* run, its header's block first, writes the policy and then, as the last thing, the
//! header. At boot the newest policy runs whose header, checksum, signature, dimensions and self-test are good. One that has not
//! been *confirmed* is on trial: each boot leaves a mark before it runs, and after [`TRIALS`] marks without a confirmation the older
//! policy is back. `SLOTS.md`, beside this crate's manifest, specifies it by the byte and draws the states.
//!
//! - [`Layout`] says where slots lie and [`parts`] has those of the boards;
//! - [`Boot`] finds the policy to run, [`Slots`] is what the running device has of them;
//! - [`crate::upload`] writes a new one;
//! - [`Fit`] is the robot that policies have to fit, [`Trust`] whose they have to be;
//! - [`Flash`] is what all this asks of a board.
//!
//! ```
//! # #[cfg(feature = "emulated")] {
//! use dt_device::nor::Nor;
//! use dt_device::slots::{Boot, Fit, Trust, parts};
//!
//! # let flash = Nor::<256>::new(&parts::RP2040, 1);
//! const FIT: Fit = Fit { state_dim: 3, action_len: 1, arena_words: 4000 };
//! let mut boot = Boot::new(flash, parts::RP2040, FIT, Trust::Anyone);
//! let mut running = None;
//! while let Some(candidate) = boot.next() {
//!     // The board makes a `&'static [u8]` of candidate.policy, and the control loop runs its self-test:
//!     let passed = candidate.policy.len() > 0;
//!     if passed {
//!         running = Some(candidate);
//!         break;
//!     }
//! }
//! // None: the policy in the image runs.
//! let slots = boot.run(running);
//! assert!(!slots.is_pending());
//! # }
//! ```

mod boot;
mod fit;
mod header;
mod layout;
pub mod parts;
mod seal;
mod store;
#[cfg(test)]
mod tests;

pub use boot::{Boot, Candidate, Reason, Slots};
pub use fit::{Fit, Unfit};
pub use header::{Header, HeaderError, LEN, MAGIC, SIGNED_LEN, Seal, VERSION};
pub use layout::{Blocks, Layout, MAX_HEAD, MAX_UNIT, Region, TRIALS};
pub use seal::{Trust, Untrusted};
#[cfg(feature = "signed")]
pub use seal::{public_key, sign};
pub use store::{Flash, FlashError, Operation};

pub(crate) use layout::{ERASED, Place, round_up};
pub(crate) use seal::Fault;

/// Mistakes that the tests of power cuts have to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The header is written before the policy.
    HeaderFirst,
    /// The header's block is erased last.
    HeaderErasedLast,
    /// The slot that runs is written.
    RunningSlot,
    /// A slot's policy is not checked at boot.
    NoPolicyCheck,
    /// A boot on trial leaves no mark.
    NoTrialMark,
    /// An update may begin while the policy that runs is on trial.
    UpdateOnTrial,
    /// A new policy gets no higher sequence number than the others.
    SameSequence,
    /// A word that cannot be read is taken for an erased one.
    UnreadableIsErased,
}

/// Whether a test has planted this mistake.
#[cfg(test)]
pub(crate) fn planted(plant: Plant) -> bool {
    tests::PLANTED.get() == Some(plant)
}

#[cfg(not(test))]
pub(crate) const fn planted(_: Plant) -> bool {
    false
}
