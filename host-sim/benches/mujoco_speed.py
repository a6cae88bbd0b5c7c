"""Control steps per second of host-sim's MuJoCo environments: against bare mj_step, Gymnasium, and on all cores.

    cargo xtask setup && .deps/python host-sim/benches/mujoco_speed.py

Everybody steps the same model with uniform random actions, starting anew every 100 steps; host-sim and Gymnasium compute
observation and reward as well. On all cores, the rollout loop runs whole episodes of HalfCheetah, which never end early:
of random actions, and of an int8 policy of the paper's size. Efficiency is the rate there over that on one core and their number.
The contestants take turns. On one core the rates are per second of processor time, start-up included, which other work on
the machine disturbs little; what all cores achieve together can only be told by the clock, on an idle machine. Ratios are
those of the medians.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
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
    """By the clock, and per second of processor time."""
    before = processor_time()
    output = subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    steps, rate = map(float, output.stdout.split())
    return rate, steps / (processor_time() - before)


def processor_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def gym(name, steps):
    env = gymnasium.make(name, disable_env_checker=True)
    low, high = env.action_space.low, env.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (steps, *low.shape)).astype(np.float32)
    start = time.process_time()
    for step, action in enumerate(actions):
        if step % 100 == 0:
            env.reset(seed=step)
        env.step(action)
    return steps / (time.process_time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    # MuJoCo's Python bindings leave a log where they run.
    os.chdir(tempfile.mkdtemp())
    program, cores, n = build(), len(os.sched_getaffinity(0)), args.steps

    print(f"{'':12} {'mj_step':>10} {'host-sim':>10} {'Gymnasium':>10}   host-sim/mj_step   host-sim/Gymnasium")
    for name, registered in TASKS.items():
        rounds = [
            (host_sim(program, name, n, "bare")[1], host_sim(program, name, n, "env")[1], gym(registered, n))
            for _ in range(args.rounds)
        ]
        bare, ours, theirs = map(statistics.median, zip(*rounds))
        print(f"{name:12} {bare:10.0f} {ours:10.0f} {theirs:10.0f} {ours / bare:18.3f} {ours / theirs:20.2f}", flush=True)

    print("\nrollouts of halfcheetah, by the clock")
    print(f"{'':12} {'one core':>10} {f'{cores} cores':>10}   efficiency   of processor time")
    for label, mode in (("random", "rollout"), ("policy", "policy")):

        def rollouts(threads):
            return host_sim(program, "halfcheetah", threads * n, mode, threads)

        rounds = [(*rollouts(1), *rollouts(cores)) for _ in range(args.rounds)]
        one, one_busy, together, together_busy = map(statistics.median, zip(*rounds))
        print(f"{label:12} {one:10.0f} {together:10.0f} {together / one / cores:12.3f} {together_busy / one_busy:19.3f}", flush=True)


if __name__ == "__main__":
    main()
