//! Tells the crate which integer kernels the target can run: stable Rust does not expose Arm's
//! DSP extension as a `target_feature`, and Miri runs the portable ones.
//!
//! With `DT_KERNELS=scalar` or `DT_KERNELS=sse2` a host goes without the others. That changes no bit of
//! any result, which is what it is there to show.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(arm_dsp)");
    // Armv7E-M (Cortex-M4, M7) always has the DSP extension.
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.starts_with("thumbv7em") {
        println!("cargo:rustc-cfg=arm_dsp");
    }

    println!("cargo:rustc-check-cfg=cfg(neon_kernels, sse2_kernels, avx2_kernels)");
    println!("cargo:rerun-if-env-changed=DT_KERNELS");
    let most = std::env::var("DT_KERNELS").unwrap_or_default();
    if most == "scalar" || std::env::var_os("CARGO_CFG_MIRI").is_some() {
        return;
    }
    if target.starts_with("aarch64") {
        println!("cargo:rustc-cfg=neon_kernels");
    }
    if target.starts_with("x86_64") {
        println!("cargo:rustc-cfg=sse2_kernels");
        if most != "sse2" {
            println!("cargo:rustc-cfg=avx2_kernels");
        }
    }
}
