//! The stack: where it ends, how large it is, and how much of it was ever used.

use core::arch::asm;
use core::ptr;

const PAINT: u32 = 0xcccc_cccc;

unsafe extern "C" {
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Makes every access to the megabyte below the stack a fault, with an entry of the physical memory protection that holds
/// for machine mode too (RISC-V privileged architecture, 3.7).
pub fn guard() {
    const SIZE: usize = 1 << 20;
    const LOCKED: u32 = 1 << 7;
    const NATURALLY_ALIGNED_POWER_OF_TWO: u32 = 3 << 3;
    let address = (end() - SIZE) >> 2 | (SIZE / 8 - 1);
    // SAFETY: nothing of the program lies there.
    unsafe {
        asm!(
            "csrw pmpaddr0, {}",
            "csrw pmpcfg0, {}",
            in(reg) address,
            in(reg) LOCKED | NATURALLY_ALIGNED_POWER_OF_TWO,
            options(nostack),
        );
    }
}

/// Its lowest address.
pub fn end() -> usize {
    (&raw const _stack_end).addr()
}

/// Bytes of it: a constant of the linker script.
pub fn stack_len() -> usize {
    (&raw const _stack_start).addr() - end()
}

/// Paints what is not yet used, for [`stack_used`].
#[inline(never)]
pub fn paint() {
    let sp: usize;
    // SAFETY: only reads a register.
    unsafe { asm!("mv {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    let mut word = (&raw const _stack_end).cast_mut();
    while word.addr() < sp {
        // SAFETY: words of the stack below its pointer, where nothing is kept. Volatile, because no object of the language lies there.
        unsafe { ptr::write_volatile(word, PAINT) };
        word = word.wrapping_add(1);
    }
}

/// Bytes used since [`paint`], at the deepest.
pub fn stack_used() -> usize {
    let (mut bottom, top) = (&raw const _stack_end, &raw const _stack_start);
    // SAFETY: the linker script places both symbols word-aligned in RAM, and all words between them belong
    // to the stack. Volatile, because no object of the language lies there.
    while bottom < top && unsafe { ptr::read_volatile(bottom) } == PAINT {
        bottom = bottom.wrapping_add(1);
    }
    top.addr() - bottom.addr()
}
