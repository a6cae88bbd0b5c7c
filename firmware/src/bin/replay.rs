//! Replays recorded episodes: self-test, then every recorded observation and reward to the policy, every action
//! compared with the recorded one.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[firmware::board::emulated::entry]
fn main() -> ! {
    use firmware::board::emulated;
    use firmware::image::{Booted, Comparison, boot, recording, self_test};
    use firmware::replay::Outcome;

    let Booted {
        blob, mut policy, ..
    } = boot();
    self_test(&mut policy, &blob);
    let trace = recording(&blob);
    let mut outcome = Outcome::default();
    let mut refused = false;
    for episode in trace.iter() {
        let before = outcome.differing_bits;
        if let Err(error) = outcome.replay(&mut policy, &episode, emulated::now) {
            defmt::error!(
                "episode with seed {=u64}, step {=u32}: {}",
                episode.seed,
                outcome.steps,
                error
            );
            refused = true;
        }
        let bits = outcome.differing_bits - before;
        defmt::info!(
            "seed {=u64}: {=usize} steps, {=u64} differing bits",
            episode.seed,
            episode.steps(),
            bits
        );
    }
    defmt::info!(
        "{=usize} episodes, {=u32} steps, {=u32} of them with differing bits",
        trace.episodes,
        outcome.steps,
        outcome.differing_steps
    );
    let passed = !refused && outcome.steps > 0 && outcome.differing_bits == 0;
    let comparison = Comparison {
        steps: outcome.steps,
        differing_bits: outcome.differing_bits,
        busy: outcome.busy,
        mean_return: None,
    };
    comparison.finish("replay", passed)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a controller's image: run it with `cargo xtask firmware run`");
    std::process::exit(2);
}
