//! Where the slots lie in a part's flash, and what lies where in a slot.

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;

use super::header::{self, Header};

/// Boots in which an unconfirmed policy may try to be confirmed.
pub const TRIALS: u32 = 3;

/// The largest write unit there is: a page of the serial flash beside an RP2040.
pub const MAX_UNIT: u32 = 256;

/// Bytes that [`Layout::head`] needs at most.
pub const MAX_HEAD: usize = 512;

/// Equal erase blocks, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// How many.
    pub count: u32,
    /// Bytes of each.
    pub len: u32,
}

/// The flash of one slot: whole erase blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Offset of the first block from the start of the flash.
    pub start: u32,
    /// The blocks from there on.
    pub blocks: &'static [Blocks],
}

impl Region {
    /// Bytes of all blocks.
    pub const fn len(&self) -> u32 {
        let mut len = 0u32;
        let mut rest = self.blocks;
        while let [first, others @ ..] = rest {
            len = len.saturating_add(first.count.saturating_mul(first.len));
            rest = others;
        }
        len
    }

    /// Whether there is no block.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset after the last block.
    pub const fn end(&self) -> u32 {
        self.start.saturating_add(self.len())
    }

    /// The block that begins at `offset`.
    pub(crate) fn block_at(&self, offset: u32) -> Option<Range<u32>> {
        let mut start = self.start;
        for blocks in self.blocks {
            let len = blocks.count.saturating_mul(blocks.len);
            let end = start.saturating_add(len);
            if offset < end {
                return Some(offset..offset.saturating_add(blocks.len));
            }
            start = end;
        }
        None
    }
}

/// The slots of a part. See [`parts`](super::parts) for those of the boards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<const N: usize = 2> {
    /// Address at which the processor sees the flash's first byte.
    pub base: u32,
    /// Bytes that are written at once: 4, 32, 256.
    pub unit: u32,
    /// The slots. The program lies before the first of them.
    pub slots: [Region; N],
}

impl<const N: usize> Layout<N> {
    /// The layout, if it can be one.
    ///
    /// # Panics
    /// At compile time, as it is meant to be called, if slots overlap, are out of order or too small to hold anything,
    /// or if a block is no multiple of the largest unit.
    pub const fn checked(self) -> Self {
        assert!(self.unit.is_power_of_two() && self.unit >= 4 && self.unit <= MAX_UNIT);
        let mut end = 0;
        let mut rest: &[Region] = &self.slots;
        while let [slot, others @ ..] = rest {
            assert!(slot.start >= end, "slots overlap");
            assert!(slot.start.is_multiple_of(MAX_UNIT));
            let mut runs = slot.blocks;
            while let [run, others @ ..] = runs {
                assert!(run.len.is_multiple_of(MAX_UNIT) && run.len > 0);
                runs = others;
            }
            assert!(self.place(slot).capacity() > 0, "a slot holds nothing");
            end = slot.end();
            rest = others;
        }
        self
    }

    /// Bytes at the start of the flash that are the program's.
    pub const fn program_len(&self) -> u32 {
        match self.slots.as_slice() {
            [first, ..] => first.start,
            [] => 0,
        }
    }

    /// Bytes that a policy may have, whichever slot it gets.
    pub const fn capacity(&self) -> u32 {
        let mut least = u32::MAX;
        let mut rest = self.slots.as_slice();
        while let [slot, others @ ..] = rest {
            let capacity = self.place(slot).capacity();
            if capacity < least {
                least = capacity;
            }
            rest = others;
        }
        least
    }

    /// Offsets that the policy may take up in a slot, if there is such a slot.
    pub fn policy(&self, slot: usize) -> Option<Range<u32>> {
        let region = self.slots.get(slot)?;
        Some(self.place(region).policy_start()..region.end())
    }

    /// Whether `F` can write in this layout's units.
    pub const fn suits<F: NorFlash>(&self) -> bool {
        (self.unit as usize).is_multiple_of(F::WRITE_SIZE) && 4usize.is_multiple_of(F::READ_SIZE)
    }

    /// What a programmer writes at the start of an erased slot, whose policy it writes at the start of
    /// [`policy`](Self::policy): the header and, if `confirmed`, the mark that spares it its trial. Returns the bytes of
    /// `buffer` that are to be written, whole units, or `None` if it is too small ([`MAX_HEAD`] is enough).
    pub fn head<'b>(
        &self,
        header: &Header,
        confirmed: bool,
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        let header_len = self.header_len() as usize;
        let len = header_len.checked_add(if confirmed { self.unit as usize } else { 0 })?;
        let head = buffer.get_mut(..len)?;
        let (first, mark) = head.split_at_mut_checked(header_len)?;
        first.fill(ERASED);
        first
            .iter_mut()
            .zip(header.encode())
            .for_each(|(to, from)| *to = from);
        mark.fill(MARKED);
        Some(head)
    }

    /// Bytes of a header in whole units.
    const fn header_len(&self) -> u32 {
        round_up(header::LEN as u32, self.unit)
    }

    pub(super) const fn place(&self, region: &Region) -> Place {
        Place {
            region: *region,
            unit: self.unit,
        }
    }
}

/// A byte of flash after erasure.
pub(crate) const ERASED: u8 = 0xFF;

/// A byte of a mark.
pub(super) const MARKED: u8 = 0;

/// One slot, and what lies where in it: header, confirm mark, trial marks, policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub region: Region,
    pub unit: u32,
}

impl Place {
    pub const fn header(&self) -> u32 {
        self.region.start
    }

    pub const fn header_len(&self) -> u32 {
        round_up(header::LEN as u32, self.unit)
    }

    pub const fn confirm_mark(&self) -> u32 {
        self.header().saturating_add(self.header_len())
    }

    /// Of trial `index` from 0.
    pub const fn trial_mark(&self, index: u32) -> u32 {
        let marks = index.saturating_add(1).saturating_mul(self.unit);
        self.confirm_mark().saturating_add(marks)
    }

    /// After the marks, at an alignment at which a policy file is used in place.
    pub const fn policy_start(&self) -> u32 {
        round_up(self.trial_mark(TRIALS), dt_core::blob::ALIGNMENT as u32)
    }

    pub const fn capacity(&self) -> u32 {
        self.region.end().saturating_sub(self.policy_start())
    }

    /// Offsets of a policy of `len` bytes, if it fits.
    pub fn policy(&self, len: u32) -> Option<Range<u32>> {
        let start = self.policy_start();
        (len <= self.capacity()).then(|| start..start.saturating_add(len))
    }
}

/// The next multiple of `step`, a power of two.
pub(crate) const fn round_up(a: u32, step: u32) -> u32 {
    let mask = step.wrapping_sub(1);
    a.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::super::parts;
    use super::*;

    #[test]
    fn what_lies_where() {
        for (unit, confirm, trial, policy) in [
            (4, 132, 136, 160),
            (32, 160, 192, 288),
            (256, 256, 512, 1280),
        ] {
            let region = Region {
                start: 0x1_0000,
                blocks: &[Blocks {
                    count: 2,
                    len: 4096,
                }],
            };
            let layout = Layout {
                base: 0,
                unit,
                slots: [region],
            }
            .checked();
            let place = layout.place(&region);
            assert_eq!(place.confirm_mark(), 0x1_0000 + confirm);
            assert_eq!(place.trial_mark(0), 0x1_0000 + trial);
            assert_eq!(layout.policy(0), Some(0x1_0000 + policy..0x1_2000));
            assert_eq!(layout.policy(1), None);
            assert_eq!(layout.capacity(), 8192 - policy);
            assert_eq!(
                place.policy(8192 - policy),
                Some(0x1_0000 + policy..0x1_2000)
            );
            assert_eq!(place.policy(8193 - policy), None);

            let header = Header::new(7, &[1, 2, 3]);
            let mut buffer = [0xAA; MAX_HEAD];
            let head = layout.head(&header, true, &mut buffer).unwrap();
            assert_eq!(head.len() as u32, trial);
            assert_eq!(head[..header::LEN], header.encode());
            assert!(
                head[header::LEN..confirm as usize]
                    .iter()
                    .all(|&b| b == 0xFF)
            );
            assert!(head[confirm as usize..].iter().all(|&b| b == 0));
            let head = layout.head(&header, false, &mut buffer).unwrap();
            assert_eq!(head.len() as u32, confirm);
            assert_eq!(layout.head(&header, true, &mut [0; 132]), None);
        }
    }

    #[test]
    fn blocks_of_several_sizes() {
        let region = parts::F405_COMPACT.slots[0];
        assert_eq!(region.block_at(0x1_0000), Some(0x1_0000..0x2_0000));
        assert_eq!(region.block_at(0x2_0000), Some(0x2_0000..0x4_0000));
        assert_eq!(region.block_at(0x6_0000), Some(0x6_0000..0x8_0000));
        assert_eq!(region.block_at(0x8_0000), None);
        assert_eq!(region.end(), 0x8_0000);
    }

    const GOOD: Layout = parts::RP2040;

    #[test]
    #[should_panic(expected = "slots overlap")]
    fn slots_that_overlap_are_no_layout() {
        let [first, _] = GOOD.slots;
        let mut second = first;
        second.start += 4096;
        let _ = Layout {
            slots: [first, second],
            ..GOOD
        }
        .checked();
    }

    #[test]
    #[should_panic(expected = "a slot holds nothing")]
    fn a_slot_without_room_is_no_layout() {
        let empty = Region {
            start: 0,
            blocks: &[Blocks { count: 5, len: 256 }],
        };
        let _ = Layout {
            slots: [empty],
            base: 0,
            unit: 256,
        }
        .checked();
    }
}
