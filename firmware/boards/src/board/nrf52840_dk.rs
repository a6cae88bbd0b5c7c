//! Nordic nRF52840-DK.
//!
//! - Link: UART at P0.06 and P0.08, which the board's J-Link passes on as a virtual serial port of its USB.
//! - LED: LED1, P0.13.

use cortex_m::Peripherals;
use dt_control::{ResetCause, Watchdog};
use dt_device::slots::{Layout, parts};
use embassy_nrf::buffered_uarte::{self, BufferedUarte};
use embassy_nrf::config::{Config, HfclkSource};
use embassy_nrf::gpio::{Level, Output, OutputDrive};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::peripherals::{UARTE0, WDT};
use embassy_nrf::{Peri, bind_interrupts, pac, uarte, wdt};
use embedded_hal::digital::PinState;

use super::Parts;
use crate::controller::Dog;
use crate::flash::Rom;
use crate::lamp::Lamp;
use crate::wire::{BAUD, Queues, Wire};

/// The core's clock.
pub const CLOCK_HZ: u32 = 64_000_000;
/// SysTick stops while the core sleeps.
pub const SLEEPS: bool = false;

bind_interrupts!(struct Interrupts {
    UARTE0 => buffered_uarte::InterruptHandler<UARTE0>;
});

/// Where policies lie.
pub const SLOTS: Layout = parts::NRF52840;

/// Starts clocks and pins.
pub fn start(
    _: &mut Peripherals,
    queues: Queues,
) -> Option<Parts<Nrf, Wire<BufferedUarte<'static>>, Output<'static>, Nvmc<'static>>> {
    let mut config = Config::default();
    config.hfclk_source = HfclkSource::ExternalXtal; // as precise as the UART needs
    let part = embassy_nrf::init(config);
    let reset_cause = reset_cause();
    let mut settings = uarte::Config::default();
    settings.baudrate = uarte::Baudrate::Baud921600;
    const _: () = assert!(BAUD == 921_600);
    let uart = BufferedUarte::new(
        part.UARTE0,
        part.TIMER0,
        part.PPI_CH0,
        part.PPI_CH1,
        part.PPI_GROUP0,
        part.P0_08,
        part.P0_06,
        Interrupts,
        settings,
        queues.received,
        queues.sending,
    );
    Some(Parts {
        reset_cause,
        flash: Rom(Nvmc::new(part.NVMC)),
        dog: Nrf {
            part: Some(part.WDT),
            running: None,
        },
        wire: Wire(uart),
        lamp: Lamp::new(
            Output::new(part.P0_13, Level::High, OutputDrive::Standard),
            PinState::Low,
        ),
    })
}

/// The watchdog waits for as long as a page takes to erase in any case.
pub fn hold_watchdog() {}

/// Nothing lies between the core and the flash.
pub fn see_flash() {}

fn reset_cause() -> ResetCause {
    let reasons = pac::POWER.resetreas().read();
    pac::POWER.resetreas().write_value(reasons); // Ones clear.
    match reasons {
        _ if reasons.dog() => ResetCause::Watchdog,
        _ if reasons.sreq() => ResetCause::Software,
        _ if reasons.resetpin() => ResetCause::Pin,
        // No reason at all: power came, or came back; the part does not tell which.
        _ if reasons.0 == 0 => ResetCause::PowerOn,
        _ => ResetCause::Unknown,
    }
}

/// The part's watchdog: once started it runs until the next reset.
pub struct Nrf {
    part: Option<Peri<'static, WDT>>,
    running: Option<wdt::WatchdogHandle>,
}

impl Dog for Nrf {
    fn start(&mut self, timeout_us: u32) {
        if let Some(part) = self.part.take() {
            // It may have been running since before a reset that did not stop it: then as it was.
            let config = wdt::Config::try_new(&part).unwrap_or_else(|| {
                let mut config = wdt::Config::default();
                // A page takes up to 90 ms to erase, and a policy longer to be checked, during which nobody feeds it, nor can it
                // be told so.
                let timeout_us = u64::from(timeout_us.max(1_000_000));
                config.timeout_ticks = (timeout_us * 32_768 / 1_000_000) as u32;
                config
            });
            self.running = wdt::Watchdog::try_new(part, config)
                .ok()
                .map(|(_, [handle])| handle);
        }
        self.feed();
    }

    fn feed(&mut self) {
        if let Some(running) = &mut self.running {
            running.pet();
        }
    }

    fn stop(&mut self) -> Watchdog {
        match self.running {
            None => Watchdog::Stopped,
            Some(_) => Watchdog::Armed,
        }
    }
}
