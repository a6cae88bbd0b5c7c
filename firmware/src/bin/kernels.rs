//! Runs the suite of `dt_core::kernels` on the controller: every kernel against its reference, to the bit.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[firmware::board::emulated::entry]
fn main() -> ! {
    use core::cell::RefCell;

    use critical_section::Mutex;
    use dt_control::Spans;
    use dt_core::unstable::kernels::suite::{Suite, available};
    use firmware::board::{Emulated, emulated};
    use firmware::image::Comparison;

    // Never on the stack, which it would fill.
    static SUITE: Mutex<RefCell<Suite>> = Mutex::new(RefCell::new(Suite::new()));

    if let Err(unusable) = Emulated::take() {
        defmt::error!("the board is unusable: {}", unusable);
        emulated::exit(false)
    }
    let mut comparison = Comparison {
        steps: 0,
        differing_bits: 0,
        busy: Spans::default(),
        mean_return: None,
    };
    for kernels in available() {
        match critical_section::with(|token| SUITE.borrow(token).borrow_mut().run(&kernels)) {
            Ok(count) => {
                defmt::info!("{=str}: {=u32} comparisons", kernels.name, count);
                comparison.steps += count;
            }
            Err(mismatch) => {
                defmt::error!("{=str}: {}", kernels.name, mismatch);
                let differing = (mismatch.expected ^ mismatch.got).count_ones();
                comparison.differing_bits += u64::from(differing);
            }
        }
    }
    let passed = comparison.steps > 0 && comparison.differing_bits == 0;
    comparison.finish("kernels", passed)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a controller's image: run it with `cargo xtask firmware run`");
    std::process::exit(2);
}
