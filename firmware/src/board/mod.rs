//! What the control loop needs of a board, and the boards.
//!
//! A board provides time and the watchdog. Sensors and actuators belong to the robot it is built into:
//! [`crate::control::Robot`].

#[cfg(all(target_os = "none", target_arch = "arm"))]
pub mod mps2;

/// The emulated board that this image is built for.
#[cfg(all(target_os = "none", target_arch = "arm"))]
pub use mps2::{self as emulated, Mps2 as Emulated};

/// The emulator's time is one nanosecond per instruction (`-icount shift=0`).
pub const EMULATED_INSTRUCTIONS_PER_SECOND: u32 = 1_000_000_000;

/// Time and watchdog of a controller board.
pub trait Board {
    /// Counts of [`now`](Board::now) per second.
    const CLOCK_HZ: u32;

    /// Time since boot, in counts of [`CLOCK_HZ`](Board::CLOCK_HZ). Never wraps.
    ///
    /// To be called at least once a minute, since hardware counters are narrower.
    fn now(&mut self) -> u64;

    /// Starts the periodic control tick; the first comes one period from now.
    ///
    /// # Errors
    /// [`PeriodTooLong`] if the timer cannot count that far.
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong>;

    /// Sleeps until the next control tick. Returns how many ticks had already passed before the call: 0 if
    /// the caller is on time.
    fn wait_for_tick(&mut self) -> u32;

    /// Starts the watchdog: unless fed in time, it stops the robot by hardware means.
    fn start_watchdog(&mut self, timeout_us: u32);

    /// Proves to the watchdog that the control loop is alive.
    fn feed_watchdog(&mut self);
}

/// The control period does not fit the board's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct PeriodTooLong {
    /// What was asked for.
    pub period_us: u32,
    /// The longest possible.
    pub max_us: u32,
}

/// Counts of a clock that make up a time span.
pub const fn counts(clock_hz: u32, span_us: u32) -> u64 {
    clock_hz as u64 * span_us as u64 / 1_000_000
}

/// The floating-point unit is in a mode in which results differ from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum FloatMode {
    /// Subnormal numbers are replaced by zero (FPSCR.FZ).
    FlushToZero,
    /// NaNs are replaced by the default one (FPSCR.DN).
    DefaultNan,
    /// Results are not rounded to nearest even (FPSCR.RMode).
    Rounding,
}

/// Decodes the mode bits of an Arm floating-point status register (Armv7-M ARM, B1.4.21 "FPSCR").
///
/// # Errors
/// The first mode in which arithmetic is not IEEE 754's.
pub const fn check_float_mode(fpscr: u32) -> Result<(), FloatMode> {
    if fpscr & (1 << 24) != 0 {
        Err(FloatMode::FlushToZero)
    } else if fpscr & (1 << 25) != 0 {
        Err(FloatMode::DefaultNan)
    } else if fpscr & (0b11 << 22) != 0 {
        Err(FloatMode::Rounding)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ieee_mode_passes() {
        assert_eq!(check_float_mode(0), Ok(()));
        // Condition flags and the cumulative exception bits do not change results.
        assert_eq!(check_float_mode(0xF000_009F), Ok(()));
        assert_eq!(check_float_mode(1 << 24), Err(FloatMode::FlushToZero));
        assert_eq!(check_float_mode(1 << 25), Err(FloatMode::DefaultNan));
        assert_eq!(check_float_mode(1 << 22), Err(FloatMode::Rounding));
        assert_eq!(check_float_mode(1 << 23), Err(FloatMode::Rounding));
    }

    #[test]
    fn counts_of_a_control_period() {
        assert_eq!(counts(25_000_000, 50_000), 1_250_000);
        assert_eq!(counts(u32::MAX, u32::MAX), 18_446_744_065_119); // no overflow
    }
}
