//! System packages, through apt where it is there and allowed.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use super::Step;
use crate::process::{command, output, run, succeeds};

/// What the build and the emulator need from the system.
pub struct Packages;

/// A capability, the Debian and Ubuntu packages that bring it, and how to see that it is there.
struct Need {
    packages: &'static [&'static str],
    is_met: fn() -> bool,
}

const NEEDS: [Need; 7] = [
    Need {
        packages: &["g++"],
        is_met: || succeeds(command("c++").arg("--version")),
    },
    Need {
        packages: &["pkg-config"],
        is_met: || succeeds(command("pkg-config").arg("--version")),
    },
    Need {
        packages: &["libhdf5-dev"],
        is_met: || succeeds(command("pkg-config").args(["--exists", "hdf5"])),
    },
    Need {
        packages: &["qemu-system-arm"],
        is_met: || succeeds(command("qemu-system-arm").arg("--version")),
    },
    Need {
        packages: &["qemu-system-misc"],
        is_met: || succeeds(command("qemu-system-riscv32").arg("--version")),
    },
    Need {
        packages: &["libegl1", "libegl-mesa0"],
        // Any driver will do; Mesa's draws without a graphics card.
        is_met: || {
            fs::read_dir("/usr/share/glvnd/egl_vendor.d")
                .is_ok_and(|mut drivers| drivers.next().is_some())
        },
    },
    Need {
        packages: &["python3", "python3-venv"],
        // Debian ships `venv` without the `ensurepip` it needs.
        is_met: || succeeds(command("python3").args(["-I", "-c", "import venv, ensurepip"])),
    },
];

impl Step for Packages {
    fn name(&self) -> &'static str {
        "system packages"
    }

    fn effect(&self) -> String {
        format!(
            "installing {} with apt (about a minute)",
            missing().join(", ")
        )
    }

    fn is_done(&self) -> Result<bool> {
        Ok(missing().is_empty())
    }

    fn perform(&self) -> Result<()> {
        install(&missing())
    }
}

/// Installs packages with apt, as root or through sudo.
///
/// # Errors
/// If there is no apt or it needs a password, with the command to run by hand; if it fails.
pub fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("`apt-get install {}`", packages.join(" "));
    if !succeeds(command("apt-get").arg("--version")) {
        bail!(
            "there is no apt-get here; install the equivalents of {by_hand}, then run `cargo xtask setup` again"
        );
    }
    let is_root = output(command("id").arg("-u"))?.trim() == "0";
    if !is_root && !succeeds(command("sudo").args(["-n", "true"])) {
        bail!(
            "this needs root; run `sudo {}`, then `cargo xtask setup` again",
            by_hand.trim_matches('`')
        );
    }
    run(apt(is_root).args(["update", "-q"]))?;
    run(apt(is_root)
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages))
}

fn apt(is_root: bool) -> Command {
    // sudo drops the environment, so the variable is set behind it.
    let mut apt = if is_root {
        command("env")
    } else {
        command("sudo")
    };
    if !is_root {
        apt.args(["-n", "env"]);
    }
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    apt
}

fn missing() -> Vec<&'static str> {
    NEEDS
        .iter()
        .filter(|need| !(need.is_met)())
        .flat_map(|need| need.packages)
        .copied()
        .collect()
}
