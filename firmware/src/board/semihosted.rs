//! What all emulated boards have of the emulator: log and exit status, both over semihosting.

use core::panic::PanicInfo;

use defmt_semihosting as _;
use dt_control::Processor;

use super::Emulated;
use super::emulated::now;

/// Ends the emulation; QEMU exits with status 0 on success and 1 otherwise.
pub fn exit(success: bool) -> ! {
    defmt::flush();
    semihosting::process::exit(i32::from(!success))
}

defmt::timestamp!(
    "{=u64:us}",
    now() / u64::from(Emulated::CLOCK_HZ / 1_000_000)
);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    exit(false)
}
