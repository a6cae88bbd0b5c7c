//! `cargo xtask firmware targets`: `dt-core` compiles for every kind of target, and its build script gives each the kernels
//! that it can run. The images are what shows that those in assembly assemble.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process;
use crate::setup::cortex_m::{AARCH64, M0, M3, M4, M4F, M33, M33F, RISCV, cargo_for_target};

/// A target, flags for rustc, and the kernels that it must get; portable ones where there are none.
type Case = (&'static str, &'static str, &'static [&'static str]);

const DSP: &[&str] = &["arm_dsp"];
const PORTABLE: &[&str] = &[];

const CASES: [Case; 14] = [
    (M4F, "", DSP),
    (M4F, "-Ctarget-cpu=cortex-m7", DSP),
    (M4, "", PORTABLE),
    (M3, "", PORTABLE),
    (M0, "", PORTABLE),
    (M33F, "", PORTABLE),
    (M33F, "-Ctarget-cpu=cortex-m33", DSP),
    (M33F, "-Ctarget-feature=+dsp", DSP),
    (M33F, "-Ctarget-cpu=cortex-m55", &["arm_dsp", "arm_mve"]),
    (M33F, "-Ctarget-cpu=cortex-m55 -Ctarget-feature=-mve", DSP),
    (
        M33F,
        "-Ctarget-cpu=cortex-m33 -Ctarget-feature=-dsp",
        PORTABLE,
    ),
    (M33, "-Ctarget-cpu=cortex-m33", PORTABLE),
    (RISCV, "", PORTABLE),
    (AARCH64, "", &["neon_kernels"]),
];

/// As if the build script had chosen Arm's assembly: what must not compile.
const WRONG: [(&str, &str); 3] = [
    (M4, "--cfg=arm_dsp"),
    (M33, "-Ctarget-cpu=cortex-m33 --cfg=arm_dsp"),
    (RISCV, "--cfg=arm_dsp"),
];

/// Why not.
const REFUSAL: &str = "kernels in Arm assembly take floats in registers";

/// Compiles all cases.
///
/// # Errors
/// If a target gets other kernels, one does not compile, or one compiles that must not.
pub fn check() -> Result<()> {
    for (target, flags, expected) in CASES {
        let kernels = chosen(target, flags).with_context(|| format!("{target} {flags}"))?;
        ensure!(
            kernels == expected,
            "{target} {flags}: dt-core chose {kernels:?} instead of {expected:?}"
        );
        println!("{target} {flags}: {kernels:?}");
    }
    for (target, flags) in WRONG {
        let output = cargo_check(target, flags)?.output()?;
        let reasons = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && reasons.contains(REFUSAL),
            "{target} {flags}: kernels that this target cannot run are not refused\n{reasons}"
        );
    }
    Ok(())
}

/// Cargo's message about a build script that it ran.
#[derive(Deserialize)]
struct Executed {
    package_id: String,
    cfgs: Vec<String>,
}

/// Which kernels `dt-core` chose.
fn chosen(target: &str, flags: &str) -> Result<Vec<String>> {
    let messages = process::output(&mut cargo_check(target, flags)?)?;
    let executed = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Executed>(line).ok())
        .find(|executed| executed.package_id.contains("dt-core"));
    Ok(executed.context("dt-core has a build script")?.cfgs)
}

fn cargo_check(target: &str, flags: &str) -> Result<Command> {
    let mut cargo = cargo_for_target("check", target)?;
    cargo
        .args(["-p", "dt-core", "--quiet"])
        .args(["--message-format", "json-render-diagnostics"])
        .env("RUSTFLAGS", flags)
        .env_remove("DT_KERNELS");
    Ok(cargo)
}
