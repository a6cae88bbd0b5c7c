"""Runs a policy file in Gymnasium's own environment.

    python gymnasium_rollout.py policy.dtb --episodes 20 --seed 0

The environment is the one that the policy was trained in, unless --env names another. Episode i is reset with seed S + i;
Gymnasium draws other initial states from a seed than `host-sim rollout` does. --bench then tells what a step costs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

import dt_policy

# `host-sim`'s names and Gymnasium's; without a version they mean v5.
NAMES = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d", "reacher": "Reacher"}


def gymnasium_id(env: str) -> str:
    """Gymnasium's name of the environment that a policy was trained in."""
    name, _, version = env.partition("-v")
    if env == "pendulum":
        return "Pendulum-v1"
    if name not in NAMES:
        raise SystemExit(f"Gymnasium's name of `{env}` is not known here: say it with --env")
    return f"{NAMES[name]}-v{version or 5}"


def run(
    policy: dt_policy.Policy,
    env: gymnasium.Env[Any, Any],
    seed: int,
    target_return: float | None = None,
    record: Callable[[npt.NDArray[np.float32], Any, float], None] = lambda *_: None,
) -> tuple[float, int]:
    """One episode: its return, added up in order, and its length. `record` is shown each action, the observation after
    it and the reward."""
    observation, _ = env.reset(seed=seed)
    policy.reset(target_return)
    total, length = 0.0, 0
    while True:
        action = policy.act(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        policy.absorb(float(reward))
        record(action, observation, float(reward))
        total += float(reward)
        length += 1
        if terminated or truncated:
            return total, length


def bench(policy: dt_policy.Policy, steps: int = 5000) -> None:
    """What a control step costs, beside what the engine alone takes for its golden steps, all in one call. Those of a window
    policy include its first steps, which are shorter."""
    observation = np.clip(np.zeros(policy.state_dim, np.float32), policy.state_low, policy.state_high)
    policy.reset()
    in_python = []
    for _ in range(steps):
        start = time.perf_counter()
        policy.act(observation)
        policy.absorb(0.0)
        in_python.append(time.perf_counter() - start)
    in_engine = []
    for _ in range(max(1, steps // 20)):
        start = time.perf_counter()
        count = policy.self_test()
        in_engine.append((time.perf_counter() - start) / count)
    ours, engine = (1e6 * statistics.median(times) for times in (in_python, in_engine))
    print(f"act() and absorb(): {ours:.2f} us a step, median of {steps}")
    print(f"the engine alone:   {engine:.2f} us a step, median of {len(in_engine)} self-tests of {count} steps")
    print(f"ratio:              {ours / engine:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="policy file, as `dt-train export` writes it")
    parser.add_argument("--env", help="Gymnasium's name of the environment")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--target-return", type=float, help="by default what the policy file suggests")
    parser.add_argument("--bench", action="store_true", help="also tell what a step costs")
    arguments = parser.parse_args()

    # Without a guard, as `dt-train eval` measures; on a robot, leave it on.
    policy = dt_policy.Policy(arguments.policy, guard=False)
    env = gymnasium.make(arguments.env or gymnasium_id(policy.env))
    returns = []
    for seed in range(arguments.seed, arguments.seed + arguments.episodes):
        total, length = run(policy, env, seed, arguments.target_return)
        returns.append(total)
        print(f"seed {seed}: return {total:.2f} in {length} steps")
    print(f"{len(returns)} episodes: {np.mean(returns):.2f} ± {np.std(returns):.2f}")
    if arguments.bench:
        bench(policy)


if __name__ == "__main__":
    main()
