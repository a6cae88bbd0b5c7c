//! ST Nucleo-F446RE (STM32F446RE).
//!
//! - Link: USART2, which the ST-LINK passes on as a virtual serial port of its USB.
//! - LED: LD2, PA5.

use cortex_m::Peripherals;
use dt_device::slots::{Layout, parts};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{IWDG, USART2};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, Hse, HseMode, Pll, PllMul, PllPDiv, PllPreDiv, PllSource, Sysclk,
};
use embassy_stm32::time::Hertz;
use embassy_stm32::usart::{self, BufferedUart};
use embassy_stm32::{Config, bind_interrupts};
use embedded_hal::digital::PinState;

use super::Parts;
use super::stm32::{Flash, Iwdg, Uart, reset_cause, settings};
pub use super::stm32::{hold_watchdog, see_flash};
use crate::flash::Rom;
use crate::lamp::Lamp;
use crate::wire::{Queues, Wire};

/// The core's clock.
pub const CLOCK_HZ: u32 = 180_000_000;
/// SysTick goes on while the core sleeps.
pub const SLEEPS: bool = true;

bind_interrupts!(struct Interrupts {
    USART2 => usart::BufferedInterruptHandler<USART2>;
});

/// Where policies lie.
pub const SLOTS: Layout = parts::F446;

/// Starts clocks and pins.
pub fn start(
    _: &mut Peripherals,
    queues: Queues,
) -> Option<Parts<Iwdg<IWDG>, Uart, Output<'static>, Flash>> {
    let mut config = Config::default();
    // 8 MHz from the ST-LINK.
    config.rcc.hse = Some(Hse {
        freq: Hertz(8_000_000),
        mode: HseMode::Bypass,
    });
    config.rcc.pll_src = PllSource::HSE;
    config.rcc.pll = Some(Pll {
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL180,
        divp: Some(PllPDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV1;
    config.rcc.apb1_pre = APBPrescaler::DIV4;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    let part = embassy_stm32::init(config);
    see_flash();
    let Queues { sending, received } = queues;
    let uart = BufferedUart::new(
        part.USART2,
        part.PA3,
        part.PA2,
        sending,
        received,
        Interrupts,
        settings(),
    );
    Some(Parts {
        reset_cause: reset_cause(),
        flash: Rom(Flash::new_blocking(part.FLASH)),
        dog: Iwdg::new(part.IWDG),
        wire: Wire(uart.ok()?),
        lamp: Lamp::new(
            Output::new(part.PA5, Level::Low, Speed::Low),
            PinState::High,
        ),
    })
}
