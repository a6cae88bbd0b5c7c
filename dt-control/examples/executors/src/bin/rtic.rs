//! `dt-control` with RTIC: the control loop is a hardware task of the timer. What must not delay it has a lower priority and
//! runs in the time that it leaves.
#![no_std]
#![no_main]

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::register::fpscr;
use dt_control::{ControlLoop, FloatMode, Processor, Tick, check_float_mode, counts};

include!("../../../../../dt-core/examples/pendulum.rs");

static POLICY: &[u8] = dt_core::include_policy!("../../../../../dt-core/examples/pendulum.dtb");

/// For a robot with three sensor values and one actuator.
type Control = ControlLoop<'static, &'static mut [u32], 3, 1>;

#[rtic::app(device = lm3s6965)]
mod app {
    use dt_control::Limits;
    use dt_core::{Blob, Policy};
    use executors::Pendulum;

    use super::{ARENA_WORDS, Clock, Control, POLICY};

    #[shared]
    struct Shared {}

    #[local]
    struct Local {
        control: Control,
        clock: Clock,
        robot: Pendulum,
    }

    // RTIC hands out the arena, once and static.
    #[init(local = [arena: [u32; ARENA_WORDS] = [0; ARENA_WORDS]])]
    fn init(cx: init::Context) -> (Shared, Local) {
        let mut robot = Pendulum::new();
        let blob = Blob::parse(POLICY).unwrap_or_else(|error| robot.refuse_to_move(error));
        let policy = Policy::new(&blob, cx.local.arena.as_mut_slice())
            .unwrap_or_else(|error| robot.refuse_to_move(error));
        let limits = Limits::of_period(blob.manifest().control_period_us);
        let control =
            Control::new(&blob, policy, limits).unwrap_or_else(|error| robot.refuse_to_move(error));
        let clock = Clock::start(cx.core.SYST, control.period_us());
        let local = Local {
            control,
            clock,
            robot,
        };
        (Shared {}, local)
    }

    #[idle]
    fn idle(_: idle::Context) -> ! {
        loop {
            cortex_m::asm::wfi();
        }
    }

    #[task(binds = SysTick, priority = 1, local = [control, clock, robot])]
    fn tick(cx: tick::Context) {
        let tick::LocalResources {
            control,
            clock,
            robot,
            ..
        } = cx.local;
        let tick = clock.tick();
        // Breaks only for a robot that asks for a shutdown. The watchdog is fed here, not in a task that runs without the loop.
        let _ = control.tick(tick, clock, robot);
    }
}

/// Tells the time by the timer that ticks.
struct Clock {
    timer: SYST,
    /// Counts per tick.
    period: u32,
    /// Start of the present period, in counts.
    started: u64,
    /// That of the last period that was served.
    served: u64,
}

impl Clock {
    fn start(mut timer: SYST, period_us: u32) -> Self {
        let period = counts(Self::CLOCK_HZ, period_us) as u32;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(period - 1); // 24 bits: 671 ms at 25 MHz
        timer.clear_current();
        timer.enable_interrupt();
        timer.enable_counter();
        Self {
            timer,
            period,
            started: 0,
            served: 0,
        }
    }

    /// The tick of which the timer's interrupt tells.
    fn tick(&mut self) -> Tick {
        self.now();
        let period = u64::from(self.period);
        let mut missed = 0;
        while self.served + period < self.started {
            self.served += period;
            missed += 1;
        }
        self.served = self.started;
        Tick {
            at: self.started,
            missed,
        }
    }
}

impl Processor for Clock {
    const CLOCK_HZ: u32 = 25_000_000;

    /// The loop asks several times in a period, so the timer does not wrap twice unseen.
    fn now(&mut self) -> u64 {
        let mut left = SYST::get_current();
        if self.timer.has_wrapped() {
            self.started += u64::from(self.period);
            left = SYST::get_current();
        }
        self.started + u64::from(self.period.saturating_sub(left + 1))
    }

    fn float_mode(&mut self) -> Result<(), FloatMode> {
        check_float_mode(fpscr::read().bits())
    }
}
