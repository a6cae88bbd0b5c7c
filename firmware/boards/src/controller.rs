//! What `dt-control` and `dt-device` ask of a board, out of the clock that all have and the watchdog that each brings.

use core::convert::Infallible;

use cortex_m::peripheral::SCB;
use dt_control::{Board, FloatMode, PeriodTooLong, Processor, ResetCause, Tick, Watchdog};
use dt_device::board::Sleep;

use crate::board::CLOCK_HZ;
use crate::clock::{self, Clock};

/// A part's watchdog.
pub trait Dog {
    /// Starts it, or feeds it where it runs already: it resets the part after `timeout_us`, or the longest time that it has.
    fn start(&mut self, timeout_us: u32);

    /// Counts from the beginning again.
    fn feed(&mut self);

    /// Stops it, where it can be.
    fn stop(&mut self) -> Watchdog;

    /// Resets the part.
    fn restart(&mut self) -> ! {
        SCB::sys_reset()
    }
}

/// Time, control tick and watchdog.
pub struct Controller<D> {
    clock: Clock,
    dog: D,
    reset_cause: ResetCause,
}

impl<D: Dog> Controller<D> {
    /// With a running clock.
    pub fn new(clock: Clock, dog: D, reset_cause: ResetCause) -> Self {
        Self {
            clock,
            dog,
            reset_cause,
        }
    }

    /// Resets it.
    pub fn restart(&mut self) -> Option<Infallible> {
        self.dog.restart()
    }
}

impl<D> Processor for Controller<D> {
    const CLOCK_HZ: u32 = CLOCK_HZ;

    fn now(&mut self) -> u64 {
        clock::now()
    }

    fn float_mode(&mut self) -> Result<(), FloatMode> {
        // Without a floating-point unit the compiler's software follows IEEE 754.
        #[cfg(target_abi = "eabihf")]
        dt_control::check_float_mode(cortex_m::register::fpscr::read().bits())?;
        Ok(())
    }
}

impl<D: Dog> Board for Controller<D> {
    /// Ticks at any period.
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong> {
        self.clock.start_ticks(period_us);
        Ok(())
    }

    fn start_watchdog(&mut self, timeout_us: u32) {
        self.dog.start(timeout_us);
    }

    fn feed_watchdog(&mut self) {
        self.dog.feed();
    }

    fn reset_cause(&mut self) -> ResetCause {
        self.reset_cause
    }

    fn stop_watchdog(&mut self) -> Watchdog {
        self.dog.stop()
    }
}

impl<D: Dog> Sleep for Controller<D> {
    fn sleep(&mut self) -> Option<Tick> {
        self.clock.sleep()
    }
}
