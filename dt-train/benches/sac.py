"""SAC on Pendulum: updates per second of dt-train against Stable-Baselines3.

Both run the whole loop (act, step, store, one update) with the same settings and the same number of
threads on the same CPU, in turns, so that whatever else the machine does disturbs both alike.

    cargo build --release --example sac_speed && .deps/python dt-train/benches/sac.py
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import time

import gymnasium
import stable_baselines3
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEARNING_STARTS = 100


def baseline(steps: int) -> float:
    """Updates per second of Stable-Baselines3 at the settings of `sac::Config::for_env("pendulum")`."""
    model = stable_baselines3.SAC(
        "MlpPolicy",
        gymnasium.make("Pendulum-v1"),
        learning_rate=1e-3,
        buffer_size=steps,
        learning_starts=LEARNING_STARTS,
        batch_size=256,
        tau=0.005,
        gamma=0.99,
        train_freq=1,
        gradient_steps=1,
        ent_coef="auto",
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=0,
    )
    start = time.perf_counter()
    model.learn(steps)
    return (steps - LEARNING_STARTS) / (time.perf_counter() - start)


def ours(binary: pathlib.Path, steps: int, threads: int) -> float:
    output = subprocess.run([binary, str(steps), str(threads)], check=True, capture_output=True, text=True)
    return float(output.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of both")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/examples/sac_speed")
    arguments = parser.parse_args()
    if not arguments.binary.exists():
        sys.exit(f"{arguments.binary} is missing: run `cargo build --release --example sac_speed` first")

    torch.set_num_threads(arguments.threads)
    baseline(LEARNING_STARTS + 100)
    print(
        f"SAC on Pendulum, batch 256, 256-256, {arguments.threads} thread(s), {arguments.steps} steps per round; "
        f"torch {torch.__version__}, stable-baselines3 {stable_baselines3.__version__}"
    )
    print(f"{'round':>5} {'dt-train':>10} {'SB3':>10} {'ratio':>6}   (updates/s)")
    ratios = []
    for number in range(arguments.rounds):
        fast, slow = ours(arguments.binary, arguments.steps, arguments.threads), baseline(arguments.steps)
        ratios.append(fast / slow)
        print(f"{number + 1:>5} {fast:>10.1f} {slow:>10.1f} {fast / slow:>6.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} (least {min(ratios):.2f})")


if __name__ == "__main__":
    main()
