//! ST Nucleo-F446RE (STM32F446RE).
//!
//! - Link: USART2, which the ST-LINK passes on as a virtual serial port of its USB.
//! - LED: LD2, PA5.

use cortex_m::Peripherals;
use dt_device::slots::{Layout, parts};
use embassy_stm32::bind_interrupts;
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{IWDG, USART2};
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
) -> Option<Parts<Iwdg<IWDG>, Wire<Uart>, Output<'static>, Flash>> {
    // 8 MHz from the ST-LINK.
    let hse = Hse {
        freq: Hertz(8_000_000),
        mode: HseMode::Bypass,
    };
    let part = embassy_stm32::init(full_speed(hse, PllPreDiv::DIV4, PllMul::MUL180));
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
