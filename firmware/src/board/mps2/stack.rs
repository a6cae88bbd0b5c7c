//! The stack: where it ends, how large it is, and how much of it was ever used.

use core::ptr;

#[cfg(not(dt_armv8m))]
use cortex_m::peripheral::MPU;

/// Left of the stack to report a fault with.
pub const REPORT_ROOM: usize = 512;

unsafe extern "C" {
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Makes a fault of every stack pointer below the stack, as Armv8-M can (Arm DDI 0553, "Stack limit protection").
#[cfg(dt_armv8m)]
pub fn limit() {
    // SAFETY: the stack pointer is above it.
    unsafe { cortex_m::register::msplim::write(end() as u32) };
}

/// Makes every access below the stack a fault.
///
/// It lies at the bottom of RAM (`memory/`). Most controllers have nothing below that and fault by themselves; here it
/// reads as zero and takes every write, so the memory protection unit forbids it (Armv7-M ARM, B3.5; Armv6-M has the same).
#[cfg(not(dt_armv8m))]
pub fn guard(mpu: &MPU) {
    use cortex_m::asm;

    const BELOW_RAM: u32 = 0x1000_0000;
    const SIZE_256_MIB: u32 = 27 << 1; // 2^(27 + 1) bytes
    const NO_ACCESS: u32 = 0 << 24;
    const EXECUTE_NEVER: u32 = 1 << 28;
    const ENABLE: u32 = 1;
    const DEFAULT_MAP_ELSEWHERE: u32 = 1 << 2;
    // SAFETY: nothing of the program lies in that region, and everything else stays as it is.
    unsafe {
        mpu.rnr.write(0);
        mpu.rbar.write(BELOW_RAM);
        mpu.rasr
            .write(EXECUTE_NEVER | NO_ACCESS | SIZE_256_MIB | ENABLE);
        mpu.ctrl.write(DEFAULT_MAP_ELSEWHERE | ENABLE);
    }
    asm::dsb();
    asm::isb();
}

/// Its lowest address.
pub fn end() -> usize {
    (&raw const _stack_end).addr()
}

/// Bytes of it: a constant of the linker script.
pub fn stack_len() -> usize {
    (&raw const _stack_start).addr() - end()
}

/// Bytes used so far, at the deepest.
///
/// The start-up code paints the stack before `main`; this finds how much paint is left.
pub fn stack_used() -> usize {
    let (mut bottom, top) = (&raw const _stack_end, &raw const _stack_start);
    // SAFETY: the linker script places both symbols word-aligned in RAM, and all words between them belong
    // to the stack. Volatile, because no object of the language lies there.
    while bottom < top && unsafe { ptr::read_volatile(bottom) } == cortex_m_rt::STACK_PAINT_VALUE {
        bottom = bottom.wrapping_add(1);
    }
    top.addr() - bottom.addr()
}
