//! The examples' constants are those of their policy, and the project's README shows the example that is compiled.

use dt_core::{Blob, include_policy};

include!("../examples/pendulum.rs");

#[test]
fn policy_rs_tells_the_memory_of_the_policy() {
    let blob = Blob::parse(include_policy!("../examples/pendulum.dtb")).unwrap();
    assert_eq!(CONFIG, blob.manifest().config);
    assert_eq!(ARENA_WORDS, blob.manifest().config.arena_words());
}

#[test]
fn the_readme_shows_the_firmware_that_is_compiled() {
    let readme = include_str!("../../README.md");
    let example = include_str!("../examples/firmware.rs");
    let shown = format!("```rust,ignore\n{example}```\n");
    assert!(
        readme.contains(&shown),
        "copy dt-core/examples/firmware.rs into README.md"
    );
}
