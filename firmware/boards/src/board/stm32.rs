//! What the STM32 boards share.

#[cfg(not(feature = "nucleo-h743zi"))]
use dt_control::ResetCause;
use dt_control::Watchdog;
use embassy_stm32::Peri;
#[cfg(not(feature = "nucleo-h743zi"))]
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, Hse, Pll, PllMul, PllPDiv, PllPreDiv, PllSource, Sysclk,
};
use embassy_stm32::usart::{BufferedUart, Config};
use embassy_stm32::wdg::{IndependentWatchdog, Instance};
#[cfg(not(feature = "nucleo-h743zi"))]
use embassy_stm32::{flash, pac};

use crate::controller::Dog;
use crate::wire::BAUD;

/// The UART's settings.
pub fn settings() -> Config {
    let mut config = Config::default();
    config.baudrate = BAUD;
    config
}

/// The independent watchdog: once started it runs until the next reset.
pub struct Iwdg<T: Instance + 'static> {
    part: Option<Peri<'static, T>>,
    running: Option<IndependentWatchdog<'static, T>>,
}

impl<T: Instance> Iwdg<T> {
    /// Not started yet.
    pub fn new(part: Peri<'static, T>) -> Self {
        Self {
            part: Some(part),
            running: None,
        }
    }
}

impl<T: Instance> Dog for Iwdg<T> {
    fn start(&mut self, timeout_us: u32) {
        // A block of 128 KiB takes up to 2 s to erase, during which nobody feeds the watchdog, nor can it be told so.
        const SHORTEST: u32 = 4_000_000;
        const LONGEST: u32 = 32_000_000; // 4096 counts of 256 periods of 32 kHz
        if let Some(part) = self.part.take() {
            let timeout_us = timeout_us.clamp(SHORTEST, LONGEST);
            self.running
                .insert(IndependentWatchdog::new(part, timeout_us))
                .unleash();
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

/// The flash of an STM32F4.
#[cfg(not(feature = "nucleo-h743zi"))]
pub type Flash = flash::Flash<'static, flash::Blocking>;

/// Turns on an STM32F4's caches above the flash, with nothing in them.
#[cfg(not(feature = "nucleo-h743zi"))]
pub fn see_flash() {
    let acr = pac::FLASH.acr();
    acr.modify(|acr| acr.set_dcen(false));
    acr.modify(|acr| acr.set_dcrst(true));
    acr.modify(|acr| acr.set_dcrst(false));
    acr.modify(|acr| {
        acr.set_dcen(true);
        acr.set_icen(true);
        acr.set_prften(true);
    });
}

/// An STM32F4 at its full speed: `mul` MHz, of a crystal or clock of `2 · prediv` MHz, which is divided to 2 MHz, multiplied and halved.
#[cfg(not(feature = "nucleo-h743zi"))]
pub fn full_speed(hse: Hse, prediv: PllPreDiv, mul: PllMul) -> embassy_stm32::Config {
    let mut config = embassy_stm32::Config::default();
    config.rcc.hse = Some(hse);
    config.rcc.pll_src = PllSource::HSE;
    config.rcc.pll = Some(Pll {
        prediv,
        mul,
        divp: Some(PllPDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV1;
    config.rcc.apb1_pre = APBPrescaler::DIV4;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config
}

/// Why an STM32F4 has come out of reset.
#[cfg(not(feature = "nucleo-h743zi"))]
pub fn reset_cause() -> ResetCause {
    let flags = pac::RCC.csr().read();
    pac::RCC.csr().modify(|csr| csr.set_rmvf(true));
    match flags {
        _ if flags.wdgrstf() => ResetCause::Watchdog,
        _ if flags.sftrstf() => ResetCause::Software,
        _ if flags.porrstf() => ResetCause::PowerOn,
        _ if flags.borrstf() => ResetCause::BrownOut,
        _ if flags.padrstf() => ResetCause::Pin,
        _ => ResetCause::Unknown,
    }
}

/// The watchdog waits for as long as a block takes to erase in any case.
pub fn hold_watchdog() {}

/// The link's UART.
pub type Uart = BufferedUart<'static>;
