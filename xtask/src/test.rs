//! `cargo xtask test`: everything that has to hold before a change is accepted.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::firmware::Board;
use crate::firmware::image::target_directory;
use crate::process::{cargo, command, project, run_openly, succeeds};
use crate::setup;
use crate::setup::cortex_m::{Toolchain, cargo_for_target, recorded};

/// What all stages leave in `target`, measured: 7.4.
const NEEDED_GB: u32 = 8;

/// Runs every stage, stops at the first that fails, and ends with what each took.
///
/// # Errors
/// If set-up or a stage fails.
pub fn run(long: bool) -> Result<()> {
    setup::ensure()?;
    let mut summary = Vec::new();
    let target = target_directory()?;
    let mut all = stages()?;
    if long {
        all.push((
            "exp and tanh of version 1 on all inputs; many power cuts",
            host(&[
                "test",
                "--release",
                "-p",
                "dt-core",
                "-p",
                "dt-device",
                "--lib",
                "--",
                "--ignored",
            ]),
        ));
        all.push((
            "cost: every activation and head",
            host(&["xtask", "firmware", "bench", "--heads"]),
        ));
        all.push((
            "cost: multilayer perceptrons",
            host(&["xtask", "firmware", "bench", "--mlp"]),
        ));
        all.push((
            "cost: images",
            host(&["xtask", "firmware", "bench", "--images"]),
        ));
        all.push((
            "every board that people own builds and fits",
            host(&["xtask", "firmware", "boards"]),
        ));
    }
    all.extend(fuzz_stages(long)?);
    for (name, mut command) in all {
        eprintln!("test: {name}");
        let start = Instant::now();
        run_openly(&mut command).with_context(|| format!("test: {name}{}", if_full(&target)))?;
        summary.push((name, start.elapsed().as_secs_f64()));
    }
    println!("{}", summarize(&summary));
    Ok(())
}

/// A linker that has no room left ends with a bus error, and says nothing of disks.
fn if_full(folder: &Path) -> String {
    const FULL: u64 = 1 << 30;
    match rustix::fs::statvfs(folder) {
        Ok(disk) if disk.f_bavail * disk.f_frsize < FULL => format!(
            ": the disk of {} has {} MB left, and all stages need {NEEDED_GB} GB there in a clean clone; make room and run it again",
            folder.display(),
            disk.f_bavail * disk.f_frsize / 1_000_000
        ),
        _ => String::new(),
    }
}

/// The cheap ones first.
fn stages() -> Result<Vec<(&'static str, Command)>> {
    // The distribution has no clippy for these sources; its compiler's own lints remain.
    let (firmware_lints, riscv_lints, lint): (_, _, &[&str]) = match recorded() {
        Some(Toolchain::Distribution) => (
            "firmware compiles (no clippy for this compiler)",
            "firmware compiles for RISC-V",
            &["check"],
        ),
        _ => (
            "firmware lints",
            "firmware lints for RISC-V",
            &["clippy", "--", "-D", "warnings"],
        ),
    };
    let mut documentation = host(&["doc", "--no-deps", "--features", "tests/host"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    Ok(vec![
        ("format", host(&["fmt", "--all", "--check"])),
        (
            "lints",
            host(&[
                "clippy",
                "--all-targets",
                "--features",
                "tests/host",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        (
            "lints of what a controller runs with defmt",
            host(&[
                "clippy",
                "-p",
                "dt-core",
                "-p",
                "dt-control",
                "-p",
                "dt-link",
                "-p",
                "dt-device",
                "--features",
                "dt-device/defmt",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        (firmware_lints, target(Board::M4f, lint)?),
        (riscv_lints, target(Board::Riscv, lint)?),
        (
            "every target gets the kernels that it can run",
            host(&["xtask", "firmware", "targets"]),
        ),
        (
            "dt-core cannot panic, and its stack is bounded",
            host(&["xtask", "firmware", "prove"]),
        ),
        (
            "the control loop cannot panic",
            host(&["xtask", "firmware", "build", "--bin", "no_panic_loop"]),
        ),
        (
            "the device at a wire cannot panic, whatever comes over it",
            host(&["xtask", "firmware", "build", "--bin", "no_panic_device"]),
        ),
        (
            "the slots cannot panic",
            host(&["xtask", "firmware", "build", "--bin", "no_panic_slots"]),
        ),
        ("examples", host(&["xtask", "examples"])),
        ("dt-core can be published", host(&["xtask", "package"])),
        ("documentation", documentation),
        ("tests", host(&["test", "--features", "tests/host"])),
        // Beside the others it always has all features.
        (
            "dt-core's tests with its default features",
            host(&["test", "-p", "dt-core", "--lib"]),
        ),
        ("the Python package", host(&["xtask", "python"])),
        (
            "a Pico, emulated as the chip it is",
            host(&["xtask", "firmware", "pico", "--check"]),
        ),
        (
            "power cuts on the emulated Pico",
            host(&["xtask", "firmware", "pico", "--power-cuts", "30"]),
        ),
        (
            "cost: instructions of a control step",
            host(&["xtask", "firmware", "bench", "--quick"]),
        ),
    ])
}

/// Needs a nightly compiler and a tool that set-up does not install; without them, a line says how to get them.
/// The corpus is replayed by the tests in any case.
fn fuzz_stages(long: bool) -> Result<Vec<(&'static str, Command)>> {
    if !succeeds(command("cargo").args(["+nightly", "fuzz", "--version"])) {
        eprintln!(
            "test: not fuzzing, since cargo-fuzz is not installed: rustup toolchain install nightly && cargo install cargo-fuzz"
        );
        return Ok(Vec::new());
    }
    let (policies, kernels, link, seconds) = if long {
        (
            "fuzzing policies, 30 min",
            "fuzzing kernels, 30 min",
            "fuzzing the link, 30 min",
            1800,
        )
    } else {
        (
            "fuzzing policies, 10 s",
            "fuzzing kernels, 10 s",
            "fuzzing the link, 10 s",
            10,
        )
    };
    Ok(vec![
        (policies, fuzz("parse_and_run", seconds)?),
        (kernels, fuzz("kernels", seconds)?),
        (link, fuzz("link", seconds)?),
    ])
}

/// Starts from the committed corpus; what is new goes to the build folder.
fn fuzz(target: &str, seconds: u32) -> Result<Command> {
    let package = "tests/fuzz";
    let found = target_directory()?.join("fuzz-corpus").join(target);
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let mut cargo = command("cargo");
    cargo
        .args(["+nightly", "fuzz", "run", "--fuzz-dir", package, target])
        .arg(found)
        .arg(project().join(package).join("corpus").join(target))
        .args(["--", &format!("-max_total_time={seconds}")]);
    Ok(cargo)
}

fn host(arguments: &[&str]) -> Command {
    let mut cargo = cargo();
    cargo.args(arguments);
    cargo
}

fn target(board: Board, arguments: &[&str]) -> Result<Command> {
    let mut cargo = cargo_for_target(arguments[0], board.target())?;
    cargo
        .args(["-p", "firmware"])
        .args(&arguments[1..])
        .env("DT_BOARD", board.machine());
    Ok(cargo)
}

fn summarize(stages: &[(&str, f64)]) -> String {
    let width = stages
        .iter()
        .map(|(name, _)| name.len())
        .fold(0, usize::max);
    let total: f64 = stages.iter().map(|(_, seconds)| seconds).sum();
    let lines = stages
        .iter()
        .map(|(name, seconds)| format!("  {name:width$}  {seconds:6.1} s\n"));
    format!(
        "\n{}  {:width$}  {total:6.1} s\ntest: all {} stages passed",
        lines.collect::<String>(),
        "total",
        stages.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_lines_up() {
        let text = summarize(&[("format", 0.52), ("documentation", 100.0)]);
        let expected = "\n  format            0.5 s\n  documentation   100.0 s\n  total           100.5 s\ntest: all 2 stages passed";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_full_disk_is_said() {
        // No disk has room there; none is full where compiled tests are run.
        assert!(if_full(Path::new("/proc")).contains("has 0 MB left"));
        assert_eq!(if_full(project()), "");
    }
}
