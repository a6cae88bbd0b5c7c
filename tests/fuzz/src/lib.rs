//! What the fuzz targets do with an input; `README.md` beside this package says how to run them.
//!
//! Kept out of the targets themselves so that a stable compiler can replay the committed corpus.

mod file;
mod link;
mod policy;
mod script;

use dt_core::blob::{Blob, MAGIC};
use dt_core::unstable::kernels::suite::{Suite, available};

use file::File;
use script::Script;

/// Takes `input` for a policy file, and if it is one, runs it.
///
/// Mutation alone never gets past the checksum. So an input that is refused is tried again: as a file
/// whose header is put right if it begins like one, else as the description of a small random policy.
/// What is left over is the script of the calls to make.
///
/// # Panics
/// If `dt-core` breaks a promise; see `policy::run`.
pub fn parse_and_run(input: &[u8]) {
    let original = File::new(input);
    let (file, script) = match Blob::parse(original.bytes()) {
        Ok(blob) => {
            policy::run(&blob, Script::new(&input[blob.file_len()..]));
            return;
        }
        Err(_) if input.first() == MAGIC.first() => File::repaired(input),
        Err(_) => File::described(Script::new(input)),
    };
    // An error must be describable, too.
    match Blob::parse(file.bytes()) {
        Ok(blob) => policy::run(&blob, script),
        Err(error) => drop(error.to_string()),
    }
}

/// Runs every kernel on the sizes and numbers that `input` chooses.
///
/// # Panics
/// If one differs from its reference in a bit, or writes where it must not.
pub fn kernels(input: &[u8]) {
    let mut suite = Suite::new();
    for kernels in available() {
        let outcome = suite.run_one(&kernels, input);
        assert!(outcome.is_ok(), "{}: {outcome:?}", kernels.name);
    }
}

/// Puts `input` on the wire of the link; see `link.rs`.
///
/// # Panics
/// If `dt-link` or `dt-device` breaks a promise.
pub fn link(input: &[u8]) {
    link::run(input);
}

/// What a target says when it is run by itself.
pub fn needs_cargo_fuzz() {
    eprintln!(
        "run it with `cargo +nightly fuzz run --fuzz-dir tests/fuzz TARGET`; `cargo test -p fuzz` replays the corpus"
    );
    std::process::exit(2);
}
