//! A compiler and `core` for the controllers' targets: rustup's, or else the distribution's with `core` built from its sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Step, system};
use crate::process::{cargo, command, deps, output, run_within, succeeds};

/// Cortex-M4 and M7 with a floating-point unit: the target of every product image.
pub const M4F: &str = "thumbv7em-none-eabihf";
/// Cortex-M3: neither DSP extension nor floating-point unit.
pub const M3: &str = "thumbv7m-none-eabi";
/// Cortex-M0 and M0+.
pub const M0: &str = "thumbv6m-none-eabi";

/// Cortex-M4 and M7 without a floating-point unit.
pub const M4: &str = "thumbv7em-none-eabi";
/// Cortex-M33 and M55 with a floating-point unit.
pub const M33F: &str = "thumbv8m.main-none-eabihf";
/// The same without.
pub const M33: &str = "thumbv8m.main-none-eabi";
/// RISC-V RV32IMAC.
pub const RISCV: &str = "riscv32imac-unknown-none-elf";
/// 64-bit Arm without an operating system.
pub const AARCH64: &str = "aarch64-unknown-none";

const TARGETS: [&str; 8] = [M4F, M3, M0, M4, M33F, M33, RISCV, AARCH64];

/// Where the compiler for the target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Toolchain {
    /// The compiler that runs this program, with rustup's prebuilt `core`.
    Rustup,
    /// Debian's and Ubuntu's `rustc-web`, with `core` built from `rust-web-src`.
    Distribution,
}

/// Debian's and Ubuntu's newest compiler; its sources come as their own package.
const DISTRIBUTION_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// The step that installs one of the two.
pub struct Target {
    /// The toolchain to use; without one, whichever works, rustup's first.
    pub wanted: Option<Toolchain>,
}

/// A cargo that builds for `target` with the toolchain set-up chose; `subcommand` is `build`, for instance.
///
/// # Errors
/// If set-up has not run.
pub fn cargo_for_target(subcommand: &str, target: &str) -> Result<Command> {
    let toolchain = recorded().context("run `cargo xtask setup` first")?;
    let mut cargo = toolchain.cargo();
    cargo.args([subcommand, "--target", target]);
    if toolchain == Toolchain::Distribution {
        cargo.args([
            "-Zbuild-std=core",
            "-Zbuild-std-features=compiler-builtins-mem",
        ]);
    }
    Ok(cargo)
}

/// The toolchain that set-up chose.
pub fn recorded() -> Option<Toolchain> {
    let text = fs::read_to_string(record()).ok()?;
    <Toolchain as clap::ValueEnum>::from_str(text.trim(), false).ok()
}

impl Toolchain {
    fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Distribution => "distribution",
        }
    }

    fn cargo(self) -> Command {
        match self {
            Self::Rustup => cargo(),
            Self::Distribution => {
                let mut cargo = command("/usr/bin/cargo");
                // The stable compiler accepts -Z options with this; the linker comes with rustup's.
                cargo
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env_remove("RUSTUP_TOOLCHAIN");
                if let Some(linker) = rustup_linker() {
                    for target in TARGETS {
                        let target = target.to_uppercase().replace(['-', '.'], "_");
                        cargo.env(format!("CARGO_TARGET_{target}_LINKER"), &linker);
                    }
                }
                cargo
            }
        }
    }

    fn is_usable(self) -> bool {
        match self {
            Self::Rustup => TARGETS.iter().all(|target| {
                output(command("rustc").args(["--print", "target-libdir", "--target", target]))
                    .is_ok_and(|folder| has_core(Path::new(folder.trim())))
            }),
            Self::Distribution => {
                succeeds(
                    command("/usr/bin/cargo")
                        .arg("--version")
                        .env_remove("RUSTUP_TOOLCHAIN"),
                ) && distribution_sources()
                    .is_some_and(|library| library.join("core/src/lib.rs").exists())
                    && (rustup_linker().is_some()
                        || succeeds(command("rust-lld").args(["-flavor", "gnu", "--version"])))
            }
        }
    }

    fn install(self) -> Result<()> {
        if self.is_usable() {
            return Ok(());
        }
        match self {
            Self::Rustup => run_within(
                RUSTUP_LIMIT,
                command("rustup").args(["target", "add"]).args(TARGETS),
            ),
            Self::Distribution => system::install(&DISTRIBUTION_PACKAGES),
        }?;
        if !self.is_usable() {
            bail!(
                "the {} toolchain still cannot build for {}",
                self.name(),
                TARGETS.join(", ")
            );
        }
        Ok(())
    }
}

impl Step for Target {
    fn name(&self) -> &'static str {
        "controller targets"
    }

    fn effect(&self) -> String {
        let add = format!("`rustup target add {}`", TARGETS.join(" "));
        match self.wanted {
            Some(Toolchain::Rustup) => format!("{add} (seconds)"),
            Some(Toolchain::Distribution) => {
                format!(
                    "`apt-get install {}` (about a minute)",
                    DISTRIBUTION_PACKAGES.join(" ")
                )
            }
            None => {
                format!("{add}, or else the distribution's compiler (seconds to a minute)")
            }
        }
    }

    fn is_done(&self) -> Result<bool> {
        Ok(recorded().is_some_and(|toolchain| {
            self.wanted.is_none_or(|wanted| wanted == toolchain) && toolchain.is_usable()
        }))
    }

    fn perform(&self) -> Result<()> {
        let chosen = match self.wanted {
            Some(toolchain) => toolchain.install().map(|()| toolchain)?,
            None => Toolchain::Rustup
                .install()
                .map(|()| Toolchain::Rustup)
                .or_else(|error| {
                    eprintln!("setup: {error:#}; trying the distribution's compiler");
                    Toolchain::Distribution
                        .install()
                        .map(|()| Toolchain::Distribution)
                })?,
        };
        fs::create_dir_all(deps())?;
        fs::write(record(), chosen.name())
            .with_context(|| format!("cannot write {}", record().display()))
    }
}

fn record() -> PathBuf {
    deps().join("cortex-m")
}

fn has_core(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn distribution_sources() -> Option<PathBuf> {
    let sysroot = output(command("/usr/bin/rustc").args(["--print", "sysroot"])).ok()?;
    Some(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library"))
}

/// `rust-lld` beside rustup's compiler.
fn rustup_linker() -> Option<PathBuf> {
    let libdir = output(command("rustc").args(["--print", "target-libdir"])).ok()?;
    let linker = Path::new(libdir.trim()).parent()?.join("bin/rust-lld");
    linker.exists().then_some(linker)
}
