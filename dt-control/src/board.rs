//! What the control loop needs of the hardware below it.
//!
//! A board provides time, the floating-point mode and the watchdog. Sensors and actuators belong to the robot
//! it is built into: [`Robot`](crate::Robot).

/// What [`ControlLoop::tick`](crate::ControlLoop::tick) itself asks of the processor that it runs on.
pub trait Processor {
    /// Counts of [`now`](Processor::now) per second.
    const CLOCK_HZ: u32;

    /// Time since boot, in counts of [`CLOCK_HZ`](Processor::CLOCK_HZ). Never wraps.
    ///
    /// To be called at least once a minute, since hardware counters are narrower.
    fn now(&mut self) -> u64;

    /// Whether floating-point arithmetic here and now is IEEE 754's: [`check_float_mode`] of an Arm FPSCR,
    /// `Ok` where the compiler's software computes.
    ///
    /// # Errors
    /// The first mode in which results differ from the host's.
    fn float_mode(&mut self) -> Result<(), FloatMode>;
}

/// Control tick and watchdog of a controller board, for [`run`](crate::run()) and
/// [`run_async`](crate::run_async()).
pub trait Board: Processor {
    /// Starts the periodic control tick; the first comes one period from now.
    ///
    /// # Errors
    /// [`PeriodTooLong`] if the timer cannot count that far.
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong>;

    /// Starts the watchdog: unless fed in time, it stops the robot by hardware means.
    fn start_watchdog(&mut self, timeout_us: u32);

    /// Proves to the watchdog that the control loop is alive.
    fn feed_watchdog(&mut self);

    /// Why the controller has last come out of reset, where the hardware tells; the same until the next one.
    fn reset_cause(&mut self) -> ResetCause {
        ResetCause::Unknown
    }

    /// Stops the watchdog, where the hardware lets it be stopped: asked for after a shutdown, with the safe
    /// action out. Many watchdogs run until the next reset once started (STM32's IWDG, the nRF52's WDT); a
    /// board that has such a one says [`Watchdog::Armed`].
    fn stop_watchdog(&mut self) -> Watchdog;
}

/// A board that waits for its ticks by sleeping.
pub trait BlockingBoard: Board {
    /// Sleeps until the next control tick.
    fn wait_for_tick(&mut self) -> Tick;
}

/// A board that waits for its ticks in an executor.
pub trait AsyncBoard: Board {
    /// Becomes ready at the next control tick.
    fn next_tick(&mut self) -> impl Future<Output = Tick>;
}

/// The start of a control period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tick {
    /// When it was due, in counts of [`Processor::now`]: what the deadline counts from. Whatever passed since,
    /// waking up included, is taken from the control step.
    pub at: u64,
    /// How many ticks had already passed unserved before this one: 0 if the loop was waiting in time.
    pub missed: u32,
}

/// Why a controller came out of reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ResetCause {
    /// The hardware does not tell.
    #[default]
    Unknown,
    /// It was switched on.
    PowerOn,
    /// By its reset pin.
    Pin,
    /// By its own software or a debugger.
    Software,
    /// The watchdog was not fed.
    Watchdog,
    /// The supply voltage dropped.
    BrownOut,
}

/// What the watchdog does after the loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "an armed watchdog has to be fed, or will reset the controller"]
pub enum Watchdog {
    /// It is off.
    Stopped,
    /// It cannot be stopped, and stops the robot unless fed.
    Armed,
}

/// The control period does not fit the board's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PeriodTooLong {
    /// What was asked for.
    pub period_us: u32,
    /// The longest possible.
    pub max_us: u32,
}

impl core::fmt::Display for PeriodTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { period_us, max_us } = self;
        write!(
            f,
            "the board's timer cannot tick every {period_us} µs; {max_us} µs is the most"
        )
    }
}

impl core::error::Error for PeriodTooLong {}

/// Counts of a clock that make up a time span.
pub const fn counts(clock_hz: u32, span_us: u32) -> u64 {
    clock_hz as u64 * span_us as u64 / 1_000_000
}

/// The floating-point unit is in a mode in which results differ from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
