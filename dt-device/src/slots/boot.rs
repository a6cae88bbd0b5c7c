//! Which policy runs.

use core::fmt;
use core::ops::Range;

use super::fit::{Fit, Unfit};
use super::header::{Header, HeaderError};
use super::layout::{Layout, Place, TRIALS};
use super::seal::{Fault, Trust, Untrusted};
use super::store::{Flash, FlashError, Store};
use super::{Plant, planted};

/// A policy to run if it passes its self-test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which slot it lies in.
    pub slot: usize,
    /// Where in the flash.
    pub policy: Range<u32>,
    /// Its number: the higher, the newer.
    pub sequence: u32,
    /// Which of its [`TRIALS`] boots this is, from 1; `None` once it has been confirmed.
    pub trial: Option<u32>,
    place: Place,
}

/// Why the policy of a slot does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Reason {
    /// There is no header, so no policy.
    Header(HeaderError),
    /// It cannot be read, or not be marked as tried.
    Flash(FlashError),
    /// It has been tried as often as it may, and was never confirmed.
    Exhausted,
    /// It is longer than the slot.
    Length {
        /// What its header says.
        length: u32,
    },
    /// It is damaged.
    Crc {
        /// What its header says.
        stored: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// It is not one that this device may run.
    Untrusted(Untrusted),
    /// It is not one that this image can run.
    Unfit(Unfit),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Flash(error) => error.fmt(f),
            Self::Exhausted => write!(
                f,
                "booted {TRIALS} times without having been confirmed; send a better policy"
            ),
            Self::Length { length } => write!(f, "{length} bytes do not fit the slot"),
            Self::Crc { stored, computed } => write!(
                f,
                "damaged: checksum {computed:08x}, but {stored:08x} is stored; send it again"
            ),
            Self::Untrusted(error) => error.fmt(f),
            Self::Unfit(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Reason {}

/// What is known of a slot.
#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Place,
    header: Option<Header>,
    /// Whether it has been looked at.
    seen: bool,
    reason: Option<Reason>,
}

impl Entry {
    /// What an update would lose: nothing, or a policy with this sequence number.
    fn worth(&self) -> u32 {
        match self.header {
            Some(header) if self.reason.is_none() => header.sequence,
            _ => 0,
        }
    }
}

/// The search for a policy to run, the newest first: an iterator over [`Candidate`]s.
#[derive(Debug)]
pub struct Boot<F, const N: usize> {
    store: Store<F>,
    fit: Fit,
    trust: Trust,
    capacity: u32,
    entries: [Entry; N],
}

impl<F: Flash, const N: usize> Boot<F, N> {
    /// Reads the headers of all slots.
    pub fn new(flash: F, layout: Layout<N>, fit: Fit, trust: Trust) -> Self {
        const {
            assert!(N > 0, "a device without slots has no use for them");
        }
        let mut store = Store { flash };
        let entries = layout.slots.map(|region| {
            let place = layout.place(&region);
            let header = match store.header_bytes(&place) {
                Ok(bytes) => Header::decode(&bytes).map_err(Reason::Header),
                Err(error) => Err(Reason::Flash(error)),
            };
            Entry {
                place,
                header: header.ok(),
                seen: false,
                reason: header.err(),
            }
        });
        Self {
            store,
            fit,
            trust,
            capacity: layout.capacity(),
            entries,
        }
    }

    /// Why a slot's policy was passed over; `None` if it was not, or not yet.
    pub fn reason(&self, slot: usize) -> Option<Reason> {
        self.entries.get(slot)?.reason
    }

    /// Ends the search: `running` is the candidate that runs from now on, in place, and is never written to; `None` if it is the
    /// policy in the image.
    pub fn run(self, running: Option<Candidate>) -> Slots<F, N> {
        Slots {
            store: self.store,
            fit: self.fit,
            trust: self.trust,
            capacity: self.capacity,
            entries: self.entries,
            running,
        }
    }

    /// Checks all but the self-test; returns where the policy lies, and the trial that begins.
    fn examine(
        &mut self,
        place: &Place,
        header: &Header,
    ) -> Result<(Range<u32>, Option<u32>), Reason> {
        let unit = place.unit;
        let confirmed = self.store.is_marked(place.confirm_mark(), unit);
        let mut trials = (0..TRIALS).map(|index| place.trial_mark(index));
        let trial = if confirmed {
            None
        } else {
            let store = &mut self.store;
            let unused = trials.position(|mark| !store.is_marked(mark, unit));
            Some(unused.ok_or(Reason::Exhausted)? as u32)
        };
        let length = header.length;
        let policy = place.policy(length).ok_or(Reason::Length { length })?;
        if !planted(Plant::NoPolicyCheck) {
            self.check(header, policy.clone())?;
        }
        // Before it runs for the first time: whatever it does then, this boot has been counted.
        if let Some(index) = trial
            && !planted(Plant::NoTrialMark)
        {
            let mark = place.trial_mark(index);
            self.store.mark(mark, unit).map_err(Reason::Flash)?;
        }
        Ok((policy, trial.map(|index| index.saturating_add(1))))
    }

    /// Reads all of a policy, by reads that may fail, before it is looked at in place, where they must not.
    fn check(&mut self, header: &Header, policy: Range<u32>) -> Result<(), Reason> {
        let computed = self.store.crc(policy.clone()).map_err(Reason::Flash)?;
        let stored = header.crc;
        if computed != stored {
            return Err(Reason::Crc { stored, computed });
        }
        self.trust
            .check(header, &mut self.store, policy.clone())
            .map_err(|fault| match fault {
                Fault::Untrusted(error) => Reason::Untrusted(error),
                Fault::Flash(error) => Reason::Flash(error),
            })?;
        let file = self.store.flash.mapped(policy);
        self.fit.check(file).map_err(Reason::Unfit)?;
        Ok(())
    }
}

impl<F: Flash, const N: usize> Iterator for Boot<F, N> {
    type Item = Candidate;

    /// The newest policy that has not been handed out yet and that can run, if its self-test passes. If it is on trial, the mark
    /// of this boot has been written.
    fn next(&mut self) -> Option<Candidate> {
        loop {
            let unseen = (0..N).zip(&self.entries).filter(|(_, e)| !e.seen);
            let newest = unseen.filter_map(|(slot, e)| Some((slot, e.place, e.header?)));
            let (slot, place, header) = newest.max_by_key(|(_, _, header)| header.sequence)?;
            let examined = self.examine(&place, &header);
            let entry = self.entries.get_mut(slot)?;
            entry.seen = true;
            match examined {
                Ok((policy, trial)) => {
                    return Some(Candidate {
                        slot,
                        policy,
                        sequence: header.sequence,
                        trial,
                        place,
                    });
                }
                Err(reason) => entry.reason = Some(reason),
            }
        }
    }
}

/// The slots of a device that has booted.
#[derive(Debug)]
pub struct Slots<F, const N: usize> {
    pub(crate) store: Store<F>,
    pub(crate) fit: Fit,
    pub(crate) trust: Trust,
    capacity: u32,
    entries: [Entry; N],
    running: Option<Candidate>,
}

impl<F: Flash, const N: usize> Slots<F, N> {
    /// The policy that runs from a slot; `None`: the one in the image.
    pub const fn running(&self) -> Option<&Candidate> {
        self.running.as_ref()
    }

    /// Whether the policy that runs is on trial.
    pub const fn is_pending(&self) -> bool {
        matches!(&self.running, Some(Candidate { trial: Some(_), .. }))
    }

    /// Ends the trial of the policy that runs: it has run well. Does nothing if there is no trial.
    ///
    /// # Errors
    /// [`FlashError`] if the mark could not be written; the trial goes on.
    pub fn confirm(&mut self) -> Result<(), FlashError> {
        if let Some(candidate) = &mut self.running
            && candidate.trial.is_some()
        {
            let place = candidate.place;
            self.store.mark(place.confirm_mark(), place.unit)?;
            candidate.trial = None;
        }
        Ok(())
    }

    /// Bytes that a policy may have.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Why a slot's policy was passed over at boot; `None` if it was not, or has been replaced.
    pub fn reason(&self, slot: usize) -> Option<Reason> {
        self.entries.get(slot)?.reason
    }

    /// The flash.
    pub const fn flash(&mut self) -> &mut F {
        &mut self.store.flash
    }

    /// The slot for the next policy: of those that do not run the one that is worth least; and its sequence number, or 0 if it is
    /// worth nothing.
    pub(crate) fn free(&self) -> Option<(usize, Place, u32)> {
        let running = self.running.as_ref().map(|candidate| candidate.slot);
        let touched = planted(Plant::RunningSlot) && running.is_some();
        let free = (0..N)
            .zip(&self.entries)
            .filter(|&(slot, _)| (running == Some(slot)) == touched);
        let (slot, entry) = free.min_by_key(|(_, entry)| entry.worth())?;
        Some((slot, entry.place, entry.worth()))
    }

    /// The highest sequence number in any header.
    pub(crate) fn newest(&self) -> u32 {
        let headers = self.entries.iter().filter_map(|entry| entry.header);
        headers.map(|header| header.sequence).max().unwrap_or(0)
    }

    /// Notes what a slot holds from now on.
    pub(crate) fn note(&mut self, slot: usize, header: Option<Header>) {
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.header = header;
            entry.reason = None;
        }
    }
}
