"""Any Gymnasium environment as a plant: see PLANT.md. host-sim starts it with an ID and its arguments as JSON."""
import sys

# Files in the current folder are no modules, whatever they are called; that of an ID that names one may lie there.
sys.path[:] = filter(None, sys.path)
import importlib, importlib.util, json, os, struct, traceback, types, zlib

inp, out = os.dup(0), os.dup(1)
os.dup2(2, 1)  # what an environment prints is no frame
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

# MuJoCo's tasks import what only their pictures need, or their viewer alone.
if not importlib.util.find_spec("imageio"):
    sys.modules["imageio"] = types.ModuleType("imageio")
if not importlib.util.find_spec("packaging"):
    drawing = types.ModuleType("gymnasium.envs.mujoco.mujoco_rendering")
    drawing.MujocoRenderer = lambda *_, **__: types.SimpleNamespace(
        render=lambda mode: importlib.import_module("packaging"), close=lambda: None
    )
    sys.modules[drawing.__name__] = drawing

import numpy as np
import gymnasium as gym
from gymnasium.spaces import Box, Discrete

VERSION = 1
(MODULE, _, ID), KWARGS = sys.argv[1].rpartition(":"), json.loads(sys.argv[2])
if MODULE:
    sys.path.append(os.getcwd())
ALE, MINATAR = ID.startswith("ALE/"), ID.startswith("MinAtar/")
PERIOD = KWARGS.pop("control_period_us", None)
# No time limit of their own, or one in frames: the host ends their episodes.
LIMIT = KWARGS.pop("max_episode_steps", 27_000 if ALE else 5_000) if ALE or MINATAR else None


def varint(n):
    low = bytearray()
    while n > 127:
        low.append(n & 127 | 128)
        n >>= 7
    return bytes(low) + bytes([n])


def blob(data):
    return varint(len(data)) + data


def cobs(data):
    if len(data) < 1000 and data.count(0) < 100:
        wire = bytearray()
        for run in data.split(b"\0"):
            while len(run) >= 254:
                wire, run = wire + b"\xff" + run[:254], run[254:]
            wire += bytes([len(run) + 1]) + run
        return bytes(wire)
    # A picture has thousands of zeros: vectorized.
    data = np.frombuffer(data + b"\0", np.uint8)
    ends = np.flatnonzero(data == 0)  # of runs without zeros
    codes = np.diff(ends, prepend=-1)  # lengths of runs, and one
    wire = np.empty(len(data), np.uint8)
    wire[1:] = data[:-1]
    starts = ends - codes + 1
    wire[starts] = np.minimum(codes, 255)
    at, value = [], []
    for i in np.flatnonzero(codes > 254):
        rest, place = int(codes[i]) - 1, int(starts[i]) + 1
        while rest >= 254:
            rest, place = rest - 254, place + 254
            at.append(place)
            value.append(min(rest + 1, 255))
    return (np.insert(wire, at, value) if at else wire).tobytes()


def uncobs(wire):
    data, i = bytearray(), 0
    while i < len(wire):
        code = wire[i]
        data += wire[i + 1 : i + code]
        i += code
        if code < 255 and i < len(wire):
            data.append(0)
    return bytes(data)


def send(sequence, message):
    content = struct.pack("<BBH", 0x81, 0, sequence) + message
    frame = memoryview(b"\0" + cobs(content + struct.pack("<I", zlib.crc32(content))) + b"\0")
    while frame:
        frame = frame[os.write(out, frame) :]


def questions():
    """Sequence number and message of each sound frame, until the host is gone."""
    received = b""
    while piece := os.read(inp, 1 << 16):
        *frames, received = (received + piece).split(b"\0")
        for frame in filter(None, frames):
            content = uncobs(frame)
            first, sequence = struct.unpack_from("<BxH", content)
            if first == 1 and zlib.crc32(content[:-4]) == struct.unpack("<I", content[-4:])[0]:
                yield sequence, content[4:-4]


class Message:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self):
        n = shift = 0
        while True:
            byte = self.data[self.at]
            self.at, n, shift = self.at + 1, n | (byte & 127) << shift, shift + 7
            if byte < 128:
                return n

    def values(self, dtype):
        size = self.number()
        self.at += size
        return np.frombuffer(self.data[self.at - size : self.at], dtype).copy()


def is_image(space):
    return isinstance(space, Box) and space.dtype in (np.uint8, bool) and len(space.shape) in (2, 3)


def described(space, what):
    if what == "observations" and is_image(space):
        height, width, *channels = space.shape
        return varint(2) + varint(height) + varint(width) + varint(*channels or [1])
    if isinstance(space, Box):
        return varint(0) + b"".join(blob(bound.astype("<f4").tobytes()) for bound in (space.low, space.high))
    if isinstance(space, Discrete):
        return varint(1) + varint(int(space.n))
    raise ValueError(
        f"the {what} of {ID} are {space}, and only Box and Discrete can be used; register an environment that wraps it, e.g. in "
        "gymnasium.wrappers.FlattenObservation, in a module of your own, and name that: gym:MODULE:ID"
    )


class Stack(gym.Wrapper):
    """The last four frames as channels, the oldest first; zeros before an episode's first, as Dopamine has them."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = Box(0, 255, env.observation_space.shape + (4,), np.uint8)
        self.pixels = np.uint32(0)

    def push(self, frame):
        # Four bytes of a number: to shift them is thirty times as fast as to move channels.
        self.pixels = self.pixels >> np.uint32(8) | frame.astype("<u4") << np.uint32(24)
        return self.pixels.view(np.uint8).reshape(self.observation_space.shape)

    def reset(self, **kwargs):
        frame, info = self.env.reset(**kwargs)
        self.pixels = np.uint32(0)
        return self.push(frame), info

    def step(self, action):
        frame, *rest = self.env.step(action)
        return self.push(frame), *rest


def make():
    if ALE:
        import ale_py

        gym.register_envs(ale_py)
        # Frames are skipped and pooled by the wrapper, which asks the emulator for them itself.
        settings = {"obs_type": "grayscale", **KWARGS, "frameskip": 1}
        env = gym.make(ID, render_mode="rgb_array", disable_env_checker=True, **settings)
        return Stack(gym.wrappers.AtariPreprocessing(env, noop_max=0))
    if MINATAR:
        import logging

        logging.disable(logging.WARNING)  # of packages that only pictures need
        from minatar.gym import register_envs

        register_envs()
        return gym.make(ID, disable_env_checker=True, **KWARGS)
    if MODULE:
        importlib.import_module(MODULE)
    modes = gym.spec(ID).entry_point and getattr(gym.envs.registration.load_env_creator(gym.spec(ID).entry_point), "metadata", {})
    mode = {"render_mode": "rgb_array"} if modes and "rgb_array" in modes.get("render_modes", []) else {}
    return gym.make(ID, disable_env_checker=True, **{**mode, **KWARGS})


def period_us(env):
    base, fps = env.unwrapped, env.metadata.get("render_fps")
    seconds = getattr(base, "dt", None) or getattr(base, "tau", None) or (1 / fps if fps else 0.1)
    return PERIOD or round(1e6 * (4 / 60 if ALE else seconds))


def hello(env):
    spaces = described(env.observation_space, "observations") + described(env.action_space, "actions")
    limit = LIMIT or env.spec.max_episode_steps
    if not limit or limit < 1:
        raise ValueError(f"{ID} has no time limit; give it one: --env-arg max_episode_steps=1000")
    names = "\n".join(env.unwrapped.get_action_meanings()) if ALE else ""
    name = sys.argv[3].encode()
    return (
        varint(0) + varint(VERSION) + blob(name) + varint(1 << 16) + spaces + varint(limit)
         + varint(period_us(env)) + b"\0" + blob(b"") + blob(names.encode())
    )  # fmt: skip


def state(index, env, observation, reward, terminated, truncated):
    space = env.observation_space
    if is_image(space):
        numbers = varint(2) + blob(np.ascontiguousarray(observation, np.uint8).tobytes())
    elif isinstance(space, Discrete):
        numbers = varint(0) + blob(struct.pack("<f", observation - space.start))
    elif np.asarray(observation).dtype == np.float64:
        numbers = varint(1) + blob(np.asarray(observation, "<f8").tobytes())
    else:
        numbers = varint(0) + blob(np.asarray(observation, "<f4").tobytes())
    return varint(1) + varint(index) + numbers + struct.pack("<d??", reward, terminated, truncated)


def reset(env, seed):
    if MINATAR:
        env.unwrapped.game.last_action = 0  # or the episode before would have its part in sticky actions
        # NumPy's old generator takes 32 bits; larger seeds are made other ones, not smaller ones.
        seed = seed if seed < 1 << 32 else int(np.random.SeedSequence(seed).generate_state(1)[0])
    return env.reset(seed=seed)[0]


def set_state(env, qpos, qvel):
    env.reset()
    base = env.unwrapped
    if hasattr(base, "set_state"):
        base.set_state(qpos, qvel)
        return base._get_obs()
    if ID.startswith("Pendulum"):
        base.state = np.concatenate([qpos, qvel])
        return base._get_obs()
    raise ValueError(f"{ID} cannot be put into a given state")


def picture(index, env):
    if MINATAR:
        frame = np.asarray(env.unwrapped.game.state()).max(axis=2).astype(np.uint8)[..., None].repeat(3, 2) * 255
    else:
        frame = env.render()
    if frame is None:
        raise ValueError(f"{ID} draws no pictures (no render mode `rgb_array`)")
    height, width, _ = frame.shape
    return varint(2) + varint(index) + varint(width) + varint(height) + blob(np.ascontiguousarray(frame, np.uint8).tobytes())


def answer(envs, message):
    kind = message.number()
    if kind == 0:
        if message.number() != VERSION:
            raise ValueError(f"this bridge speaks version {VERSION} of the plant protocol")
        envs.setdefault(0, make())
        return hello(envs[0])
    index = message.number()
    env = envs.get(index) or envs.setdefault(index, make())
    if kind == 1:
        if hasattr(env.unwrapped, "world"):
            # Box2D's episodes depend on what was in their world before.
            env = envs[index] = make()
        return state(index, env, reset(env, message.number()), 0.0, False, False)
    if kind == 2:
        space, action = env.action_space, message.values("<f4")
        if isinstance(space, Discrete):
            action = int(action[0]) + int(space.start)
        else:
            action = action.reshape(space.shape).astype(space.dtype)
        return state(index, env, *env.step(action)[:4])
    if kind == 3:
        return picture(index, env)
    if kind == 4:
        return state(index, env, set_state(env, message.values("<f8"), message.values("<f8")), 0.0, False, False)
    raise ValueError(f"question {kind} is none of the plant protocol's")


def main():
    envs = {}
    for sequence, message in questions():
        try:
            reply = answer(envs, Message(message))
        except Exception as error:
            traceback.print_exc()
            remedy = next((f"; `cargo xtask setup --with {name}` installs it" for name, text in [
                ("atari", "ale_py"), ("atari", "opencv"), ("box2d", "Box2D"), ("minatar", "minatar"), ("mujoco", "packaging")] if text in str(error)
                and isinstance(error, (ImportError, gym.error.DependencyNotInstalled))), "")  # fmt: skip
            text = f"{type(error).__name__}: {error}{remedy}"
            reply = varint(3) + blob(text.encode())
        send(sequence, reply)


main()
