//! The emulated boards' spare memory, in which `cargo xtask firmware bench` leaves a job and a policy file.

use core::arch::naked_asm;
use core::hint::black_box;
use core::slice;

/// What to measure: the first words of the spare memory, little-endian.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Job {
    /// Control steps per figure.
    pub steps: u32,
    /// Control steps with inputs of any kind; 0: none.
    pub any_steps: u32,
    /// Whether to measure split steps.
    pub split: u32,
    /// Whether to run a single step between two calls of [`dt_bench_mark`] instead.
    pub trace: u32,
}

/// Where the file lies, after the job.
const FILE: usize = 16;

/// The job and the file; more bytes follow it.
pub fn read() -> (Job, &'static [u8]) {
    unsafe extern "C" {
        static _spare_start: u32;
        static _spare_end: u32;
    }
    let (start, end) = (&raw const _spare_start, &raw const _spare_end);
    let len = end.addr() - start.addr();
    // SAFETY: the linker script places both symbols around memory that nothing else uses; the emulator fills it before the
    // program starts, with a `Job` first, and nobody ever writes to it.
    unsafe {
        let job = start.cast::<Job>().read_volatile();
        let file = slice::from_raw_parts(start.cast::<u8>().add(FILE), len - FILE);
        (job, black_box(file))
    }
}

/// Marks a place in the emulator's record of executed code.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn dt_bench_mark() {
    #[cfg(target_arch = "arm")]
    naked_asm!("bx lr");
    #[cfg(target_arch = "riscv32")]
    naked_asm!("ret");
}
