//! Adafruit Feather STM32F405 (STM32F405RG).
//!
//! - Link: USART3, TX (PB10) and RX (PB11).
//! - LED: the red one, PC1.

use cortex_m::Peripherals;
use dt_device::slots::{Layout, parts};
use embassy_stm32::bind_interrupts;
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{IWDG, USART3};
use embassy_stm32::rcc::{Hse, HseMode, PllMul, PllPreDiv};
use embassy_stm32::time::Hertz;
use embassy_stm32::usart::{self, BufferedUart};
use embedded_hal::digital::PinState;

use super::Parts;
use super::stm32::{Flash, Iwdg, Uart, full_speed, reset_cause, settings};
pub use super::stm32::{hold_watchdog, see_flash};
use crate::flash::Rom;
use crate::lamp::Lamp;
use crate::wire::{Queues, Wire};

/// The core's clock.
pub const CLOCK_HZ: u32 = 168_000_000;
/// SysTick goes on while the core sleeps.
pub const SLEEPS: bool = true;

bind_interrupts!(struct Interrupts {
    USART3 => usart::BufferedInterruptHandler<USART3>;
});

/// Where policies lie.
pub const SLOTS: Layout = parts::F405;

/// Starts clocks and pins.
pub fn start(
    _: &mut Peripherals,
    queues: Queues,
) -> Option<Parts<Iwdg<IWDG>, Wire<Uart>, Output<'static>, Flash>> {
    // A crystal of 12 MHz.
    let hse = Hse {
        freq: Hertz(12_000_000),
        mode: HseMode::Oscillator,
    };
    let part = embassy_stm32::init(full_speed(hse, PllPreDiv::DIV6, PllMul::MUL168));
    see_flash();
    let Queues { sending, received } = queues;
    let uart = BufferedUart::new(
        part.USART3,
        part.PB11,
        part.PB10,
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
            Output::new(part.PC1, Level::Low, Speed::Low),
            PinState::High,
        ),
    })
}
