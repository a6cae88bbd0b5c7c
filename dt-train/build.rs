//! Lets the binaries and tests of this package find libtorch and MuJoCo where set-up put them, with no exported variable.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    // `.cargo/config.toml` sets it, unless the user exports another.
    let lib = env::var_os("LIBTORCH").map(|libtorch| PathBuf::from(libtorch).join("lib"));
    let Some(lib) = lib.filter(|lib| lib.join("libtorch.so").exists()) else {
        println!("cargo::error=there is no libtorch yet: run `cargo xtask setup` first");
        return;
    };
    // For packages that link this one: a build script's link arguments only reach its own package.
    println!("cargo::metadata=LIB={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // Nothing refers to a symbol of libtorch.so itself, but it brings in libtorch_cuda.so, whose
    // static initializers register the GPU kernels.
    println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch,--pop-state");
    // Set by host-sim's build script.
    if let Ok(mujoco) = env::var("DEP_HOST_SIM_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{mujoco}");
    }
}
