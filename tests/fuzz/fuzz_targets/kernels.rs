//! Every kernel of this machine against its reference.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::kernels(input));

#[cfg(not(fuzzing))]
fn main() {
    fuzz::needs_cargo_fuzz();
}
