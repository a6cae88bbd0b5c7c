"""Frames of an Atari game through Gymnasium's own wrappers: per step the CRC-32 of the last four, channels last, and the reward."""
import sys, zlib

import ale_py
import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

gym.register_envs(ale_py)
name, seed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
env = AtariPreprocessing(gym.make(name, frameskip=1), noop_max=0)
env = FrameStackObservation(env, 4, padding_type="zero")
frames, _ = env.reset(seed=seed)
reward = 0.0
for i in range(steps):
    print(f"{zlib.crc32(np.moveaxis(frames, 0, -1).tobytes()):08x} {float(reward)!r}")
    frames, reward, *_ = env.step(i * 7 % env.action_space.n)
