"""Losses of the rivals by the formulas of their papers, in NumPy and f64, for dt-train/src/algo/*/tests.rs.

Usage: python3 tests/reference/rivals.py; prints the constants that the tests hold.
"""

import numpy as np

B, S, A, WIDTH, LAYERS, N = 5, 3, 2, 4, 2, 3


def wave(shape, frequency, phase, scale=1.0):
    k = np.arange(np.prod(shape, dtype=int))
    return scale * np.sin(frequency * k + phase).reshape(shape)


class Weights:
    """Number k of an algorithm's network p is 0.4 sin(0.7 k + p)."""

    def __init__(self, place):
        self.place, self.k = place, 0

    def take(self, *shape):
        n = int(np.prod(shape))
        values = 0.4 * np.sin(0.7 * np.arange(self.k, self.k + n) + self.place)
        self.k += n
        return values.reshape(shape)


states = wave((B, S), 0.9, 0)
actions = wave((B, A), 1.3, 1, 0.8)
next_states = wave((B, S), 1.1, 2)
rewards = wave((B,), 1.0, 3)
continues = np.array([1.0, 1, 0, 1, 1])
returns = wave((B,), 1.7, 4, 2.0)
end_weights = wave((B,), 0.4, 1) ** 2
ends = wave((B, S), 0.6, 5)


def relu(x):
    return np.maximum(x, 0)


def features(w, x):
    for inputs in [S] + [WIDTH] * (LAYERS - 1):
        weight, bias = w.take(WIDTH, inputs), w.take(WIDTH)
        x = relu(x @ weight.T + bias)
    return x


def actor(place, x, log_std=False):
    """tanh of the mean, and what follows: log_std parameters."""
    w = Weights(place)
    h = features(w, x)
    weight, bias = w.take(A, WIDTH), w.take(A)
    mean = h @ weight.T + bias
    if log_std == "vector":
        return np.tanh(mean), w.take(A)
    if log_std == "layer":
        weight, bias = w.take(A, WIDTH), w.take(A)
        return mean, np.clip(h @ weight.T + bias - 1, -20, 2)
    return np.tanh(mean)


def judges(place, count, x):
    """(count, B): networks one after the other in each tensor; later layers are stored [inputs, outputs]."""
    w = Weights(place)
    w1, b1 = w.take(count * WIDTH, x.shape[1]), w.take(count * WIDTH)
    w2, b2 = w.take(count, WIDTH, WIDTH), w.take(count, 1, WIDTH)
    w3, b3 = w.take(count, 1, WIDTH), w.take(count, 1)
    out = []
    for i in range(count):
        own = slice(i * WIDTH, (i + 1) * WIDTH)
        h = relu(x @ w1[own].T + b1[own])
        h = relu(h @ w2[i] + b2[i])
        out.append(h @ w3[i, 0] + b3[i, 0])
    return np.array(out)


def beside(s, a):
    return np.concatenate([s, a], axis=1)


def mse(x, y):
    return np.mean((x - y) ** 2)


def td3bc(gamma=0.99, alpha=2.5):
    next_action = actor(2, next_states)
    q_next = judges(3, 2, beside(next_states, next_action)).min(axis=0)
    y = rewards + gamma * continues * q_next
    q = judges(1, 2, beside(states, actions))
    critics = mse(q[0], y) + mse(q[1], y)
    pi = actor(0, states)
    q1 = judges(1, 2, beside(states, pi))[0]
    lam = alpha / np.abs(q1).mean()
    return {"actor": -lam * q1.mean() + mse(pi, actions), "critics": critics}


def iql(gamma=0.99, tau=0.7, beta=3.0):
    q_target = judges(3, 2, beside(states, actions)).min(axis=0)
    v = judges(2, 1, states)[0]
    u = q_target - v
    value = np.mean(np.abs(tau - (u < 0)) * u**2)
    y = rewards + gamma * continues * judges(2, 1, next_states)[0]
    q = judges(1, 2, beside(states, actions))
    critics = (mse(q[0], y) + mse(q[1], y)) / 2
    mean, log_std = actor(0, states, "vector")
    sigma = np.exp(log_std)
    density = (-((actions - mean) ** 2) / (2 * sigma**2) - np.log(sigma) - np.log(2 * np.pi) / 2).sum(axis=1)
    return {
        "actor": -np.mean(np.minimum(np.exp(beta * u), 100) * density),
        "critics": critics,
        "value": value,
    }


def awr(temperature=1.0, clip=20.0):
    v = judges(1, 1, states)[0]
    target = returns + end_weights * judges(1, 1, ends)[0]
    advantage = target - v
    normalized = (advantage - advantage.mean()) / (advantage.std() + 1e-5)
    weight = np.minimum(np.exp(normalized / temperature), clip)
    pi = actor(0, states)
    distance = ((pi - actions) ** 2).mean(axis=1)
    return {"actor": np.mean(weight * distance), "value": np.mean(advantage**2)}


def squash(mean, log_std, noise):
    raw = mean + np.exp(log_std) * noise
    a = np.tanh(raw)
    density = -(noise**2) / 2 - log_std - np.log(2 * np.pi) / 2 - np.log(1 - a**2)
    return a, density.sum(axis=-1)


def cql(gamma=0.99, weight=10.0):
    of = lambda x: actor(0, x, "layer")
    noise = lambda phase, *shape: wave(shape, 0.8, phase)
    pi, log_pi = squash(*of(states), noise(1, B, A))
    log_alpha = Weights(2).take(1)[0]
    q_pi = judges(1, 2, beside(states, pi)).min(axis=0)
    actor_loss = np.mean(np.exp(log_alpha) * log_pi - q_pi)
    temperature = -log_alpha * np.mean(log_pi - A)
    next_action, _ = squash(*of(next_states), noise(2, B, A))
    y = rewards + gamma * continues * judges(3, 2, beside(next_states, next_action)).min(axis=0)
    q = judges(1, 2, beside(states, actions))
    uniform = wave((N, B, A), 0.8, 3)
    others = [(a, np.full(B, A * np.log(0.5))) for a in uniform]
    others += [squash(*of(next_states), n) for n in noise(4, N, B, A)]
    others += [squash(*of(states), n) for n in noise(5, N, B, A)]
    loss = mse(q[0], y) + mse(q[1], y)
    for i in range(2):
        values = np.array([judges(1, 2, beside(states, a))[i] - d for a, d in others])
        loss += weight * np.mean(np.log(np.exp(values).sum(axis=0)) - q[i])
    return {"actor": actor_loss, "critics": loss, "temperature": temperature}


def cql_of_choices(gamma=0.99, weight=0.5):
    chosen = np.array([0, 1, 1, 0, 0])
    row = np.arange(B)

    def worth(place, x):
        w = Weights(place)
        h = features(w, x)
        weight, bias = w.take(A, WIDTH), w.take(A)
        return h @ weight.T + bias

    # Large enough that network and target like different choices.
    further = 3 * next_states
    best = worth(0, further).argmax(axis=1)
    y = rewards + gamma * continues * worth(1, further)[row, best]
    q = worth(0, states)
    gap = np.log(np.exp(q).sum(axis=1)) - q[row, chosen]
    return {"critic": np.mean((q[row, chosen] - y) ** 2 + weight * gap)}


for algorithm in (td3bc, iql, awr, cql, cql_of_choices):
    for name, loss in algorithm().items():
        print(f"{algorithm.__name__} {name} {loss:.6f}")
