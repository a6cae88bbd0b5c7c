"""What the benchmarks compare with, besides the torch of `cargo xtask setup`: installed once, into `.deps/bench`."""

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")
PACKAGES = ROOT / ".deps/bench"
# It requires torch, which is there already; pip would bring another one of several GB.
WITHOUT_TORCH = ["accelerate==1.15.0", "psutil==7.2.2"]


def install():
    """Puts the opponents beside the environment of `cargo xtask setup`, once, and makes them importable."""
    wanted = "\n".join([REQUIREMENTS.read_text(), *WITHOUT_TORCH])
    installed = PACKAGES / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        shutil.rmtree(PACKAGES, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--only-binary", ":all:"]
        pip += ["--target", PACKAGES]
        subprocess.run([*pip, "--requirement", REQUIREMENTS], check=True)
        subprocess.run([*pip, "--no-deps", *WITHOUT_TORCH], check=True)
        installed.write_text(wanted)
    sys.path.append(str(PACKAGES))
