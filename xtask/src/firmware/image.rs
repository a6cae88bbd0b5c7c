//! Building an image. What it carries reaches `firmware/build.rs` through the environment.

use std::io;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Board, Selection};
use crate::process;
use crate::setup::cortex_m::cargo_for_target;

/// Room for recorded episodes in every memory layout, firmware/memory.
const EPISODES_KIB: u64 = 3 * 1024;

/// Builds the image and gives its place; `episodes` is a recording to compare with.
///
/// # Errors
/// If the policy cannot be found or the build fails.
pub fn build(selection: &Selection, episodes: Option<&Path>) -> Result<PathBuf> {
    executable(&process::output(&mut cargo_build(selection, episodes)?)?)
        .context("cargo built no image")
}

/// The constants exported with a policy: named like it, or `policy.rs` as earlier versions called them all.
fn constants(policy: &Path) -> PathBuf {
    let named = policy.with_extension("rs");
    match named.is_file() {
        true => named,
        false => policy.with_file_name("policy.rs"),
    }
}

/// The command that builds the image; [`executable`] finds it in what the command prints.
///
/// # Errors
/// If the policy cannot be found.
pub fn cargo_build(selection: &Selection, episodes: Option<&Path>) -> Result<Command> {
    let variable = |path: Option<&Path>| path.map_or(Ok(PathBuf::new()), absolute);
    if let Some(policy) = &selection.policy {
        ensure!(
            policy.is_file(),
            "--policy: there is no file {}",
            policy.display()
        );
        let kib = policy.metadata()?.len().div_ceil(1024);
        ensure!(
            kib <= u64::from(selection.flash.kib()),
            "--policy: {} takes {kib} KiB, and the controller has {} KiB of flash: export it as int8 or int4, or choose another --flash",
            policy.display(),
            selection.flash.kib()
        );
        ensure!(
            constants(policy).is_file(),
            "--policy: there is no {}; keep the constants that `dt-train export` writes beside the policy",
            policy.with_extension("rs").display()
        );
    }
    if let Some(episodes) = episodes {
        ensure!(
            episodes.is_file(),
            "there is no recording {}",
            episodes.display()
        );
        let kib = episodes.metadata()?.len().div_ceil(1024);
        ensure!(
            kib <= EPISODES_KIB,
            "{}: the recorded episodes take {kib} KiB, and an image has room for {EPISODES_KIB}: take fewer --episodes, and the others with another --seed",
            episodes.display()
        );
    }
    let target = selection.board.target();
    let mut cargo = cargo_for_target("build", target)?;
    if let Some(processor) = selection.board.processor() {
        // Helium takes subnormal floats for zero, which the compiler's vectorizers do not know; `dt-core`'s kernels do.
        let scalar_floats = match selection.board {
            Board::M55 => ", '-Cno-vectorize-loops', '-Cno-vectorize-slp'",
            _ => "",
        };
        cargo.arg("--config").arg(format!(
            "target.{target}.rustflags = ['-Ctarget-cpu={processor}'{scalar_floats}]"
        ));
    }
    cargo
        .args([
            "-p",
            "firmware",
            "--profile",
            "firmware",
            "--bin",
            selection.bin.bin(),
        ])
        .args(selection.plain.then_some("--no-default-features"))
        .args(["--message-format", "json-render-diagnostics"])
        .args(selection.images.then_some("--features=images"))
        .env(
            "DEFMT_LOG",
            std::env::var_os("DEFMT_LOG").unwrap_or_else(|| "info".into()),
        )
        .env("DT_BOARD", selection.board.machine())
        .env("DT_FLASH_KIB", selection.flash.kib().to_string())
        .env("DT_POLICY", variable(selection.policy.as_deref())?)
        .env("DT_POLICY_RS", "")
        .env("DT_TRACE", variable(episodes)?);
    Ok(cargo)
}

/// Cargo's message about something it built.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// The executable in cargo's messages, one JSON object per line.
pub fn executable(messages: &str) -> Option<PathBuf> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .filter_map(|artifact| artifact.executable)
        .next_back()
}

/// The build folder, wherever the user keeps it.
///
/// # Errors
/// If cargo cannot tell.
pub fn target_directory() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let text =
        process::output(process::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text)
        .map_err(io::Error::from)
        .context("cargo metadata")?;
    Ok(metadata.target_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null,\"fresh\":true}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/replay\",\"fresh\":true}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(executable(messages), Some("/t/replay".into()));
        assert_eq!(
            executable("{\"reason\":\"build-finished\",\"success\":true}\n"),
            None
        );
    }
}
