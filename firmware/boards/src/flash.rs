//! A part's flash, written by its HAL and read in place.

use core::ops::Range;
use core::slice;

use dt_device::slots::Flash;
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

use crate::board::{SLOTS, hold_watchdog, see_flash};

/// The flash of the board.
pub struct Rom<F>(pub F);

impl<F: NorFlash> Flash for Rom<F> {
    fn mapped(&self, offsets: Range<u32>) -> &[u8] {
        hold_watchdog(); // It is about to be parsed.
        in_place(offsets)
    }
}

/// What lies at these offsets of the flash, nothing if that is more than slots: of the slot that runs for ever, of another one until it is
/// written again.
pub fn in_place(offsets: Range<u32>) -> &'static [u8] {
    let within = SLOTS
        .slots
        .iter()
        .any(|slot| slot.start <= offsets.start && offsets.end <= slot.end());
    let len = offsets.end.checked_sub(offsets.start);
    let (Some(len), true) = (len, within) else {
        return &[];
    };
    let start = (SLOTS.base + offsets.start) as *const u8;
    // SAFETY: a slot is flash, which is there for ever and can be read as bytes. `dt_device::slots` never writes the slot that runs,
    // and holds no slice of another one while it writes it.
    unsafe { slice::from_raw_parts(start, len as usize) }
}

impl<F: ErrorType> ErrorType for Rom<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Rom<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        hold_watchdog(); // All of a slot is read in one go.
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Rom<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        hold_watchdog(); // Nobody feeds it until a block is erased, which takes up to some seconds.
        let result = self.0.erase(from, to);
        see_flash();
        result
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        hold_watchdog();
        let result = self.0.write(offset, bytes);
        see_flash();
        result
    }
}
