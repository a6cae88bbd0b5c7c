//! `cargo xtask package`: `dt-core` is fit for a registry.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process::{cargo, command, output, project, run, succeeds};
use crate::setup::cortex_m::M4F;

/// What a user of the package needs beside the source.
const FILES: [&str; 7] = [
    "BLOB.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "examples/firmware.rs",
    "examples/pendulum.dtb",
    "examples/pendulum.rs",
];

/// Packages `dt-core`, builds what is in the package, and compiles it with the compiler that it calls its oldest.
///
/// # Errors
/// If one of these fails.
pub fn check() -> Result<()> {
    let list = output(cargo().args(["package", "-p", "dt-core", "--allow-dirty", "--list"]))?;
    for file in FILES {
        ensure!(
            list.lines().any(|line| line == file),
            "the package of dt-core lacks {file}"
        );
    }
    run(cargo().args([
        "package",
        "--quiet",
        "--locked",
        "-p",
        "dt-core",
        "--allow-dirty",
    ]))?;
    let oldest = rust_version()?;
    let toolchain = format!("+{oldest}");
    if !succeeds(command("cargo").args([&toolchain, "--version"])) {
        eprintln!(
            "package: not compiling with the oldest compiler: rustup toolchain install {oldest} --profile minimal -t {M4F}"
        );
        return Ok(());
    }
    // rustup fetches a compiler that is asked for, but without this target.
    let mut targets = vec![vec![]];
    if succeeds(command("rustup").args(["target", "add", "--toolchain", &oldest, M4F])) {
        targets.push(vec!["--target", M4F, "--features", "defmt"]);
    } else {
        eprintln!(
            "package: not compiling for {M4F} with the oldest compiler: rustup target add --toolchain {oldest} {M4F}"
        );
    }
    for arguments in targets {
        let mut cargo = command("cargo");
        cargo
            .args([&toolchain, "check", "--quiet", "--locked", "-p", "dt-core"])
            .args(arguments)
            // Cargo tells a program that it runs which compiler it uses.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC");
        run(&mut cargo)?;
    }
    println!("dt-core packages, and compiles with Rust {oldest}");
    Ok(())
}

/// The oldest compiler, as the workspace's manifest says.
fn rust_version() -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Package {
        rust_version: String,
    }
    #[derive(Deserialize)]
    struct Workspace {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Manifest {
        workspace: Workspace,
    }
    let text = fs::read_to_string(project().join("Cargo.toml"))?;
    let manifest: Manifest = toml::from_str(&text).context("Cargo.toml")?;
    Ok(manifest.workspace.package.rust_version)
}
