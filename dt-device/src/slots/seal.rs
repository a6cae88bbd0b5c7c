//! Whose policies a device runs.

use core::fmt;
use core::ops::Range;

use super::header::Header;
use super::store::{Flash, Store};

/// Whose policies a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Anyone's who can reach the link. A policy's sequence number is the device's own count.
    Anyone,
}

/// Why a device does not run a policy that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Untrusted {}

impl fmt::Display for Untrusted {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl core::error::Error for Untrusted {}

impl Trust {
    /// Checks the policy that lies at `policy`.
    pub(crate) fn check<F: Flash>(
        &self,
        _header: &Header,
        _store: &mut Store<F>,
        _policy: Range<u32>,
    ) -> Result<(), Untrusted> {
        match self {
            Self::Anyone => Ok(()),
        }
    }
}
