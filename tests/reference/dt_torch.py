"""Golden vectors for the engine, from a dense PyTorch implementation of the network.

    python tests/reference/dt_torch.py --out tests/data

This shares no code and no idea with the engine: a whole sequence goes through at once, and what a
token may see is an explicit boolean matrix, built from timesteps. Weights, biases and norms are
random (seeded), scaled so that the actions vary with a standard deviation of at least 0.3: a band
wrong by one token then changes every action far beyond rounding.

Each case becomes one safetensors file: the parameters under the names of dt-core's `Parameters`
(matrices [out, in]), the inputs, the actions, and as metadata the configuration and provenance.
Inputs are what the network sees, so already normalized. A `streaming` file holds one episode of
1000 steps; a `window` file contexts of every length 1…K at random absolute timesteps, and one
episode longer than K. The last action of a context is a placeholder that nothing may look at.
"""

import argparse
import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as nn

STREAMING_STEPS = 1000
CONTEXTS_PER_LENGTH = 6
WINDOW_EPISODE_STEPS = 40

BASE = {"d_model": 16, "n_layer": 2, "layer_norm_eps": 1e-5}
CASES = {
    "streaming_h1_relu_tanh_table": BASE
    | dict(state_dim=3, act_dim=1, n_head=1, d_ff=64, context_len=8, max_ep_len=600)
    | dict(attention="streaming", activation="relu", head="tanh"),
    "streaming_h4_gelu_linear": BASE
    | dict(state_dim=5, act_dim=2, n_head=4, d_ff=36, context_len=5, max_ep_len=0)
    | dict(attention="streaming", activation="gelu_tanh", head="linear"),
    "streaming_h4_relu_tanh_deep": BASE
    | dict(state_dim=3, act_dim=3, n_head=4, d_ff=32, context_len=3, max_ep_len=0, n_layer=4)
    | dict(attention="streaming", activation="relu", head="tanh"),
    "window_h1_gelu_tanh": BASE
    | dict(state_dim=4, act_dim=2, n_head=1, d_ff=64, context_len=7, max_ep_len=0)
    | dict(attention="window", activation="gelu_tanh", head="tanh"),
    "window_h4_relu_linear_table": BASE
    | dict(state_dim=3, act_dim=1, n_head=4, d_ff=64, context_len=20, max_ep_len=100, d_model=32)
    | dict(attention="window", activation="relu", head="linear"),
    "streaming_h2_silu_glu_linear": BASE
    | dict(state_dim=3, act_dim=1, n_head=2, d_ff=36, context_len=5, max_ep_len=0)
    | dict(attention="streaming", activation="silu", head="linear", glu=True),
    "window_h1_gelu_glu_tanh_table": BASE
    | dict(state_dim=4, act_dim=2, n_head=1, d_ff=64, context_len=7, max_ep_len=100)
    | dict(attention="window", activation="gelu", head="tanh", glu=True),
    "window_h4_tanh_linear": BASE
    | dict(state_dim=3, act_dim=1, n_head=4, d_ff=64, context_len=6, max_ep_len=0)
    | dict(attention="window", activation="tanh", head="linear"),
    "streaming_h2_predicting": BASE
    | dict(state_dim=3, act_dim=2, n_head=2, d_ff=32, context_len=5, max_ep_len=0)
    | dict(attention="streaming", activation="relu", head="tanh", predictions=True),
    "window_h1_predicting": BASE
    | dict(state_dim=4, act_dim=1, n_head=1, d_ff=32, context_len=6, max_ep_len=100)
    | dict(attention="window", activation="gelu_tanh", head="tanh", glu=True, predictions=True),
    "streaming_h2_state_first_predicting": BASE
    | dict(state_dim=3, act_dim=2, n_head=2, d_ff=32, context_len=5, max_ep_len=100)
    | dict(attention="streaming", activation="relu", head="tanh", state_first=True),
    "window_h1_state_first_predicting": BASE
    | dict(state_dim=4, act_dim=1, n_head=1, d_ff=32, context_len=6, max_ep_len=0)
    | dict(attention="window", activation="silu", head="tanh", glu=True, state_first=True),
    "streaming_h1_convolution": BASE
    | dict(state_dim=3, act_dim=2, n_head=1, d_ff=32, context_len=5, max_ep_len=100, n_layer=3)
    | dict(attention="streaming", activation="relu", head="tanh", mixer="convolution"),
    "window_h1_convolution": BASE
    | dict(state_dim=4, act_dim=1, n_head=1, d_ff=32, context_len=6, max_ep_len=0)
    | dict(attention="window", activation="gelu", head="tanh", mixer="convolution"),
    "streaming_h2_without_embedding_norm": BASE
    | dict(state_dim=3, act_dim=2, n_head=2, d_ff=32, context_len=5, max_ep_len=100)
    | dict(attention="streaming", activation="relu", head="tanh", embeddings="no norm"),
    "window_h4_atari": BASE
    | dict(state_dim=4, act_dim=3, n_head=4, d_ff=64, context_len=7, max_ep_len=100)
    | dict(attention="window", activation="gelu", head="linear", embeddings="atari"),
}

# Tokens that a convolution sees, its own included.
MIXED_TOKENS = 6

ACTIVATIONS = {
    "relu": nn.relu,
    "gelu_tanh": lambda x: nn.gelu(x, approximate="tanh"),
    "gelu": nn.gelu,
    "silu": nn.silu,
    "tanh": torch.tanh,
}


def random_parameters(c, rng):
    """Parameters by name. Gains keep the residual stream lively without saturating the softmax."""
    d, f = c["d_model"], c["d_ff"]

    def normal(*shape, std):
        return (rng.standard_normal(shape) * std).astype(np.float32)

    def matrix(name, out, inputs, gain=1.0):
        return {
            f"{name}.weight": normal(out, inputs, std=gain / math.sqrt(inputs)),
            f"{name}.bias": normal(out, std=0.2),
        }

    def norm(name):
        return {f"{name}.weight": 1 + normal(d, std=0.3), f"{name}.bias": normal(d, std=0.3)}

    p = matrix("embed_return", d, 1) | matrix("embed_state", d, c["state_dim"], gain=1.5)
    p |= matrix("embed_action", d, c["act_dim"], gain=1.5)
    if c["max_ep_len"]:
        p["embed_timestep"] = normal(c["max_ep_len"], d, std=0.5)
    if c.get("embeddings") == "atari":
        p["embed_position"] = normal(3 * c["context_len"], d, std=0.5)
    if not c.get("embeddings"):
        p |= norm("embed_ln")
    for i in range(c["n_layer"]):
        p |= norm(f"layers.{i}.ln_1")
        if c.get("mixer") == "convolution":
            p[f"layers.{i}.conv.weight"] = normal(3, MIXED_TOKENS, d, std=1 / math.sqrt(MIXED_TOKENS))
            p[f"layers.{i}.conv.bias"] = normal(3, d, std=0.2)
        else:
            p |= matrix(f"layers.{i}.attn_qkv", 3 * d, d, gain=1.2) | matrix(f"layers.{i}.attn_proj", d, d)
        p |= norm(f"layers.{i}.ln_2")
        p |= matrix(f"layers.{i}.mlp_fc", f, d) | matrix(f"layers.{i}.mlp_proj", d, f)
    p |= norm("ln_f")
    if c.get("glu"):
        p |= matrix("glu", 2 * d, d, gain=1.5)
    p |= matrix("head", c["act_dim"], d)
    if c.get("predictions"):
        p |= matrix("state_head", c["state_dim"], d) | matrix("return_head", 1, d)
    if c.get("state_first"):
        p |= matrix("return_head", 1, d)
    centre_head(c, p, rng)
    return p


def centre_head(c, p, rng):
    """Scales and shifts the head so that every action dimension varies widely about 0."""
    inputs = random_steps(c, rng, 1, 200, [0])
    before_tanh = forward(c | {"head": "linear"}, p, **inputs)[0][0].numpy()
    gain = np.float32(0.7) / before_tanh.std(axis=0)
    p["head.weight"] *= gain[:, None]
    p["head.bias"] = (p["head.bias"] - before_tanh.mean(axis=0)) * gain


def forward(c, parameters, returns_to_go, states, actions, timesteps):
    """Actions (B, T, act_dim) at the state tokens, and what the action tokens predict: next state and next return-to-go
    (B, T, state_dim + 1), or None. With `state_first` the tokens of a step are state, return, action; the return's gives the
    action, the state's the return (B, T, 1).

    returns_to_go (B, T), states (B, T, state_dim), actions (B, T, act_dim) and timesteps (B, T)
    of consecutive steps. A token sees the tokens up to itself whose timestep lies less than
    context_len before its own.
    """
    p = {name: torch.from_numpy(value) for name, value in parameters.items()}
    batch, steps = returns_to_go.shape
    d, h, eps = c["d_model"], c["n_head"], c["layer_norm_eps"]

    def linear(name, x):
        return nn.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def norm(name, x):
        return nn.layer_norm(x, (d,), p[f"{name}.weight"], p[f"{name}.bias"], eps)

    inputs = {"return": returns_to_go[..., None], "state": states, "action": actions}
    if c.get("state_first"):
        inputs = {kind: inputs[kind] for kind in ("state", "return", "action")}
    tokens = torch.stack([linear(f"embed_{k}", v) for k, v in inputs.items()], dim=2)
    if c.get("embeddings") == "atari":
        # The whole window is told the time of its newest step, and each token its place.
        tokens, timesteps = tokens.tanh(), timesteps[:, -1:].expand(-1, steps)
    if c["max_ep_len"]:
        rows = p["embed_timestep"][timesteps.clamp(max=c["max_ep_len"] - 1)]
        tokens = tokens + rows[:, :, None]
    x = tokens.reshape(batch, 3 * steps, d)
    if c.get("embeddings") == "atari":
        # A sequence longer than a window has no places; it only scales the head.
        x = x + p["embed_position"][torch.arange(3 * steps) % (3 * c["context_len"])]
    if not c.get("embeddings"):
        x = norm("embed_ln", x)

    step = torch.arange(3 * steps) // 3
    position = torch.arange(3 * steps)
    causal = position[None, :] <= position[:, None]
    visible = causal & (step[:, None] - step[None, :] < c["context_len"])

    for i in range(c["n_layer"]):
        if c.get("mixer") == "convolution":
            x = x + convolved(p, i, norm(f"layers.{i}.ln_1", x))
            hidden = linear(f"layers.{i}.mlp_fc", norm(f"layers.{i}.ln_2", x))
            x = x + linear(f"layers.{i}.mlp_proj", ACTIVATIONS[c["activation"]](hidden))
            continue
        qkv = linear(f"layers.{i}.attn_qkv", norm(f"layers.{i}.ln_1", x))
        q, k, v = (z.reshape(batch, -1, h, d // h).transpose(1, 2) for z in qkv.split(d, dim=-1))
        scores = q @ k.transpose(2, 3) / math.sqrt(d // h)
        mix = scores.masked_fill(~visible, -math.inf).softmax(-1) @ v
        x = x + linear(f"layers.{i}.attn_proj", mix.transpose(1, 2).reshape(batch, -1, d))
        hidden = linear(f"layers.{i}.mlp_fc", norm(f"layers.{i}.ln_2", x))
        x = x + linear(f"layers.{i}.mlp_proj", ACTIVATIONS[c["activation"]](hidden))

    hidden = norm("ln_f", x[:, 1::3])
    if c.get("glu"):
        hidden = nn.glu(linear("glu", hidden))
    action = linear("head", hidden)
    predictions = None
    if c.get("predictions"):
        after = norm("ln_f", x[:, 2::3])
        predictions = torch.cat([linear("state_head", after), linear("return_head", after)], dim=-1)
    if c.get("state_first"):
        predictions = linear("return_head", norm("ln_f", x[:, 0::3]))
    return action.tanh() if c["head"] == "tanh" else action, predictions


def convolved(p, i, h):
    """torch's own depthwise convolution, with all three filters for every token, of which its place in the timestep chooses one."""
    d = h.shape[-1]
    padded = nn.pad(h.transpose(1, 2), (MIXED_TOKENS - 1, 0))
    weight, bias = p[f"layers.{i}.conv.weight"], p[f"layers.{i}.conv.bias"]
    # torch's filters begin with the oldest.
    all_places = [nn.conv1d(padded, w.flip(0).T[:, None], b, groups=d) for w, b in zip(weight, bias)]
    chosen = torch.stack(all_places, dim=-1)[..., torch.arange(h.shape[1]), torch.arange(h.shape[1]) % 3]
    return chosen.transpose(1, 2)


def random_steps(c, rng, batch, steps, first_timestep):
    """Independent inputs per step, so that every visible token matters."""

    def normal(*shape):
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    timesteps = torch.as_tensor(first_timestep)[:, None] + torch.arange(steps)[None]
    return {
        "returns_to_go": normal(batch, steps),
        "states": normal(batch, steps, c["state_dim"]),
        "actions": normal(batch, steps, c["act_dim"]).tanh(),
        "timesteps": timesteps,
    }


def streaming_vectors(c, p, rng):
    inputs = random_steps(c, rng, 1, STREAMING_STEPS, [0])
    actions, predictions = forward(c, p, **inputs)
    if c.get("state_first"):
        # As of the others, there are those of the second step and the following ones.
        predictions = predictions[:, 1:]
    return pack("episode", inputs, actions, predictions)


def window_vectors(c, p, rng):
    vectors = {}
    for length in range(1, c["context_len"] + 1):
        # Absolute timesteps on both sides of the end of the table.
        first = rng.integers(0, 120, CONTEXTS_PER_LENGTH)
        inputs = random_steps(c, rng, CONTEXTS_PER_LENGTH, length, first)
        actions = forward(c, p, **inputs)[0][:, -1:]
        vectors |= pack(f"length_{length}", inputs, actions)
    # One episode that slides the window: every step is the end of its own last K steps.
    inputs = random_steps(c, rng, 1, WINDOW_EPISODE_STEPS, [0])
    ends = [slice(max(0, t + 1 - c["context_len"]), t + 1) for t in range(WINDOW_EPISODE_STEPS)]
    windows = [{name: value[:, end] for name, value in inputs.items()} for end in ends]
    ends = [forward(c, p, **window) for window in windows]
    actions = torch.cat([actions[:, -1:] for actions, _ in ends], dim=1)
    predictions = None
    if c.get("predictions"):
        # Of the newest action there is: in every window but the first the last but one.
        predictions = torch.cat([predictions[:, -2:-1] for _, predictions in ends[1:]], dim=1)
    if c.get("state_first"):
        predictions = torch.cat([predictions[:, -1:] for _, predictions in ends[1:]], dim=1)
    return vectors | pack("episode", inputs, actions, predictions)


def pack(prefix, inputs, expected, predictions=None):
    packed = {f"{prefix}.{name}": value.numpy() for name, value in inputs.items()}
    packed[f"{prefix}.timesteps"] = packed[f"{prefix}.timesteps"].astype(np.int32)
    packed[f"{prefix}.expected"] = expected.numpy()
    if predictions is not None:
        packed[f"{prefix}.predicted"] = predictions.numpy()
    return packed


def save(path, tensors, metadata):
    """Writes a safetensors file: u64 header length, JSON header, data."""
    header, offset = {"__metadata__": metadata}, 0
    for name, value in tensors.items():
        dtype = {"float32": "F32", "int32": "I32"}[value.dtype.name]
        end = offset + value.nbytes
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(v).tobytes() for v in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def generate(name, c, seed, out):
    rng = np.random.default_rng(seed)
    parameters = random_parameters(c, rng)
    make = streaming_vectors if c["attention"] == "streaming" else window_vectors
    vectors = make(c, parameters, rng)
    spread = float(vectors["episode.expected"].std(axis=1).min())
    if spread < 0.3:
        raise SystemExit(f"{name}: actions vary by only {spread:.3f}; scale the head up")
    metadata = {
        "config": json.dumps(c),
        "action_std": f"{spread:.3f}",
        "seed": str(seed),
        "command": "python tests/reference/dt_torch.py --out tests/data",
        "versions": f"torch {torch.__version__}, numpy {np.__version__}",
    }
    path = out / f"{name}.safetensors"
    save(path, parameters | vectors, metadata)
    print(f"{path}: {path.stat().st_size} bytes, action std {spread:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with torch.no_grad():
        for index, (name, config) in enumerate(CASES.items()):
            generate(name, config, args.seed + index, args.out)


if __name__ == "__main__":
    main()
