//! A new policy, piece by piece, into a slot that does not run.
//!
//! Knows no wire: whoever has one calls [`begin`](Upload::begin), [`write`](Upload::write) and [`finish`](Upload::finish), and
//! sends what they return. All three are safe to repeat, so a lost answer costs a question, not an update.

use core::fmt;

use dt_link::{PolicyId, UploadRefusal};

use crate::board::Updates;
use crate::slots::{
    ERASED, Fault, Flash, FlashError, Header, MAX_UNIT, Place, Plant, Seal, Slots, Unfit,
    Untrusted, planted, round_up,
};

/// What a host says of a policy before it sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Announcement {
    /// Bytes of the policy file.
    pub length: u32,
    /// The checksum that its bytes 12..16 hold.
    pub crc: u32,
    /// The signature, where the device asks for one; of no meaning where it does not.
    pub seal: Option<Seal>,
}

impl Announcement {
    /// Of a policy file that nobody signed.
    pub fn of(policy: &[u8]) -> Self {
        let Header { length, crc, .. } = Header::new(0, policy);
        Self {
            length,
            crc,
            seal: None,
        }
    }
}

/// A policy that is in its slot and will run after the next reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stored {
    /// Its slot.
    pub slot: usize,
    /// Its number.
    pub sequence: u32,
}

/// Why a call did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// The robot is not at rest: writing flash stops the processor.
    Busy,
    /// The policy that runs is on trial, and the other slot has the only one that is known to be good.
    OnTrial,
    /// All slots there are run.
    NoFreeSlot,
    /// The policy is empty or larger than a slot.
    Length {
        /// Bytes it has.
        length: u32,
        /// Bytes a slot has.
        capacity: u32,
    },
    /// There is no higher sequence number.
    Sequence,
    /// The policy is not one that this device may run.
    Untrusted(Untrusted),
    /// Nothing has begun, or it was given up after an error.
    NotBegun,
    /// There are bytes between those that have arrived and these.
    Gap {
        /// Offset to go on from.
        expected: u32,
    },
    /// More bytes than were announced.
    TooMuch {
        /// Bytes announced.
        length: u32,
    },
    /// Not all bytes have arrived.
    Incomplete {
        /// Offset to go on from.
        expected: u32,
    },
    /// The bytes are not those that were announced. The upload is given up.
    Crc {
        /// What was announced.
        announced: u32,
        /// What is in flash.
        computed: u32,
    },
    /// The policy is not one that this image can run. The upload is given up.
    Unfit(Unfit),
    /// The flash failed. The upload is given up.
    Flash(FlashError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the robot is not at rest; stop it first"),
            Self::OnTrial => f.write_str(
                "the policy that runs is on trial, and the other slot has the last one known to be good; let it run until it is confirmed, or reset the device until it has fallen back",
            ),
            Self::NoFreeSlot => f.write_str(
                "the only slot holds the policy that runs; write it with a programmer: cargo xtask firmware flash --policy-only",
            ),
            Self::Length { length: 0, .. } => f.write_str("the policy is empty"),
            Self::Length { length, capacity } => write!(
                f,
                "the policy has {length} bytes, a slot {capacity}; export it as int8 or int4"
            ),
            Self::Sequence => f.write_str(
                "there is no higher sequence number; write the policy with a programmer: cargo xtask firmware flash --policy-only",
            ),
            Self::Untrusted(error) => error.fmt(f),
            Self::NotBegun => f.write_str("no upload has begun; begin it again"),
            Self::Gap { expected } => write!(f, "go on from byte {expected}"),
            Self::TooMuch { length } => write!(f, "only {length} bytes were announced"),
            Self::Incomplete { expected } => {
                write!(f, "the policy is not complete; go on from byte {expected}")
            }
            Self::Crc {
                announced,
                computed,
            } => write!(
                f,
                "checksum {computed:08x} in flash, but {announced:08x} was announced; send the policy again"
            ),
            Self::Unfit(error) => error.fmt(f),
            Self::Flash(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Refusal {}

impl From<FlashError> for Refusal {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

impl From<Refusal> for UploadRefusal {
    /// What a host is told of it.
    fn from(refusal: Refusal) -> Self {
        let short = |dim| u16::try_from(dim).unwrap_or(u16::MAX);
        match refusal {
            Refusal::OnTrial => Self::OnTrial,
            Refusal::NoFreeSlot => Self::NoSlot,
            Refusal::Length { capacity, .. } => Self::TooLarge { max: capacity },
            Refusal::Sequence | Refusal::Untrusted(Untrusted::Older { .. }) => Self::Older,
            Refusal::Untrusted(_) => Self::Signature,
            // The session asks before it calls: whoever moves has no upload.
            Refusal::Busy | Refusal::NotBegun => Self::NotBegun,
            Refusal::Gap { expected } | Refusal::Incomplete { expected } => {
                Self::Offset { expected }
            }
            Refusal::TooMuch { .. } => Self::Length,
            Refusal::Crc { .. } => Self::Crc,
            Refusal::Unfit(Unfit::Dimensions { policy, .. }) => Self::Unfit {
                state_dim: short(policy.0),
                act_dim: short(policy.1),
            },
            Refusal::Unfit(_) => Self::NotAPolicy,
            Refusal::Flash(_) => Self::Flash,
        }
    }
}

/// The slots of a device at a wire, for [`Device::new`](crate::Device::new).
///
/// A policy on trial is confirmed as soon as it has proved itself, between two ticks: one unit is written then, which takes 16 µs
/// on an STM32F4 and up to 3 ms on the serial flash of an RP2040.
#[derive(Debug)]
pub struct Updater<F, const N: usize> {
    slots: Slots<F, N>,
    upload: Upload,
}

impl<F, const N: usize> Updater<F, N> {
    /// No upload has begun.
    pub const fn new(slots: Slots<F, N>) -> Self {
        Self {
            slots,
            upload: Upload::new(),
        }
    }

    /// The slots.
    pub const fn slots(&mut self) -> &mut Slots<F, N> {
        &mut self.slots
    }
}

impl<F: Flash, const N: usize> Updates for Updater<F, N> {
    fn begin(
        &mut self,
        policy: PolicyId,
        seal: Option<dt_link::Seal<'_>>,
    ) -> Result<u32, UploadRefusal> {
        let seal = match seal {
            Some(seal) => Some(owned(&seal).ok_or(UploadRefusal::Signature)?),
            None => None,
        };
        let announcement = Announcement {
            length: policy.len,
            crc: policy.crc,
            seal,
        };
        Ok(self.upload.begin(&mut self.slots, true, &announcement)?)
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<u32, UploadRefusal> {
        Ok(self.upload.write(&mut self.slots, true, offset, data)?)
    }

    fn finish(&mut self) -> Result<(), UploadRefusal> {
        self.upload.finish(&mut self.slots, true)?;
        Ok(())
    }

    fn proved(&mut self) {
        // If it cannot be marked, its trial goes on.
        let _ = self.slots.confirm();
    }
}

/// A seal from the wire, if its parts have their lengths.
fn owned(seal: &dt_link::Seal<'_>) -> Option<Seal> {
    Some(Seal {
        sequence: seal.sequence,
        sha256: seal.sha256.0.try_into().ok()?,
        signature: seal.signature.0.try_into().ok()?,
    })
}

/// Bytes that are written at once: whole units of any flash.
const STAGE: usize = MAX_UNIT as usize;

/// An upload, or none.
#[derive(Debug, Default)]
pub struct Upload {
    active: Option<Active>,
    /// The last one that ended well, so that asking again gets the same answer.
    stored: Option<(Announcement, Stored)>,
}

/// An upload that has begun.
#[derive(Debug)]
struct Active {
    announcement: Announcement,
    header: Header,
    slot: usize,
    place: Place,
    /// Offset in flash up to which the slot is erased.
    erased: u32,
    /// Bytes of the policy that are in flash.
    written: u32,
    /// Bytes that are on their way there.
    stage: [u8; STAGE],
    staged: usize,
}

impl Upload {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            active: None,
            stored: None,
        }
    }

    /// Begins an upload, or goes on with the one of the same announcement that was interrupted: returns the offset of the first
    /// byte to send. Erases one block. An upload of something else is given up.
    ///
    /// `idle`: whether the robot is at rest, with the safe action out and no watchdog that is shorter than the erasure of a block
    /// (1 s or 2 for 128 KiB of an STM32F4, during which nothing else runs).
    ///
    /// # Errors
    /// [`Refusal`]; except after [`Refusal::Flash`] all is as it was.
    pub fn begin<F: Flash, const N: usize>(
        &mut self,
        slots: &mut Slots<F, N>,
        idle: bool,
        announcement: &Announcement,
    ) -> Result<u32, Refusal> {
        if !idle {
            return Err(Refusal::Busy);
        }
        if let Some(active) = &self.active
            && active.announcement == *announcement
        {
            return Ok(active.received());
        }
        let (length, capacity) = (announcement.length, slots.capacity());
        if length == 0 || length > capacity {
            return Err(Refusal::Length { length, capacity });
        }
        let (slot, place, worth) = slots.free().ok_or(Refusal::NoFreeSlot)?;
        if slots.is_pending() && worth > 0 && !planted(Plant::UpdateOnTrial) {
            return Err(Refusal::OnTrial);
        }
        let header = slots.header_of(announcement)?;
        self.stored = None;
        self.active = None;
        slots.note(slot, None);
        let mut active = Active {
            announcement: *announcement,
            header,
            slot,
            place,
            erased: place.region.start,
            written: 0,
            stage: [ERASED; STAGE],
            staged: 0,
        };
        if planted(Plant::HeaderErasedLast) {
            active.erase_header_last(slots)?;
        }
        // The header's block first: from here on the slot holds nothing.
        active.erase_to(slots, place.policy_start())?;
        if planted(Plant::HeaderFirst) {
            slots.store.write_header(&place, &header)?;
        }
        self.active = Some(active);
        Ok(0)
    }

    /// Takes `bytes` of the policy, which lie at `offset` in it, and returns the offset to go on from. Bytes that have arrived
    /// before are passed over. Erases the next block when it is reached.
    ///
    /// # Errors
    /// [`Refusal`]; after [`Refusal::Flash`] the upload is given up, otherwise all is as it was.
    pub fn write<F: Flash, const N: usize>(
        &mut self,
        slots: &mut Slots<F, N>,
        idle: bool,
        offset: u32,
        bytes: &[u8],
    ) -> Result<u32, Refusal> {
        if !idle {
            return Err(Refusal::Busy);
        }
        let active = self.active.as_mut().ok_or(Refusal::NotBegun)?;
        let (expected, length) = (active.received(), active.announcement.length);
        let known = expected
            .checked_sub(offset)
            .ok_or(Refusal::Gap { expected })?;
        let end = u64::from(offset).saturating_add(bytes.len() as u64);
        if end > u64::from(length) {
            return Err(Refusal::TooMuch { length });
        }
        let new = bytes.get(known as usize..).unwrap_or_default();
        let taken = active.take(slots, new);
        let received = active.received();
        if taken.is_err() {
            self.active = None;
        }
        taken?;
        Ok(received)
    }

    /// Checks that the policy is in flash as announced and that it can run here, and writes its header. After a reset it runs.
    ///
    /// # Errors
    /// [`Refusal`]; after [`Refusal::Busy`] and [`Refusal::Incomplete`] the upload goes on, otherwise it is given up.
    pub fn finish<F: Flash, const N: usize>(
        &mut self,
        slots: &mut Slots<F, N>,
        idle: bool,
    ) -> Result<Stored, Refusal> {
        if !idle {
            return Err(Refusal::Busy);
        }
        let Some(active) = &mut self.active else {
            let (_, stored) = self.stored.ok_or(Refusal::NotBegun)?;
            return Ok(stored);
        };
        let expected = active.received();
        if expected < active.announcement.length {
            return Err(Refusal::Incomplete { expected });
        }
        let finished = active.finish(slots);
        if let Ok(stored) = finished {
            self.stored = Some((active.announcement, stored));
        }
        self.active = None;
        finished
    }

    /// Gives up what has begun. The slot holds nothing then.
    pub fn abort(&mut self) {
        self.active = None;
    }

    /// Bytes that have arrived of the policy that is being sent, and all it has.
    pub fn progress(&self) -> Option<(u32, u32)> {
        let active = self.active.as_ref()?;
        Some((active.received(), active.announcement.length))
    }
}

impl Active {
    fn received(&self) -> u32 {
        self.written.saturating_add(self.staged as u32)
    }

    fn take<F: Flash, const N: usize>(
        &mut self,
        slots: &mut Slots<F, N>,
        mut bytes: &[u8],
    ) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            let room = self.stage.get_mut(self.staged..).unwrap_or_default();
            let len = if bytes.len() < room.len() {
                bytes.len()
            } else {
                room.len()
            };
            let (now, later) = bytes.split_at_checked(len).unwrap_or_default();
            room.iter_mut().zip(now).for_each(|(to, &from)| *to = from);
            self.staged = self.staged.saturating_add(len);
            bytes = later;
            if self.staged >= STAGE {
                self.flush(slots)?;
            }
        }
        Ok(())
    }

    /// Writes what is on its way, filled up to a whole unit.
    fn flush<F: Flash, const N: usize>(&mut self, slots: &mut Slots<F, N>) -> Result<(), Refusal> {
        let at = self.place.policy_start().saturating_add(self.written);
        let len = round_up(self.staged as u32, self.place.unit);
        self.erase_to(slots, at.saturating_add(len))?;
        let units = self.stage.get(..len as usize).unwrap_or_default();
        slots.store.write(at, units)?;
        self.written = self.written.saturating_add(self.staged as u32);
        self.staged = 0;
        self.stage.fill(ERASED);
        Ok(())
    }

    /// Erases blocks until all before `end` are.
    fn erase_to<F: Flash, const N: usize>(
        &mut self,
        slots: &mut Slots<F, N>,
        end: u32,
    ) -> Result<(), Refusal> {
        while self.erased < end {
            let block = self.place.region.block_at(self.erased);
            let block = block.ok_or(Refusal::NoFreeSlot)?;
            self.erased = block.end;
            slots.store.erase(block)?;
        }
        Ok(())
    }

    /// How not to do it.
    fn erase_header_last<F: Flash, const N: usize>(
        &mut self,
        slots: &mut Slots<F, N>,
    ) -> Result<(), Refusal> {
        let region = self.place.region;
        let first = region.block_at(region.start).unwrap_or_default();
        self.erased = first.end;
        self.erase_to(slots, region.end())?;
        Ok(slots.store.erase(first)?)
    }

    fn finish<F: Flash, const N: usize>(
        &mut self,
        slots: &mut Slots<F, N>,
    ) -> Result<Stored, Refusal> {
        if self.staged > 0 {
            self.flush(slots)?;
        }
        let (length, announced) = (self.announcement.length, self.announcement.crc);
        let capacity = self.place.capacity();
        let policy = self.place.policy(length);
        let policy = policy.ok_or(Refusal::Length { length, capacity })?;
        let computed = slots.store.crc(policy.clone())?;
        if computed != announced {
            return Err(Refusal::Crc {
                announced,
                computed,
            });
        }
        let trust = slots.trust;
        trust
            .check(&self.header, &mut slots.store, policy.clone())
            .map_err(|fault| match fault {
                Fault::Untrusted(error) => Refusal::Untrusted(error),
                Fault::Flash(error) => Refusal::Flash(error),
            })?;
        let file = slots.store.flash.mapped(policy);
        slots.fit.check(file).map_err(Refusal::Unfit)?;
        if !planted(Plant::HeaderFirst) {
            slots.store.write_header(&self.place, &self.header)?;
        }
        slots.note(self.slot, Some(self.header));
        Ok(Stored {
            slot: self.slot,
            sequence: self.header.sequence,
        })
    }
}

impl<F: Flash, const N: usize> Slots<F, N> {
    /// The header that a policy gets.
    fn header_of(&self, announcement: &Announcement) -> Result<Header, Refusal> {
        let newest = if planted(Plant::SameSequence) {
            0
        } else {
            self.newest()
        };
        let running = self.running().map_or(0, |candidate| candidate.sequence);
        let &Announcement { length, crc, seal } = announcement;
        self.trust
            .header((length, crc), seal.as_ref(), running, newest)
            .map_err(Refusal::Untrusted)?
            .ok_or(Refusal::Sequence)
    }
}
