//! Arm's MPS2 FPGA boards as QEMU emulates them: `mps2-an386` (Cortex-M4F), `mps2-an500` (Cortex-M7),
//! `mps2-an385` (Cortex-M3, which also runs what is compiled for an M0+), `mps2-an505` (Cortex-M33) and `mps3-an547` (Cortex-M55), both in their secure state.
//!
//! - Time: CMSDK APB timer 0, 32 bits at 25 or 20 MHz, or the M55's system counter at 32 MHz. Under `-icount shift=0` one count
//!   is 40, 50 or 31.25 instructions.
//! - Control tick: SysTick, from the same clock, restarted whenever the loop waits for it (see [`BlockingBoard::wait_for_tick`]).
//! - Watchdog: CMSDK APB watchdog, raising the non-maskable interrupt.
//! - Wire: CMSDK APB UART 0, the emulator's first `-serial`.
//! - Log: defmt over semihosting. Exit status: semihosting.
//! - Stack: at the bottom of RAM; overflowing it faults.

mod fault;
mod machine;
mod stack;
mod uart;

use core::sync::atomic::{AtomicU32, Ordering};

use super::Unusable;
use cortex_m::asm;
use cortex_m::interrupt;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use dt_control::{
    BlockingBoard, Board, FloatMode, PeriodTooLong, Processor, Tick, Watchdog, counts,
};
use dt_device::board::Sleep;
use machine::CLOCK_HZ;

pub use cortex_m::singleton;
pub use cortex_m_rt::entry;

pub use super::semihosted::exit;
pub use stack::{stack_len, stack_used};
pub use uart::Uart;

/// Name of the board the image was built for, as in `--board` and QEMU's `-M`.
pub const NAME: &str = env!("DT_BOARD");

/// Control periods that ran out before the loop waited for the next; wraps.
static TICKS: AtomicU32 = AtomicU32::new(0);

/// The last reading of the counter and how often it had wrapped: together the 64-bit time.
static COUNTER: AtomicU32 = AtomicU32::new(0);
static WRAPS: AtomicU32 = AtomicU32::new(0);

/// The board's time and watchdog.
pub struct Mps2 {
    systick: SYST,
    ticks_seen: u32,
}

impl Mps2 {
    /// Takes the board and starts its clock.
    ///
    /// # Errors
    /// [`Unusable`] says why not.
    pub fn take() -> Result<Self, Unusable> {
        let peripherals = cortex_m::Peripherals::take().ok_or(Unusable::Taken)?;
        float_mode()?;
        #[cfg(dt_board = "mps3-an547")]
        machine::use_vector_table(&peripherals.SCB);
        #[cfg(not(dt_armv8m))]
        stack::guard(&peripherals.MPU);
        #[cfg(dt_armv8m)]
        stack::limit();
        timer::start();
        Ok(Self {
            systick: peripherals.SYST,
            ticks_seen: 0,
        })
    }
}

impl Processor for Mps2 {
    const CLOCK_HZ: u32 = CLOCK_HZ;

    fn now(&mut self) -> u64 {
        now()
    }

    fn float_mode(&mut self) -> Result<(), FloatMode> {
        float_mode()
    }
}

impl Board for Mps2 {
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong> {
        const MAX_COUNTS: u32 = 1 << 24; // SysTick has 24 bits.
        let period = counts(CLOCK_HZ, period_us);
        if period > u64::from(MAX_COUNTS) || period < 2 {
            return Err(PeriodTooLong {
                period_us,
                max_us: MAX_COUNTS / (CLOCK_HZ / 1_000_000),
            });
        }
        self.systick.set_clock_source(SystClkSource::Core);
        self.systick.set_reload(period as u32 - 1);
        self.systick.clear_current();
        self.ticks_seen = TICKS.load(Ordering::Relaxed);
        self.systick.enable_interrupt();
        self.systick.enable_counter();
        Ok(())
    }

    fn start_watchdog(&mut self, timeout_us: u32) {
        let counts = counts(machine::WATCHDOG_HZ, timeout_us);
        watchdog::start(u32::try_from(counts).unwrap_or(u32::MAX));
    }

    fn feed_watchdog(&mut self) {
        watchdog::feed();
    }

    fn stop_watchdog(&mut self) -> Watchdog {
        watchdog::stop();
        Watchdog::Stopped
    }
}

impl BlockingBoard for Mps2 {
    /// Does not sleep: the emulator would sleep in real time. The rest of the period is skipped instead, so
    /// that 50 ms of robot time take as long as the work in them.
    fn wait_for_tick(&mut self) -> Tick {
        self.systick.clear_current();
        let at = now();
        let ticks = TICKS.load(Ordering::Relaxed);
        let missed = ticks.wrapping_sub(self.ticks_seen);
        self.ticks_seen = ticks;
        Tick { at, missed }
    }
}

impl Sleep for Mps2 {
    /// In the time of the emulator's clock, which stands still for nobody here: somebody at the other end of the wire waits.
    fn sleep(&mut self) -> Option<Tick> {
        loop {
            // Masked, so that nothing comes between looking and sleeping; a pending interrupt wakes nevertheless.
            let woken = critical_section::with(|_| {
                let ticks = TICKS.load(Ordering::Relaxed);
                let passed = ticks.wrapping_sub(self.ticks_seen);
                if passed > 0 {
                    self.ticks_seen = ticks;
                    // SysTick counts down from its reload value since the last tick.
                    let since = SYST::get_reload().saturating_sub(SYST::get_current());
                    let at = now().saturating_sub(u64::from(since));
                    let missed = passed - 1;
                    return Some(Some(Tick { at, missed }));
                }
                if uart::has_received() {
                    return Some(None);
                }
                asm::wfi();
                None
            });
            if let Some(tick) = woken {
                return tick;
            }
        }
    }
}

fn float_mode() -> Result<(), FloatMode> {
    // Without a floating-point unit the compiler's software follows IEEE 754.
    #[cfg(target_abi = "eabihf")]
    dt_control::check_float_mode(cortex_m::register::fpscr::read().bits())?;
    Ok(())
}

/// Time since boot in counts of [`Processor::CLOCK_HZ`].
pub fn now() -> u64 {
    interrupt::free(|_| {
        let counter = timer::read();
        let mut wraps = WRAPS.load(Ordering::Relaxed);
        if counter < COUNTER.load(Ordering::Relaxed) {
            wraps = wraps.wrapping_add(1);
            WRAPS.store(wraps, Ordering::Relaxed);
        }
        COUNTER.store(counter, Ordering::Relaxed);
        u64::from(wraps) << 32 | u64::from(counter)
    })
}

/// The same, modulo 2³²: for many short spans.
pub fn counter() -> u32 {
    timer::read()
}

#[exception]
fn SysTick() {
    // The only writer; an M0+ has no atomic addition.
    TICKS.store(
        TICKS.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}

/// The watchdog ran out. Real actuators are cut by hardware; here the emulation ends.
#[exception]
unsafe fn NonMaskableInt() -> ! {
    defmt::error!("watchdog: the control loop hangs");
    exit(false)
}

/// System counter of the SSE-300 (Arm 101773, "System counter").
#[cfg(dt_board = "mps3-an547")]
mod timer {
    use super::register;

    const CONTROL: usize = 0x5810_0000;
    const VALUE: usize = 0x5810_1000;
    const CONTROL_ENABLE: u32 = 1;

    pub fn start() {
        register::write(CONTROL, CONTROL_ENABLE);
    }

    /// Counts since the start, modulo 2³².
    pub fn read() -> u32 {
        register::read(VALUE)
    }
}

/// CMSDK APB timer 0 (Arm DDI 0479, "APB timer"), counting down from its reload value for ever.
#[cfg(not(dt_board = "mps3-an547"))]
mod timer {
    use super::machine::TIMER as BASE;
    use super::register;

    const CTRL: usize = BASE;
    const VALUE: usize = BASE + 4;
    const RELOAD: usize = BASE + 8;
    const CTRL_ENABLE: u32 = 1;

    pub fn start() {
        register::write(RELOAD, u32::MAX);
        register::write(VALUE, u32::MAX);
        register::write(CTRL, CTRL_ENABLE);
    }

    /// Counts since the start, modulo 2³².
    pub fn read() -> u32 {
        !register::read(VALUE)
    }
}

/// CMSDK APB watchdog (Arm DDI 0479, "APB watchdog").
mod watchdog {
    use super::machine::WATCHDOG as BASE;
    use super::register;

    const LOAD: usize = BASE;
    const CONTROL: usize = BASE + 0x8;
    const INTERRUPT_CLEAR: usize = BASE + 0xC;
    const LOCK: usize = BASE + 0xC00;
    const UNLOCK: u32 = 0x1ACC_E551;
    const INTERRUPT_ENABLE: u32 = 1;

    /// Raises the non-maskable interrupt after `counts` without [`feed`].
    pub fn start(counts: u32) {
        register::write(LOCK, UNLOCK);
        register::write(LOAD, counts);
        register::write(CONTROL, INTERRUPT_ENABLE);
    }

    /// No interrupt, no counting.
    pub fn stop() {
        register::write(LOCK, UNLOCK);
        register::write(CONTROL, 0);
    }

    /// Any write reloads the counter.
    pub fn feed() {
        register::write(INTERRUPT_CLEAR, 1);
    }
}

/// Access to memory-mapped registers.
mod register {
    use core::ptr;

    pub fn read(address: usize) -> u32 {
        // SAFETY: this module's callers name word-aligned device registers of the board, which read without side effects.
        unsafe { ptr::read_volatile(address as *const u32) }
    }

    pub fn write(address: usize, value: u32) {
        // SAFETY: as above; the timer and the watchdog touch no memory.
        unsafe { ptr::write_volatile(address as *mut u32, value) }
    }
}
