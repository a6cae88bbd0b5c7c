"""Small Decision Transformers as Hugging Face's transformers writes them, and what they predict there.

    pip install transformers==5.24.0 torch
    python dt-train/tests/hf/fixtures.py

writes dt-train/tests/hf/fixtures anew; the tests only read it. Every parameter is random, biases, norms and positions
too, and scaled so that actions vary by tenths: a matrix that is not transposed or a bias left out changes them far
beyond rounding. `golden.jsonl` has one context a line, of every length 1…K, at timesteps within and beyond the table
(transformers refuses those; the reference takes the last row, as the engine does), the `action` at its last step, and the
`predicted_state` and `predicted_return` of the action before it, if there is one.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import DecisionTransformerConfig, DecisionTransformerModel
from transformers.activations import ACT2FN

HERE = Path(__file__).parent / "fixtures"
K, ROWS = 4, 12
BASE = dict(state_dim=3, act_dim=1, hidden_size=16, n_layer=1, n_head=1, max_ep_len=ROWS, n_positions=3 * K)
CASES = {
    "relu": {},
    "sharded": dict(n_head=4, activation_function="gelu_new", action_tanh=False, act_dim=2),
    "scaled": dict(hidden_size=12, n_head=3, n_layer=3, n_inner=20, scale_attn_by_inverse_layer_idx=True,
                   scale_attn_weights=False, action_tanh=False),
    "paper": dict(n_head=2, n_inner=24),
    "pickled": dict(n_head=2, n_inner=16, action_tanh=False),
    "gelu": dict(activation_function="gelu", action_tanh=False),
    "silu": dict(activation_function="silu", n_head=2),
    "tanh": dict(activation_function="tanh", action_tanh=False, max_length=K),
}
# Names that the importer takes for one function.
SAME = [("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"), ("gelu", "gelu_python"),
        ("silu", "swish")]


def check_names():
    x = torch.linspace(-12, 12, 2401)
    for first, *others in SAME:
        for other in others:
            error = (ACT2FN[first](x) - ACT2FN[other](x)).abs().max().item()
            assert error < 2e-6, (first, other, error)


def randomize(model, generator):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            is_norm = "ln_" in name and name.endswith("weight")
            fan_in = p.shape[0] if ".c_" in name else p.shape[-1]
            p.copy_(1 + 0.3 * noise if is_norm else noise * (1.0 / fan_in**0.5 if p.dim() > 1 else 0.3))


def contexts(model, generator):
    config = model.config
    random = lambda *shape: torch.randn(shape, generator=generator)
    for length in range(1, K + 1):
        for start in (0, 5, ROWS + 3):
            states, actions = random(1, length, config.state_dim), random(1, length, config.act_dim)
            returns, timesteps = random(1, length, 1), start + torch.arange(length)[None]
            with torch.no_grad():
                output = model(states=states, actions=actions, rewards=None, returns_to_go=returns,
                               timesteps=timesteps.clamp(max=ROWS - 1), attention_mask=torch.ones(1, length))
            action = output.action_preds[0, -1]
            state = output.state_preds[0, -2].tolist() if length > 1 else None
            critic = output.return_preds[0, -2].item() if length > 1 else None
            yield dict(returns_to_go=returns.flatten().tolist(), states=states[0].tolist(), actions=actions[0].tolist(),
                       timesteps=timesteps[0].tolist(), action=action.tolist(), predicted_state=state,
                       predicted_return=critic)


def main():
    check_names()
    shutil.rmtree(HERE, ignore_errors=True)
    for seed, (name, fields) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(seed)
        model = DecisionTransformerModel(DecisionTransformerConfig(**(BASE | fields))).eval()
        randomize(model, generator)
        if name == "paper":
            # Its own code has no positions; weights in half precision.
            with torch.no_grad():
                model.encoder.wpe.weight.zero_()
            model.half().float()
        folder = HERE / name
        model.save_pretrained(folder, max_shard_size="4KB" if name == "sharded" else "1GB")
        if name == "paper":
            tensors = {k.replace("encoder.", "transformer."): v.half() for k, v in model.state_dict().items()
                       if "wpe" not in k}
            tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.uint8)
            tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
            save_file(tensors, folder / "model.safetensors")
        if name == "pickled":
            # As version 4 did.
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
        for file in folder.iterdir():
            file.chmod(0o644)
        with open(folder / "golden.jsonl", "w") as file:
            for context in contexts(model, generator):
                file.write(json.dumps(context) + "\n")


main()
