"""The toys of the Decision Transformer paper from their definition, in NumPy, to compare host-sim's with.

    pip install gymnasium==1.4.0 numpy==2.4.6     (gymnasium for pendulum.py's `save` alone)
    python toys.py --out ../data/toys.safetensors

Written from the prose at the head of host-sim/src/graph.rs and key_to_door.rs, not from their code: the graph is a matrix
that is drawn here again, rooms are pictures of characters, and a view is cut out of a padded picture.
Per case of T steps the file holds, as `<case>.<name>`, cases being `graph…` and `key…`:

    start         f64   what set_state is given
    actions       u8  (T)
    observations  u8  (T + 1, 20 or 75)   the first one before any step
    rewards       f64 (T)
    terminated    u8  (T)
    truncated     u8  (T)

and as `edges.matrix` u8 (20, 20) the graph, as `edges.distances` u8 (20) those to the goal, as `seeds.starts` f64 (S, 5) the
key-to-door starts of seeds 0 to S − 1 with the seed in front.
"""

import argparse
import platform
from pathlib import Path

import numpy as np

from pendulum import save

SEED = 20262


def chacha8(seed):
    """Numbers in [0, 1) from the ChaCha8 key stream (Bernstein, 2008): little-endian key, counter and nonce from 0."""
    key = np.frombuffer(int(seed).to_bytes(32, "little"), "<u4")
    constant = np.frombuffer(b"expand 32-byte k", "<u4")
    columns = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
    diagonals = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    rotated = lambda x, by: (x << np.uint32(by)) | (x >> np.uint32(32 - by))
    block = 0
    while True:
        start = np.concatenate([constant, key, np.array([block, 0, 0, 0], "u4")])
        x = start.copy()
        for a, b, c, d in 4 * (columns + diagonals):
            for target, other, mixed, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[target] += x[other]
                x[mixed] = rotated(x[mixed] ^ x[target], by)
        for word in (x + start).view("<u8"):
            yield (int(word) >> 11) / 2.0**53
        block += 1


class Graph:
    NODES, GOAL, LIMIT, SPAN = 20, 0, 10, 20

    def __init__(self, start):
        (self.node,), self.steps = start.astype(int), 0
        stream = chacha8(11)
        self.edges = np.zeros((20, 20), bool)
        for i, j in np.ndindex(20, 20):
            if i != j:
                self.edges[i, j] = next(stream) < 0.1

    def distances(self):
        """How many times the goal must be pulled back along the edges."""
        distances = np.full(20, 255)
        reached = np.eye(20, dtype=bool)[self.GOAL]
        for distance in range(20):
            distances[reached & (distances == 255)] = distance
            reached = reached | (self.edges @ reached)
        return distances

    def observation(self):
        return np.eye(20)[self.node]

    def step(self, action):
        self.steps += 1
        self.node = action if self.edges[self.node, action] else self.node
        at_goal = self.node == self.GOAL
        return (0.0 if at_goal else -1.0), at_goal, self.steps >= self.LIMIT


ROOM = np.array([list("#" * 13)] + 7 * [list("#" + 11 * " " + "#")] + [list("#" * 13)])
LAST = np.array([list("##D##")] + 3 * [list("#   #")] + [list("#####")])


class KeyToDoor:
    LIMIT, SPAN = 60, 75

    def __init__(self, start):
        row, column, key_row, key_column = start.astype(int)
        self.steps, self.has_key, self.picture = 0, False, ROOM.copy()
        self.agent = np.array([row, column]) + 1
        self.picture[key_row + 1, key_column + 1] = "k"

    def observation(self):
        padded = np.pad(self.picture, 2, constant_values="#")
        view = padded[self.agent[0] :, self.agent[1] :][:5, :5]
        return np.stack([view == "#", view == "k", view == "D"], -1).ravel()

    def step(self, action):
        self.steps += 1
        there = self.picture[tuple(self.agent)]
        to = self.agent + [(-1, 0), (1, 0), (0, -1), (0, 1)][action]
        if there != "D" and self.picture[tuple(to)] != "#":
            self.agent = to
        now = self.picture[tuple(self.agent)]
        if now == "k":
            self.has_key = True
            self.picture[tuple(self.agent)] = " "
        through = now == "D"
        reward = float(through and there != "D" and self.has_key)
        if self.steps == 15:
            self.picture, self.agent = ROOM, np.array([4, 6])
        if self.steps == 45:
            self.picture, self.agent = LAST, np.array([2, 2])
        return reward, through, self.steps >= self.LIMIT


def towards(key):
    """Takes the key, waits, and leaves by the door; or leaves the key where it is."""

    def choose(env, rng):
        if env.steps >= 45:
            return 0
        if key and "k" in env.picture:
            away = np.argwhere(env.picture == "k")[0] - env.agent
            return int(away[0] > 0) if away[0] else 2 + int(away[1] > 0)
        return int(rng.integers(4)) if env.steps >= 15 else 0

    return choose


def at_random(env, rng):
    return int(rng.integers(4 if env.LIMIT == 60 else 20))


def along_edges(env, rng):
    return int(rng.choice(np.append(np.flatnonzero(env.edges[env.node]), env.node)))


CASES = {f"graph_{node:02}": (Graph, [node], along_edges, 13) for node in range(20)}
CASES |= {f"graph_any_{node:02}": (Graph, [node], at_random, 13) for node in range(0, 20, 4)}
CASES |= {
    "key_taken": (KeyToDoor, [2, 3, 6, 10], towards(True), 64),
    "key_taken_in_the_last_step": (KeyToDoor, [6, 9, 0, 0], towards(True), 64),
    "key_too_far": (KeyToDoor, [0, 0, 6, 10], towards(True), 64),
    "key_left": (KeyToDoor, [5, 5, 2, 2], towards(False), 64),
    "key_under_the_agent": (KeyToDoor, [0, 4, 0, 4], towards(False), 64),
}
CASES |= {f"key_{i:02}": (KeyToDoor, None, at_random, 66) for i in range(12)}


def run(kind, start, choose, steps, rng):
    start = np.array(rng.integers([7, 11, 7, 11]) if start is None else start, float)
    env = kind(start)
    columns = {"actions": [], "observations": [env.observation()], "rewards": [], "terminated": [], "truncated": []}
    for _ in range(steps):
        action = choose(env, rng)
        reward, terminated, truncated = env.step(action)
        for name, value in zip(columns, (action, env.observation(), reward, terminated, truncated)):
            columns[name].append(value)
    columns["start"] = start
    dtypes = {"rewards": "<f8", "start": "<f8"}
    return {name: np.array(rows).astype(dtypes.get(name, "u1")) for name, rows in columns.items()}


def key_to_door_start(seed):
    stream = chacha8(seed)
    agent = int(next(stream) * 77)
    key = (agent + 1 + int(next(stream) * 76)) % 77
    return [seed, agent // 11, agent % 11, key // 11, key % 11]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    np.seterr(over="ignore")  # ChaCha8 counts modulo 2³²
    rng = np.random.default_rng(SEED)
    tensors = {}
    for case, recipe in CASES.items():
        for name, tensor in run(*recipe, rng).items():
            tensors[f"{case}.{name}"] = tensor
        ends = int(np.flatnonzero(np.append(tensors[f"{case}.terminated"], 1))[0])
        print(f"{case:24} rewards {tensors[f'{case}.rewards'].sum():4.0f}, ends after {ends + 1}")
    graph = Graph(np.array([1]))
    tensors["edges.matrix"] = graph.edges.astype("u1")
    tensors["edges.distances"] = graph.distances().astype("u1")
    tensors["seeds.starts"] = np.array([key_to_door_start(seed) for seed in range(200)]).astype("<f8")
    metadata = {"generator": "toys.py", "seed": str(SEED), "numpy": np.__version__, "python": platform.python_version()}
    save(args.out, tensors, metadata)


if __name__ == "__main__":
    main()
