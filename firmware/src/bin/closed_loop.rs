//! Runs the whole control loop with the plant on the controller, from the seeds and targets of recorded episodes:
//! actions, observations and rewards must all be those of the host.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[firmware::board::emulated::entry]
fn main() -> ! {
    use dt_control::{
        self as control, ControlLoop, Limits, Mode, Processor, Spans, Watchdog, counts,
    };
    use firmware::board::{Emulated, emulated};
    use firmware::image::{Booted, Comparison, boot, control_loop, recording};
    use firmware::simulated::Simulated;
    use host_sim::Env;
    use host_sim::cartpole::{self, CartPole};
    use host_sim::graph::{self, Graph};
    use host_sim::key_to_door::{self, KeyToDoor};
    use host_sim::pendulum::{self, LibmTrig, Pendulum};
    use host_sim::trace::Trace;

    /// How all episodes went.
    struct Total {
        passed: bool,
        steps: u32,
        differing_bits: u64,
        total_return: f64,
        busy: Spans,
    }

    fn relive<E: Env, const STATE: usize, const ACT: usize>(
        mut plant: E,
        board: &mut Emulated,
        control: &mut ControlLoop<'static, &'static mut [u32], STATE, ACT>,
        trace: &Trace<'static>,
    ) -> Total {
        let mut total = Total {
            passed: trace.episodes > 0,
            steps: 0,
            differing_bits: 0,
            total_return: 0.0,
            busy: Spans::default(),
        };
        for episode in trace.iter() {
            let mut robot = Simulated::<_, _, ACT>::new(
                &mut plant,
                episode.seed,
                episode.target_return,
                episode.iter(),
            );
            match control::run(board, &mut robot, control) {
                Ok(Watchdog::Stopped) => {}
                Ok(Watchdog::Armed) => {
                    defmt::error!("the watchdog is still armed after the shutdown");
                    emulated::exit(false)
                }
                Err(error) => {
                    defmt::error!("{}", error);
                    emulated::exit(false)
                }
            }
            let outcome = robot.outcome();
            if let Mode::Faulted(fault) = outcome.mode {
                defmt::error!("fault in step {=u32}: {}", outcome.steps, fault);
            }
            defmt::info!(
                "seed {=u64}: {=u32} steps, return {=f64}, {=u64} differing bits of actions, {=u64} of observations and rewards",
                episode.seed,
                outcome.steps,
                outcome.total_reward,
                outcome.differing_bits,
                outcome.differing_plant_bits
            );
            total.passed &= outcome.mode == Mode::Running
                && outcome.steps as usize == episode.steps()
                && outcome.differing_bits + outcome.differing_plant_bits == 0;
            total.steps += outcome.steps;
            total.differing_bits += outcome.differing_bits;
            total.total_return += outcome.total_reward;
            total.busy.merge(outcome.busy);
        }
        total
    }

    let Booted {
        mut board,
        blob,
        policy,
    } = boot();
    let limits = Limits::of_period(blob.manifest().control_period_us);
    /// The loop around a plant, and all episodes.
    macro_rules! relive {
        ($plant:ty, $spec:expr) => {{
            let mut control =
                control_loop::<{ $spec.state_dim() }, { $spec.act_dim() }>(&blob, policy, limits);
            let trace = recording(&blob);
            (
                relive(<$plant>::new(), &mut board, &mut control, &trace),
                trace.episodes,
            )
        }};
    }
    let env = blob.manifest().env;
    let (total, episodes) = if env == cartpole::SPEC.id {
        relive!(CartPole<LibmTrig>, cartpole::SPEC)
    } else if env == graph::SPEC.id {
        relive!(Graph, graph::SPEC)
    } else if env == key_to_door::SPEC.id {
        relive!(KeyToDoor, key_to_door::SPEC)
    } else {
        relive!(Pendulum<LibmTrig>, pendulum::SPEC)
    };
    // Nothing feeds the watchdog any more. Were it still armed, it would end the emulation here.
    let patience = counts(Emulated::CLOCK_HZ, limits.watchdog_us);
    let end = board.now() + patience + patience / 4;
    while board.now() < end {}

    let comparison = Comparison {
        steps: total.steps,
        differing_bits: total.differing_bits,
        busy: total.busy,
        mean_return: Some(total.total_return / episodes as f64),
    };
    comparison.finish("closed_loop", total.passed)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a controller's image: run it with `cargo xtask firmware run`");
    std::process::exit(2);
}
