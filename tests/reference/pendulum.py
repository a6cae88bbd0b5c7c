"""Episodes of Gymnasium's Pendulum-v1, to compare host-sim's pendulum with.

    pip install gymnasium==1.4.0 numpy==2.4.6
    python pendulum.py --out ../data/pendulum.safetensors

Every case sets an initial state and applies a sequence of f32 torques for 205 steps, five more
than the time limit. Per case the file holds, as `<case>.<name>`:

    actions       f32 (205, 1)
    observations  f32 (206, 3)   the first one before any step
    rewards       f64 (205)
    states        f64 (206, 2)   θ and θ̇
    truncated     u8  (205)

All random numbers come from one seed, so the file can be made again to the bit, by the same
versions on a machine whose C library gives the same sines.
"""

import argparse
import json
import platform
import struct
from pathlib import Path

import gymnasium
import numpy as np

STEPS = 205
SEED = 20240


def swing_up(observation, rng):
    """Pumps energy in, then balances: torque as a smooth function of the observation."""
    cos, sin, speed = (float(x) for x in observation)
    energy = 0.5 * speed**2 + 15.0 * (cos - 1.0)
    if cos > 0.9:
        return -10.0 * sin - 2.0 * speed
    return -0.5 * speed * energy


def uniform(bound):
    return lambda observation, rng: rng.uniform(-bound, bound)


def constant(torque):
    return lambda observation, rng: torque


def extremes(observation, rng):
    return rng.choice([2.0, -2.0, 1e30, -1e30, 2.0000002, 0.0, -0.0, 1e-38, -1e-45])


CASES = {
    # name: (θ, θ̇, torque)
    "swing_up": (np.pi - 0.1, 0.3, swing_up),
    "swing_up_other_side": (-2.5, -0.7, swing_up),
    "random": (0.4, -0.9, uniform(2.0)),
    "random_again": (-1.7, 0.2, uniform(2.0)),
    "saturated": (1.0, 0.0, uniform(9.0)),
    "extreme_torques": (2.0, 1.0, extremes),
    "spin": (0.0, 8.0, constant(2.0)),
    "spin_back_many_turns_away": (-1000.5, -8.0, constant(-2.0)),
    "a_million_radians": (1e6, 3.0, uniform(2.0)),
    "faster_than_the_limit": (0.5, 25.0, uniform(2.0)),
    "faster_than_the_limit_back": (0.5, -1e4, uniform(2.0)),
    "balanced": (0.0, 0.0, constant(0.0)),
    "hanging": (np.pi, 0.0, constant(0.0)),
    "hanging_on_the_other_edge": (-np.pi, -0.0, constant(-0.0)),
    "three_half_turns": (3.0 * np.pi, 1e-300, constant(1e-40)),
}


def run(theta, theta_dot, torque, rng):
    env = gymnasium.make("Pendulum-v1", disable_env_checker=True)
    env.reset(seed=0)
    env.unwrapped.state = np.array([theta, theta_dot])
    observation = env.unwrapped._get_obs()
    columns = {"actions": [], "observations": [observation], "rewards": []}
    columns |= {"states": [env.unwrapped.state], "truncated": []}
    for _ in range(STEPS):
        action = np.array([torque(observation, rng)], dtype=np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert not terminated and observation.dtype == np.float32
        columns["actions"].append(action)
        columns["observations"].append(observation)
        columns["rewards"].append(reward)
        columns["states"].append(env.unwrapped.state)
        columns["truncated"].append(truncated)
    dtypes = {"rewards": "<f8", "states": "<f8", "truncated": "u1"}
    return {name: np.array(rows).astype(dtypes.get(name, "<f4")) for name, rows in columns.items()}


def save(path, tensors, metadata):
    names = {"<f4": "F32", "<f8": "F64", "|u1": "U8"}
    header, body = {"__metadata__": metadata}, b""
    # Widest first, so that everything stays aligned.
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].itemsize):
        end = len(body) + tensor.nbytes
        header[name] = {
            "dtype": names[tensor.dtype.str],
            "shape": tensor.shape,
            "data_offsets": [len(body), end],
        }
        body += tensor.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    tensors = {}
    for case, (theta, theta_dot, torque) in CASES.items():
        for name, tensor in run(theta, theta_dot, torque, rng).items():
            tensors[f"{case}.{name}"] = tensor
        turns = np.ptp(tensors[f"{case}.states"][:, 0]) / (2 * np.pi)
        total = tensors[f"{case}.rewards"][:200].sum()
        print(f"{case:28} return {total:12.2f}   turns {turns:7.2f}")
    metadata = {
        "generator": "pendulum.py",
        "seed": str(SEED),
        "gymnasium": gymnasium.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
    }
    save(args.out, tensors, metadata)


if __name__ == "__main__":
    main()
