//! `cargo xtask firmware prove`: no input makes `dt-core` panic or take more stack than it may, on cores with and without
//! its assembly; and each of the proofs fails where something is planted that it has to find.
//!
//! `dt-core` cannot panic if the image `no_panic` links. It is linked as the workspace's profile compiles it, and with
//! `overflow-checks = true`, which a user's profile may say: then arithmetic must be free of overflow, or say what happens.
//! `debug-assertions` are no part of the proof: they are there to stop a test where a size is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use super::{Board, Program, Selection, image, size, stack};
use crate::process::show;

/// The M4F and the M55 have kernels in assembly, the others the portable ones and floats in software.
const BOARDS: [Board; 5] = [
    Board::M4f,
    Board::M55,
    Board::M3,
    Board::M0plus,
    Board::Riscv,
];

/// What the linker says if a panic is left.
const REFUSAL: &str = "undefined symbol: dt_core_can_panic";

/// Builds all images and checks what each has to show.
///
/// # Errors
/// If a proof fails, or holds where it must not.
pub fn prove() -> Result<()> {
    for board in BOARDS {
        links(board, Checks::Off, None)?;
        refused(board, Checks::Off, "index")?;
        links(board, Checks::On, None)?;
        refused(board, Checks::On, "overflow")?;
        println!("{}: dt-core cannot panic", board.target());
    }
    // Only the checks find this one.
    links(Board::M4f, Checks::Off, Some("overflow"))?;
    let image = links(Board::M4f, Checks::Off, None)?;
    let selected = Selection::new(Board::M4f, Program::NoPanic, None);
    keeps_within_its_limits(&image, &selected)?;
    let plain = Selection {
        plain: true,
        ..Selection::new(Board::M4f, Program::NoPanic, None)
    };
    size::measure(&image::build(&plain, None)?)?.check(&plain)?;
    for (plant, expected) in [("recursion", "calls itself"), ("frame", "its limit is")] {
        let image = links(Board::M4f, Checks::Off, Some(plant))?;
        let Err(error) = stack::bound(&image).and_then(|bound| bound.check(&selected)) else {
            bail!("the bound of the stack does not see a planted {plant}");
        };
        let error = format!("{error:#}");
        ensure!(error.contains(expected), "planted {plant}: {error}");
    }
    // And with what sees images.
    seeing(Checks::On)?;
    keeps_within_its_limits(&seeing(Checks::Off)?, &with_images())
}

fn with_images() -> Selection {
    Selection {
        images: true,
        ..Selection::new(Board::M4f, Program::NoPanic, None)
    }
}

fn keeps_within_its_limits(image: &Path, selection: &Selection) -> Result<()> {
    size::measure(image)?.check(selection)?;
    let bound = stack::bound(image)?;
    print!("{bound}");
    bound.check(selection)
}

/// Whether arithmetic that overflows panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    Off,
    On,
}

/// The image, which has to link, with what is planted in it.
fn links(board: Board, checks: Checks, plant: Option<&str>) -> Result<PathBuf> {
    built(cargo(board, checks, plant)?)
}

/// The image with feature `images` on the M4F, which has to link.
fn seeing(checks: Checks) -> Result<PathBuf> {
    built(checked(image::cargo_build(&with_images(), None)?, checks))
}

fn built(mut cargo: Command) -> Result<PathBuf> {
    let output = output(&mut cargo)?;
    ensure!(
        output.status.success(),
        "`{}` failed\n{}",
        show(&cargo),
        String::from_utf8_lossy(&output.stderr)
    );
    image::executable(&String::from_utf8_lossy(&output.stdout)).context("cargo built no image")
}

/// Checks that the image does not link, because of what is planted in it.
fn refused(board: Board, checks: Checks, plant: &str) -> Result<()> {
    let mut cargo = cargo(board, checks, Some(plant))?;
    let output = output(&mut cargo)?;
    let reasons = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && reasons.contains(REFUSAL),
        "`{}` does not find a planted {plant}\n{reasons}",
        show(&cargo)
    );
    Ok(())
}

fn cargo(board: Board, checks: Checks, plant: Option<&str>) -> Result<Command> {
    let selection = Selection::new(board, Program::NoPanic, None);
    let mut cargo = checked(image::cargo_build(&selection, None)?, checks);
    cargo.env("DT_PLANT", plant.unwrap_or_default());
    Ok(cargo)
}

fn checked(mut cargo: Command, checks: Checks) -> Command {
    if checks == Checks::On {
        cargo.args(["--config", "profile.firmware.overflow-checks=true"]);
    }
    cargo
}

fn output(cargo: &mut Command) -> Result<Output> {
    let output = cargo.output();
    output.with_context(|| format!("cannot start `{}`", show(cargo)))
}
