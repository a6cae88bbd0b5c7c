"""Episodes of Gymnasium's CartPole-v1, to compare host-sim's with.

    pip install gymnasium==1.4.0 numpy==2.4.6
    python cartpole.py --out ../data/cartpole.safetensors

Every case sets an initial state and applies a sequence of choices, on past falls and past the time
limit. Per case of T steps the file holds, as `<case>.<name>`:

    actions       u8  (T)
    observations  f32 (T + 1, 4)   the first one before any step
    rewards       f64 (T)
    states        f64 (T + 1, 4)   x, ẋ, θ, θ̇
    terminated    u8  (T)
    truncated     u8  (T)

All random numbers come from one seed, so the file can be made again to the bit, by the same
versions on a machine whose C library gives the same sines.
"""

import argparse
import platform
from pathlib import Path

import gymnasium
import numpy as np

from pendulum import save

SEED = 20261


def balance(state, rng):
    """Pushes to the side that the pole falls to, with a mind to the middle of the track."""
    x, x_dot, theta, theta_dot = state
    return int(theta + 0.3 * theta_dot + 0.02 * x + 0.06 * x_dot > 0)


def at_random(state, rng):
    return int(rng.integers(2))


def always(choice):
    return lambda state, rng: choice


# Where the thresholds lie, to the bit.
X, THETA = 2.4, 12 * 2 * np.pi / 360

CASES = {
    # name: (x, ẋ, θ, θ̇, choice, steps)
    "balanced": (0.01, -0.02, 0.03, 0.04, balance, 505),
    "random": (-0.03, 0.01, 0.02, -0.04, at_random, 60),
    "falls_left": (0.0, 0.0, 0.0, 0.0, always(1), 40),
    "falls_right": (-0.0, 0.0, -0.0, 0.0, always(0), 40),
    "upright_and_still": (0.0, 0.0, 0.0, 0.0, balance, 40),
    "leaves_the_track": (2.35, 0.5, 0.0, 0.0, balance, 40),
    "leaves_it_on_the_left": (-2.39, -0.5, 0.1, 0.0, balance, 40),
    "comes_back": (2.6, -1.0, 0.05, 0.0, balance, 40),
    "on_the_threshold": (X, 0.0, 0.0, 0.0, balance, 3),
    "tilted_to_the_threshold": (0.0, 0.0, THETA, 0.0, balance, 3),
    "tilted_to_the_other": (0.0, 0.0, -THETA, 0.0, balance, 3),
    "turns_over": (0.0, 0.0, 3.0, 7.0, at_random, 60),
    "many_turns_away": (1.0, 1.0, -1000.5, -40.0, at_random, 40),
    "a_million_radians": (-1e6, 3.0, 1e6, 1e3, at_random, 40),
    "nearly_nothing": (1e-300, -1e-310, 1e-300, 5e-324, at_random, 20),
}


def run(state, choice, steps, rng):
    env = gymnasium.make("CartPole-v1", disable_env_checker=True)
    observation, _ = env.reset(seed=0)
    env.unwrapped.state = np.array(state)
    observation = np.array(env.unwrapped.state, dtype=np.float32)
    columns = {"actions": [], "observations": [observation], "rewards": []}
    columns |= {"states": [env.unwrapped.state], "terminated": [], "truncated": []}
    for _ in range(steps):
        action = choice(env.unwrapped.state, rng)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert observation.dtype == np.float32 and np.isfinite(env.unwrapped.state).all()
        for name, value in zip(columns, (action, observation, reward, env.unwrapped.state, terminated, truncated)):
            columns[name].append(value)
    dtypes = {"observations": "<f4", "rewards": "<f8", "states": "<f8"}
    return {name: np.array(rows).astype(dtypes.get(name, "u1")) for name, rows in columns.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    rng = np.random.default_rng(SEED)
    tensors = {}
    for case, (*state, choice, steps) in CASES.items():
        for name, tensor in run(state, choice, steps, rng).items():
            tensors[f"{case}.{name}"] = tensor
        total = tensors[f"{case}.rewards"].sum()
        ends = int(np.flatnonzero(np.append(tensors[f"{case}.terminated"], 1))[0])
        print(f"{case:24} {steps} steps, rewards {total:5.0f}, falls after {ends}")
    metadata = {
        "generator": "cartpole.py",
        "seed": str(SEED),
        "gymnasium": gymnasium.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
    }
    save(args.out, tensors, metadata)


if __name__ == "__main__":
    main()
