"""Decision Transformer policies, as `dt-train export` writes them, on this machine."""

import os
import pathlib
from typing import Final, final

import numpy as np
import numpy.typing as npt

__all__ = ["FaultWarning", "Policy", "__version__"]

__version__: Final[str]

class FaultWarning(UserWarning):
    """The guard has latched: the safe action is out until `Policy.reset`."""

@final
class Policy:
    """A policy file that acts: reset(), and then act() and absorb() in turns."""

    def __new__(cls, path: str | os.PathLike[str], *, guard: bool = True) -> Policy:
        """Reads and checks the file; OSError or ValueError if that fails."""
    def reset(self, target_return: float | None = None, *, seed: int | None = None) -> None:
        """Begins an episode in which target_return is wanted, sampled choices drawn with seed; None: what the file says."""
    def act(self, observation: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The action (act_dim, or the index of a choice) for an observation (state_dim), in the environment's units."""
    def absorb(self, reward: float | None = None, *, applied: npt.ArrayLike | None = None) -> None:
        """What the last action has earned, and what was applied where that is not what act() returned."""
    def self_test(self) -> int:
        """Runs the golden vectors of the file; how many steps were compared, each to the bit."""
    @property
    def fault(self) -> str | None:
        """Why the safe action is out; None: it is not."""
    @property
    def return_to_go(self) -> float:
        """What is still wanted, in the environment's units."""
    @return_to_go.setter
    def return_to_go(self, value: float) -> None: ...
    @property
    def timestep(self) -> int:
        """Actions absorbed since reset()."""
    @property
    def path(self) -> pathlib.Path:
        """The file."""
    @property
    def crc(self) -> int:
        """The file's checksum, by which recordings and logs name it."""
    @property
    def env(self) -> str:
        """The environment it was trained in; empty: unknown."""
    @property
    def state_dim(self) -> int:
        """Length of an observation."""
    @property
    def act_dim(self) -> int:
        """Length of an action, or the number of choices that there are."""
    @property
    def discrete(self) -> bool:
        """Whether actions are choices: an action is then one number, from 0 to act_dim - 1."""
    @property
    def state_low(self) -> npt.NDArray[np.float32]:
        """Lowest observation that the guard accepts (state_dim)."""
    @property
    def state_high(self) -> npt.NDArray[np.float32]:
        """Highest observation that the guard accepts (state_dim)."""
    @property
    def action_low(self) -> npt.NDArray[np.float32]:
        """Lowest action (act_dim)."""
    @property
    def action_high(self) -> npt.NDArray[np.float32]:
        """Highest action (act_dim)."""
    @property
    def safe_action(self) -> npt.NDArray[np.float32]:
        """What to do when something is wrong (act_dim)."""
    @property
    def period(self) -> float:
        """Time between two actions, s."""
    @property
    def target_return(self) -> float:
        """The target return that the file suggests, in the environment's units."""
    @property
    def reward_mode(self) -> str:
        """Where the return-to-go comes from after each step: "observed", "constant", "external" or "predicted"."""
    @property
    def context_len(self) -> int:
        """Timesteps that a token attends to, K."""
    @property
    def attention(self) -> str:
        """Streaming or window, in lower case; "none" of a perceptron."""
    @property
    def dtype(self) -> str:
        """Of the weights: "f32", "int8" or "int4"."""
