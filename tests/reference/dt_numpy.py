"""A NumPy emulator of the numerics contract: the independent witness.

Written from `dt-core/BLOB.md` alone. It reads a policy file, runs the policy one token at a time,
without ring, fusing or packing, and must produce the same action bits as `dt-core`.

    python dt_numpy.py run POLICY.dtb < steps.jsonl     # per line {"observation", "applied", "reward"}
    python dt_numpy.py math SOURCE < raw f32 > raw f32  # all exp(x), all tanh(x), then each activation

It reads format versions 1 and 2.

`run` starts one episode at the policy's default target return, or at --target-return. Each step
takes the observation, the action that was applied after it and the reward (null where the policy
observes none), and prints {"action": […], "bits": […]}; where actions are discrete, the action is an
index, and the bits are its and those of the logits. A line may set "return_to_go" first.
"""

import argparse
import json
import struct
import sys
import zlib
from dataclasses import dataclass, field

import numpy as np

import libm_f32
import micromath_f32
import polynomial_f32

F = np.float32
SOURCES = {"libm": libm_f32, "micromath": micromath_f32, "polynomial": polynomial_f32}
MIXED_TOKENS = 6
ONE_AND_A_HALF_2_23 = F(12582912)
# What a file may require.
KNOWN = {"discrete-actions", "sampled-actions", "glu", "gelu", "silu", "tanh-mlp"} | {
    "state-head",
    "return-head",
    "mlp",
    "convolutions",
    "embedding-tanh",
    "state-first",
    "convolution-mixer",
    "no-embedding-norm",
    "window-positions",
}


# --- The arithmetic of the contract ---------------------------------------------------------------


def lanes(terms):
    """Sum over the last axis in eight lanes, folded pairwise."""
    n = terms.shape[-1]
    padded = np.zeros(terms.shape[:-1] + (-(-n // 8) * 8,), F)
    padded[..., :n] = terms
    lane = np.zeros(terms.shape[:-1] + (8,), F)
    for start in range(0, n, 8):
        lane = lane + padded[..., start : start + 8]
    l0, l1, l2, l3, l4, l5, l6, l7 = np.moveaxis(lane, -1, 0)
    return ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))


def running(terms):
    """Sum over the first axis, first to last."""
    total = np.zeros(terms.shape[1:], F)
    for term in terms:
        total = total + term
    return total


def rne(x):
    """Nearest integer, ties to even, for |x| ≤ 2²²."""
    shifted = (x + ONE_AND_A_HALF_2_23).astype(F)
    return shifted.view(np.int32).astype(np.int64) - int(ONE_AND_A_HALF_2_23.view(np.int32))


def q_max(terms):
    return min(32767, (2**31 - 1) // (127 * terms))


def quantize(x, limit):
    """Integers q and the scale s with x ≈ q·s."""
    if not np.isfinite(x).all():
        raise FloatingPointError("a value to quantize is not finite")
    largest = np.abs(x).max()
    with np.errstate(divide="ignore", over="ignore"):
        inverse = F(limit) / largest
    if not np.isfinite(inverse):
        return np.zeros(x.shape, np.int64), F(0)
    return rne(x * inverse), largest / F(limit)


@dataclass
class Matrix:
    """y = W·x + b, W in f32 or as integers with a scale per row."""

    weight: np.ndarray
    scale: np.ndarray | None
    bias: np.ndarray

    def __call__(self, x):
        if self.scale is None:
            return lanes(self.weight * x) + self.bias
        q, s = quantize(x, q_max(self.weight.shape[1]))
        return self.of_integers(q, s)

    def of_integers(self, q, s):
        """For activations q with scale s, whatever lies in front of their last axis."""
        return (q @ self.weight.T).astype(F) * (self.scale * s) + self.bias


@dataclass
class Convolution:
    """A matrix for every square of a map (height, width, channels), then ReLU."""

    matrix: Matrix
    kernel: int
    stride: int

    def cols(self):
        return self.matrix.weight.shape[1]

    def __call__(self, x, s):
        squares = np.lib.stride_tricks.sliding_window_view(x, (self.kernel, self.kernel), (0, 1))
        squares = squares[:: self.stride, :: self.stride].transpose(0, 1, 3, 4, 2)
        columns = squares.reshape(squares.shape[:2] + (-1,))
        if self.matrix.scale is None:
            y = lanes(self.matrix.weight * columns[:, :, None]) + self.matrix.bias
        else:
            y = self.matrix.of_integers(columns, s)
        return relu(y)


@dataclass
class Norm:
    weight: np.ndarray
    bias: np.ndarray
    eps: np.float32

    def __call__(self, x):
        n = F(len(x))
        mean = lanes(x) / n
        centred = x - mean
        variance = lanes(centred * centred) / n
        r = F(1) / np.sqrt(variance + self.eps)
        if not r > 0:
            raise FloatingPointError("a variance is not finite")
        return (centred * r) * self.weight + self.bias


def relu(x):
    return np.where((x <= 0) & np.isfinite(x), F(0), x)


def gelu_tanh(x, math):
    cubic = F(0.044715) * ((x * x) * x)
    return (F(0.5) * x) * (F(1) + math.tanhf(F(0.7978846) * (x + cubic)))


def silu(x, math):
    return x / (F(1) + math.expf(-x))


def tanh(x, math):
    return np.where(np.isfinite(x), math.tanhf(x), x)


ACTIVATIONS = {
    "relu": lambda x, math: relu(x),
    "gelu_tanh": gelu_tanh,
    "gelu": lambda x, math: polynomial_f32.geluf(x),
    "silu": silu,
    "tanh": tanh,
}
# Activations that a file has to require by name.
NEEDED_BY = {"gelu": "gelu", "silu": "silu", "tanh": "tanh-mlp"}


# --- The file -------------------------------------------------------------------------------------


class Postcard:
    """Reader of the postcard wire format, as far as the manifest uses it."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ValueError("manifest ends early")
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def one_of(self, *names):
        return names[self.varint()]

    def f32(self):
        return np.frombuffer(self.take(4), "<f4")[0]

    def text(self):
        return self.take(self.varint()).decode()


def read_manifest(data, version):
    p = Postcard(data)
    requires = p.text() if version > 1 else ""
    requires = set(requires.split(",")) - {""}
    if requires - KNOWN:
        raise ValueError(f"the policy needs {', '.join(requires - KNOWN)}")
    dims = "state_dim act_dim d_model n_layer n_head d_ff context_len max_ep_len"
    m = {name: p.varint() for name in dims.split()}
    m["dtype"] = p.one_of("f32", "int8", "int4")
    m["attention"] = p.one_of("streaming", "window")
    m["mixer"] = p.one_of("attention", "folded", "convolution") if version > 1 else "attention"
    m["activation"] = p.one_of(*ACTIVATIONS)
    m["head"] = p.one_of("tanh", "linear")
    m["math"] = p.one_of("libm", "micromath", "polynomial")
    m["layer_norm_eps"] = p.f32()
    m["return_scale"], m["target_return"] = p.f32(), p.f32()
    m["return_limits"] = None
    if version > 1 and p.one_of("none", "some") == "some":
        m["return_limits"] = p.f32(), p.f32(), p.one_of("clamp", "fault")
    m["reward"] = p.one_of("observed", "constant", "external", "predicted")
    m["control_period_us"] = p.varint()
    m["at_max_ep_len"] = p.one_of("saturate", "fault")
    m["golden_steps"] = p.varint()
    m["env"] = p.text()
    if version > 1:
        m["observation"], m["action"] = p.text(), p.text()
    m["dataset"], m["dataset_sha256"] = p.text(), p.take(32).hex()
    if version > 1:
        m["statistics"], m["checkpoint"] = p.text(), p.text()
    m["run"], m["version"] = p.text(), p.text()
    m["seed"], m["updates"] = p.varint(), p.varint()
    m["glu"] = "glu" in requires
    m["discrete"] = "discrete-actions" in requires
    m["mlp"] = "mlp" in requires
    m["predicts"] = "state-head" in requires, "return-head" in requires
    m["sampling"] = None
    if "sampled-actions" in requires:
        m["sampling"] = p.f32(), p.varint(), p.varint()
    if (m["mixer"] == "convolution") != ("convolution-mixer" in requires):
        raise ValueError(f"the mixer is {m['mixer']}, the policy requires {requires}")
    m["state_first"] = "state-first" in requires
    if m["state_first"] and m["predicts"] != (False, True) or m["reward"] == "predicted" and not m["state_first"]:
        raise ValueError("state-first takes a return-head and no state-head, reward predicted takes state-first")
    m["embedding_tanh"] = "embedding-tanh" in requires
    m["embedding_norm"] = "no-embedding-norm" not in requires
    m["window_positions"] = "window-positions" in requires
    if m["window_positions"] and (m["attention"] != "window" or m["mixer"] == "convolution"):
        raise ValueError("window-positions takes attention over a window")
    m["image"] = None
    if "convolutions" in requires:
        m["image"] = [p.varint() for _ in "hwc"]
        placed = [[p.varint() for _ in "fks"] for _ in "123"]
        m["convolutions"] = [convolution for convolution in placed if convolution[0]]
        m["golden_images"] = p.varint()
    for activation, name in NEEDED_BY.items():
        if (m["activation"] == activation) != (name in requires):
            raise ValueError(f"the activation is {m['activation']}, the policy requires {requires}")
    if p.at != len(data):
        raise ValueError("manifest has bytes left over")
    return m


class Tensors:
    """The tensors after the manifest, one after the other."""

    def __init__(self, data, at, m, version):
        self.data, self.at, self.version = data, at, version
        self.dtype, self.eps = m["dtype"], m["layer_norm_eps"]

    def raw(self, dtype, *shape):
        self.at = -(-self.at // 16) * 16
        count = int(np.prod(shape))
        tensor = np.frombuffer(self.data, dtype, count, self.at).reshape(shape)
        self.at += tensor.nbytes
        return tensor

    def f32(self, *shape):
        return self.raw("<f4", *shape)

    def convolutions(self, m):
        """What an image goes through, and how many values are left of it."""
        (height, width, channels), convolutions = m["image"], []
        for filters, kernel, stride in m["convolutions"]:
            matrix = self.matrix(filters, kernel * kernel * channels)
            convolutions.append(Convolution(matrix, kernel, stride))
            height, width = ((side - kernel) // stride + 1 for side in (height, width))
            channels = filters
        return convolutions, height * width * channels

    def matrix(self, rows, cols):
        if self.dtype == "f32":
            return Matrix(self.f32(rows, cols), None, self.f32(rows))
        if self.version == 1:
            return Matrix(self.words(rows, cols), self.f32(rows), self.f32(rows))
        pairs, width = -(-rows // 2), -(-cols // 4) * 4
        odd, even = self.raw("u1", pairs, width, 2).astype(np.int64).transpose(2, 0, 1)
        even = (even ^ 128) - 128
        weight = np.stack([even, odd - 128], 1).reshape(2 * pairs, width)[:rows, :cols]
        return Matrix(weight, self.f32(rows), self.f32(rows))

    def words(self, rows, cols):
        """Packed i8 as version 1 has it."""
        pairs, groups = -(-rows // 2), -(-cols // 4)
        words = self.raw("i1", pairs, groups, 2, 4)
        natural = words[..., [0, 2, 1, 3]].transpose(0, 2, 1, 3).reshape(2 * pairs, 4 * groups)
        return natural[:rows, :cols].astype(np.int64)

    def block_matrix(self, rows, cols):
        if self.dtype != "int4":
            return self.matrix(rows, cols)
        return Matrix(self.int4(rows, cols), self.f32(rows), self.f32(rows))

    def int4(self, rows, cols):
        pairs, groups = -(-rows // 2), -(-cols // 32)
        both = self.raw("i1", pairs, cols // 4, 4)[..., [0, 2, 1, 3]].reshape(pairs, cols)
        nibbles = np.stack([(both & 15) - 8, both >> 4], 1).astype(np.int64)
        shared = self.raw("u1", pairs, groups)
        multipliers = np.stack([shared & 15, shared >> 4], 1).astype(np.int64)
        weight = nibbles * multipliers.repeat(32, -1)[..., :cols]
        return weight.reshape(2 * pairs, cols)[:rows]

    def table(self, rows, cols):
        if self.dtype == "f32":
            return self.f32(rows, cols)
        q = self.int4(rows, cols) if self.dtype == "int4" else self.raw("i1", rows, cols)
        return q.astype(F) * self.f32(rows)[:, None]

    def norm(self, d):
        return Norm(self.f32(d), self.f32(d), self.eps)


@dataclass
class Layer:
    ln_1: Norm
    first: Matrix | np.ndarray  # queries, keys, values; or keys, values, key bias, nothing; or a convolution's factors
    last: Matrix | np.ndarray  # the projection; or, folded, what is added in its place; or a convolution's biases
    ln_2: Norm
    fc: Matrix
    down: Matrix


class Blob:
    def __init__(self, data):
        version, crc, length, manifest_len = struct.unpack_from("<4I", data, 8)
        if data[:8] != b"DTPOLICY" or version not in (1, 2):
            raise ValueError("not a policy file of version 1 or 2")
        if zlib.crc32(data[:12] + data[16:length]) != crc:
            raise ValueError("the checksum does not match")
        self.manifest = m = read_manifest(data[24 : 24 + manifest_len], version)
        s, a, d, f = m["state_dim"], m["act_dim"], m["d_model"], m["d_ff"]
        t = Tensors(data, 24 + manifest_len, m, version)
        vectors = 0 if m["image"] else s
        self.state_mean, self.state_std, self.state_low, self.state_high = (t.f32(vectors) for _ in "1234")
        self.action_low, self.action_high, self.safe_action = (
            t.f32(1 if m["discrete"] else a) for _ in "123"
        )
        if m["mlp"]:
            self.hidden = [t.matrix(f, m["context_len"] * s)]
            self.hidden += [t.block_matrix(f, f) for _ in range(m["n_layer"] - 1)]
            self.head, self.layers, sizes = t.matrix(a, f), [], []
        else:
            sizes = self.read_transformer(t)
        self.prediction_heads = [t.matrix(n, d) for n in sizes]
        golden = 1 + vectors + (2 + a if m["discrete"] else 2 * a) + sum(sizes)
        self.golden = t.f32(m["golden_steps"], golden)
        if m["image"]:
            self.golden_images = t.raw("u1", m["golden_images"], *m["image"])
        if t.at != length:
            raise ValueError(f"tensors end at {t.at}, the file says {length}")

    def read_transformer(self, t):
        """All its tensors but the heads of predictions, whose sizes it gives."""
        m = self.manifest
        s, a, d, f = m["state_dim"], m["act_dim"], m["d_model"], m["d_ff"]
        self.embed_return = t.matrix(d, 1)
        self.convolutions, flat = t.convolutions(m) if m["image"] else ([], s)
        self.embed_state, self.embed_action = (t.matrix(d, n) for n in (flat, a))
        self.embed_timestep = t.table(m["max_ep_len"], d) if m["max_ep_len"] else None
        self.embed_position = t.table(3 * m["context_len"], d) if m["window_positions"] else None
        self.embed_ln = t.norm(d) if m["embedding_norm"] else None
        first, last = {
            "attention": (lambda: t.block_matrix(3 * d, d), lambda: t.block_matrix(d, d)),
            "folded": (lambda: t.block_matrix(2 * d + 2, d), lambda: t.f32(d)),
            "convolution": (lambda: t.f32(3, MIXED_TOKENS, d), lambda: t.f32(3, d)),
        }[m["mixer"]]
        self.layers = [
            Layer(
                t.norm(d),
                first(),
                last(),
                t.norm(d),
                *(t.block_matrix(rows, cols) for rows, cols in ((f, d), (d, f))),
            )
            for _ in range(m["n_layer"])
        ]
        self.ln_f = t.norm(d)
        self.glu = t.matrix(2 * d, d) if m["glu"] else None
        self.head = t.matrix(a, d)
        return [n for n, wanted in zip((s, 1), m["predicts"]) if wanted]


# --- The network ----------------------------------------------------------------------------------


@dataclass
class Keys:
    """What one layer remembers: per token its timestep, and per head key and value with scales."""

    timestep: list = field(default_factory=list)
    entries: list = field(default_factory=list)


class Network:
    """Tokens in, hidden states out. Remembers every token of the episode; the band selects."""

    def __init__(self, blob, now=None):
        """`now`: the newest timestep, where a window is told it."""
        self.blob, self.m, self.now, self.place = blob, blob.manifest, now, 0
        self.math = SOURCES[self.m["math"]]
        self.integer = self.m["dtype"] != "f32"
        self.memory = [Keys() for _ in blob.layers]

    def token(self, embed, inputs, timestep):
        """Hidden state (d_model) of one more token."""
        x = embed(inputs)
        if self.m["embedding_tanh"]:
            if not np.isfinite(x).all():
                raise FloatingPointError("an embedding is not finite")
            x = self.math.tanhf(x)
        table = self.blob.embed_timestep
        if table is not None:
            told = self.now if self.m["window_positions"] else timestep
            x = x + table[min(told, len(table) - 1)]
        if self.m["window_positions"]:
            x = x + self.blob.embed_position[self.place]
            self.place += 1
        if self.blob.embed_ln is not None:
            x = self.blob.embed_ln(x)
        folded = self.m["mixer"] == "folded"
        for layer, memory in zip(self.blob.layers, self.memory):
            h = layer.ln_1(x)
            if self.m["mixer"] == "convolution":
                x = x + self.convolve(layer, memory, h)
                x = x + layer.down(self.activate(layer.fc(layer.ln_2(x))))
                continue
            if folded:
                k, v, (bias, _) = np.split(layer.first(h), [len(h), 2 * len(h)])
                q = h
            else:
                (q, k, v), bias = np.split(layer.first(h), 3), None
            heads = [np.split(vector, self.m["n_head"]) for vector in (q, k, v)]
            memory.timestep.append(timestep)
            memory.entries.append([self.remember(k, v, bias) for k, v in zip(*heads[1:])])
            first = timestep - self.m["context_len"] + 1
            seen = [e for tau, e in zip(memory.timestep, memory.entries) if tau >= first]
            mixed = [self.attend(q, [e[h] for e in seen]) for h, q in enumerate(heads[0])]
            mixed = np.concatenate(mixed)
            x = x + (mixed + layer.last if folded else layer.last(mixed))
            x = x + layer.down(self.activate(layer.fc(layer.ln_2(x))))
        return x

    def convolve(self, layer, memory, h):
        """The sum of the last tokens' components, the newest first, each with its factor for the token's place in its timestep."""
        place = len(memory.entries) % 3
        memory.entries.append(h)
        total = layer.last[place]
        for factors, seen in zip(layer.first[place], memory.entries[: -MIXED_TOKENS - 1 : -1]):
            total = total + factors * seen
        return total

    def state(self, state):
        """Embedding of a state, before tanh."""
        if not self.m["image"]:
            return self.blob.embed_state(np.asarray(state, F))
        x, s = np.asarray(state).reshape(self.m["image"]).astype(np.int64), F(1)
        layers = [*self.blob.convolutions, None]
        for convolution, behind in zip(layers, layers[1:]):
            x = convolution(x if self.integer else x.astype(F), s)
            if self.integer:
                terms = behind.cols() if behind else self.blob.embed_state.weight.shape[1]
                x, s = quantize(x, q_max(terms))
        matrix = self.blob.embed_state
        return matrix.of_integers(x.ravel(), s) if self.integer else matrix(x.ravel().astype(F))

    def activate(self, x):
        with np.errstate(over="ignore"):
            return ACTIVATIONS[self.m["activation"]](x, self.math)

    def remember(self, k, v, bias):
        """What later tokens see of a token and head: key, value and what is added to its score."""
        bias = F(0) if bias is None else bias * self.score_factor(len(k))
        return (quantize(k, 127), quantize(v, 127), bias) if self.integer else (k, v, bias)

    def score_factor(self, d_head):
        one = np.log2(np.e).astype(F) if self.m["math"] == "polynomial" else F(1)
        return one / np.sqrt(F(d_head))

    def exponential(self, scores):
        return (self.math.exp2f if self.m["math"] == "polynomial" else self.math.expf)(scores)

    def attend(self, q, seen):
        """One head's mix of the values of the tokens seen, oldest first."""
        keys, values, biases = zip(*seen)
        c = self.score_factor(len(q))
        if not self.integer:
            scores = lanes(np.stack(keys) * q) * c + np.stack(biases)
            e = self.exponential(scores - scores.max())
            return running(e[:, None] * np.stack(values)) * (F(1) / running(e))
        (k, k_scale), (v, v_scale) = (map(np.stack, zip(*pairs)) for pairs in (keys, values))
        q, q_scale = quantize(q, q_max(len(q)))
        scores = (k @ q).astype(F) * ((q_scale * c) * k_scale) + np.stack(biases)
        p = rne(self.exponential(scores - scores.max()) * F(2**20))
        r, r_scale = quantize(p.astype(F) * v_scale, q_max(3 * self.m["context_len"]))
        return (r @ v).astype(F) * (r_scale / F(p.sum()))

    def gated(self, values, gates):
        """Each value times the logistic function of its gate."""
        if not np.isfinite(gates).all():
            raise FloatingPointError("a gate is not finite")
        with np.errstate(over="ignore"):
            return values / (F(1) + self.math.expf(-gates))

    def perceive(self, states):
        """A perceptron's unscaled action from the last states (K, state_dim)."""
        x = states.reshape(-1)
        for hidden in self.blob.hidden:
            x = self.activate(hidden(x))
        return self.decide(x)

    def read_action(self, x):
        """Unscaled action from the hidden state of a state token, or of the return's where that comes second."""
        h = self.blob.ln_f(x)
        if self.blob.glu is not None:
            h = self.gated(*np.split(self.blob.glu(h), 2))
        return self.decide(h)

    def decide(self, h):
        u = self.blob.head(h)
        if not np.isfinite(u).all():
            raise FloatingPointError("an output of the head is not finite")
        return self.math.tanhf(u) if self.m["head"] == "tanh" else u

    def predict(self, x):
        """Next state and return-to-go, unscaled, as far as there are heads, from the hidden state of an action token; or of a
        state token, where that comes first, its return-to-go."""
        h = self.blob.ln_f(x)
        return np.concatenate([head(h) for head in self.blob.prediction_heads] or [np.zeros(0, F)])


# --- Choices --------------------------------------------------------------------------------------


def quarter_round(x, a, b, c, d):
    for left, right, turn in ((a, b, 16), (c, d, 12), (a, b, 8), (c, d, 7)):
        other = d if left == a else b
        x[left] = (x[left] + x[right]) % 2**32
        turned = x[other] ^ x[left]
        x[other] = (turned << turn | turned >> 32 - turn) % 2**32


def chacha8(seed, nonce, block):
    """16 words of the key stream (RFC 8439's order of words, with 64 bits for counter and nonce each)."""
    key = struct.unpack("<8I", struct.pack("<Q24x", seed))
    ends = struct.unpack("<4I", struct.pack("<2Q", block, nonce))
    start = [*struct.unpack("<4I", b"expand 32-byte k"), *key, *ends]
    x = list(start)
    for _ in range(4):
        for i in range(4):
            quarter_round(x, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter_round(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) % 2**32 for a, b in zip(x, start)]


def draw(seed, timestep):
    return chacha8(seed, 1, timestep // 16)[timestep % 16]


def choose(logits, sampling, seed, timestep, math):
    """Index of the action."""
    if sampling is None:
        return int(np.argmax(logits))
    temperature, top_k, _ = sampling
    order = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))
    kept = sorted(order[: top_k or None])
    with np.errstate(over="ignore"):
        parts = math.expf((logits[kept] - logits.max()) / temperature)
    weights = np.clip(rne(parts * F(2**18)), 0, 2**18)
    place = draw(seed, timestep) * int(weights.sum()) // 2**32
    return kept[int(np.argmax(np.cumsum(weights) > place))]


# --- The policy -----------------------------------------------------------------------------------


class Policy:
    def __init__(self, blob, target_return, seed=None):
        self.blob, self.m = blob, blob.manifest
        if seed is None and self.m["sampling"] is not None:
            seed = self.m["sampling"][2]
        self.seed, self.logits = seed, np.zeros(0, F)
        self.return_to_go = F(target_return)
        self.network = Network(blob)
        self.predicted = self.no_prediction()
        self.past = []  # per step: return-to-go, state, action as the network sees them
        self.half = F(0.5) * (blob.action_high - blob.action_low)
        self.centre = F(0.5) * (blob.action_high + blob.action_low)

    def act(self, observation):
        """Action (act_dim) in the environment's units, clamped; or the index of a choice."""
        if self.m["image"]:
            state = observation
        else:
            state = (np.asarray(observation, F) - self.blob.state_mean) / self.blob.state_std
        self.past.append([self.told(self.return_to_go) / F(self.m["return_scale"]), state, None])
        if self.m["mlp"]:
            seen = np.zeros((self.m["context_len"], len(state)), F)
            last = [state for _, state, _ in self.past[-len(seen) :]]
            seen[len(seen) - len(last) :] = last
            u = self.network.perceive(seen)
        elif self.m["attention"] == "window":
            u = self.window()
        else:
            u = self.newest(len(self.past) - 1)
        if self.m["discrete"]:
            self.logits = u
            timestep = len(self.past) - 1
            chosen = choose(u, self.m["sampling"], self.seed, timestep, self.network.math)
            return np.array([chosen], F)
        action = u * self.half + self.centre
        action = np.where(action < self.blob.action_low, self.blob.action_low, action)
        return np.where(action > self.blob.action_high, self.blob.action_high, action)

    def no_prediction(self):
        return np.zeros(sum(len(head.bias) for head in self.blob.prediction_heads), F)

    def predict(self, x):
        """What the action token with hidden state x predicts, in the environment's units."""
        predicted = self.network.predict(x)
        if self.m["predicts"][0]:
            n = len(self.blob.state_mean)
            state = predicted[:n] * self.blob.state_std + self.blob.state_mean
            predicted = np.concatenate([state, predicted[n:]])
        if self.m["predicts"][1]:
            predicted[-1] = predicted[-1] * F(self.m["return_scale"])
        return predicted

    def told(self, return_to_go):
        """What the network is told of a return-to-go; of one that it has predicted, its limits are always within reach."""
        if self.m["return_limits"] is None:
            return return_to_go
        low, high, beyond = self.m["return_limits"]
        if beyond != "clamp" and self.m["reward"] != "predicted":
            return return_to_go
        return low if return_to_go < low else high if return_to_go > high else return_to_go

    def foresee(self, state, timestep):
        """State first: its token, what it predicts, and the hidden state of the return-to-go's token."""
        self.predicted = self.predict(self.network.token(self.network.state, state, timestep))
        if self.m["reward"] == "predicted":
            self.past[timestep][0] = self.told(self.predicted[-1]) / F(self.m["return_scale"])
        return self.network.token(self.blob.embed_return, np.array([self.past[timestep][0]], F), timestep)

    def absorb(self, applied, reward):
        """The action that was really applied, in the environment's units, and its reward."""
        if self.m["discrete"]:
            self.past[-1][2] = np.eye(self.m["act_dim"], dtype=F)[int(applied[0])]
        else:
            offset = np.asarray(applied, F) - self.centre
            with np.errstate(divide="ignore", invalid="ignore"):
                self.past[-1][2] = np.where(self.half == 0, F(0), offset / self.half)
        if self.m["reward"] == "observed":
            self.return_to_go = self.return_to_go - F(reward)

    def newest(self, timestep):
        """Streaming: the action of the step before, then this step's return-to-go and state."""
        if timestep > 0:
            action = self.past[timestep - 1][2]
            hidden = self.network.token(self.blob.embed_action, action, timestep - 1)
            if not self.m["state_first"]:
                self.predicted = self.predict(hidden)
        return_to_go, state, _ = self.past[timestep]
        if self.m["state_first"]:
            return self.network.read_action(self.foresee(state, timestep))
        self.network.token(self.blob.embed_return, np.array([return_to_go], F), timestep)
        hidden = self.network.token(self.network.state, state, timestep)
        return self.network.read_action(hidden)

    def window(self):
        """The last `context_len` steps from nothing, at their absolute timesteps."""
        last = len(self.past) - 1
        self.network = Network(self.blob, last)
        self.predicted = self.no_prediction()
        for timestep in range(max(0, last - self.m["context_len"] + 1), last + 1):
            return_to_go, state, action = self.past[timestep]
            if self.m["state_first"] and timestep == last:
                hidden = self.foresee(state, timestep)
                continue
            if self.m["state_first"]:
                self.network.token(self.network.state, state, timestep)
                self.network.token(self.blob.embed_return, np.array([return_to_go], F), timestep)
            else:
                self.network.token(self.blob.embed_return, np.array([return_to_go], F), timestep)
                hidden = self.network.token(self.network.state, state, timestep)
            if timestep < last:
                after = self.network.token(self.blob.embed_action, action, timestep)
                if not self.m["state_first"]:
                    self.predicted = self.predict(after)
        return self.network.read_action(hidden)


# --- Command line ---------------------------------------------------------------------------------


def run(args):
    with open(args.policy, "rb") as file:
        blob = Blob(file.read())
    target = args.target_return
    target = blob.manifest["target_return"] if target is None else target
    policy = Policy(blob, target, args.seed)
    for line in sys.stdin:
        step = json.loads(line)
        if step.get("return_to_go") is not None:
            policy.return_to_go = F(step["return_to_go"])
        action = policy.act(step["observation"])
        policy.absorb(step["applied"], step.get("reward"))
        # Of a choice, what it was made by as well; and what was predicted for the action before, zeros at first.
        bits = np.concatenate([action, policy.logits, policy.predicted]).astype(F).view(np.uint32)
        print(json.dumps({"action": action.tolist(), "bits": bits.tolist()}))


def math(args):
    source = SOURCES[args.source]
    x = np.frombuffer(sys.stdin.buffer.read(), "<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = [source.expf(x), source.tanhf(x)]
        outputs += [activation(x, source) for activation in ACTIVATIONS.values()]
    sys.stdout.buffer.write(b"".join(y.astype(F).tobytes() for y in outputs))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="run a policy over recorded steps")
    command.add_argument("policy")
    command.add_argument("--target-return", type=float)
    command.add_argument("--seed", type=int, help="of the draws of sampled actions, in place of the file's")
    command.set_defaults(call=run)
    command = commands.add_parser("math", help="exp, tanh and activations of raw f32")
    command.add_argument("source", choices=SOURCES)
    command.set_defaults(call=math)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
