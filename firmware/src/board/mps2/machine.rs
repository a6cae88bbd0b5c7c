//! What differs between the boards: the clocks, and where the peripherals are.

#[cfg(dt_board = "mps2-an505")]
pub use an505::*;
#[cfg(dt_board = "mps3-an547")]
pub use an547::*;
#[cfg(not(dt_armv8m))]
pub use mps2::*;

/// Arm DAI 0385, 0386, 0500.
#[cfg(not(dt_armv8m))]
mod mps2 {
    pub const CLOCK_HZ: u32 = 25_000_000;
    pub const TIMER: usize = 0x4000_0000;
    pub const WATCHDOG: usize = 0x4000_8000;
    pub const WATCHDOG_HZ: u32 = CLOCK_HZ;
    pub const UART: usize = 0x4000_4000;
    /// Of the receiver; the transmitter's is the next.
    pub const UART_INTERRUPT: u16 = 0;
}

/// Arm DAI 0505; the secure aliases.
#[cfg(dt_board = "mps2-an505")]
mod an505 {
    pub const CLOCK_HZ: u32 = 20_000_000;
    pub const TIMER: usize = 0x5000_0000;
    pub const WATCHDOG: usize = 0x5008_1000;
    pub const WATCHDOG_HZ: u32 = CLOCK_HZ;
    pub const UART: usize = 0x5020_0000;
    /// Of the receiver; the transmitter's is the next.
    pub const UART_INTERRUPT: u16 = 32;
}

/// Arm DAI 0547; the secure aliases.
#[cfg(dt_board = "mps3-an547")]
mod an547 {
    use cortex_m::peripheral::SCB;

    pub const CLOCK_HZ: u32 = 32_000_000;
    /// The one of the slow clock: the only one that the emulator has.
    pub const WATCHDOG: usize = 0x5802_E000;
    pub const WATCHDOG_HZ: u32 = 32_000;
    pub const UART: usize = 0x5930_3000;
    /// Of the receiver; the transmitter's is the next.
    pub const UART_INTERRUPT: u16 = 33;

    /// From now on exceptions come through the image's own table: the core boots from another place, where there is only its
    /// beginning (`memory/an547.x`).
    pub fn use_vector_table(scb: &SCB) {
        unsafe extern "C" {
            static __vector_table: u32;
        }
        let table = (&raw const __vector_table).addr();
        // SAFETY: the linker script puts the image's table there, aligned.
        unsafe { scb.vtor.write(table as u32) };
    }
}
