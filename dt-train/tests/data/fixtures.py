"""Small trajectory files in the formats of other projects, written by those projects' own libraries.

    pip install "minari[all]==0.5.4" gymnasium==1.4.0 pyarrow==26.0.1 pandas==3.1.1
    python dt-train/tests/data/fixtures.py

writes dt-train/tests/data/fixtures anew; the tests only read it. `expected.json` holds what the libraries read back
from each file that is to be accepted: per episode the observations (without Minari's last one), actions, rewards and
whether it ended in a terminal state. The other files each have one thing wrong or unusual, or hold something else than vectors;
`data/minari.rs` and `data/parquet.rs` say what has to be said of each.
"""

import json
import os
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent / "fixtures"
os.environ["MINARI_DATASETS_PATH"] = str(HERE / "minari")

import minari  # noqa: E402  (reads the variable above)
from minari.data_collector import EpisodeBuffer  # noqa: E402

ABOUT = {"algorithm_name": "random", "author": "fixtures.py", "author_email": "none", "code_permalink": "none",
         "description": "made for tests"}


def minari_pendulum():
    """Three episodes as the collector records them; the last is cut off after 5 of 12 steps."""
    env = minari.DataCollector(gym.make("Pendulum-v1", max_episode_steps=12), record_infos=True, data_format="hdf5")
    for seed, steps in enumerate([12, 12, 5]):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(steps):
            env.step(env.action_space.sample())
    env.create_dataset("pendulum-v0", **ABOUT)


def buffer(rng, observations, actions, terminated):
    steps = len(actions)
    ends = np.zeros((2, steps), bool)
    ends[0 if terminated else 1, -1] = True
    return EpisodeBuffer(observations=observations, actions=actions, rewards=list(rng.normal(size=steps)),
                         terminations=list(ends[0]), truncations=list(ends[1]), infos={})


def minari_buffers(name, observation_space, action_space, episodes, data_format="hdf5"):
    minari.create_dataset_from_buffers(f"{name}-v0", episodes, observation_space=observation_space,
                                       action_space=action_space, data_format=data_format, **ABOUT)


def minari_others(rng):
    floats = gym.spaces.Box(-10, 10, (4,), np.float64)
    torque = gym.spaces.Box(-1, 1, (2,), np.float32)
    numbers = lambda *shape: rng.normal(size=shape)
    act = lambda steps: numbers(steps, 2).astype(np.float32)
    minari_buffers("walk", floats, torque,
                   [buffer(rng, numbers(n + 1, 4), act(n), n == 1) for n in [3, 1, 2]])

    goals = gym.spaces.Dict({"observation": floats, "desired_goal": floats})
    minari_buffers("dictionary", goals, torque,
                   [buffer(rng, {"observation": numbers(4, 4), "desired_goal": numbers(4, 4)}, act(3), True)])
    # Minari stores images from 32 pixels on as JPEG files: a matrix of bytes if all are as long, else a list of lists.
    small, large = [gym.spaces.Box(0, 255, (n, n, 3), np.uint8) for n in (8, 32)]
    noise = lambda space: rng.integers(0, 256, (4, *space.shape)).astype(np.uint8)
    for name, space, frames in [("images", small, noise(small)), ("jpeg", large, noise(large)),
                                ("grey", large, np.full((4, *large.shape), 127, np.uint8))]:
        minari_buffers(name, space, torque, [buffer(rng, frames, act(3), True)])
    minari_buffers("discrete", floats, gym.spaces.Discrete(2),
                   [buffer(rng, numbers(4, 4), rng.integers(0, 2, 3), True)])


def minari_tables(rng):
    """Minari's forms of a file per episode: eleven episodes of one and two steps, so that the numbers have two digits."""
    box = lambda n, dtype: gym.spaces.Box(-10, 10, (n,), dtype)
    numbers = lambda *shape: rng.normal(size=shape)
    act = lambda steps: numbers(steps, 2).astype(np.float32)
    walks = [buffer(rng, numbers(n + 1, 4), act(n), n == 1) for n in [2, 1] + [1] * 9]
    for data_format, episodes in [("arrow", walks), ("parquet", walks[:2])]:
        minari_buffers(f"walk-{data_format}", box(4, np.float64), box(2, np.float32), episodes, data_format)
    goals = gym.spaces.Dict({"arm": gym.spaces.Dict({"q": box(2, np.float64)}), "goal": box(1, np.float32)})
    observations = {"arm": {"q": numbers(4, 2)}, "goal": np.float32(numbers(4, 1))}
    minari_buffers("dictionary-arrow", goals, box(2, np.float32), [buffer(rng, observations, act(3), True)], "arrow")
    images = gym.spaces.Box(0, 255, (4, 4, 3), np.uint8)
    frames = rng.integers(0, 256, (4, 4, 4, 3)).astype(np.uint8)
    minari_buffers("discrete-arrow", images, gym.spaces.Discrete(3, start=5),
                   [buffer(rng, frames, 5 + rng.integers(0, 3, 3), True)], "arrow")


def minari_expected(name):
    episodes = []
    for episode in minari.load_dataset(name).iterate_episodes():
        assert bool(episode.terminations[-1]) != bool(episode.truncations[-1])
        episodes.append({
            "observations": episode.observations[:-1].astype(np.float64).tolist(),
            "actions": episode.actions.astype(np.float64).tolist(),
            "rewards": episode.rewards.astype(np.float64).tolist(),
            "terminated": bool(episode.terminations[-1]),
        })
    return episodes


def rows(rng):
    """Three episodes of 4, 3 and 2 steps; the second ends in a terminal state."""
    episodes = []
    for steps, terminated in [(4, False), (3, True), (2, False)]:
        dones = [False] * steps
        dones[-1] = terminated
        episodes.append({
            "observations": rng.normal(size=(steps, 3)).astype(np.float32).tolist(),
            "actions": rng.normal(size=(steps, 2)).astype(np.float32).tolist(),
            "rewards": rng.normal(size=steps).astype(np.float32).tolist(),
            "dones": dones,
        })
    return episodes


def parquet_accepted(episodes):
    """The same episodes as several writers would store them."""
    frame = pd.DataFrame(episodes)
    for column in ["observations", "actions"]:
        frame[column] = [[np.asarray(step, np.float32) for step in episode] for episode in frame[column]]
    frame["rewards"] = [np.asarray(episode, np.float32) for episode in frame["rewards"]]
    frame.to_parquet(HERE / "parquet/pandas.parquet")

    fixed = pa.schema({
        "id": pa.string(), "observations": pa.list_(pa.list_(pa.float64(), 3)),
        "actions": pa.large_list(pa.large_list(pa.float64())), "rewards": pa.list_(pa.float64()),
        "dones": pa.list_(pa.int64()),
    })
    numbered = [{"id": str(i), **e, "dones": [int(d) for d in e["dones"]]} for i, e in enumerate(episodes)]
    table = pa.Table.from_pylist(numbered, fixed)
    pq.write_table(table, HERE / "parquet/wide.parquet", compression="zstd", row_group_size=2, use_dictionary=False)

    table = pa.Table.from_pylist(episodes)
    pq.write_table(table, HERE / "parquet/gzip.parquet", compression="gzip", data_page_version="2.0")


def parquet_other_kinds(episodes):
    """Choices and images; pixel number i of a file is i % 256."""
    table = pa.Table.from_pylist([{**e, "actions": [1 for _ in e["actions"]]} for e in episodes])
    pq.write_table(table, HERE / "parquet/discrete.parquet")
    for name, depth, shape in [("frames", 3, (2, 3, 2)), ("grey", 2, (2, 3)), ("crooked", 2, (2, 3))]:
        kind = pa.uint8()
        for _ in range(depth + 1):
            kind = pa.list_(kind)
        steps = sum(len(e["dones"]) for e in episodes)
        pixels = np.arange(steps * np.prod(shape)).astype(np.uint8).reshape(steps, *shape).tolist()
        if name == "crooked":
            pixels[5][1].pop()
        columns = {"observations": [[pixels.pop(0) for _ in e["dones"]] for e in episodes]}
        for key in ["actions", "rewards", "dones"]:
            columns[key] = [e[key] for e in episodes]
        columns["observations"] = pa.array(columns["observations"], kind)
        pq.write_table(pa.table(columns), HERE / f"parquet/{name}.parquet")


def parquet_expected(name):
    frame = pd.read_parquet(HERE / f"parquet/{name}.parquet")
    matrix = lambda column: np.stack(column).astype(np.float64).tolist()
    return [{"observations": matrix(row.observations), "actions": matrix(row.actions),
             "rewards": np.asarray(row.rewards, np.float64).tolist(), "terminated": bool(row.dones[-1])}
            for row in frame.itertuples()]


def parquet_refused(episodes):
    def put(name, change=lambda e: e, compression="snappy", **columns):
        table = pa.Table.from_pylist([change({**e, **{k: f(e) for k, f in columns.items()}}) for e in episodes])
        pq.write_table(table, HERE / f"parquet/{name}.parquet", compression=compression)

    for column in episodes[0]:
        put(f"no_{column}", lambda e, column=column: {k: v for k, v in e.items() if k != column})
    put("dictionary", observations=lambda e: [{"goal": o[:1], "robot": o[1:]} for o in e["observations"]])
    put("images", observations=lambda e: [{"bytes": b"\xff\xd8", "path": "0.jpg"} for _ in e["observations"]])
    put("pixels", observations=lambda e: [[[0.5, 0.5], [0.5, 0.5]] for _ in e["observations"]])
    put("integers", rewards=lambda e: [1 for _ in e["rewards"]])
    put("null", rewards=lambda e: e["rewards"][:-1] + [None])
    put("hollow", observations=lambda e: e["observations"][:1] + [[]])
    put("ragged", actions=lambda e: e["actions"][:-1] + [[0.5]])
    put("uneven", rewards=lambda e: e["rewards"][1:])
    put("nan", observations=lambda e: e["observations"][:-1] + [[0.0, 0.0, float("nan")]])
    put("inside", dones=lambda e: [True] * len(e["dones"]))
    put("flags", dones=lambda e: [2 for _ in e["dones"]])
    put("brotli", compression="brotli")
    first = iter([float("nan")])
    put("one_nan", rewards=lambda e: [next(first, e["rewards"][0])] + e["rewards"][1:])
    put("continuous", lambda e: {f"continuous_{k}" if k != "rewards" else k: v for k, v in e.items() if k != "dones"})
    steps = [{k: v[t] for k, v in e.items()} for e in episodes for t in range(len(e["dones"]))]
    pq.write_table(pa.Table.from_pylist(steps), HERE / "parquet/steps.parquet")
    pq.write_table(pa.Table.from_pylist(episodes).slice(0, 0), HERE / "parquet/empty.parquet")


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    (HERE / "parquet").mkdir(parents=True)
    rng = np.random.default_rng(0)
    minari_pendulum()
    minari_others(rng)
    episodes = rows(rng)
    minari_tables(np.random.default_rng(1))
    parquet_accepted(episodes)
    parquet_other_kinds(episodes)
    parquet_refused(episodes)
    expected = {f"minari/{name}": minari_expected(name) for name in ["pendulum-v0", "walk-v0", "walk-arrow-v0", "walk-parquet-v0"]}
    expected |= {f"parquet/{name}.parquet": parquet_expected(name) for name in ["pandas", "wide", "gzip"]}
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
