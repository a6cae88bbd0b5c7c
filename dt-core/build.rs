//! Chooses the kernels that the target can run. No choice changes a bit of any result.
//!
//! Arm: by the calling convention, since the kernels take floats in registers of the floating-point unit, and by the
//! instruction set. Armv7E-M (Cortex-M4, M7) always has the DSP extension, Armv8-M (Cortex-M33, M55) may have it, and stable Rust
//! hides whether it has: `target-feature=+dsp` counts, and a `target-cpu` that is known to have it, both from
//! rustc's flags; so it is with Helium, `mve.fp`, on M55 and M85. Without a word about it Armv8-M gets the portable kernels, which any core runs.
//!
//! With `DT_KERNELS=scalar` every target gets the portable ones, with `DT_KERNELS=sse2` x86-64 goes without AVX2
//! and AVX-512, with `DT_KERNELS=avx2` without AVX-512.
//! Miri runs the portable ones.

use std::{env, process};

/// Armv8-M processors whose compilers' default has the DSP extension.
const WITH_DSP: [&str; 6] = [
    "cortex-m33",
    "cortex-m35p",
    "cortex-m52",
    "cortex-m55",
    "cortex-m85",
    "star-mc1",
];

/// Those whose default has Helium, with floats, too.
const WITH_MVE: [&str; 3] = ["cortex-m52", "cortex-m55", "cortex-m85"];

/// Every `cfg` that this script may set.
const ALL: &str = "arm_dsp, arm_mve, neon_kernels, sse2_kernels, avx2_kernels, vnni_kernels";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DT_KERNELS");
    println!("cargo:rustc-check-cfg=cfg({ALL})");
    let wish = variable("DT_KERNELS");
    if !["", "scalar", "sse2", "avx2"].contains(&wish.as_str()) {
        eprintln!("error: DT_KERNELS is {wish:?}; it must be scalar, sse2 or avx2, or not set");
        process::exit(1);
    }
    if wish == "scalar" || env::var_os("CARGO_CFG_MIRI").is_some() {
        return;
    }
    let target = Target::from_environment();
    for (name, runs) in [
        ("arm_dsp", target.is_arm_with_dsp()),
        ("arm_mve", target.is_arm_with_mve()),
        ("neon_kernels", target.is("aarch64") && target.has("neon")),
        ("sse2_kernels", target.is("x86_64") && target.has("sse2")),
        (
            "avx2_kernels",
            target.is("x86_64") && target.has("sse2") && wish != "sse2",
        ),
        (
            "vnni_kernels",
            target.is("x86_64") && target.has("sse2") && wish.is_empty(),
        ),
    ] {
        if runs {
            println!("cargo:rustc-cfg={name}");
        }
    }
    if target.is_arm_with_dsp() {
        // The assembler looks at the target alone, not at rustc's other flags.
        let cpu = if target.is_armv8m() {
            "cortex-m33"
        } else {
            "cortex-m4"
        };
        println!("cargo:rustc-env=DT_ASSEMBLY_CPU={cpu}");
    }
}

/// What is compiled for.
struct Target {
    /// As in `--target`.
    name: String,
    arch: String,
    abi: String,
    /// What rustc tells of its features, then what its flags say: the last word counts.
    features: Vec<(String, bool)>,
    /// As in `-Ctarget-cpu`; empty without one.
    cpu: String,
}

impl Target {
    fn from_environment() -> Self {
        let told = variable("CARGO_CFG_TARGET_FEATURE");
        let mut features: Vec<_> = told
            .split(',')
            .map(|name| (name.to_owned(), true))
            .collect();
        let mut cpu = String::new();
        // The flags are separated by 0x1f; `-C` may be one of them by itself.
        for flag in variable("CARGO_ENCODED_RUSTFLAGS").split('\x1f') {
            let flag = flag.strip_prefix("-C").unwrap_or(flag).trim_start();
            let flag = flag.strip_prefix("--codegen=").unwrap_or(flag);
            if let Some(name) = flag.strip_prefix("target-cpu=") {
                name.clone_into(&mut cpu);
            }
            let changes = flag.strip_prefix("target-feature=").unwrap_or_default();
            for change in changes.split(',') {
                if let Some(name) = change.strip_prefix(['+', '-']) {
                    features.push((name.to_owned(), change.starts_with('+')));
                }
            }
        }
        Self {
            name: variable("TARGET"),
            arch: variable("CARGO_CFG_TARGET_ARCH"),
            abi: variable("CARGO_CFG_TARGET_ABI"),
            features,
            cpu,
        }
    }

    fn is(&self, arch: &str) -> bool {
        self.arch == arch
    }

    /// Whether it has a feature; `None` where nothing is said of it.
    fn says(&self, feature: &str) -> Option<bool> {
        let mut words = self.features.iter().rev();
        words.find(|(name, _)| name == feature).map(|(_, has)| *has)
    }

    fn has(&self, feature: &str) -> bool {
        self.says(feature) == Some(true)
    }

    /// Whether there are Helium's instructions such as `VMLADAVA`, and those for floats.
    fn is_arm_with_mve(&self) -> bool {
        let of_cpu = WITH_MVE.contains(&self.cpu.as_str());
        let has = self.says("mve") != Some(false) && self.says("mve.fp").unwrap_or(of_cpu);
        self.is_arm_with_dsp() && self.is_armv8m() && has
    }

    fn is_armv8m(&self) -> bool {
        self.name.starts_with("thumbv8m.main")
    }

    /// Whether floats are passed in registers, and there are instructions such as `SMLAD`.
    fn is_arm_with_dsp(&self) -> bool {
        let always = self.name.starts_with("thumbv7em");
        let of_cpu = WITH_DSP.contains(&self.cpu.as_str());
        let has = always || self.is_armv8m() && self.says("dsp").unwrap_or(of_cpu);
        self.is("arm") && self.abi == "eabihf" && has
    }
}

/// An environment variable; empty if it is not set.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
