//! What a device asks of its board beyond the control loop's [`Board`](dt_control::Board).

use dt_control::Mode;

/// The link's wire, as interrupts or DMA fill and empty it. Neither function waits.
pub trait Port {
    /// Moves bytes that have arrived into `buffer` and says how many: 0 if there are none.
    fn receive(&mut self, buffer: &mut [u8]) -> usize;

    /// Takes bytes to be sent and says how many of them: fewer than all where its queue is full.
    fn send(&mut self, bytes: &[u8]) -> usize;
}

/// A lamp that says what the control loop does.
pub trait Indicator {
    /// Is called at every tick.
    fn show(&mut self, mode: Mode);
}
