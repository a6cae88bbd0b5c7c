//! Not an image to run but a proof, as `no_panic` is: it links only if nothing that comes over the wire, no board and no
//! policy file can make `dt-device`'s session and `dt-link`'s decoder panic.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod proof {
    use core::hint::black_box;
    use core::panic::PanicInfo;

    use dt_control::{
        Board, FloatMode, PeriodTooLong, Processor, ResetCause, Tick, Watchdog, check_float_mode,
    };
    use dt_device::blackbox::BlackBox;
    use dt_device::board::{Indicator, Port, Sleep, Updates};
    use dt_device::session::{Device, Loaded, Wire, limits, serve};
    use dt_link::{PolicyId, Seal, UploadRefusal};

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
        loop {
            black_box(device(
                black_box(&[]),
                black_box(&mut []),
                black_box(&mut []),
            ));
        }
    }

    /// Whether the device ended with a restart.
    #[inline(never)]
    fn device(file: &[u8], arena: &mut [u32], memory: &mut [u8]) -> bool {
        let loaded = Loaded::<_, 3, 1>::boot(file, arena, limits).ok();
        let wire = Wire {
            board: black_box(""),
            version: black_box(""),
            silence_us: black_box(0),
            cause: black_box(ResetCause::Unknown),
        };
        let identity = loaded.as_ref().map(Loaded::identity::<Anything>);
        let history = identity.and_then(|id| BlackBox::open(memory, id, wire.cause).ok());
        let mut device = Device::new(wire, loaded, Anything, history);
        serve(&mut Anything, &mut Anything, &mut Anything, &mut device).is_ok()
    }

    /// A board of which the compiler knows nothing.
    struct Anything;

    impl Processor for Anything {
        const CLOCK_HZ: u32 = 25_000_000;

        fn now(&mut self) -> u64 {
            black_box(0)
        }
        fn float_mode(&mut self) -> Result<(), FloatMode> {
            check_float_mode(black_box(0))
        }
    }

    impl Board for Anything {
        fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong> {
            let max_us = black_box(0);
            if period_us > max_us {
                return Err(PeriodTooLong { period_us, max_us });
            }
            Ok(())
        }
        fn start_watchdog(&mut self, timeout_us: u32) {
            black_box(timeout_us);
        }
        fn feed_watchdog(&mut self) {}
        fn stop_watchdog(&mut self) -> Watchdog {
            black_box(Watchdog::Armed)
        }
    }

    impl Sleep for Anything {
        fn sleep(&mut self) -> Option<Tick> {
            black_box(None)
        }
    }

    impl Port for Anything {
        fn receive(&mut self, buffer: &mut [u8]) -> usize {
            black_box(buffer);
            black_box(0)
        }
        fn send(&mut self, bytes: &[u8]) -> usize {
            black_box(bytes);
            black_box(0)
        }
        fn is_drained(&mut self) -> bool {
            black_box(true)
        }
    }

    impl Indicator for Anything {
        fn show(&mut self, mode: dt_control::Mode) {
            black_box(mode);
        }
    }

    impl Updates for Anything {
        fn begin(
            &mut self,
            policy: PolicyId,
            seal: Option<Seal<'_>>,
        ) -> Result<u32, UploadRefusal> {
            black_box((policy, seal));
            black_box(Ok(0))
        }
        fn write(&mut self, offset: u32, data: &[u8]) -> Result<u32, UploadRefusal> {
            black_box((offset, data));
            black_box(Ok(0))
        }
        fn finish(&mut self) -> Result<(), UploadRefusal> {
            black_box(Ok(()))
        }
        fn proved(&mut self) {}
        fn supported(&self) -> bool {
            black_box(true)
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this only links for a controller: `cargo xtask test` does that");
    std::process::exit(2);
}
