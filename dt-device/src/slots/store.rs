//! Flash in units, and what can go wrong with it.

use core::fmt;
use core::ops::Range;

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};

use super::header::{self, Header, PolicyCrc};
use super::layout::{ERASED, MARKED, MAX_UNIT, Place, round_up};
use super::{Plant, planted};

/// Flash that can also be read in place, as a policy is.
///
/// Offsets count from the start of the flash, as the HALs of embassy have it. [`read`] fails where a word cannot be read, as one
/// with an error-correcting code after a power cut: on such parts it must not end in a bus fault. [`write`] gets whole units of
/// the [`Layout`](super::Layout), each at most once between two erasures; [`erase`] whole blocks of it, one at a time.
///
/// [`read`]: embedded_storage::nor_flash::ReadNorFlash::read
/// [`write`]: NorFlash::write
/// [`erase`]: NorFlash::erase
pub trait Flash: NorFlash {
    /// The bytes at `offsets`, in place, as last written: caches above the flash are the board's business. Empty if they are not
    /// all flash.
    ///
    /// Is called for a policy that has been read by [`read`](embedded_storage::nor_flash::ReadNorFlash::read) without an error. A
    /// policy starts at a multiple of 16 bytes if the flash does.
    fn mapped(&self, offsets: Range<u32>) -> &[u8];
}

impl<F: Flash> Flash for &mut F {
    fn mapped(&self, offsets: Range<u32>) -> &[u8] {
        F::mapped(self, offsets)
    }
}

/// What was done to the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Operation {
    /// Reading.
    Read,
    /// Erasing a block.
    Erase,
    /// Writing units.
    Write,
    /// Reading what had been written: it was something else.
    Verify,
}

/// The flash failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlashError {
    /// In what.
    pub operation: Operation,
    /// At which offset.
    pub offset: u32,
    /// Why, as far as drivers agree on it.
    pub kind: NorFlashErrorKind,
}

impl fmt::Display for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Read => "reading",
            Operation::Erase => "erasing",
            Operation::Write => "writing",
            Operation::Verify => "verifying",
        };
        write!(
            f,
            "{operation} the flash at {:#x} failed: {}",
            self.offset, self.kind
        )
    }
}

impl core::error::Error for FlashError {}

/// Bytes that are read at once.
const CHUNK: u32 = 64;

/// The flash below slots.
#[derive(Debug)]
pub(crate) struct Store<F> {
    pub flash: F,
}

impl<F: Flash> Store<F> {
    fn failed<T>(
        operation: Operation,
        offset: u32,
        result: Result<T, F::Error>,
    ) -> Result<T, FlashError> {
        result.map_err(|error| FlashError {
            operation,
            offset,
            kind: error.kind(),
        })
    }

    pub fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        Self::failed(Operation::Read, offset, self.flash.read(offset, bytes))
    }

    pub fn write(&mut self, offset: u32, units: &[u8]) -> Result<(), FlashError> {
        Self::failed(Operation::Write, offset, self.flash.write(offset, units))
    }

    pub fn erase(&mut self, block: Range<u32>) -> Result<(), FlashError> {
        let result = self.flash.erase(block.start, block.end);
        Self::failed(Operation::Erase, block.start, result)
    }

    /// The bytes of a header, whatever they say.
    pub fn header_bytes(&mut self, place: &Place) -> Result<[u8; header::LEN], FlashError> {
        let mut bytes = [0; header::LEN];
        self.read(place.header(), &mut bytes)?;
        Ok(bytes)
    }

    /// Writes a header, and looks whether it is there.
    pub fn write_header(&mut self, place: &Place, header: &Header) -> Result<(), FlashError> {
        let mut units = [ERASED; 2 * MAX_UNIT as usize];
        let bytes = header.encode();
        units
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from);
        let units = units.get(..place.header_len() as usize).unwrap_or_default();
        self.write(place.header(), units)?;
        if self.header_bytes(place)? != bytes {
            return Err(verify(place.header()));
        }
        Ok(())
    }

    /// Whether the unit at `offset` is anything but erased. What cannot be read has been written.
    pub fn is_marked(&mut self, offset: u32, unit: u32) -> bool {
        let mut bytes = [0; MAX_UNIT as usize];
        let bytes = bytes.get_mut(..unit as usize).unwrap_or_default();
        match self.read(offset, bytes) {
            Ok(()) => bytes.iter().any(|&byte| byte != ERASED),
            Err(_) => !planted(Plant::UnreadableIsErased),
        }
    }

    /// Writes a mark, and looks whether it is there.
    pub fn mark(&mut self, offset: u32, unit: u32) -> Result<(), FlashError> {
        let bytes = [MARKED; MAX_UNIT as usize];
        self.write(offset, bytes.get(..unit as usize).unwrap_or_default())?;
        if self.is_marked(offset, unit) {
            Ok(())
        } else {
            Err(verify(offset))
        }
    }

    /// Hands what lies at `offsets` to `take`, piece by piece, by reads that may fail.
    pub fn each(
        &mut self,
        offsets: Range<u32>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), FlashError> {
        let mut buffer = [0; CHUNK as usize];
        for offset in offsets.clone().step_by(CHUNK as usize) {
            let left = offsets.end.saturating_sub(offset);
            let len = if left < CHUNK { left } else { CHUNK };
            // Whole words: there is room after the last byte, since slots consist of whole blocks.
            let words = round_up(len, 4) as usize;
            let words = buffer.get_mut(..words).unwrap_or_default();
            self.read(offset, words)?;
            take(words.get(..len as usize).unwrap_or_default());
        }
        Ok(())
    }

    /// Checksum of the policy that lies at `policy`.
    pub fn crc(&mut self, policy: Range<u32>) -> Result<u32, FlashError> {
        let mut crc = PolicyCrc::new();
        self.each(policy, |bytes| crc.update(bytes))?;
        Ok(crc.finalize())
    }
}

const fn verify(offset: u32) -> FlashError {
    FlashError {
        operation: Operation::Verify,
        offset,
        kind: NorFlashErrorKind::Other,
    }
}
