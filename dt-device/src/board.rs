//! What a device asks of its board, and of what it is made with, beyond the control loop's [`Board`].

use dt_control::{Board, Mode, Record, Tick};
use dt_link::{PolicyId, Seal, UploadRefusal};

use crate::blackbox::BlackBox;

/// The link's wire, as interrupts or DMA fill and empty it. Neither function waits.
pub trait Port {
    /// Moves bytes that have arrived into `buffer` and says how many: 0 if there are none.
    fn receive(&mut self, buffer: &mut [u8]) -> usize;

    /// Takes bytes to be sent and says how many of them: fewer than all where its queue is full.
    fn send(&mut self, bytes: &[u8]) -> usize;

    /// Whether all bytes taken by [`send`](Self::send) have left the queue that it fills; a few may still be in the
    /// hardware's own.
    fn is_drained(&mut self) -> bool;
}

/// A lamp that says what the control loop does.
pub trait Indicator {
    /// Is called at every tick.
    fn show(&mut self, mode: Mode);
}

/// A board without a lamp.
impl Indicator for () {
    fn show(&mut self, _: Mode) {}
}

/// A board that sleeps until there is something to do.
pub trait Sleep: Board {
    /// Sleeps until the next control tick, or until bytes have arrived at the link's wire; not at all where either has
    /// happened since the last call. Gives the tick, if one has come.
    fn sleep(&mut self) -> Option<Tick>;
}

/// Where policies that come over the link are written: the slot that does not run.
pub trait Updates {
    /// Begins to write a policy, or goes on with the same one; gives the offset to go on from.
    ///
    /// # Errors
    /// [`UploadRefusal`].
    fn begin(&mut self, policy: PolicyId, seal: Option<Seal<'_>>) -> Result<u32, UploadRefusal>;

    /// Writes the next bytes, which belong to `offset`; gives the offset of those after them.
    ///
    /// # Errors
    /// [`UploadRefusal`].
    fn write(&mut self, offset: u32, data: &[u8]) -> Result<u32, UploadRefusal>;

    /// All is written: checks it, and makes it the policy of the next boot.
    ///
    /// # Errors
    /// [`UploadRefusal`].
    fn finish(&mut self) -> Result<(), UploadRefusal>;

    /// The policy has acted for [`TRIAL`](crate::session::TRIAL) ticks in a row: called once after a boot.
    fn proved(&mut self);

    /// Whether there is a slot at all.
    fn supported(&self) -> bool {
        true
    }
}

/// A device whose policy is part of its program.
impl Updates for () {
    fn begin(&mut self, _: PolicyId, _: Option<Seal<'_>>) -> Result<u32, UploadRefusal> {
        Err(UploadRefusal::TooLarge { max: 0 })
    }
    fn write(&mut self, _: u32, _: &[u8]) -> Result<u32, UploadRefusal> {
        Err(UploadRefusal::NotBegun)
    }
    fn finish(&mut self) -> Result<(), UploadRefusal> {
        Err(UploadRefusal::NotBegun)
    }
    fn proved(&mut self) {}
    fn supported(&self) -> bool {
        false
    }
}

/// What remembers the last seconds.
pub trait History {
    /// Is told of every tick.
    fn record(&mut self, record: &Record<'_>);

    /// All that is remembered; empty where nothing is.
    fn bytes(&self) -> &[u8];
}

/// A device without a black box.
impl History for () {
    fn record(&mut self, _: &Record<'_>) {}
    fn bytes(&self) -> &[u8] {
        &[]
    }
}

impl History for BlackBox<'_> {
    fn record(&mut self, record: &Record<'_>) {
        self.record(record);
    }
    fn bytes(&self) -> &[u8] {
        self.bytes()
    }
}

/// A device that may have one.
impl<H: History> History for Option<H> {
    fn record(&mut self, record: &Record<'_>) {
        if let Some(history) = self {
            history.record(record);
        }
    }
    fn bytes(&self) -> &[u8] {
        self.as_ref().map_or(&[], H::bytes)
    }
}
