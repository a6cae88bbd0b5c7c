"""What `cargo xtask python` has built for the tests: HOST_SIM, the program, and POLICIES, a folder of policy files."""

import os
import pathlib
import sys
import types

import pytest

# Nothing is drawn here, and set-up does not install the packages that drawing needs.
drawing = types.ModuleType("gymnasium.envs.mujoco.mujoco_rendering")
drawing.MujocoRenderer = lambda *_: None
sys.modules[drawing.__name__] = drawing

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))


@pytest.fixture(scope="session")
def host_sim():
    return os.environ["HOST_SIM"]


@pytest.fixture(scope="session")
def policies():
    return pathlib.Path(os.environ["POLICIES"])
