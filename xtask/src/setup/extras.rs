//! `cargo xtask setup --with …`: simulators that are not everyone's. Two of them are GPL; here they stay in processes of their own
//! (`host_sim::plant`), and nobody gets them who has not asked.
//!
//! Each lies in a folder of its own beside the Python environment, which stays as it is, and is found by its link in
//! `.deps/extras`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::{Step, cache, python, symlink};
use crate::process::{command, deps, run};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Extra {
    /// Atari games: ale-py (GPL-2.0), with OpenCV for their frames
    Atari,
    /// LunarLander, BipedalWalker, CarRacing: Box2D, and pygame, which draws them and Gymnasium's classic control
    Box2d,
    /// MinAtar's five games (GPL-3.0)
    Minatar,
    /// What Gymnasium's MuJoCo tasks need to draw pictures
    Mujoco,
}

impl Extra {
    const fn name(self) -> &'static str {
        match self {
            Self::Atari => "atari",
            Self::Box2d => "box2d",
            Self::Minatar => "minatar",
            Self::Mujoco => "mujoco",
        }
    }

    /// Without what these need in turn: that is in the environment, or only of use to their own windows.
    const fn requirements(self) -> &'static [&'static str] {
        match self {
            Self::Atari => &["ale-py==0.12.1", "opencv-python-headless==5.0.0.93"],
            Self::Box2d => &["box2d==2.3.10", "pygame==2.6.1"],
            Self::Minatar => &["MinAtar==1.0.15"],
            Self::Mujoco => &["packaging==26.3"],
        }
    }

    const fn modules(self) -> &'static str {
        match self {
            Self::Atari => "import ale_py, cv2",
            Self::Box2d => "import Box2D, pygame",
            Self::Minatar => "import minatar.environments.breakout",
            Self::Mujoco => "import packaging.version",
        }
    }

    fn folder(self) -> Result<PathBuf> {
        let requirements = self.requirements().join("\n");
        let key = python::key(&requirements, python::python_version()?);
        Ok(cache()?.join(format!("{}-{key}", self.name())))
    }

    /// That set-up has been asked for it.
    ///
    /// # Errors
    /// If not, with what to type.
    pub fn require(self) -> Result<()> {
        ensure!(
            self.link().exists(),
            "this needs {}: `cargo xtask setup --with {}` installs it",
            self.requirements().join(" and "),
            self.name()
        );
        Ok(())
    }

    /// Where Python finds it.
    pub fn link(self) -> PathBuf {
        deps().join("extras").join(self.name())
    }
}

impl Step for Extra {
    fn name(&self) -> &'static str {
        (*self).name()
    }

    fn effect(&self) -> String {
        format!(
            "installing {} (a minute)",
            self.requirements().join(" and ")
        )
    }

    fn is_done(&self) -> Result<bool> {
        let folder = self.folder()?;
        let links_here = fs::read_link(self.link()).is_ok_and(|is| is == folder.join("site"));
        Ok(links_here && folder.join("complete").exists())
    }

    fn perform(&self) -> Result<()> {
        let folder = self.folder()?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let site = folder.join("site");
        let _lock = python::lock(&folder.join("lock"))?;
        if !folder.join("complete").exists() {
            if site.exists() {
                fs::remove_dir_all(&site)?;
            }
            let interpreter = python::installed()?.interpreter();
            run(command(&interpreter)
                .args([
                    "-I",
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .args([
                    "--no-input",
                    "--no-deps",
                    "--only-binary",
                    ":all:",
                    "--target",
                ])
                .arg(&site)
                .args(self.requirements()))?;
            run(command(&interpreter)
                .env("PYTHONPATH", &site)
                .args(["-c", self.modules()]))?;
            fs::write(folder.join("complete"), "")?;
        }
        symlink(&site, &self.link())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_and_every_name_is_the_one_that_is_typed() {
        for extra in Extra::value_variants() {
            assert!(extra.requirements().iter().all(|line| line.contains("==")));
            assert_eq!(Extra::from_str(Extra::name(*extra), false), Ok(*extra));
        }
    }
}
