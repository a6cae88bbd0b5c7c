//! The boards that people own, `firmware/boards`: building and measuring their images.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use dt_core::Blob;

use super::image::{executable, target_directory};
use super::size;
use crate::process::{cargo, output, run};
use crate::setup::cortex_m::{Toolchain, cargo_for_target, recorded};

#[path = "../../../firmware/boards/layout.rs"]
mod layout;

pub use layout::{BOARDS, Board, Boot, STACK_KIB};

const PACKAGE: &str = "firmware/boards/Cargo.toml";

/// Policies to say of whether they fit: the README's Pendulum model, and the published Hopper model in both types.
const MODELS: [(&str, u32); 3] = [
    ("Pendulum", 127_552),
    ("Hopper int4", 419_872),
    ("Hopper int8", 767_520),
];

/// Which boards to build for.
#[derive(clap::Args)]
pub struct Arguments {
    /// The boards; without a name all of them
    #[arg(value_name = "BOARD", value_parser = parser())]
    boards: Vec<&'static Board>,
}

/// What the command line takes for a board.
pub fn parser() -> impl TypedValueParser<Value = &'static Board> {
    PossibleValuesParser::new(BOARDS.iter().map(|board| board.name)).map(|name| {
        let board = BOARDS.iter().find(|board| board.name == name);
        board.unwrap_or(&BOARDS[0])
    })
}

/// Length of an observation and of an action: what an image is built for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Robot {
    /// Values of an observation.
    pub state: u32,
    /// Values of an action, 1 where the policy chooses.
    pub act: u32,
}

/// Hopper's, the largest that the project's tables are about.
const HOPPER: Robot = Robot { state: 11, act: 3 };

/// A policy file, read and checked.
#[derive(Debug)]
pub struct Policy {
    /// The file's bytes.
    pub file: Vec<u8>,
    /// The robot it is for.
    pub robot: Robot,
    /// Words of RAM that it needs.
    pub arena_words: u32,
}

impl Policy {
    /// Reads a policy file, and checks that `board` has room for it.
    ///
    /// # Errors
    /// If it cannot be read, is none, or does not fit.
    pub fn read(path: &Path, board: &Board) -> Result<Self> {
        let file = std::fs::read(path).with_context(|| {
            format!(
                "--policy: cannot read {}; `dt-train export` writes one",
                path.display()
            )
        })?;
        let mut words = vec![0_u128; file.len().div_ceil(16)];
        let aligned: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        aligned[..file.len()].copy_from_slice(&file);
        let blob = Blob::parse(&aligned[..file.len()])
            .with_context(|| format!("--policy: {} is no usable policy file", path.display()))?;
        let config = &blob.manifest().config;
        ensure!(
            config.image().is_none(),
            "--policy: {} sees images, and boards' programs read sensors: their link carries no pixels. `cargo xtask firmware run` has it on an emulated controller",
            path.display()
        );
        let policy = Self {
            robot: Robot {
                state: config.state_dim,
                act: config.action_len(),
            },
            arena_words: u32::try_from(config.arena_words())?,
            file,
        };
        let capacity = board.flash.capacity();
        ensure!(
            policy.file.len() as u64 <= u64::from(capacity),
            "--policy: {} has {} bytes, and a slot of the {} {capacity}: export it as int8 or int4, or take another board",
            path.display(),
            policy.file.len(),
            board.title
        );
        ensure!(
            policy.arena_words <= board.arena_words(),
            "--policy: {} needs {} bytes of RAM, and the {} has {} for it: export it as int8 or int4, or take another board",
            path.display(),
            4 * policy.arena_words,
            board.title,
            4 * board.arena_words()
        );
        Ok(policy)
    }
}

/// Builds the image of a board for a robot and gives its place.
///
/// # Errors
/// If the build fails, for instance because the image does not fit.
pub fn build(board: &Board, robot: Robot) -> Result<PathBuf> {
    let mut cargo = cargo_for("build", board, robot)?;
    cargo.args(["--message-format", "json-render-diagnostics"]);
    executable(&output(&mut cargo)?).context("cargo built no image")
}

/// The command that does something with a board's package.
fn cargo_for(subcommand: &str, board: &Board, robot: Robot) -> Result<Command> {
    let mut cargo = cargo_for_target(subcommand, board.target)?;
    if let Some(processor) = board.processor {
        let target = board.target;
        cargo.arg("--config").arg(format!(
            "target.{target}.rustflags = ['-Ctarget-cpu={processor}']"
        ));
    }
    cargo
        .args(["--manifest-path", PACKAGE, "--locked", "--release"])
        .args(["--features", board.name])
        .args(asks_for_signatures().then_some("--features=signed"))
        .env("CARGO_TARGET_DIR", target_directory()?.join("boards"))
        .env(
            "DEFMT_LOG",
            std::env::var_os("DEFMT_LOG").unwrap_or_else(|| "info".into()),
        )
        .env("DT_STATE", robot.state.to_string())
        .env("DT_ACT", robot.act.to_string());
    Ok(cargo)
}

/// Whether the images that are built run only what a key has signed (`DT_PUBLIC_KEY`).
pub fn asks_for_signatures() -> bool {
    std::env::var_os("DT_PUBLIC_KEY").is_some_and(|key| !key.is_empty())
}

/// Checks the format of the package and its lints for some boards.
///
/// # Errors
/// If one is not kept.
pub fn lint(boards: &[&Board]) -> Result<()> {
    run(cargo().args(["fmt", "--manifest-path", PACKAGE, "--check"]))?;
    for board in boards {
        if recorded() != Some(Toolchain::Distribution) {
            let mut clippy = cargo_for("clippy", board, HOPPER)?;
            run(clippy.args(["--quiet", "--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

/// Builds the images and prints what each takes and leaves.
///
/// # Errors
/// If an image does not build.
pub fn measure(arguments: &Arguments) -> Result<()> {
    let all = BOARDS.iter().collect::<Vec<_>>();
    let boards = match arguments.boards.is_empty() {
        true => {
            lint(&all)?;
            &all
        }
        false => &arguments.boards,
    };
    let mut table = String::from(
        "| board | program, of bytes | statics | black box | stack | a policy's arena, up to | two slots of bytes | fit twice |\n|---|---|---|---|---|---|---|---|\n",
    );
    for board in boards {
        let sizes = size::measure(&build(board, HOPPER)?)?;
        let arena = u64::from(4 * board.arena_words());
        let black_box = u64::from(1024 * board.black_box_kib);
        let capacity = board.flash.capacity();
        let fit = MODELS.iter().filter(|(_, bytes)| *bytes <= capacity);
        let fit = fit.map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        writeln!(
            table,
            "| {} | {} of {} | {} | {black_box} | {} | {arena} | {capacity} | {fit} |",
            board.title,
            sizes.flash_total(),
            board.flash.program_len(),
            sizes.ram_total() - arena - black_box,
            1024 * STACK_KIB,
        )?;
    }
    print!("{table}");
    Ok(())
}

/// The folder for what is written for boards.
///
/// # Errors
/// If cargo cannot tell where it builds.
pub fn folder(board: &Board) -> Result<PathBuf> {
    Ok(target_directory()?.join("boards/flash").join(board.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::bench::models::{HEADS, IMAGES, MLPS};

    /// What no board's program has code for is refused here, and not when it lies in its flash.
    #[test]
    fn policies_that_boards_cannot_run_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let board = BOARDS.iter().find(|board| board.name == "pico2").unwrap();
        let minatar = IMAGES[1].write(folder.path()).unwrap();
        let error = Policy::read(&minatar, board).unwrap_err().to_string();
        assert!(error.contains("sees images"), "{error}");
        for model in [&MLPS[0], &HEADS[13], &HEADS[14]] {
            let path = model.write(folder.path()).unwrap();
            assert!(Policy::read(&path, board).is_ok(), "{}", model.name);
        }
    }
}
