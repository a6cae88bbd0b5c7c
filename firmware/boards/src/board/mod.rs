//! The boards, one file each. The features of this package choose one.

#[cfg_attr(any(feature = "pico", feature = "pico2"), path = "pico.rs")]
#[cfg_attr(feature = "nucleo-h743zi", path = "nucleo_h743zi.rs")]
#[cfg_attr(feature = "nucleo-f446re", path = "nucleo_f446re.rs")]
#[cfg_attr(feature = "feather-f405", path = "feather_f405.rs")]
#[cfg_attr(feature = "nrf52840-dk", path = "nrf52840_dk.rs")]
mod chosen;
#[cfg(any(
    feature = "nucleo-h743zi",
    feature = "nucleo-f446re",
    feature = "feather-f405"
))]
mod stm32;

pub use chosen::{CLOCK_HZ, SLEEPS, SLOTS, hold_watchdog, see_flash, start};

use dt_control::ResetCause;

use crate::flash::Rom;
use crate::lamp::Lamp;

/// What a board file brings: its watchdog, the link's wire, its LED, its flash.
pub struct Parts<D, W, P, F> {
    /// The watchdog.
    pub dog: D,
    /// Why the part has come out of reset.
    pub reset_cause: ResetCause,
    /// The link's wire.
    pub wire: W,
    /// The LED.
    pub lamp: Lamp<P>,
    /// The flash.
    pub flash: Rom<F>,
}
