//! Tells the crate which integer kernels the target can run: stable Rust does not expose Arm's
//! DSP extension as a `target_feature`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(arm_dsp)");
    // Armv7E-M (Cortex-M4, M7) always has the DSP extension.
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.starts_with("thumbv7em") {
        println!("cargo:rustc-cfg=arm_dsp");
    }
}
