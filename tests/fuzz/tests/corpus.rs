//! What fuzzing found worth keeping, and random inputs, without a fuzzer.

use std::fs;
use std::path::Path;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RANDOM_INPUTS: usize = 500;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0, "{target} has no corpus");
    let mut random = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..RANDOM_INPUTS {
        let mut input = vec![0; random.random_range(0..200)];
        random.fill_bytes(&mut input);
        run(&input);
    }
}

#[test]
fn parse_and_run() {
    replay("parse_and_run", fuzz::parse_and_run);
}

#[test]
fn kernels() {
    replay("kernels", fuzz::kernels);
}

#[test]
fn link() {
    replay("link", fuzz::link);
}
