"""Plays Atari games by rules that read the console's memory, and logs what it sees as Dopamine's agents do.

    python dt-train/agents/atari.py Breakout 60000 FOLDER [SEED [STICKINESS]]

writes FOLDER/$store$_{observation,action,reward,terminal}_ckpt.0.gz, which `dt-train train --data FOLDER --frame-stack 4`
reads. Frames are those of `--env gym:ALE/Breakout-v5`; STICKINESS is the probability with which the console takes the button
before for the one that is pressed, 0.25 as there or as `--env-arg repeat_action_probability=` says. It needs ale-py, whose license is GPL-2.0: a process of its own,
installed by `cargo xtask setup --with atari`.

An episode is played with a share of random actions that is drawn for it, so that the returns differ. Rewards are the
game's score, not clipped.
"""

import gzip
import sys
import time
from pathlib import Path

import ale_py
import gymnasium as gym
import numpy as np

# Where the console keeps what the rules need (Anand et al. 2019, "Unsupervised state representation learning in Atari").
RAM = {
    "Breakout": {"ball_x": 99, "ball_y": 101, "player": 72},
    "Pong": {"ball_x": 49, "ball_y": 54, "player": 51},
}
NOISE = [0.02, 0.1, 0.3, 0.6, 1.0]  # without any, and without stickiness, all games would be one
STACK = 4


def breakout(ram):
    """Serve; then follow the ball, whose coordinates count from another place than the paddle's."""
    if ram["ball_y"] == 0:
        return 1  # fire
    distance = ram["ball_x"] - ram["player"] - 10
    return 0 if abs(distance) < 3 else 2 if distance > 0 else 3  # stay, right, left


def pong(ram):
    """Serve; then follow the ball, with a margin that keeps the paddle from swinging around it."""
    if ram["ball_x"] == 0:
        return 1  # fire
    distance = ram["ball_y"] - ram["player"] - 8
    return 0 if abs(distance) < 6 else 3 if distance > 0 else 2  # stay, down, up


RULES = {"Breakout": breakout, "Pong": pong}


def play(game, steps, seed, stickiness):
    """Frames, actions, rewards and ends of at least `steps` steps, whole episodes, with zeros before each."""
    gym.register_envs(ale_py)
    # As the plant protocol's bridge makes it.
    settings = {"obs_type": "grayscale", "frameskip": 1, "repeat_action_probability": stickiness}
    env = gym.make(f"ALE/{game}-v5", render_mode="rgb_array", disable_env_checker=True, **settings)
    env = gym.wrappers.AtariPreprocessing(env, noop_max=0)
    ale, random = env.unwrapped.ale, np.random.default_rng(seed)
    choices = env.action_space.n
    log = [], [], [], []
    returns, done = [], 0
    while done < steps:
        frame, _ = env.reset(seed=seed + len(returns))
        for _ in range(STACK - 1):
            for array, zero in zip(log, (np.zeros_like(frame), 0, 0.0, 0)):
                array.append(zero)
        noise, total, over = NOISE[len(returns) % len(NOISE)], 0.0, False
        while not over:
            memory = ale.getRAM()
            ram = {name: int(memory[address]) for name, address in RAM[game].items()}
            action = RULES[game](ram)
            if random.random() < noise:
                action = int(random.integers(choices))
            after, reward, fell, cut, _ = env.step(action)
            done, over, total = done + 1, fell or cut, total + float(reward)
            for array, value in zip(log, (frame.copy(), action, reward, int(over))):
                array.append(value)
            frame = after
        returns.append(total)
    return log, returns


def main():
    game, steps, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    stickiness = float(sys.argv[5]) if len(sys.argv) > 5 else 0.25
    if game not in RULES:
        sys.exit(f"no rules for {game}; there are some for {', '.join(RULES)}")
    started = time.time()
    log, returns = play(game, steps, seed, stickiness)
    folder.mkdir(parents=True, exist_ok=True)
    for name, values, kind in zip(("observation", "action", "reward", "terminal"), log, ("u1", "i4", "f4", "u1")):
        with gzip.open(folder / f"$store$_{name}_ckpt.0.gz", "wb", compresslevel=4) as file:
            np.save(file, np.asarray(values, kind), allow_pickle=False)
    of = {noise: returns[i :: len(NOISE)] for i, noise in enumerate(NOISE)}
    for noise, some in of.items():
        if some:
            print(f"{100 * noise:.0f} % random actions: return {np.mean(some):.1f} over {len(some)} episodes")
    print(f"{game}: {len(returns)} episodes, mean return {np.mean(returns):.1f}, {time.time() - started:.0f} s")


main()
