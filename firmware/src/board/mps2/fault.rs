//! The hard fault: where every fault ends, a stack overflow among them.
//!
//! The stack lies at the very bottom of RAM and grows towards forbidden addresses ([`stack::guard`]). Overflowing it is thus
//! a fault at once, before a single variable is overwritten; but the handler cannot use that stack either.

use core::arch::naked_asm;
use core::ptr;

use super::{exit, stack};

/// Moves to the top of the stack where the rest of it may be too small for the report.
///
/// # Safety
/// Only the hardware calls it, through the vector table.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn HardFault() -> ! {
    naked_asm!(
        "mrs    r0, MSP",
        "ldr    r1, =_stack_end + {room}",
        "cmp    r0, r1",
        "bhs    1f",
        "ldr    r1, =_stack_start",
        "msr    MSP, r1",
        "1:",
        "bl     {report}",
        ".ltorg",
        room = const stack::REPORT_ROOM,
        report = sym report,
    )
}

/// `frame` is where the hardware put, or tried to put, the registers of the interrupted code (Armv7-M ARM, B1.5.6).
extern "C" fn report(frame: usize) -> ! {
    const RETURN_ADDRESS: usize = 24;
    if frame < stack::end() + stack::REPORT_ROOM {
        defmt::error!("stack overflow");
    } else {
        // SAFETY: the frame lies in the stack, which is word-aligned memory.
        let pc = unsafe { ptr::read_volatile((frame + RETURN_ADDRESS) as *const u32) };
        defmt::error!("hard fault at {=u32:#x}", pc);
    }
    exit(false)
}
