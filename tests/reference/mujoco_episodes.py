"""Episodes of Gymnasium's MuJoCo environments, to compare host-sim's with.

    .deps/python tests/reference/mujoco_episodes.py host-sim/src/mujoco/tasks/reacher-dt.xml

prints JSON lines: per episode {"env", "seed", "qpos", "qvel"}, the initial state, and then per step {"action",
"observation", "reward", "terminated", "truncated"}. Numbers are printed so that they read back exactly. Episodes go on for
five steps after the time limit, and are not stopped by termination. v4 and v5 are Gymnasium's own classes. The Reacher of
the Decision Transformer paper is not in Gymnasium: its semantics are written out below, on MuJoCo's Python bindings.
"""

import json
import sys
import types
import warnings

# Nothing is drawn here, and set-up does not install the packages that drawing needs.
drawing = types.ModuleType("gymnasium.envs.mujoco.mujoco_rendering")
drawing.MujocoRenderer = lambda *_: None
sys.modules[drawing.__name__] = drawing

import gymnasium  # noqa: E402
import mujoco  # noqa: E402
import numpy as np  # noqa: E402

# That v4 is out of date is why it is looked at.
warnings.simplefilter("ignore")

SEEDS = 4
TASKS = {
    # host-sim's name: (Gymnasium's, time limit)
    "hopper-v4": ("Hopper-v4", 1000),
    "hopper-v5": ("Hopper-v5", 1000),
    "halfcheetah-v4": ("HalfCheetah-v4", 1000),
    "halfcheetah-v5": ("HalfCheetah-v5", 1000),
    "walker2d-v4": ("Walker2d-v4", 1000),
    "walker2d-v5": ("Walker2d-v5", 1000),
    "reacher-v4": ("Reacher-v4", 50),
    "reacher-v5": ("Reacher-v5", 50),
    "reacher-dt": (None, 100),
}


class PaperReacher:
    """Reward 1 while |Δx| + |Δy| between fingertip and target is below 0.1; 15 steps of 0.01 s per action."""

    def __init__(self, xml):
        self.model = mujoco.MjModel.from_xml_path(xml)
        self.data = mujoco.MjData(self.model)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.unwrapped = self

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        distance, angle = rng.uniform(0.5, 1.0), rng.uniform(0, 2 * np.pi)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:2] = rng.uniform(-2.0, 2.0, 2)
        self.data.qpos[2:] = distance * np.cos(angle), distance * np.sin(angle)
        mujoco.mj_forward(self.model, self.data)
        if seed % 2 == 1:
            # Within reach at first, so that rewards are earned and lost.
            near = [*self.data.qpos[:2], *(self.data.site("fingertip").xpos[:2] + [0.04, -0.03])]
            mujoco.mj_resetData(self.model, self.data)
            self.data.qpos[:] = near
            mujoco.mj_forward(self.model, self.data)
        self.steps = 0

    def step(self, action):
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, nstep=15)
        self.steps += 1
        tip, target = self.data.site("fingertip").xpos[:2], self.data.body("target").xpos[:2]
        theta, speed = self.data.qpos[:2], self.data.qvel[:2]
        parts = [np.sin(theta), np.cos(theta), 15 * 0.01 * speed, tip, target, tip - target]
        reward = 1.0 if np.sum(np.abs(tip - target)) < 0.1 else 0.0
        return np.concatenate(parts), reward, False, self.steps >= 100, {}


def actions(space, rng, seed, steps):
    """Uniform; smooth and at times beyond the actuators' range; weak; all or nothing."""
    size = (steps, *space.shape)
    match seed % 4:
        case 0:
            values = rng.uniform(space.low, space.high, size)
        case 1:
            speed, phase = rng.uniform(0.02, 0.3, space.shape), rng.uniform(0, 2 * np.pi, space.shape)
            values = 1.3 * np.sin(phase + speed * np.arange(steps)[:, None]) * space.high
        case 2:
            values = 0.1 * rng.normal(size=size)
        case 3:
            values = rng.choice([-1e3, -1.0, -0.0, 1e-40, 1.0, 1e3], size)
    return values.astype(np.float32)


def line(**values):
    print(json.dumps({k: v.tolist() if hasattr(v, "tolist") else v for k, v in values.items()}))


def main():
    for name, (registered, limit) in TASKS.items():
        if registered:
            env = gymnasium.make(registered, disable_env_checker=True)
        else:
            env = PaperReacher(sys.argv[1])
        for seed in range(SEEDS):
            env.reset(seed=seed)
            data = env.unwrapped.data
            line(env=name, seed=seed, qpos=data.qpos, qvel=data.qvel)
            for action in actions(env.action_space, np.random.default_rng(seed), seed, limit + 5):
                observation, reward, terminated, truncated, _ = env.step(action)
                line(
                    action=action.astype(float),
                    observation=observation,
                    reward=float(reward),
                    terminated=bool(terminated),
                    truncated=bool(truncated),
                )


if __name__ == "__main__":
    main()
