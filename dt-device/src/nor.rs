//! An emulated NOR flash for tests on a host, that keeps to the rules of real ones and can be cut off anywhere.
//!
//! Erasing makes a block's bits ones, writing makes bits zeros, in whole units and each unit once between two erasures. What a
//! power cut hits is left half done, by one of several models drawn at random: an erasure leaves a block untouched, erased up to
//! somewhere, or full of random bits; a write leaves its bytes written up to somewhere, or a random part of its zeros. Where
//! units are 32 bytes they have an error-correcting code, and one that was hit may not be readable at all.
//!
//! Whatever breaks a rule is noted ([`Nor::misuse`]) and fails.

use core::cell::Cell;
use core::ops::Range;
use std::vec;
use std::vec::Vec;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

use crate::slots::{Flash, Layout};

/// The flash of a [`Layout`] whose units have `UNIT` bytes.
#[derive(Clone, Debug)]
pub struct Nor<const UNIT: usize> {
    /// In pieces that policy files are aligned to.
    memory: Vec<u128>,
    blocks: Vec<Range<u32>>,
    /// Of each unit, whether it has been written since it was erased.
    written: Vec<bool>,
    /// Of each unit, whether it cannot be read.
    broken: Vec<bool>,
    /// What runs in place and must not change.
    running: Option<Range<u32>>,
    /// Steps until the power fails.
    left: Option<u64>,
    steps: u64,
    off: bool,
    torn: Option<Range<u32>>,
    misuse: Cell<Option<&'static str>>,
    random: u64,
}

impl<const UNIT: usize> Nor<UNIT> {
    /// Bytes that are written or not written as a whole when the power fails.
    const GRAIN: usize = if UNIT == 256 { 1 } else { UNIT };

    /// Whether a unit may become unreadable.
    const CODED: bool = UNIT == 32;

    /// Erased flash with the slots of `layout`, and `seed` for what power cuts leave.
    ///
    /// # Panics
    /// If the layout has other units.
    pub fn new<const N: usize>(layout: &Layout<N>, seed: u64) -> Self {
        assert_eq!(layout.unit as usize, UNIT, "units of another size");
        let mut blocks = Vec::new();
        let mut len = 0;
        for slot in &layout.slots {
            len = slot.start;
            for run in slot.blocks {
                for _ in 0..run.count {
                    blocks.push(len..len + run.len);
                    len += run.len;
                }
            }
        }
        let units = len as usize / UNIT;
        Self {
            memory: vec![u128::MAX; len as usize / 16],
            blocks,
            written: vec![false; units],
            broken: vec![false; units],
            running: None,
            left: None,
            steps: 0,
            off: false,
            torn: None,
            misuse: Cell::new(None),
            random: 1,
        }
        .reseeded(seed)
    }

    /// The same flash, of which power cuts leave something else.
    #[must_use]
    pub fn reseeded(&self, seed: u64) -> Self {
        Self {
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            ..self.clone()
        }
    }

    /// Lets the power fail in the step after `steps` more: the writing of a word, of a unit with its code, of a byte of a page, or the
    /// erasure of a block.
    pub const fn cut_after(&mut self, steps: u64) {
        self.left = Some(steps);
    }

    /// Steps done, and those that a power cut hit.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether the power has failed.
    pub const fn is_off(&self) -> bool {
        self.off
    }

    /// The block, or the units, that were being erased or written when the power failed.
    pub fn torn(&self) -> Option<Range<u32>> {
        self.torn.clone()
    }

    /// The power is back, and stays. Nothing runs yet.
    pub fn power_on(&mut self) {
        self.off = false;
        self.left = None;
        self.running = None;
    }

    /// What runs in place from now on.
    pub fn run(&mut self, policy: Option<Range<u32>>) {
        self.running = policy;
    }

    /// The first rule that was broken.
    pub const fn misuse(&self) -> Option<&'static str> {
        self.misuse.get()
    }

    /// Flips a bit, as age does.
    pub fn flip(&mut self, offset: u32, bit: u32) {
        self.bytes_mut()[offset as usize] ^= 1 << bit;
    }

    /// All bytes, as a programmer reads and writes them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.memory)
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.memory)
    }

    fn broke(&self, rule: &'static str) -> NorFlashErrorKind {
        self.misuse.set(self.misuse.get().or(Some(rule)));
        NorFlashErrorKind::Other
    }

    /// xorshift64*.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A byte of random bits, each set with a probability of 1/2, or 1/16 if `seldom`.
    fn noise(&mut self, seldom: bool) -> u8 {
        let bits = self.draw();
        let both = (bits & (bits >> 8)) & ((bits >> 16) & (bits >> 24));
        (if seldom { both } else { bits }) as u8
    }

    /// One more step; false if the power fails in it.
    fn step(&mut self) -> bool {
        self.steps += 1;
        match &mut self.left {
            Some(0) => {
                self.off = true;
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn check(&self, offsets: &Range<u32>) -> Result<Range<usize>, NorFlashErrorKind> {
        if self.off {
            return Err(NorFlashErrorKind::Other);
        }
        let range = offsets.start as usize..offsets.end as usize;
        if range.start > range.end || range.end > self.bytes().len() {
            return Err(self.broke("beyond the flash"));
        }
        Ok(range)
    }

    fn check_free(&self, offsets: &Range<u32>) -> Result<(), NorFlashErrorKind> {
        match &self.running {
            Some(running) if running.start < offsets.end && offsets.start < running.end => {
                Err(self.broke("the policy that runs is written to"))
            }
            _ => Ok(()),
        }
    }

    fn tear_block(&mut self, range: Range<usize>) {
        let at = range.start + self.draw() as usize % range.len();
        let model = self.draw() % 6;
        for unit in range.start / UNIT..range.end / UNIT {
            self.broken[unit] = Self::CODED && model >= 2 && self.draw().is_multiple_of(4);
        }
        for offset in range {
            let erased = match model {
                0 => 0,
                1 => 0xFF,
                2 if offset < at => 0xFF,
                3 if offset >= at => 0xFF,
                2 | 3 => 0,
                seldom => self.noise(seldom == 5),
            };
            self.bytes_mut()[offset] |= erased;
        }
    }

    /// The rest of a unit, of which `grain` was being written.
    fn tear_unit(&mut self, grain: Range<usize>, to: &[u8], whole: &[u8]) {
        let unit = grain.start / UNIT;
        let model = self.draw() % 4;
        let (range, to) = if Self::GRAIN < UNIT && model == 0 {
            // A page is written at once.
            (unit * UNIT..(unit + 1) * UNIT, whole)
        } else {
            (grain, to)
        };
        let mut changed = false;
        for (offset, &byte) in range.zip(to) {
            let kept = match model {
                1 => 0xFF,
                2 => 0,
                _ => self.noise(false),
            };
            let place = &mut self.bytes_mut()[offset];
            let before = *place;
            *place &= byte | kept;
            changed |= *place != before;
        }
        self.broken[unit] = Self::CODED && model != 1 && self.draw().is_multiple_of(2);
        // A unit of which nothing was written is as good as new.
        self.written[unit] |= changed || self.broken[unit];
    }
}

impl<const UNIT: usize> ErrorType for Nor<UNIT> {
    type Error = NorFlashErrorKind;
}

impl<const UNIT: usize> ReadNorFlash for Nor<UNIT> {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        if !(offset as usize | bytes.len()).is_multiple_of(Self::READ_SIZE) {
            return Err(self.broke("reading parts of words"));
        }
        let range = self.check(&(offset..offset + bytes.len() as u32))?;
        let units = range.start / UNIT..range.end.div_ceil(UNIT);
        if self.broken[units].contains(&true) {
            return Err(NorFlashErrorKind::Other);
        }
        bytes.copy_from_slice(&self.bytes()[range]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes().len()
    }
}

impl<const UNIT: usize> NorFlash for Nor<UNIT> {
    const WRITE_SIZE: usize = UNIT;
    const ERASE_SIZE: usize = 256;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let range = self.check(&(from..to))?;
        self.check_free(&(from..to))?;
        if !self.blocks.contains(&(from..to)) {
            return Err(self.broke("erasing what is no block"));
        }
        if !self.step() {
            self.torn = Some(from..to);
            self.tear_block(range);
            return Err(NorFlashErrorKind::Other);
        }
        self.bytes_mut()[range.clone()].fill(0xFF);
        let units = range.start / UNIT..range.end / UNIT;
        self.written[units.clone()].fill(false);
        self.broken[units].fill(false);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let range = self.check(&(offset..offset + bytes.len() as u32))?;
        self.check_free(&(offset..offset + bytes.len() as u32))?;
        if !range.start.is_multiple_of(UNIT) || !bytes.len().is_multiple_of(UNIT) {
            return Err(self.broke("writing parts of units"));
        }
        for (at, whole) in range.step_by(UNIT).zip(bytes.chunks_exact(UNIT)) {
            if self.written[at / UNIT] {
                return Err(self.broke("writing a unit twice"));
            }
            for (i, to) in whole.chunks_exact(Self::GRAIN).enumerate() {
                let start = at + i * Self::GRAIN;
                let grain = start..start + Self::GRAIN;
                if !self.step() {
                    self.torn = Some(offset..offset + bytes.len() as u32);
                    self.tear_unit(grain, to, whole);
                    return Err(NorFlashErrorKind::Other);
                }
                let places = &mut self.bytes_mut()[grain];
                places
                    .iter_mut()
                    .zip(to)
                    .for_each(|(place, byte)| *place &= byte);
            }
            self.written[at / UNIT] = true;
        }
        Ok(())
    }
}

impl<const UNIT: usize> Flash for Nor<UNIT> {
    fn mapped(&self, offsets: Range<u32>) -> &[u8] {
        let Ok(range) = self.check(&offsets) else {
            return &[];
        };
        let units = range.start / UNIT..range.end.div_ceil(UNIT);
        if self.broken[units].contains(&true) {
            self.broke("reading in place what cannot be read");
            return &[];
        }
        &self.bytes()[range]
    }
}
