//! Runs the whole control loop with the plant on the controller, from the seeds and targets of recorded episodes:
//! actions, observations and rewards must all be those of the host.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[firmware::board::emulated::entry]
fn main() -> ! {
    use dt_control::{self as control, Limits, Mode, Processor, Spans, Watchdog, counts};
    use firmware::board::{Emulated, emulated};
    use firmware::image::{Booted, Comparison, boot, control_loop, recording};
    use firmware::simulated::Simulated;
    use host_sim::pendulum::{LibmTrig, Pendulum, SPEC};

    let Booted {
        mut board,
        blob,
        policy,
    } = boot();
    let limits = Limits::of_period(blob.manifest().control_period_us);
    let mut control =
        control_loop::<{ SPEC.state_dim() }, { SPEC.act_dim() }>(&blob, policy, limits);
    let trace = recording(&blob);

    let mut plant = Pendulum::<LibmTrig>::new();
    let mut passed = trace.episodes > 0;
    let (mut steps, mut differing_bits, mut total_return) = (0, 0, 0.0);
    let mut busy = Spans::default();
    for episode in trace.iter() {
        let mut robot = Simulated::<_, _, { SPEC.act_dim() }>::new(
            &mut plant,
            episode.seed,
            episode.target_return,
            episode.iter(),
        );
        match control::run(&mut board, &mut robot, &mut control) {
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
        passed &= outcome.mode == Mode::Running
            && outcome.steps as usize == episode.steps()
            && outcome.differing_bits + outcome.differing_plant_bits == 0;
        steps += outcome.steps;
        differing_bits += outcome.differing_bits;
        total_return += outcome.total_reward;
        busy.merge(outcome.busy);
    }
    // Nothing feeds the watchdog any more. Were it still armed, it would end the emulation here.
    let patience = counts(Emulated::CLOCK_HZ, limits.watchdog_us);
    let end = board.now() + patience + patience / 4;
    while board.now() < end {}

    let comparison = Comparison {
        steps,
        differing_bits,
        busy,
        mean_return: Some(total_return / trace.episodes as f64),
    };
    comparison.finish("closed_loop", passed)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a controller's image: run it with `cargo xtask firmware run`");
    std::process::exit(2);
}
