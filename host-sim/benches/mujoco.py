"""Control steps per second of host-sim's MuJoCo environments: against bare mj_step, Gymnasium, and on all cores.

    cargo xtask setup && .deps/python host-sim/benches/mujoco.py

Everybody steps the same model with uniform random actions, starting anew every 100 steps; host-sim and Gymnasium compute
observation and reward as well. "All cores" is the rollout loop over whole episodes of HalfCheetah, which never end early.
The contestants take turns, so that whatever else the machine does disturbs all alike. Ratios are those of the medians.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import types
import warnings

drawing = types.ModuleType("gymnasium.envs.mujoco.mujoco_rendering")
drawing.MujocoRenderer = lambda *_: None
sys.modules[drawing.__name__] = drawing

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402

warnings.simplefilter("ignore")
ROOT = pathlib.Path(__file__).resolve().parents[2]
TASKS = {
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "halfcheetah": "HalfCheetah-v5",
    "reacher": "Reacher-v5",
}


def build():
    command = "cargo build --release --quiet -p host-sim --features mujoco --example mujoco_speed --message-format=json"
    output = subprocess.run(command.split(), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = map(json.loads, output.splitlines())
    return next(m["executable"] for m in messages if m.get("target", {}).get("name") == "mujoco_speed")


def host_sim(program, *arguments):
    output = subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return float(output.stdout)


def gym(name, steps):
    env = gymnasium.make(name, disable_env_checker=True)
    low, high = env.action_space.low, env.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (steps, *low.shape)).astype(np.float32)
    start = time.perf_counter()
    for step, action in enumerate(actions):
        if step % 100 == 0:
            env.reset(seed=step)
        env.step(action)
    return steps / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    program, cores, n = build(), len(os.sched_getaffinity(0)), args.steps

    print(f"{'':12} {'mj_step':>10} {'host-sim':>10} {'Gymnasium':>10}   host-sim/mj_step   host-sim/Gymnasium")
    for name, registered in TASKS.items():
        rounds = [
            (host_sim(program, name, n, "bare"), host_sim(program, name, n, "env"), gym(registered, n))
            for _ in range(args.rounds)
        ]
        bare, ours, theirs = map(statistics.median, zip(*rounds))
        print(f"{name:12} {bare:10.0f} {ours:10.0f} {theirs:10.0f} {ours / bare:18.3f} {ours / theirs:20.2f}", flush=True)

    rounds = [
        (host_sim(program, "halfcheetah", n, "rollout", 1), host_sim(program, "halfcheetah", cores * n, "rollout", cores))
        for _ in range(args.rounds)
    ]
    one, all_cores = map(statistics.median, zip(*rounds))
    print(f"rollouts of halfcheetah: {one:.0f}/s on one core, {all_cores:.0f}/s on {cores}: efficiency {all_cores / one / cores:.3f}")


if __name__ == "__main__":
    main()
