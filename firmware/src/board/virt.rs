//! QEMU's RISC-V board `virt` with an RV32IMAC core: the ISA and the size of an ESP32-C3's or an RP2350's other cores.
//!
//! - Time: `mtime`, 64 bits at 10 MHz. Under `-icount shift=0` one count is exactly 100 instructions.
//! - Control tick: counted, not interrupted; restarted whenever the loop waits for it (see [`BlockingBoard::wait_for_tick`]).
//! - Watchdog: the board has none, so the timer interrupt stands in for it.
//! - Log: defmt over semihosting. Exit status: semihosting.
//! - Stack: at the bottom of RAM; overflowing it faults.

mod clock;
mod stack;
mod trap;

use super::Unusable;
use dt_control::{
    BlockingBoard, Board, FloatMode, PeriodTooLong, Processor, Tick, Watchdog, counts,
};

pub use riscv::singleton;
pub use riscv_rt::entry;

pub use super::semihosted::exit;
pub use clock::now;
pub use stack::{stack_len, stack_used};

/// Name of the board the image was built for, as QEMU's `-M`.
pub const NAME: &str = env!("DT_BOARD");

const CLOCK_HZ: u32 = 10_000_000;

/// The board's time and watchdog.
pub struct Virt {
    period: u64,
    next_tick: u64,
    /// Counts without [`Board::feed_watchdog`] after which it bites.
    timeout: u64,
}

impl Virt {
    /// Takes the board.
    ///
    /// # Errors
    /// None: floats are computed in software, which has one mode, IEEE 754's.
    pub fn take() -> Result<Self, Unusable> {
        stack::paint();
        stack::guard();
        Ok(Self {
            period: 1,
            next_tick: 0,
            timeout: 0,
        })
    }
}

impl Processor for Virt {
    const CLOCK_HZ: u32 = CLOCK_HZ;

    fn now(&mut self) -> u64 {
        now()
    }

    /// The compiler's software follows IEEE 754.
    fn float_mode(&mut self) -> Result<(), FloatMode> {
        Ok(())
    }
}

impl Board for Virt {
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong> {
        let period = counts(CLOCK_HZ, period_us);
        if period == 0 {
            let max_us = u32::MAX;
            return Err(PeriodTooLong { period_us, max_us });
        }
        self.period = period;
        self.next_tick = now() + period;
        Ok(())
    }

    fn start_watchdog(&mut self, timeout_us: u32) {
        self.timeout = counts(CLOCK_HZ, timeout_us);
        self.feed_watchdog();
        trap::enable_timer();
    }

    fn feed_watchdog(&mut self) {
        clock::alarm(now() + self.timeout);
    }

    fn stop_watchdog(&mut self) -> Watchdog {
        trap::disable_timer();
        Watchdog::Stopped
    }
}

impl BlockingBoard for Virt {
    /// Does not sleep: the emulator would sleep in real time. The rest of the period is skipped instead.
    fn wait_for_tick(&mut self) -> Tick {
        let at = now();
        let missed = match at.checked_sub(self.next_tick) {
            None => 0,
            Some(late) => 1 + late / self.period,
        };
        self.next_tick = at + self.period;
        Tick {
            at,
            missed: missed as u32,
        }
    }
}

/// Time since boot, modulo 2³²: for many short spans.
pub fn counter() -> u32 {
    now() as u32
}
