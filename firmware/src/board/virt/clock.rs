//! Timer of the core-local interruptor (RISC-V privileged architecture, 3.2.1 "mtime and mtimecmp").

use core::ptr;

const MTIMECMP: usize = 0x0200_4000;
const MTIME: usize = 0x0200_BFF8;

/// Time since boot.
pub fn now() -> u64 {
    loop {
        let high = read(MTIME + 4);
        let low = read(MTIME);
        if high == read(MTIME + 4) {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// From when on the timer interrupt is pending.
pub fn alarm(at: u64) {
    // Never too early on the way.
    write(MTIMECMP + 4, u32::MAX);
    write(MTIMECMP, at as u32);
    write(MTIMECMP + 4, (at >> 32) as u32);
}

fn read(address: usize) -> u32 {
    // SAFETY: this module's word-aligned registers of the board, which read without side effects.
    unsafe { ptr::read_volatile(address as *const u32) }
}

fn write(address: usize, value: u32) {
    // SAFETY: as above; the timer touches no memory.
    unsafe { ptr::write_volatile(address as *mut u32, value) }
}
