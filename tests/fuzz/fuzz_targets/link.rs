//! Bytes of any origin on the link's wire, at both ends.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::link(input));

#[cfg(not(fuzzing))]
fn main() {
    fuzz::needs_cargo_fuzz();
}
