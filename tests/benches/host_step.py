"""One control step of the paper's model on this machine: dt-core against PyTorch and ONNX Runtime.

d_model 128, 3 layers, 1 head, K = 20, Hopper's 11 states and 3 actions; everybody has the same random weights,
and before anything is timed everybody's actions are compared with the same reference.

- dt-core: int8 and int4, streaming, the fused step (`Policy::act` and `absorb`, normalization included), one thread;
  with all the kernels that this processor has, and with those up to AVX2.
- PyTorch: Hugging Face's `DecisionTransformerModel`, used as for the public checkpoints: take the last 20 steps of the
  episode, pad and mask, run the network on all 60 tokens, keep the last action. f32.
- ONNX Runtime: the same window of 20 steps, exported by `torch.onnx`, in f32 and quantized to int8 by
  `onnxruntime.quantization`; the inputs are slices of arrays that already exist, and the mask is constant.

Both opponents run on one thread and on as many as they choose themselves; the quicker counts. The contestants take
turns, so that whatever else the machine does disturbs all alike. Inputs of the opponents are normalized beforehand.

    cargo xtask setup && .deps/python tests/benches/host_step.py

builds dt-core's side and, the first time, downloads the opponents (requirements.txt, 470 MB) into `.deps/bench`.
"""

import argparse
import json
import logging
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/reference"))

import dt_torch  # noqa: E402
import opponents as opponent_packages  # noqa: E402

MODEL = dict(state_dim=11, act_dim=3, d_model=128, n_layer=3, n_head=1, d_ff=512, context_len=20, max_ep_len=1000)
MODEL |= dict(layer_norm_eps=1e-5, activation="relu", head="tanh", attention="streaming")
K = MODEL["context_len"]
EPISODE_STEPS = 4 * K
# For each contestant: threads that wait for each other on a busy machine can take very long.
SECONDS_PER_ROUND = 2.0
INPUTS = ["states", "actions", "returns_to_go", "timesteps", "attention_mask"]
# Actions vary by about 0.6. f32 results differ in the order of sums alone; 8 bits for activations too cost accuracy.
# Four bits for random weights leave little of the function: that bound only finds nonsense.
F32_TOLERANCE, ONNX_INT8_TOLERANCE = 1e-5, 0.3
DT_CORE_TOLERANCE = {"int8": 0.1, "int4": 0.8}


def build(folder, kernels):
    """The program that times dt-core, with kernels up to these."""
    command = ["cargo", "build", "--release", "-p", "tests", "--example", "host_step"]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"DT_KERNELS": kernels})
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version=1"], cwd=ROOT, check=True, capture_output=True
    )
    program = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "release/examples/host_step"
    return shutil.copy(program, folder / f"host_step_{kernels or 'all'}")


def windows(inputs):
    """The last K steps up to each step of an episode; no window is shorter than 1."""
    for end in range(1, inputs["states"].shape[1] + 1):
        yield {name: value[:, max(0, end - K) : end] for name, value in inputs.items()}


def record(path, parameters, inputs):
    """The network and its actions, by the reference implementation, as a file that Rust reads."""
    banded = dt_torch.forward(MODEL, parameters, **inputs)
    last = [dt_torch.forward(MODEL, parameters, **window)[:, -1:] for window in windows(inputs)]
    windowed = torch.cat(last, dim=1)
    vectors = dt_torch.pack("streaming", inputs, banded) | dt_torch.pack("window", inputs, windowed)
    dt_torch.save(path, parameters | vectors, {"config": json.dumps(MODEL)})
    return windowed[0].numpy()


def hugging_face(parameters):
    """Hugging Face's model with these parameters."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.DecisionTransformerConfig(
        state_dim=MODEL["state_dim"],
        act_dim=MODEL["act_dim"],
        hidden_size=MODEL["d_model"],
        n_layer=MODEL["n_layer"],
        n_head=MODEL["n_head"],
        max_ep_len=MODEL["max_ep_len"],
        activation_function=MODEL["activation"],
        layer_norm_epsilon=MODEL["layer_norm_eps"],
    )
    config.max_length = K
    model = transformers.DecisionTransformerModel(config).eval()
    names = {"embed_timestep": "embed_timestep.weight", "ln_f": "encoder.ln_f", "head": "predict_action.0"}
    inner = {"attn_qkv": "attn.c_attn", "attn_proj": "attn.c_proj", "mlp_fc": "mlp.c_fc", "mlp_proj": "mlp.c_proj"}
    state = {"encoder.wpe.weight": torch.zeros_like(model.encoder.wpe.weight)}
    for name, value in parameters.items():
        value = torch.from_numpy(value)
        if name.startswith("layers."):
            _, layer, part, kind = name.split(".")
            # Hugging Face keeps the matrices of a block as (in, out).
            state[f"encoder.h.{layer}.{inner.get(part, part)}.{kind}"] = value.T if value.ndim == 2 else value
        else:
            part, _, kind = name.partition(".")
            part = names.get(part, part)
            state[f"{part}.{kind}" if kind else part] = value
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys, missing
    assert all(n.startswith(("encoder.wte", "predict_state", "predict_return")) for n in missing.missing_keys), missing
    return model


def get_action(model, states, actions, returns_to_go, timesteps):
    """The next action after an episode's history of any length: (1, T, ·) each, T ≥ 1."""
    states, actions = states[:, -K:], actions[:, -K:]
    returns_to_go, timesteps = returns_to_go[:, -K:], timesteps[:, -K:]
    known = states.shape[1]
    padding = K - known
    mask = torch.cat([torch.zeros(padding), torch.ones(known)]).to(torch.long).reshape(1, -1)
    pad = lambda x: torch.cat([torch.zeros((1, padding, x.shape[2])), x], dim=1).to(torch.float32)  # noqa: E731
    _, action_preds, _ = model(
        states=pad(states),
        actions=pad(actions),
        returns_to_go=pad(returns_to_go[..., None]),
        timesteps=torch.cat([torch.zeros((1, padding), dtype=torch.long), timesteps], dim=1),
        attention_mask=mask,
        return_dict=False,
    )
    return action_preds[0, -1]


class LastAction(torch.nn.Module):
    """The part of the network's output that acting needs."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *inputs):
        return self.model(**dict(zip(INPUTS, inputs)), return_dict=False)[1][:, -1]


def export(model, folder):
    """The window's forward pass as ONNX files, f32 and int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    f32, prepared, int8 = (folder / name for name in ("f32.onnx", "prepared.onnx", "int8.onnx"))
    example = (torch.zeros(1, K, MODEL["state_dim"]), torch.zeros(1, K, MODEL["act_dim"]), torch.zeros(1, K, 1))
    example += (torch.zeros(1, K, dtype=torch.long), torch.ones(1, K, dtype=torch.long))
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            LastAction(model).eval(),
            example,
            f32,
            input_names=INPUTS,
            output_names=["action"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    quant_pre_process(f32, prepared, skip_symbolic_shape=True)
    quantize_dynamic(prepared, int8, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    return f32, int8


class Torch:
    """Hugging Face's model behind `get_action`; 0 threads: as many as torch chooses."""

    def __init__(self, model, inputs, threads):
        self.model, self.inputs = model, inputs
        self.threads = threads or DEFAULT_TORCH_THREADS

    def prepare(self):
        torch.set_num_threads(self.threads)

    def act(self, end):
        return get_action(self.model, **{name: value[:, :end] for name, value in self.inputs.items()}).numpy()


class Onnx:
    """A window of K steps through ONNX Runtime; 0 threads: as many as it chooses."""

    def __init__(self, path, inputs, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {name: value.numpy() for name, value in inputs.items()}
        self.inputs["returns_to_go"] = self.inputs["returns_to_go"][..., None]
        self.mask = np.ones((1, K), dtype=np.int64)

    def prepare(self):
        pass

    def act(self, end):
        window = {name: value[:, end - K : end] for name, value in self.inputs.items()}
        return self.session.run(None, window | {"attention_mask": self.mask})[0][0]


def check(name, contestant, expected, first, tolerance):
    """Compares a contestant's actions with the reference's."""
    contestant.prepare()
    ends = range(first, EPISODE_STEPS + 1)
    worst = max(float(np.abs(contestant.act(end) - expected[end - 1]).max()) for end in ends)
    report_difference(name, worst, tolerance)


def report_difference(name, worst, tolerance):
    print(f"  {name:<36} {worst:.1e}")
    if not worst <= tolerance:
        sys.exit(f"{name}: its actions are not those of the reference")


def step_times(contestant, steps):
    """Microseconds per action, with a full window: median and quickest."""
    contestant.prepare()
    times = []
    limit = time.perf_counter() + SECONDS_PER_ROUND
    for step in range(-5, steps):
        end = K + step % (EPISODE_STEPS - K + 1)
        start = time.perf_counter()
        contestant.act(end)
        stop = time.perf_counter()
        if step >= 0:
            times.append((stop - start) * 1e6)
        if len(times) >= 10 and stop > limit:
            break
    return statistics.median(times), min(times)


def dt_core(program, file, steps):
    output = subprocess.run([program, file, str(steps)], check=True, capture_output=True)
    return json.loads(output.stdout)


def all_opponents(parameters, inputs, folder):
    model = hugging_face(parameters)
    f32, int8 = export(model, folder)
    opponents = {}
    for threads, label in ((1, "1 thread"), (0, "default threads")):
        opponents[f"PyTorch get_action, {label}"] = Torch(model, inputs, threads)
        opponents[f"ONNX Runtime f32, {label}"] = Onnx(f32, inputs, threads)
        opponents[f"ONNX Runtime int8, {label}"] = Onnx(int8, inputs, threads)
    return opponents


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100, help="steps per round and opponent, as far as two seconds reach; dt-core takes ten times as many")
    parser.add_argument("--alone", action="store_true", help="time dt-core only; installs nothing")
    arguments = parser.parse_args()
    if not arguments.alone:
        opponent_packages.install()

    rng = np.random.default_rng(0)
    parameters = dt_torch.random_parameters(MODEL, rng)
    inputs = dt_torch.random_steps(MODEL, rng, 1, EPISODE_STEPS, [0])
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        programs = {label: build(folder, kernels) for label, kernels in KERNELS.items()}
        file = folder / "network.safetensors"
        expected = record(file, parameters, inputs)
        opponents = {} if arguments.alone else all_opponents(parameters, inputs, folder)

        print("Largest difference of any action from the reference's")
        for name, opponent in opponents.items():
            first = 1 if isinstance(opponent, Torch) else K
            check(name, opponent, expected, first, ONNX_INT8_TOLERANCE if "int8" in name else F32_TOLERANCE)
        for label, program in programs.items():
            ours = dt_core(program, file, 1)
            report_difference(f"dt-core f32, window{label}", ours["f32_window_difference"], F32_TOLERANCE)
            for dtype, tolerance in DT_CORE_TOLERANCE.items():
                report_difference(f"dt-core {dtype}{label}", ours[dtype]["difference"], tolerance)

        ours = [f"dt-core {dtype}{label}" for dtype in DT_CORE_TOLERANCE for label in programs]
        times = {name: [] for name in [*ours, *opponents]}
        for number in range(arguments.rounds):
            print(f"\rround {number + 1} of {arguments.rounds}", end="", file=sys.stderr, flush=True)
            for label, program in programs.items():
                ours = dt_core(program, file, 10 * arguments.steps)
                for dtype in DT_CORE_TOLERANCE:
                    times[f"dt-core {dtype}{label}"].append((ours[dtype]["median_us"], ours[dtype]["quickest_us"]))
            for name, opponent in opponents.items():
                times[name].append(step_times(opponent, arguments.steps))
        print(file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    report(times, arguments)


def report(times, arguments):
    print(
        f"\nMicroseconds per control step, {arguments.rounds} rounds in turns: median of the rounds' medians, and the quickest step of all; "
        f"how many times dt-core's in int8"
    )
    if not arguments.alone:
        import onnxruntime
        import transformers

        print(
            f"torch {torch.__version__} ({DEFAULT_TORCH_THREADS} threads by default), transformers {transformers.__version__}, "
            f"onnxruntime {onnxruntime.__version__}"
        )
    print()
    print(f"  {'':<36} {'median':>9} {'times':>7} {'quickest':>9} {'times':>7}")
    ratios = {}
    for name, rounds in times.items():
        medians, quickest = zip(*rounds)
        # Neighbours delay everybody, and long steps more often: each round is compared with itself.
        ratio = statistics.median(theirs[0] / ours[0] for theirs, ours in zip(rounds, times[OURS]))
        ratio_of_quickest = min(quickest) / min(ours[1] for ours in times[OURS])
        ratios[name] = min(ratio, ratio_of_quickest)
        row = f"{statistics.median(medians):>9.1f} {ratio:>7.1f} {min(quickest):>9.1f} {ratio_of_quickest:>7.1f}"
        print(f"  {name:<36} {row}")
    if arguments.alone:
        return
    print()
    for opponent, wanted in (("PyTorch", 50), ("ONNX Runtime", 4)):
        ratio, name = min((ratio, name) for name, ratio in ratios.items() if name.startswith(opponent))
        print(f"  {ratio:.1f} times as fast as {name}, by the lesser of both figures (wanted: ≥ {wanted})")


# By what the name of a contestant ends with.
KERNELS = {"": "", ", AVX2 at most": "avx2"}
OURS = "dt-core int8"
DEFAULT_TORCH_THREADS = torch.get_num_threads()

if __name__ == "__main__":
    with torch.inference_mode():
        main()
