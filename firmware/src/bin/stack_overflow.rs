//! Not a product but a proof: overflows the stack on purpose. It must end in the fault handler, which says so.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[firmware::board::emulated::entry]
fn main() -> ! {
    use core::hint::black_box;

    use firmware::board::emulated;
    use firmware::image::boot;

    /// Uses more stack with every call.
    fn descend(depth: u32) -> u32 {
        match black_box(depth) {
            u32::MAX => 0,
            depth => black_box(descend(depth + 1)) + 1,
        }
    }

    // With a policy's arena in place, as in a product.
    black_box(&boot().policy);
    defmt::info!("overflowing the stack");
    black_box(descend(0));
    defmt::error!("nothing stopped the stack");
    emulated::exit(true)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a controller's image: run it with `cargo xtask firmware run`");
    std::process::exit(2);
}
