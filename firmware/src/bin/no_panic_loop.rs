//! Not an image to run but a proof, as `no_panic` is: it links only if nothing that a robot, a board or a policy
//! file does can make the control loop of `dt-control` panic.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod proof {
    use core::hint::black_box;
    use core::panic::PanicInfo;

    use dt_control::{
        BlockingBoard, Board, ControlLoop, FloatMode, Limits, PeriodTooLong, Processor, Reading,
        Record, Request, ResetCause, Robot, Tick, Watchdog, check_float_mode, run,
    };
    use dt_core::{Blob, Policy};

    unsafe extern "C" {
        safe fn dt_control_can_panic() -> !;
    }

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        dt_control_can_panic()
    }

    #[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
    #[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
    fn main() -> ! {
        loop {
            black_box(control(
                black_box(&[]),
                black_box(&mut []),
                black_box(LIMITS),
            ));
        }
    }

    const LIMITS: Limits<2> = Limits::of_period(1);

    /// Whether the loop ended with the watchdog off.
    #[inline(never)]
    fn control(file: &[u8], arena: &mut [u32], limits: Limits<2>) -> bool {
        let Ok(blob) = Blob::parse(file) else {
            return false;
        };
        let Ok(policy) = Policy::new(&blob, arena) else {
            return false;
        };
        let Ok(control) = ControlLoop::<_, 3, 1, 2>::new(&blob, policy, limits) else {
            return false;
        };
        let mut control = control.with_max_change(black_box([0.0; 3]));
        let ended = run(&mut Anything, &mut Anything, &mut control);
        black_box(control.timing().slack.mean());
        ended == Ok(Watchdog::Stopped)
    }

    /// A robot on a board of which the compiler knows nothing.
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
        fn reset_cause(&mut self) -> ResetCause {
            black_box(ResetCause::Unknown)
        }
        fn stop_watchdog(&mut self) -> Watchdog {
            black_box(Watchdog::Armed)
        }
    }

    impl BlockingBoard for Anything {
        fn wait_for_tick(&mut self) -> Tick {
            black_box(Tick { at: 0, missed: 0 })
        }
    }

    impl Robot for Anything {
        fn request(&mut self) -> Option<Request> {
            black_box(None)
        }
        fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
            black_box((observation, ages_us));
            black_box(None)
        }
        fn actuate(&mut self, action: &mut [f32]) {
            black_box(action);
        }
        fn record(&mut self, record: &Record<'_>) {
            black_box(record);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this only links for a controller: `cargo xtask test` does that");
    std::process::exit(2);
}
