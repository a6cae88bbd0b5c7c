//! Bytes of any origin as a policy file, then 100 calls of the policy.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::parse_and_run(input));

#[cfg(not(fuzzing))]
fn main() {
    fuzz::needs_cargo_fuzz();
}
