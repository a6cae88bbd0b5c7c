//! Time and control tick from SysTick, the timer that every Cortex-M has, so that no board has to bring one.
//!
//! It interrupts every millisecond and counts core cycles in between: time to the cycle, for any control period. While interrupts are
//! masked or the core waits for its flash for longer than that, milliseconds are lost: about two where a page of the RP2040's flash is
//! written, which happens once while a policy acts, when it is confirmed.

use core::cell::Cell;

use cortex_m::asm;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};
use cortex_m_rt::exception;
use critical_section::Mutex;
use dt_control::{Tick, counts};

use crate::board::{CLOCK_HZ, SLEEPS};

/// Counts between two interrupts.
const MILLISECOND: u32 = CLOCK_HZ / 1000;
const _: () = assert!(CLOCK_HZ.is_multiple_of(1000) && MILLISECOND <= 1 << 24);

/// Counts up to the last interrupt.
static WHOLE: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Counts since the start.
pub fn now() -> u64 {
    critical_section::with(|section| {
        let whole = WHOLE.borrow(section).get();
        let left = SYST::get_current();
        // Has it started over, and the interrupt not been served yet?
        let (whole, left) = match SCB::is_pendst_pending() {
            false => (whole, left),
            true => (whole + u64::from(MILLISECOND), SYST::get_current()),
        };
        whole + u64::from((MILLISECOND - 1).saturating_sub(left))
    })
}

/// Milliseconds since the start; they wrap after 49 days.
pub fn milliseconds() -> u32 {
    (now() / u64::from(MILLISECOND)) as u32
}

/// The running clock, and the next control tick.
pub struct Clock {
    period: u64,
    due: u64,
}

impl Clock {
    /// Starts to count.
    pub fn start(mut systick: SYST) -> Self {
        systick.set_clock_source(SystClkSource::Core);
        systick.set_reload(MILLISECOND - 1);
        systick.clear_current();
        systick.enable_interrupt();
        systick.enable_counter();
        Self { period: 1, due: 0 }
    }

    /// Control ticks from now on, the first in `period_us`.
    pub fn start_ticks(&mut self, period_us: u32) {
        self.period = counts(CLOCK_HZ, period_us).max(1);
        self.due = now() + self.period;
    }

    /// Sleeps until the next one or until the next interrupt, whichever comes first; the wire has one for what arrives. A tick that is
    /// late is served with what is left of its period.
    pub fn sleep(&mut self) -> Option<Tick> {
        let now = now();
        if now >= self.due {
            let missed = (now - self.due).checked_div(self.period).unwrap_or(0);
            let at = self.due + missed * self.period;
            self.due = at + self.period;
            return Some(Tick {
                at,
                missed: u32::try_from(missed).unwrap_or(u32::MAX),
            });
        }
        // An interrupt may come between a look at clock or wire and falling asleep. The next one comes a millisecond later.
        if SLEEPS && now + 2 * u64::from(MILLISECOND) < self.due {
            asm::wfi();
        }
        None
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|section| {
        let whole = WHOLE.borrow(section);
        whole.set(whole.get() + u64::from(MILLISECOND));
    });
}
