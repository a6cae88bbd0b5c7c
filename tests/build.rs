//! Lets programs find the libraries of their dependencies: with the feature `mujoco` the MuJoCo that host-sim links, with
//! `host` also dt-train's libtorch.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = env::var("DEP_HOST_SIM_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
    // Set by dt-train's build script, which says why both arguments are needed.
    if let Ok(lib) = env::var("DEP_DT_TRAIN_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch,--pop-state");
    }
}
