//! Time for embassy from the timer that every Cortex-M has. A product's HAL brings a better one, which does not wake every
//! millisecond.

use core::cell::{Cell, RefCell};
use core::task::Waker;

use cortex_m::Peripherals;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};
use embassy_time_queue_utils::Queue;

/// The core's clock.
const CLOCK_HZ: u32 = 25_000_000;

/// Starts to count. Does nothing where the core's peripherals are already taken.
pub fn start() {
    if let Some(Peripherals { mut SYST, .. }) = Peripherals::take() {
        SYST.set_clock_source(SystClkSource::Core);
        SYST.set_reload(CLOCK_HZ / TICK_HZ as u32 - 1);
        SYST.clear_current();
        SYST.enable_interrupt();
        SYST.enable_counter();
    }
}

struct SysTick {
    now: Mutex<Cell<u64>>,
    sleepers: Mutex<RefCell<Queue>>,
}

time_driver_impl!(static DRIVER: SysTick = SysTick {
    now: Mutex::new(Cell::new(0)),
    sleepers: Mutex::new(RefCell::new(Queue::new())),
});

impl Driver for SysTick {
    fn now(&self) -> u64 {
        critical_section::with(|section| self.now.borrow(section).get())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|section| {
            self.sleepers
                .borrow(section)
                .borrow_mut()
                .schedule_wake(at, waker);
        });
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|section| {
        let now = DRIVER.now.borrow(section).get() + 1;
        DRIVER.now.borrow(section).set(now);
        // Wakes whoever is due.
        let mut sleepers = DRIVER.sleepers.borrow(section).borrow_mut();
        sleepers.next_expiration(now);
    });
}
