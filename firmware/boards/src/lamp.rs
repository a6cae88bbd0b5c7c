//! The board's LED: two short flashes a second at rest, slow blinking while armed, steady while the policy runs or
//! tests itself, a fast flicker in a fault.

use dt_control::Mode;
use dt_device::board::Indicator;
use embedded_hal::digital::{OutputPin, PinState};

use crate::clock;

/// A LED at an output that lights it at one of its levels.
pub struct Lamp<P> {
    pin: P,
    lit: PinState,
}

impl<P: OutputPin> Lamp<P> {
    /// The LED at `pin`, lit by the level `lit`.
    pub fn new(pin: P, lit: PinState) -> Self {
        Self { pin, lit }
    }
}

impl<P: OutputPin> Indicator for Lamp<P> {
    fn show(&mut self, mode: Mode) {
        let now = clock::milliseconds();
        let on = match mode {
            Mode::Boot | Mode::SelfTest | Mode::Running => true,
            Mode::Idle => now % 512 < 32,
            Mode::Arming { .. } | Mode::Armed => now % 512 < 256,
            Mode::Faulted(_) => now % 128 < 64,
        };
        let level = if on { self.lit } else { !self.lit };
        // Outputs of microcontrollers do not fail.
        let _ = self.pin.set_state(level);
    }
}
