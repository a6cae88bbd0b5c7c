//! `cargo xtask python`: the wheel of `python/`, built, installed into an environment of its own, and tested there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::firmware::image::target_directory;
use crate::process::{cargo, command, deps, output, project, run};
use crate::setup;

/// What builds and tests the wheel; set-up's environment has the rest.
const REQUIREMENTS: &str = include_str!("../../python/requirements.txt");

/// Builds the wheel, installs it, and runs its tests; prints how to install it elsewhere.
///
/// # Errors
/// If set-up, the build or a test fails.
pub fn check() -> Result<()> {
    setup::ensure()?;
    let target = target_directory()?;
    let folder = target.join("python");
    let environment = Environment::ensure(folder.join("environment"))?;
    let wheel = environment.wheel(&target.join("wheels"))?;
    environment.install(&["--no-deps", "--force-reinstall"], &wheel)?;

    let counterpart = Counterpart::build(&target, folder.join("policies"))?;
    let tests = project().join("python/tests");
    // MuJoCo's Python bindings leave a log where they run.
    let in_folder = |mut command: Command| {
        command.current_dir(&folder);
        command
    };
    run(in_folder(environment.module("pytest"))
        .args(["--quiet", "-p", "no:cacheprovider"])
        .arg(&tests)
        .env("HOST_SIM", &counterpart.host_sim)
        .env("POLICIES", &counterpart.policies))?;
    run(in_folder(environment.module("mypy.stubtest"))
        .args(["dt_policy", "--allowlist"])
        .arg(tests.join("stubtest.txt")))?;
    run(in_folder(environment.module("mypy"))
        .args(["--strict", "--cache-dir"])
        .arg(folder.join("mypy"))
        .arg(project().join("python/examples")))?;
    println!("python3 -m pip install {}", wheel.display());
    Ok(())
}

/// A virtual environment that also sees set-up's packages: Gymnasium, MuJoCo and NumPy.
struct Environment(PathBuf);

impl Environment {
    /// Makes it, unless it is there and holds what it should.
    fn ensure(folder: PathBuf) -> Result<Self> {
        let base = setup::python::installed()?.site_packages();
        let wanted = format!("{}\n{REQUIREMENTS}", base.display());
        // Written last: without it, the folder is the remains of an interrupted run.
        let marker = folder.join("complete");
        let environment = Self(folder);
        if fs::read_to_string(&marker).is_ok_and(|is| is == wanted) {
            return Ok(environment);
        }
        if environment.0.exists() {
            fs::remove_dir_all(&environment.0)?;
        }
        eprintln!(
            "python: making {} (10 to 20 seconds)",
            environment.0.display()
        );
        run(command(deps().join("python"))
            .args(["-I", "-m", "venv"])
            .arg(&environment.0))?;
        let packages = output(environment.python().args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ]))?;
        fs::write(
            Path::new(packages.trim()).join("set-up.pth"),
            base.display().to_string(),
        )?;
        environment.install(
            &["--requirement"],
            &project().join("python/requirements.txt"),
        )?;
        fs::write(&marker, wanted).with_context(|| marker.display().to_string())?;
        Ok(environment)
    }

    fn python(&self) -> Command {
        let mut python = command(self.0.join("bin/python"));
        python.arg("-I");
        python
    }

    fn module(&self, name: &str) -> Command {
        let mut python = self.python();
        python.args(["-m", name]);
        python
    }

    fn install(&self, options: &[&str], what: &Path) -> Result<()> {
        run(self
            .module("pip")
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
            ])
            .args(["--only-binary", ":all:"])
            .args(options)
            .arg(what))
    }

    /// Builds the wheel, the only one of ours in `folder` afterwards.
    fn wheel(&self, folder: &Path) -> Result<PathBuf> {
        for old in wheels(folder)? {
            fs::remove_file(&old).with_context(|| old.display().to_string())?;
        }
        run(command(self.0.join("bin/maturin"))
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--manifest-path",
            ])
            .arg(project().join("python/Cargo.toml"))
            .arg("--interpreter")
            .arg(self.0.join("bin/python"))
            .arg("--out")
            .arg(folder))?;
        let mut built = wheels(folder)?;
        ensure!(
            built.len() == 1,
            "maturin left {} wheels in {}",
            built.len(),
            folder.display()
        );
        Ok(built.remove(0))
    }
}

/// Our wheels in a folder that need not exist.
fn wheels(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut wheels = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("dt_policy-") && name.ends_with(".whl") {
            wheels.push(path);
        }
    }
    Ok(wheels)
}

/// What the package is compared with.
pub struct Counterpart {
    /// The program.
    pub host_sim: PathBuf,
    /// Policies of several kinds.
    pub policies: PathBuf,
}

impl Counterpart {
    /// Builds it, and writes the policies into a folder.
    ///
    /// # Errors
    /// If it does not build.
    pub fn build(target: &Path, policies: PathBuf) -> Result<Self> {
        // Together with all else, as the tests are built, so that what they have compiled is not compiled again.
        run(cargo()
            .args(["build", "--quiet", "--features", "tests/host"])
            .args(["--bin", "host-sim", "--example", "policies"]))?;
        fs::create_dir_all(&policies)?;
        run(command(target.join("debug/examples/policies")).arg(&policies))?;
        Ok(Self {
            host_sim: target.join("debug/host-sim"),
            policies,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wheels_of_ours_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let ours = path("dt_policy-0.1.0-cp310-abi3-linux_x86_64.whl");
        for file in [
            &ours,
            &path("numpy-2.4.6-any.whl"),
            &path("dt_policy-0.1.0.tar.gz"),
        ] {
            fs::write(file, "").unwrap();
        }
        assert_eq!(wheels(folder.path()).unwrap(), [ours]);
        assert!(wheels(&path("missing")).unwrap().is_empty());
    }
}
