//! What differs between the boards: the clock, and where the peripherals are.

#[cfg(dt_board = "mps2-an505")]
pub use an505::*;
#[cfg(not(dt_board = "mps2-an505"))]
pub use mps2::*;

/// Arm DAI 0385, 0386, 0500.
#[cfg(not(dt_board = "mps2-an505"))]
mod mps2 {
    pub const CLOCK_HZ: u32 = 25_000_000;
    pub const TIMER: usize = 0x4000_0000;
    pub const WATCHDOG: usize = 0x4000_8000;
}

/// Arm DAI 0505; the secure aliases.
#[cfg(dt_board = "mps2-an505")]
mod an505 {
    pub const CLOCK_HZ: u32 = 20_000_000;
    pub const TIMER: usize = 0x5000_0000;
    pub const WATCHDOG: usize = 0x5008_1000;
}
