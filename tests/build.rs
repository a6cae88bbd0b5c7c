//! With the feature `host`: lets the tests find the libtorch that dt-train links.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Set by dt-train's build script, which says why both arguments are needed.
    if let Ok(lib) = env::var("DEP_DT_TRAIN_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch,--pop-state");
    }
}
