"""Python, host-sim and Gymnasium give the same bits: actions, observations, rewards and returns."""

import json
import struct
import subprocess

import gymnasium
import numpy as np
import pytest
from gymnasium_rollout import gymnasium_id, run

from dt_policy import Policy

EPISODES = 20
SEED = 100
TARGET = -300.0


def state(env):
    """The generalized positions and velocities, as `host-sim replay` takes them."""
    plant = env.unwrapped
    if hasattr(plant, "data"):
        return plant.data.qpos.tolist(), plant.data.qvel.tolist()
    theta, speed = plant.state.tolist()
    return [theta], [speed]


class Episode:
    """What happened in Gymnasium, from a seed on."""

    def __init__(self, policy, env, seed):
        self.actions, self.observations, self.rewards = [], [], []
        # The episode below is reset with the same seed, and so begins there.
        env.reset(seed=seed)
        self.start = state(env)
        self.total, self.length = run(policy, env, seed, TARGET, self.record)

    def record(self, action, observation, reward):
        self.actions.append(action)
        self.observations.append(observation.tolist())
        self.rewards.append(reward)

    def replayed(self, host_sim, env):
        """Observations, rewards and return of the same actions in host-sim."""
        qpos, qvel = self.start
        lines = [{"qpos": qpos, "qvel": qvel}, *({"action": action.tolist()} for action in self.actions)]
        text = "\n".join(json.dumps(line) for line in lines)
        done = subprocess.run([host_sim, "replay", "--env", env, "-"], input=text, check=True, capture_output=True, text=True)
        outcomes = [json.loads(line) for line in done.stdout.splitlines()]
        rewards = [outcome["reward"] for outcome in outcomes]
        total = 0.0
        for reward in rewards:
            total += reward
        return [outcome["observation"] for outcome in outcomes], rewards, total


@pytest.mark.parametrize("env", ["pendulum", "hopper", "halfcheetah"])
def test_episodes_in_gymnasium_are_those_of_host_sim(policies, host_sim, env):
    policy, plant = Policy(policies / f"{env}.dtb"), gymnasium.make(gymnasium_id(env))
    episodes = [Episode(policy, plant, seed) for seed in range(SEED, SEED + EPISODES)]
    assert policy.fault is None
    # They are twenty, and in each the policy does something.
    assert len({episode.total for episode in episodes}) == EPISODES
    assert all(np.ptp(np.stack(episode.actions), axis=0).min() > 0.01 for episode in episodes)
    for episode in episodes:
        observations, rewards, total = episode.replayed(host_sim, env)
        assert observations == episode.observations
        assert rewards == episode.rewards
        assert total == episode.total

    # One action of one episode, by its last bit.
    spoilt = episodes[3]
    spoilt.actions[2] = np.nextafter(spoilt.actions[2], np.float32(0))
    observations, rewards, total = spoilt.replayed(host_sim, env)
    assert observations[:2] == spoilt.observations[:2]
    assert observations[2:] != spoilt.observations[2:]
    assert total != spoilt.total


def recorded(file):
    """The episodes of a recording (the format is described in host-sim/src/trace.rs): steps of observation, action,
    reward."""
    data = file.read_bytes()
    assert data[:8] == b"DTTRACES"
    crc, state_dim, act_dim, episodes, name = struct.unpack_from("<5I", data, 20)
    at = 40 + -(-name // 4) * 4
    for _ in range(episodes):
        _seed, target, steps = struct.unpack_from("<QfI", data, at)
        width = state_dim + act_dim + 1
        records = np.frombuffer(data, "<f4", steps * width, at + 16).reshape(steps, width)
        at += 16 + records.nbytes
        yield crc, target, np.split(records, [state_dim, state_dim + act_dim], axis=1)


def acted(policy, target, observations, rewards, seed=None):
    policy.reset(target, seed=seed)
    actions = []
    for observation, reward in zip(observations, rewards):
        actions.append(policy.act(observation))
        policy.absorb(reward.item())
    assert policy.timestep == len(actions)
    return np.stack(actions)


USUAL = ["pendulum", "constant", "external", "window", "int4", "hopper", "halfcheetah"]
# For which dt-core has features.
OTHERS = ["perceptron", "convolved", "placed", "state_first"]


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize("name", [*USUAL, *OTHERS])
def test_actions_are_those_of_host_sim(policies, host_sim, tmp_path, name, guard):
    policy, file = Policy(policies / f"{name}.dtb", guard=guard), tmp_path / "recording"
    options = [f"--target-return={TARGET}", f"--episodes={EPISODES}", f"--seed={SEED}"]
    subprocess.run(
        [host_sim, "rollout", policy.path, "--env", policy.env, *options, "--record", file],
        check=True,
        capture_output=True,
    )
    episodes = list(recorded(file))
    assert len(episodes) == EPISODES
    for crc, target, (observations, actions, rewards) in episodes:
        assert crc == policy.crc and target == TARGET
        assert acted(policy, target, observations, rewards).tobytes() == actions.tobytes()

    # Another reward is another return-to-go, where the policy counts rewards.
    _, target, (observations, actions, rewards) = max(episodes, key=lambda episode: len(episode[2][2]))
    rewards = rewards.copy()
    rewards[1] += 1000
    spoilt = acted(policy, target, observations, rewards)
    assert spoilt[:2].tobytes() == actions[:2].tobytes()
    told_none = policy.reward_mode in ("constant", "predicted") or policy.attention == "none"
    assert (spoilt[2].tobytes() == actions[2].tobytes()) == told_none


@pytest.mark.parametrize("guard", [True, False])
def test_choices_are_drawn_with_an_episodes_seed(policies, host_sim, tmp_path, guard):
    policy, file = Policy(policies / "choices.dtb", guard=guard), tmp_path / "recording"
    assert policy.discrete and policy.act_dim == 2
    options = [f"--target-return={-TARGET}", f"--episodes={EPISODES}", f"--seed={SEED}"]
    subprocess.run(
        [host_sim, "rollout", policy.path, "--env", "cartpole", *options, "--record", file],
        check=True,
        capture_output=True,
    )
    drawn_otherwise = 0
    for i, (_, target, (observations, actions, rewards)) in enumerate(recorded(file)):
        assert acted(policy, target, observations, rewards, SEED + i).tobytes() == actions.tobytes()
        of_file = acted(policy, target, observations, rewards)
        assert of_file.tobytes() == acted(policy, target, observations, rewards, 1).tobytes()
        drawn_otherwise += of_file.tobytes() != actions.tobytes()
    assert drawn_otherwise > EPISODES // 2


def test_golden_vectors_come_out(policies):
    for file in policies.glob("*.dtb"):
        policy = Policy(file)
        assert policy.self_test() == 2 * policy.context_len + 3
