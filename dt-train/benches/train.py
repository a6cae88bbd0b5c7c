"""Updates per second of Decision Transformer training: dt-train against PyTorch and Hugging Face.

The paper's recipe for Hopper (batch 64, K = 20, d_model 128, 3 layers, 1 head, dropout 0.1, AdamW, gradient norm clipped
at 0.25) on 200,000 random transitions, all contestants in turns on the same device with the same number of threads:

- dt-train: `examples/train_speed.rs`, window attention as the others have it, in f32 and with `train.precision = "bf16"`.
- plain loop: the same network as a PyTorch module (`scaled_dot_product_attention`, `torch.optim.AdamW`), run eagerly over
  arrays that lie on the device, batches gathered there; f32, and under bf16 autocast.
- Hugging Face: `DecisionTransformerModel` with `Trainer` and a collator that samples, pads and sums up returns in NumPy,
  as in its course.

    cargo xtask setup && .deps/python dt-train/benches/train.py
    cargo xtask setup && .deps/python dt-train/benches/train.py --device cuda:0 --updates 2000

builds dt-train's side and, the first time, downloads transformers into `.deps/bench`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/benches"))

import opponents  # noqa: E402

BATCH, K, D, LAYERS, STATE_DIM, ACT_DIM, MAX_EP_LEN = 64, 20, 128, 3, 11, 3, 1000
ROWS, EPISODE_LEN = 200_000, 500
DROPOUT, LEARNING_RATE, WEIGHT_DECAY, GRAD_CLIP = 0.1, 1e-4, 1e-4, 0.25
WARM_UP = 3


def build():
    """The program that times dt-train."""
    subprocess.run(["cargo", "build", "--release", "-p", "dt-train", "--example", "train_speed"], cwd=ROOT, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--no-deps", "--format-version=1"], cwd=ROOT, check=True, capture_output=True)
    return pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "release/examples/train_speed"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.ReLU(), nn.Linear(4 * D, D), nn.Dropout(DROPOUT))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x):
        q, k, v = self.qkv(self.ln_1(x)).unsqueeze(1).chunk(3, dim=-1)
        heads = functional.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT, is_causal=True)
        x = x + self.dropout(self.proj(heads.squeeze(1)))
        return x + self.mlp(self.ln_2(x))


class Network(nn.Module):
    """Returns-to-go (B, K, 1), states (B, K, state_dim), actions (B, K, act_dim), timesteps (B, K) → actions."""

    def __init__(self):
        super().__init__()
        self.embed_return, self.embed_state = nn.Linear(1, D), nn.Linear(STATE_DIM, D)
        self.embed_action, self.embed_timestep = nn.Linear(ACT_DIM, D), nn.Embedding(MAX_EP_LEN, D)
        self.embed_ln, self.ln_f = nn.LayerNorm(D), nn.LayerNorm(D)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head, self.dropout = nn.Linear(D, ACT_DIM), nn.Dropout(DROPOUT)

    def forward(self, returns_to_go, states, actions, timesteps):
        time = self.embed_timestep(timesteps)
        tokens = [self.embed_return(returns_to_go), self.embed_state(states), self.embed_action(actions)]
        x = torch.stack([token + time for token in tokens], dim=2).flatten(1, 2)
        x = self.blocks(self.dropout(self.embed_ln(x)))
        return self.head(self.ln_f(x[:, 1::3])).tanh()


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Plain:
    """The plain loop, `updates` at a time."""

    def __init__(self, device, autocast):
        generator = np.random.default_rng(0)
        table = lambda n: torch.tensor(generator.uniform(-1, 1, (ROWS, n)), dtype=torch.float32, device=device)  # noqa: E731
        self.device, self.autocast = device, autocast
        self.states, self.actions, self.returns_to_go = table(STATE_DIM), table(ACT_DIM), table(1)
        self.network = Network().to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.window = torch.arange(K, device=device)
        self.run(WARM_UP)

    def run(self, updates):
        synchronize(self.device)
        start = time.perf_counter()
        for _ in range(updates):
            self.update()
        synchronize(self.device)
        return updates / (time.perf_counter() - start)

    def update(self):
        episode = torch.randint(ROWS // EPISODE_LEN, (BATCH, 1), device=self.device) * EPISODE_LEN
        timesteps = torch.randint(EPISODE_LEN - K + 1, (BATCH, 1), device=self.device) + self.window
        rows = episode + timesteps
        actions = self.actions[rows]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            predicted = self.network(self.returns_to_go[rows], self.states[rows], actions, timesteps)
        loss = functional.mse_loss(predicted.float(), actions)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRAD_CLIP)
        self.optimizer.step()


class HuggingFace:
    """`DecisionTransformerModel` with `Trainer`, `updates` at a time."""

    def __init__(self, device):
        import transformers

        transformers.logging.set_verbosity_error()
        config = transformers.DecisionTransformerConfig(
            state_dim=STATE_DIM, act_dim=ACT_DIM, hidden_size=D, n_layer=LAYERS, n_head=1, max_ep_len=MAX_EP_LEN
        )

        class Trainable(transformers.DecisionTransformerModel):
            def forward(self, **inputs):
                _, predicted, _ = super().forward(**inputs, return_dict=False)
                real = inputs["attention_mask"].reshape(-1) > 0
                flat = lambda x: x.reshape(-1, ACT_DIM)[real]  # noqa: E731
                return {"loss": functional.mse_loss(flat(predicted), flat(inputs["actions"]))}

        self.device, self.transformers = device, transformers
        self.model = Trainable(config).train()
        generator = np.random.default_rng(0)
        table = lambda n: generator.uniform(-1, 1, (ROWS // EPISODE_LEN, EPISODE_LEN, n)).astype(np.float32)  # noqa: E731
        self.states, self.actions, self.rewards = table(STATE_DIM), table(ACT_DIM), table(1)
        self.generator = generator
        self.folder = tempfile.TemporaryDirectory()
        self.run(WARM_UP)

    def collate(self, samples):
        batch = {name: [] for name in ("states", "actions", "rewards", "returns_to_go", "timesteps", "attention_mask")}
        for _ in samples:
            episode = self.generator.integers(len(self.states))
            start = self.generator.integers(EPISODE_LEN)
            stop = min(start + K, EPISODE_LEN)
            real = stop - start

            def padded(rows):
                return np.concatenate([np.zeros((K - real, *rows.shape[1:]), dtype=rows.dtype), rows])

            batch["states"].append(padded(self.states[episode, start:stop]))
            batch["actions"].append(padded(self.actions[episode, start:stop]))
            batch["rewards"].append(padded(self.rewards[episode, start:stop]))
            returns_to_go = np.cumsum(self.rewards[episode, start:][::-1], axis=0)[::-1][:real]
            batch["returns_to_go"].append(padded(returns_to_go))
            batch["timesteps"].append(padded(np.arange(start, stop)))
            batch["attention_mask"].append(padded(np.ones(real, dtype=np.int64)))
        return {name: torch.from_numpy(np.stack(rows)) for name, rows in batch.items()}

    def run(self, updates):
        arguments = self.transformers.TrainingArguments(
            output_dir=self.folder.name,
            remove_unused_columns=False,
            max_steps=updates,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            optim="adamw_torch",
            max_grad_norm=GRAD_CLIP,
            use_cpu=self.device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        # The collator draws its own samples; what the data set holds is not looked at.
        trainer = self.transformers.Trainer(
            model=self.model, args=arguments, train_dataset=range(ROWS), data_collator=self.collate
        )
        trainer.remove_callback(self.transformers.PrinterCallback)
        synchronize(self.device)
        start = time.perf_counter()
        trainer.train()
        synchronize(self.device)
        return updates / (time.perf_counter() - start)


def dt_train(program, arguments, precision):
    command = [program, arguments.device, arguments.updates, arguments.threads, "window", BATCH, precision]
    output = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    return float(output.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--updates", type=int, default=20, help="per round and contestant")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of everybody")
    arguments = parser.parse_args()
    opponents.install()
    program = build()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    contestants = {f"dt-train, {precision}": lambda p=precision: dt_train(program, arguments, p) for precision in ("f32", "bf16")}
    others = {"plain loop, f32": Plain(device, False), "plain loop, bf16": Plain(device, True), "Hugging Face": HuggingFace(device)}
    contestants |= {name: lambda other=other: other.run(arguments.updates) for name, other in others.items()}

    rates = {name: [] for name in contestants}
    for number in range(arguments.rounds):
        print(f"\rround {number + 1} of {arguments.rounds}", end="", file=sys.stderr, flush=True)
        for name, run in contestants.items():
            rates[name].append(run())
    print(file=sys.stderr)

    import transformers

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {arguments.threads} thread(s)"
    print(f"{where}; torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{arguments.rounds} rounds of {arguments.updates} updates in turns: medians, and the median of the rounds' ratios\n")
    print(f"  {'':<18} {'updates/s':>10} {'dt-train f32, times':>20} {'dt-train bf16, times':>21} {'100,000 updates':>16}")
    for name, rate in rates.items():
        ratio = {p: statistics.median(ours / theirs for ours, theirs in zip(rates[f"dt-train, {p}"], rate)) for p in ("f32", "bf16")}
        median = statistics.median(rate)
        print(f"  {name:<18} {median:>10.2f} {ratio['f32']:>20.2f} {ratio['bf16']:>21.2f} {1e5 / median / 60:>12.1f} min")


if __name__ == "__main__":
    main()
