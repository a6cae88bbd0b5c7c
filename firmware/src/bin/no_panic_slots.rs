//! Not an image to run but a proof, as `no_panic` is: it links only if nothing that a flash, a policy in it or a host that sends
//! one does can make the slots of `dt-device` panic.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod proof {
    use core::hint::black_box;
    use core::ops::Range;
    use core::panic::PanicInfo;

    use dt_device::slots::{Boot, Fit, Flash, Seal, Slots, Trust, parts};
    use dt_device::upload::{Announcement, Upload};
    use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

    unsafe extern "C" {
        safe fn dt_device_can_panic() -> !;
    }

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        dt_device_can_panic()
    }

    #[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
    #[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
    fn main() -> ! {
        let fit = Fit {
            state_dim: black_box(0),
            action_len: black_box(0),
            arena_words: black_box(0),
        };
        loop {
            let mut boot = Boot::new(Anything, parts::F405_COMPACT, fit, Trust::Anyone);
            let candidate = boot.next();
            black_box(boot.reason(black_box(0)));
            let mut slots = boot.run(candidate);
            black_box(device(&mut slots, &mut Upload::new()));
        }
    }

    #[inline(never)]
    fn device(slots: &mut Slots<Anything, 2>, upload: &mut Upload) -> usize {
        let mut done = 0;
        while black_box(true) {
            let idle = black_box(true);
            let announcement = Announcement {
                length: black_box(0),
                crc: black_box(0),
                seal: black_box(None::<Seal>),
            };
            let bytes: &[u8] = black_box(&[]);
            done ^= usize::from(upload.begin(slots, idle, &announcement).is_ok());
            done ^= usize::from(upload.write(slots, idle, black_box(0), bytes).is_ok());
            done ^= usize::from(upload.finish(slots, idle).is_ok());
            done ^= usize::from(slots.is_pending() && slots.confirm().is_ok());
            black_box(upload.progress());
        }
        done
    }

    /// A flash of which the compiler knows nothing.
    struct Anything;

    impl ErrorType for Anything {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Anything {
        const READ_SIZE: usize = 1;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            black_box((offset, bytes));
            black_box(Ok(()))
        }
        fn capacity(&self) -> usize {
            black_box(0)
        }
    }

    impl NorFlash for Anything {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 4096;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            black_box((from, to));
            black_box(Ok(()))
        }
        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
            black_box((offset, bytes));
            black_box(Ok(()))
        }
    }

    impl Flash for Anything {
        fn mapped(&self, offsets: Range<u32>) -> &[u8] {
            black_box(offsets);
            black_box(&[])
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this only links for a controller: `cargo xtask test` does that");
    std::process::exit(2);
}
