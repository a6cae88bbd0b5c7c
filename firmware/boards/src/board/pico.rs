//! Raspberry Pi Pico (RP2040) and Pico 2 (RP2350).
//!
//! - Link: USB while a host has its serial port open, else UART0: GP0 transmits and GP1 receives.
//! - LED: GP25.

use cortex_m::{Peripherals, asm};
use dt_control::{ResetCause, Watchdog};
use dt_device::slots::{Layout, parts};
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{FLASH, UART0, USB};
use embassy_rp::uart::{BufferedInterruptHandler, BufferedUart, Config};
use embassy_rp::usb::{Driver, InterruptHandler};
use embassy_rp::{bind_interrupts, flash, pac, watchdog};
use embassy_time::Duration;
use embedded_hal::digital::PinState;

use super::Parts;
use crate::controller::Dog;
use crate::flash::Rom;
use crate::lamp::Lamp;
use crate::usb::UsbFirst;
use crate::wire::{BAUD, Queues, Wire};

/// The core's clock.
pub const CLOCK_HZ: u32 = if cfg!(feature = "pico") {
    125_000_000
} else {
    150_000_000
};
/// SysTick goes on while the core sleeps.
pub const SLEEPS: bool = true;

bind_interrupts!(struct Interrupts {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
    USBCTRL_IRQ => InterruptHandler<USB>;
});

/// Where policies lie.
#[cfg(feature = "pico")]
pub const SLOTS: Layout = parts::RP2040;
/// Where policies lie.
#[cfg(feature = "pico2")]
pub const SLOTS: Layout = parts::RP2350;

/// Bytes of the flash chip.
const FLASH_BYTES: usize = SLOTS.slots[1].end() as usize;

/// The driver empties the cache above the flash.
pub fn see_flash() {}

/// The longest time that the watchdog can be given, in µs: the RP2040 counts twice a microsecond (its erratum E1).
const LONGEST_US: u32 = 0xFF_FFFF / 2;

/// Gives the watchdog, if it runs, the longest time there is; the next feeding gives it its own again.
pub fn hold_watchdog() {
    pac::WATCHDOG.load().write(|load| load.set_load(0xFF_FFFF));
}

/// Starts clocks and pins.
pub fn start(
    _: &mut Peripherals,
    queues: Queues,
) -> Option<Parts<Rp, UsbFirst<BufferedUart>, Output<'static>, RpFlash>> {
    let part = embassy_rp::init(Default::default());
    let mut config = Config::default();
    config.baudrate = BAUD;
    let uart = BufferedUart::new(
        part.UART0,
        part.PIN_0,
        part.PIN_1,
        Interrupts,
        queues.sending,
        queues.received,
        config,
    );
    crate::usb::start(Driver::new(part.USB, Interrupts))?;
    let watchdog = watchdog::Watchdog::new(part.WATCHDOG);
    Some(Parts {
        reset_cause: match watchdog.reset_reason() {
            Some(watchdog::ResetReason::TimedOut) => ResetCause::Watchdog,
            Some(watchdog::ResetReason::Forced) => ResetCause::Software,
            None => chip_reset(),
        },
        dog: Rp {
            watchdog,
            timeout: Duration::MIN,
        },
        wire: UsbFirst(Wire(uart)),
        lamp: Lamp::new(Output::new(part.PIN_25, Level::Low), PinState::High),
        flash: Rom(flash::Flash::new_blocking(part.FLASH)),
    })
}

/// Why the whole chip was reset. A brown-out is no other reason than power that came.
#[cfg(feature = "pico")]
fn chip_reset() -> ResetCause {
    let flags = pac::VREG_AND_CHIP_RESET.chip_reset().read();
    match flags {
        _ if flags.had_por() => ResetCause::PowerOn,
        _ if flags.had_run() => ResetCause::Pin,
        _ => ResetCause::Unknown,
    }
}

/// Why the whole chip was reset.
#[cfg(feature = "pico2")]
fn chip_reset() -> ResetCause {
    let flags = pac::POWMAN.chip_reset().read();
    match flags {
        _ if flags.had_bor() => ResetCause::BrownOut,
        _ if flags.had_por() => ResetCause::PowerOn,
        _ if flags.had_run_low() => ResetCause::Pin,
        _ => ResetCause::Unknown,
    }
}

/// The flash chip beside the part.
pub type RpFlash = flash::Flash<'static, FLASH, flash::Blocking, FLASH_BYTES>;

/// The part's watchdog.
pub struct Rp {
    watchdog: watchdog::Watchdog,
    timeout: Duration,
}

impl Dog for Rp {
    fn start(&mut self, timeout_us: u32) {
        self.timeout = Duration::from_micros(u64::from(timeout_us.min(LONGEST_US)));
        self.watchdog.start(self.timeout);
    }

    fn feed(&mut self) {
        self.watchdog.feed(self.timeout);
    }

    fn stop(&mut self) -> Watchdog {
        self.watchdog.stop();
        Watchdog::Stopped
    }

    /// By the watchdog, which resets the peripherals too.
    fn restart(&mut self) -> ! {
        self.watchdog.trigger_reset();
        loop {
            asm::nop();
        }
    }
}
