//! Measures the policy that the emulator puts into the board's spare memory; `cargo xtask firmware bench` makes tables of it.
//!
//! One JSON line per figure. The policy does not lie in this image, so that one image measures all: see `firmware::spare`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use core::hint::black_box;

    use dt_control::{Processor, Spans};
    use dt_core::blob::{Blob, RewardMode};
    use dt_core::config::Activation;
    use dt_core::engine::Engine;
    use dt_core::golden;
    use dt_core::policy::{ActError, Policy};
    use firmware::bench::{Cost, Inputs, Kind, MAX_DIM, Phases, Schedule, drive};
    use firmware::board::emulated::{self, singleton};
    use firmware::board::{EMULATED_INSTRUCTIONS_PER_SECOND, Emulated};
    use firmware::image::RAM_FOR_POLICY;
    use firmware::spare::{self, Job};

    #[emulated::entry]
    fn main() -> ! {
        if let Err(unusable) = Emulated::take() {
            defmt::error!("the board is unusable: {}", unusable);
            emulated::exit(false)
        }
        let Some(arena) = singleton!(: [u32; RAM_FOR_POLICY / 4] = [0; _]) else {
            started_twice()
        };
        let (job, file) = spare::read();
        let mut blob = parse(file);
        let passed = if job.trace > 0 {
            trace(&blob, arena)
        } else {
            measure(&job, &mut blob, arena)
        };
        if let Err(error) = passed {
            defmt::error!("the policy refused a step: {}", error);
        }
        emulated::exit(passed.is_ok())
    }

    fn started_twice() -> ! {
        defmt::error!("started twice");
        emulated::exit(false)
    }

    fn measure(job: &Job, blob: &mut Blob<'static>, arena: &mut [u32]) -> Result<(), ActError> {
        use {Kind::*, RewardMode::*, Schedule::*};
        let Some(inputs) = singleton!(: Inputs = Inputs::new(Usual)) else {
            started_twice()
        };
        self_test(blob, arena);
        inputs.show(blob.golden_images());
        let mut clock = |reward, schedule, kind, steps, names| {
            blob.set_reward_mode(reward);
            inputs.restart(kind);
            clocked(blob, arena, schedule, inputs, steps, names)
        };
        clock(Observed, Fused, Usual, job.steps, ["", "fused"])?;
        if job.split > 0 {
            let names = ["split_return_and_state", "split_return_and_state_total"];
            clock(Observed, Split, Usual, job.steps, names)?;
            let names = ["split_state", "split_state_total"];
            clock(Constant, Split, Usual, job.steps, names)?;
        }
        if job.any_steps > 0 {
            clock(Observed, Fused, Any, job.any_steps, ["", "any_input"])?;
        }
        // Before the clocks below, which no product has on its stack.
        let stack_used = emulated::stack_used();
        blob.set_reward_mode(Observed);
        inputs.restart(Usual);
        phases(blob, arena, inputs, job.steps)?;
        at_any_timestep(blob, arena);
        let config = &blob.manifest().config;
        defmt::println!(
            "{{\"measure\":\"arena\",\"mean\":{=usize}}}",
            4 * config.arena_words()
        );
        defmt::println!("{{\"measure\":\"stack\",\"mean\":{=usize}}}", stack_used);
        Ok(())
    }

    // Each of these has its own stack frame, as in a product that does only one of them.

    #[inline(never)]
    fn parse(file: &'static [u8]) -> Blob<'static> {
        let start = emulated::now();
        match Blob::parse(file) {
            Ok(blob) => {
                one("parse", emulated::now() - start);
                blob
            }
            Err(error) => {
                defmt::error!("bad policy: {}", error);
                emulated::exit(false)
            }
        }
    }

    #[inline(never)]
    fn self_test(blob: &Blob<'static>, arena: &mut [u32]) {
        let mut policy = policy(blob, arena);
        let start = emulated::now();
        if let Err(error) = golden::check(&mut policy, blob) {
            defmt::error!("self-test failed: {}", error);
            emulated::exit(false)
        }
        one("self_test", emulated::now() - start);
    }

    /// `names` are those of what is waited for the action, and of the whole step; an empty one is not reported.
    #[inline(never)]
    fn clocked(
        blob: &Blob<'static>,
        arena: &mut [u32],
        schedule: Schedule,
        inputs: &mut Inputs,
        steps: u32,
        names: [&str; 2],
    ) -> Result<(), ActError> {
        let mut policy = policy(blob, arena);
        policy.reset(blob.manifest().target_return)?;
        let fill = blob.manifest().config.context_len + 1; // the ring
        drive(&mut policy, schedule, inputs, fill, emulated::now)?;
        let Cost { to_action, step } = drive(&mut policy, schedule, inputs, steps, emulated::now)?;
        for (name, counts) in names.into_iter().zip([to_action, step]) {
            if !name.is_empty() {
                spans(name, counts);
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn phases(
        blob: &Blob<'static>,
        arena: &mut [u32],
        inputs: &mut Inputs,
        steps: u32,
    ) -> Result<(), ActError> {
        let mut policy = policy(blob, arena);
        policy.reset(blob.manifest().target_return)?;
        let fill = blob.manifest().config.context_len + 1;
        drive(&mut policy, Schedule::Fused, inputs, fill, emulated::now)?;
        let mut phases = Phases::new(emulated::counter);
        phases.drive(&mut policy, inputs, steps)?;
        for (phase, counts) in phases.counts() {
            let mut span = Spans::default();
            span.add(counts);
            let instructions = scaled(span).mean() / u64::from(steps.max(1));
            defmt::println!("{{\"phase\":\"{}\",\"mean\":{=u64}}}", phase, instructions);
        }
        Ok(())
    }

    /// Ends the program unless a step takes as long with the timestep table's last row as with its first, or second: in int4, odd
    /// rows take an instruction less per column than even ones.
    #[inline(never)]
    fn at_any_timestep(blob: &Blob<'static>, arena: &mut [u32]) {
        if cfg!(not(target_abi = "eabihf")) {
            return; // Floats in software take as long as their values make them.
        }
        let config = &blob.manifest().config;
        if config.image().is_some() {
            return; // It has no vector to show, and what comes behind the embedding is the same.
        }
        // What the clock cannot tell apart; but other activations and gates take one of several ways for each value.
        let (resolution, per_mille) = match (config.activation, config.glu) {
            (Activation::Relu, false) => (1, 0),
            _ => (1, 10),
        };
        let words = arena.get_mut(..config.arena_words());
        let Ok(mut engine) = Engine::new(blob.model(), words.unwrap_or_default()) else {
            return; // `policy` has said so.
        };
        let state = [0.5; MAX_DIM];
        let state = state.get(..config.state_dim as usize).unwrap_or_default();
        let mut clocked = |timestep| {
            engine.reset();
            let start = emulated::now();
            let acted = engine.step(None, 0.5, state, timestep).is_ok();
            (emulated::now() - start, acted)
        };
        let last = config.max_ep_len.saturating_sub(1);
        let early = last % 2;
        let ((first, acted), (then, acted_then)) = (clocked(early), clocked(last));
        if !(acted && acted_then && first.abs_diff(then) <= resolution + first * per_mille / 1000) {
            defmt::error!(
                "a step takes {=u64} counts at timestep {=u32} and {=u64} at {=u32}",
                first,
                early,
                then,
                last
            );
            emulated::exit(false)
        }
    }

    /// One control step between two marks, after a few others: for the emulator's own record of instructions.
    #[inline(never)]
    fn trace(blob: &Blob<'static>, arena: &mut [u32]) -> Result<(), ActError> {
        const BEFORE: u32 = 2;
        let mut policy = policy(blob, arena);
        policy.reset(blob.manifest().target_return)?;
        let mut inputs = Inputs::new(Kind::Usual);
        inputs.show(blob.golden_images());
        let mut step = |steps| drive(&mut policy, Schedule::Fused, &mut inputs, steps, || 0);
        step(BEFORE)?;
        spare::dt_bench_mark();
        let cost = step(1);
        spare::dt_bench_mark();
        black_box(cost).map(drop)
    }

    #[inline(never)]
    fn policy<'a>(blob: &Blob<'static>, arena: &'a mut [u32]) -> Policy<'static, &'a mut [u32]> {
        let words = blob.manifest().config.arena_words();
        let arena = arena.get_mut(..words).unwrap_or_default();
        match Policy::new(blob, arena) {
            Ok(policy) => policy,
            Err(error) => {
                defmt::error!("too large for this board: {}", error);
                emulated::exit(false)
            }
        }
    }

    /// In instructions.
    fn scaled(counts: Spans) -> Spans {
        counts.scaled(EMULATED_INSTRUCTIONS_PER_SECOND, Emulated::CLOCK_HZ)
    }

    #[inline(never)]
    fn one(name: &str, counts: u64) {
        let mut span = Spans::default();
        span.add(counts);
        spans(name, span);
    }

    #[inline(never)]
    fn spans(name: &str, counts: Spans) {
        let cost = scaled(counts);
        defmt::println!(
            "{{\"measure\":\"{=str}\",\"steps\":{=u32},\"min\":{=u64},\"mean\":{=u64},\"max\":{=u64}}}",
            name,
            cost.len,
            cost.min,
            cost.mean(),
            cost.max
        );
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a controller's image: run it with `cargo xtask firmware bench`");
    std::process::exit(2);
}
