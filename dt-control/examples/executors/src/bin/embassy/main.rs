//! `dt-control` with embassy: the control loop is a task that sleeps until its next tick. Other tasks run meanwhile, and must
//! give way within the loop's deadline; where they do not, the loop belongs in an `InterruptExecutor` of a higher priority.
#![no_std]
#![no_main]

mod time_driver;

use cortex_m::register::fpscr;
use dt_control::{
    AsyncBoard, Board, ControlLoop, FloatMode, Limits, PeriodTooLong, Processor, Tick, Watchdog,
    check_float_mode, run_async,
};
use dt_core::{Blob, Policy, include_policy};
use embassy_executor::Spawner;
use embassy_time::{Duration, Instant, TICK_HZ, Timer};
use executors::Pendulum;
use lm3s6965 as _; // the part's interrupt vectors, which a HAL brings as well
use static_cell::ConstStaticCell;

include!("../../../../../../dt-core/examples/pendulum.rs");

static POLICY: &[u8] = include_policy!("../../../../../../dt-core/examples/pendulum.dtb");
static ARENA: ConstStaticCell<[u32; ARENA_WORDS]> = ConstStaticCell::new([0; ARENA_WORDS]);

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    time_driver::start(); // in a product: `embassy_stm32::init`, `embassy_rp::init`, …
    let mut robot = Pendulum::new();
    let blob = Blob::parse(POLICY).unwrap_or_else(|error| robot.refuse_to_move(error));
    let policy = Policy::new(&blob, ARENA.take().as_mut_slice())
        .unwrap_or_else(|error| robot.refuse_to_move(error));
    let limits = Limits::of_period(blob.manifest().control_period_us);
    let mut control = ControlLoop::<_, 3, 1>::new(&blob, policy, limits)
        .unwrap_or_else(|error| robot.refuse_to_move(error));
    let mut board = Timed {
        period: Duration::MIN,
        due: Instant::MIN,
    };
    match run_async(&mut board, &mut robot, &mut control).await {
        Ok(Watchdog::Stopped | Watchdog::Armed) => {} // the robot has asked for a shutdown
        Err(error) => robot.refuse_to_move(error),
    }
}

/// A board of which embassy tells the time.
struct Timed {
    period: Duration,
    due: Instant,
}

impl Processor for Timed {
    const CLOCK_HZ: u32 = TICK_HZ as u32;

    fn now(&mut self) -> u64 {
        Instant::now().as_ticks()
    }

    fn float_mode(&mut self) -> Result<(), FloatMode> {
        check_float_mode(fpscr::read().bits())
    }
}

impl Board for Timed {
    /// A period that is no whole number of embassy's ticks is rounded: 8 ms are 262.144 of the usual 32,768 per second.
    fn start_ticks(&mut self, period_us: u32) -> Result<(), PeriodTooLong> {
        self.period = Duration::from_micros(u64::from(period_us));
        self.due = Instant::now();
        Ok(())
    }

    // A product has one: `embassy_stm32::wdg::IndependentWatchdog`, `embassy_rp::watchdog::Watchdog`, …
    fn start_watchdog(&mut self, _timeout_us: u32) {}

    fn feed_watchdog(&mut self) {}

    fn stop_watchdog(&mut self) -> Watchdog {
        Watchdog::Stopped
    }
}

impl AsyncBoard for Timed {
    async fn next_tick(&mut self) -> Tick {
        self.due += self.period;
        let now = Instant::now();
        let mut missed = 0;
        while self.due + self.period <= now {
            self.due += self.period;
            missed += 1;
        }
        Timer::at(self.due).await;
        Tick {
            at: self.due.as_ticks(),
            missed,
        }
    }
}
