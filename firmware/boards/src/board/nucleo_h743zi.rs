//! ST Nucleo-H743ZI (STM32H743ZI).
//!
//! - Link: USART3, which the ST-LINK passes on as a virtual serial port of its USB.
//! - LED: LD1, PB0.

use core::arch::asm;

use cortex_m::Peripherals;
use cortex_m::asm;
use cortex_m::peripheral::{MPU, SCB};
use dt_control::ResetCause;
use dt_device::slots::{Layout, parts};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{IWDG1, USART3};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, Hse, HseMode, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk,
    VoltageScale,
};
use embassy_stm32::time::Hertz;
use embassy_stm32::usart::{self, BufferedUart};
use embassy_stm32::{Config, bind_interrupts, flash, pac};
use embedded_hal::digital::PinState;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use super::Parts;
pub use super::stm32::hold_watchdog;
use super::stm32::{Iwdg, Uart, settings};
use crate::constants::BLACK_BOX_LEN;
use crate::flash::Rom;
use crate::lamp::Lamp;
use crate::wire::{Queues, Wire};

/// The core's clock: what every revision of the part can.
pub const CLOCK_HZ: u32 = 400_000_000;
/// SysTick goes on while the core sleeps.
pub const SLEEPS: bool = true;

bind_interrupts!(struct Interrupts {
    USART3 => usart::BufferedInterruptHandler<USART3>;
});

/// Where policies lie.
pub const SLOTS: Layout = parts::H743;

/// Starts clocks and pins.
pub fn start(
    core: &mut Peripherals,
    queues: Queues,
) -> Option<Parts<Iwdg<IWDG1>, Wire<Uart>, Output<'static>, Flash>> {
    uncache_black_box(&core.MPU);
    core.SCB.enable_icache();
    core.SCB.enable_dcache(&mut core.CPUID);
    let mut config = Config::default();
    // 8 MHz from the ST-LINK.
    config.rcc.hse = Some(Hse {
        freq: Hertz(8_000_000),
        mode: HseMode::Bypass,
    });
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSE,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL400,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    let part = embassy_stm32::init(config);
    let Queues { sending, received } = queues;
    let uart = BufferedUart::new(
        part.USART3,
        part.PD9,
        part.PD8,
        sending,
        received,
        Interrupts,
        settings(),
    );
    Some(Parts {
        reset_cause: reset_cause(),
        flash: Rom(Flash(flash::Flash::new_blocking(part.FLASH))),
        dog: Iwdg::new(part.IWDG1),
        wire: Wire(uart.ok()?),
        lamp: Lamp::new(
            Output::new(part.PB0, Level::Low, Speed::Low),
            PinState::High,
        ),
    })
}

/// Keeps the data cache away from the black box, so that a reset finds all of it in the memory: normal memory that is not cached, whole
/// region 0 of the memory protection unit; the rest stays as it is (Armv7-M ARM, B3.5.4 to B3.5.9).
fn uncache_black_box(mpu: &MPU) {
    const AT: u32 = 0x2400_0000;
    const BYTES: u32 = BLACK_BOX_LEN as u32;
    const _: () = assert!(BYTES.is_power_of_two() && AT.is_multiple_of(BYTES));
    const NOT_EXECUTED: u32 = 1 << 28;
    const READ_WRITE: u32 = 0b011 << 24;
    const NORMAL_NOT_CACHED: u32 = 0b001 << 19;
    const SIZE: u32 = (BYTES.ilog2() - 1) << 1;
    const ENABLE: u32 = 1;
    const ELSE_AS_DEFAULT: u32 = 1 << 2;
    // SAFETY: nobody has touched the region yet, and what may be done with it stays the same.
    unsafe {
        mpu.rnr.write(0);
        mpu.rbar.write(AT);
        mpu.rasr
            .write(NOT_EXECUTED | READ_WRITE | NORMAL_NOT_CACHED | SIZE | ENABLE);
        mpu.ctrl.write(ELSE_AS_DEFAULT | ENABLE);
    }
    asm::dsb();
    asm::isb();
}

/// Throws away what the data cache has of the flash. All RAM that the program uses is outside the cache's reach.
pub fn see_flash() {
    // SAFETY: nobody else touches the cache after the start.
    let mut core = unsafe { Peripherals::steal() };
    core.SCB.clean_invalidate_dcache(&mut core.CPUID);
}

fn reset_cause() -> ResetCause {
    let flags = pac::RCC.rsr().read();
    pac::RCC.rsr().modify(|rsr| rsr.set_rmvf(true));
    match flags {
        _ if flags.iwdg1rstf() => ResetCause::Watchdog,
        _ if flags.sftrstf() => ResetCause::Software,
        _ if flags.porrstf() => ResetCause::PowerOn,
        _ if flags.borrstf() => ResetCause::BrownOut,
        _ if flags.pinrstf() => ResetCause::Pin,
        _ => ResetCause::Unknown,
    }
}

/// The flash, whose words have an error-correcting code: one that a power cut has torn cannot be read, and the core would fault.
pub struct Flash(flash::Flash<'static, flash::Blocking>);

/// Why the flash failed.
#[derive(Debug)]
pub enum FlashError {
    /// What the driver says.
    Driver(flash::Error),
    /// A torn word.
    Torn,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Driver(error) => error.kind(),
            Self::Torn => NorFlashErrorKind::Other,
        }
    }
}

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = <flash::Flash<'static, flash::Blocking> as ReadNorFlash>::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let (result, torn) = without_bus_faults(|| self.0.blocking_read(offset, bytes));
        match torn {
            false => result.map_err(FlashError::Driver),
            true => Err(FlashError::Torn),
        }
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = <flash::Flash<'static, flash::Blocking> as NorFlash>::WRITE_SIZE;
    const ERASE_SIZE: usize = <flash::Flash<'static, flash::Blocking> as NorFlash>::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.0.blocking_erase(from, to).map_err(FlashError::Driver)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0
            .blocking_write(offset, bytes)
            .map_err(FlashError::Driver)
    }
}

/// Runs `read` with bus faults of data ignored (Armv7-M ARM, B3.2.8: CCR.BFHFNMIGN, in force at priority -1 and below), and says
/// whether the flash had one to report (RM0433, 4.7.7: FLASH_SR, DBECCERR).
fn without_bus_faults<T>(read: impl FnOnce() -> T) -> (T, bool) {
    const IGNORE: u32 = 1 << 8;
    let banks = || [0, 1].map(|bank| pac::FLASH.bank(bank));
    let clear = || banks().map(|bank| bank.ccr().write(|ccr| ccr.set_clr_dbeccerr(true)));
    // SAFETY: only the system control block is used, by nobody else meanwhile: the highest priority but NMI's is in force.
    let scb: &SCB = unsafe { &Peripherals::steal().SCB };
    clear();
    // SAFETY: faults are taken again below.
    unsafe { asm!("cpsid f") };
    // SAFETY: as above.
    unsafe { scb.ccr.modify(|ccr| ccr | IGNORE) };
    let result = read();
    asm::dsb();
    let torn = banks().into_iter().any(|bank| bank.sr().read().dbeccerr());
    // SAFETY: as above.
    unsafe { scb.ccr.modify(|ccr| ccr & !IGNORE) };
    // SAFETY: back to where it was; nothing calls this with faults masked.
    unsafe { asm!("cpsie f") };
    clear();
    (result, torn)
}
