//! Faults and the timer interrupt.
//!
//! The stack lies at the very bottom of RAM and grows towards forbidden addresses ([`super::stack::guard`]). Overflowing it is thus
//! a fault at once, before a single variable is overwritten; but the handler cannot use that stack either.

use core::arch::global_asm;

use riscv::interrupt::Interrupt;
use riscv::register::{mcause, mie, mstatus, mtval};
use riscv_rt::TrapFrame;

use super::{exit, stack};

/// Left of the stack to report a fault with.
const REPORT_ROOM: usize = 512;

// Moves to the top of the stack where the rest of it may be too small for the report, then goes on as `riscv-rt` does.
global_asm!(
    ".section .trap.start.dt, \"ax\"",
    ".balign 4",
    ".global _start_trap",
    "_start_trap:",
    "csrw mscratch, t0",
    "la   t0, _stack_end",
    "addi t0, t0, {room}",
    "bgeu sp, t0, 1f",
    "la   sp, _stack_start",
    "1:",
    "csrr t0, mscratch",
    "j    _default_start_trap",
    room = const REPORT_ROOM,
);

/// Lets the timer interrupt.
pub fn enable_timer() {
    // SAFETY: its handler is below, and no critical section is open.
    unsafe {
        mie::set_mtimer();
        mstatus::set_mie();
    }
}

/// Does not let it interrupt any more.
pub fn disable_timer() {
    // SAFETY: nothing waits for it.
    unsafe { mie::clear_mtimer() };
}

/// The watchdog ran out. Real actuators are cut by hardware; here the emulation ends.
#[riscv_rt::core_interrupt(Interrupt::MachineTimer)]
unsafe fn watchdog() -> ! {
    defmt::error!("watchdog: the control loop hangs");
    exit(false)
}

#[unsafe(export_name = "ExceptionHandler")]
fn exception(_: &TrapFrame) -> ! {
    let address = mtval::read();
    if (stack::end() - stack::stack_len()..stack::end()).contains(&address) {
        defmt::error!("stack overflow");
    } else {
        defmt::error!(
            "exception {=usize} at {=usize:#x}",
            mcause::read().code(),
            riscv::register::mepc::read()
        );
    }
    exit(false)
}
