//! `cargo xtask examples`: those of `dt-core` run on the host and, each a whole firmware, on an emulated Cortex-M4F, with the same
//! outcome; those of `dt-control`, which need an executor of a controller, on the emulator alone.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::firmware::image::target_directory;
use crate::firmware::{Board, size};
use crate::process::{cargo, command, output, run};
use crate::setup::cortex_m::{M4F, Toolchain, cargo_for_target, recorded};

const EXAMPLES: [&str; 3] = ["firmware", "several", "swap"];

/// What ends within seconds, or hangs.
const LIMIT_S: &str = "120";

/// The least that one arena of the examples' policy takes.
const ARENA_BYTES: u64 = 6 * 1024;

/// A package of its own, outside the workspace, and its programs.
const EXECUTORS: &str = "dt-control/examples/executors/Cargo.toml";
const WITH_EXECUTOR: [&str; 2] = ["rtic", "embassy"];

/// For programs that never look at the time.
const AT_ONCE: &[&str] = &[];

/// An instruction takes 8 ns, however busy the host is, so that no deadline is missed by chance.
const IN_TIME: &[&str] = &["-icount", "shift=3"];

/// Builds and runs them all.
///
/// # Errors
/// If one does not compile, link or control its robot, or has its arena elsewhere than in static memory.
pub fn check() -> Result<()> {
    let target = target_directory()?;
    let mut expected = String::new();
    for name in EXAMPLES {
        let host = output(cargo().args(["run", "--quiet", "-p", "dt-core", "--example", name]))?;
        run(&mut link(name)?)?;
        let image = target.join(M4F).join("firmware/examples").join(name);
        let controller = emulate(&image, AT_ONCE)?;
        ensure!(
            host == controller,
            "{name} says {host:?} on the host, but {controller:?} on the controller"
        );
        print!("{name}: {controller}");
        if expected.is_empty() {
            expected = controller;
        }
    }
    let target = target.join("executors");
    run(cargo().args(["fmt", "--manifest-path", EXECUTORS, "--check"]))?;
    if recorded() != Some(Toolchain::Distribution) {
        let mut clippy = executors("clippy", &target)?;
        run(clippy.args(["--", "-D", "warnings"]))?;
    }
    run(executors("build", &target)?.arg("--release"))?;
    for name in WITH_EXECUTOR {
        let controller = emulate(&target.join(M4F).join("release").join(name), IN_TIME)?;
        ensure!(
            controller == expected,
            "{name} says {controller:?}, but {expected:?} without an executor"
        );
        print!("{name}: {controller}");
    }
    Ok(())
}

/// Compiles and links an example of `dt-core`.
fn link(name: &str) -> Result<Command> {
    let mut cargo = cargo_for_target("rustc", M4F)?;
    cargo
        .args(["--quiet", "--profile", "firmware", "-p", "dt-core"])
        .args(["--example", name, "--"])
        .args(["-Clink-arg=-Tlink.x", "-Clink-arg=-Ldt-core/examples"]);
    Ok(cargo)
}

/// What an image prints before it ends, content.
fn emulate(image: &Path, clock: &[&str]) -> Result<String> {
    let memory = size::measure(image)?.ram_total();
    ensure!(
        memory > ARENA_BYTES,
        "{} has {memory} bytes of static memory: where is its arena?",
        image.display()
    );
    output(
        command("timeout")
            .args([LIMIT_S, "qemu-system-arm", "-M", Board::M4f.machine()])
            .args(["-nographic", "-monitor", "none", "-serial", "null"])
            .args(["-semihosting-config", "enable=on,target=native"])
            .args(clock)
            .arg("-kernel")
            .arg(image),
    )
    .with_context(|| image.display().to_string())
}

/// A cargo for the package of `dt-control` with executors.
fn executors(subcommand: &str, target: &Path) -> Result<Command> {
    let mut cargo = cargo_for_target(subcommand, M4F)?;
    cargo
        .args(["--quiet", "--locked", "--manifest-path", EXECUTORS])
        .env("CARGO_TARGET_DIR", target);
    Ok(cargo)
}
