//! The boards, one file each: what [`dt_control::Board`] asks of them.

#[cfg(all(target_os = "none", target_arch = "arm"))]
pub mod mps2;
#[cfg(target_os = "none")]
mod semihosted;
#[cfg(all(target_os = "none", target_arch = "riscv32"))]
pub mod virt;

/// The emulated board that this image is built for.
#[cfg(all(target_os = "none", target_arch = "arm"))]
pub use mps2::{self as emulated, Mps2 as Emulated};
#[cfg(all(target_os = "none", target_arch = "riscv32"))]
pub use virt::{self as emulated, Virt as Emulated};

/// Why a board cannot be used. Nothing must move then.
#[cfg(target_os = "none")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Unusable {
    /// Something has taken its peripherals already.
    Taken,
    /// The floating-point unit would give other results than the host.
    FloatMode(dt_control::FloatMode),
}

#[cfg(target_os = "none")]
impl From<dt_control::FloatMode> for Unusable {
    fn from(mode: dt_control::FloatMode) -> Self {
        Self::FloatMode(mode)
    }
}

/// The emulator's time is one nanosecond per instruction (`-icount shift=0`).
pub const EMULATED_INSTRUCTIONS_PER_SECOND: u32 = 1_000_000_000;
