"""The steps of the measurement, each a function of the machine that returns what it found."""

import importlib.metadata
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import torch

from benchmarks.gpu import kit, training
from benchmarks.gpu.card import Plan
from benchmarks.gpu.kit import ALL, ATTENTION, Adapters
from services.adapter_worker.engine import GenerationRequest
from services.adapter_worker.engine.native.engine import NativeEngine
from services.adapter_worker.engine.native.model_runner import ModelRunner
from shared.contracts.prompts import Part, Segment
from tests.support.byte_tokenizer import byte_tokenizer

PACKAGES = ("torch", "triton", "transformers", "peft", "pydantic", "numpy")
MANY = 4096
"""Rows of a product that is bound by computing."""
WORKLOADS = {"base": None, "r8 of the attention": Adapters(32, 8, ATTENTION), "r16 of all": Adapters(32, 16, ALL)}


class Machine:
    """The device with one model and its runners, made when they are first asked for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = torch.device(plan.device)
        self.dtype = getattr(torch, plan.dtype)
        self.shape: dict[str, int] = getattr(kit, plan.shape)
        self.found: dict[str, dict[str, Any]] = {}
        """What each step has found so far."""

    @cached_property
    def card(self) -> ModelRunner:
        """The path of kernels."""
        return self.runner(on_card=True)

    def runner(self, *, on_card: bool) -> ModelRunner:
        """A runner of a model of its own: each path changes the model's modules."""
        model = kit.make_model(self.shape, self.device, self.dtype)
        size = 1 << 22 if self.plan.device == "cpu" else 8 << 30
        return kit.make_runner(model, on_card=on_card, rows=max(self.plan.rows), cache_bytes=size)

    def wait(self) -> None:
        """Wait until the device has done all."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back what no tensor needs."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def milliseconds(self, call: Callable[[], object], repeats: int) -> float:
        """The median time of a call, after two that warm up."""
        times = []
        for _ in range(repeats + 2):
            self.wait()
            began = time.perf_counter()
            call()
            self.wait()
            times.append((time.perf_counter() - began) * 1000)
        return round(statistics.median(times[2:]), 3)


def versions(machine: Machine) -> dict[str, Any]:
    """What is installed, and which card this is."""
    found: dict[str, Any] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    if machine.device.type == "cuda":
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "capability": [card.major, card.minor], "memory_gib": card.total_memory / 2**30}
        found["bfloat16"] = torch.cuda.is_bf16_supported(including_emulation=False)
    return found


@torch.inference_mode()
def correctness(machine: Machine) -> dict[str, Any]:
    """The largest difference of the logits of both paths on a tiny model: base, ranks 4 to 64, DoRA."""
    plain, card = (
        kit.make_runner(
            kit.make_model(kit.TINY, machine.device, torch.float32), on_card=on_card, rows=8, cache_bytes=1 << 22
        )
        for on_card in (False, True)
    )
    found = {}
    for adapters in (None, *(Adapters(1, rank, ALL) for rank in (4, 16, 64)), Adapters(1, 8, ALL, is_dora=True)):
        logits = []
        for runner in (plain, card):
            (name,) = [None] if adapters is None else kit.load(runner, runner._model.config, adapters)
            chunk = runner._canary._replace(slots=name and runner.bank.use(name))
            logits.append(runner._compute([chunk]).float())
            if name:
                runner.bank.unload(name)
        difference = (logits[0] - logits[1]).abs().max() / logits[0].abs().max()
        found["base" if adapters is None else f"r{adapters.rank}{'-dora' * adapters.is_dora}"] = difference.item()
    return {"relative_difference": found, "is_right": max(found.values()) < 1e-3}


@torch.inference_mode()
def decode(machine: Machine, runner: ModelRunner) -> dict[str, Any]:
    """Milliseconds of a decode step and tokens a second, by rows and workload, contexts equal and ragged."""
    plan, found = machine.plan, {}
    for workload, adapters in WORKLOADS.items():
        few = adapters and adapters._replace(count=min(adapters.count, 2 if plan.device == "cpu" else 32))
        names = [None] if few is None else kit.load(runner, runner._model.config, few)
        for rows in plan.rows:
            for spread, contexts in contexts_of(plan.context, rows).items():
                chosen = [names[n % len(names)] for n in range(rows)]
                states = kit.seat(runner, chosen, contexts, new_tokens=plan.repeats + 8)
                taken = machine.milliseconds(runner.step, plan.repeats)
                kit.unseat(runner, states)
                found[f"{workload}, {rows} rows, {spread}"] = {"ms": taken, "tokens_per_s": round(rows / taken * 1000)}
        for name in names:
            if name is not None:
                runner.bank.unload(name)
    return found


def contexts_of(context: int, rows: int) -> dict[str, list[int]]:
    """Contexts of one length, and of a quarter to two and a half times of it."""
    least, most = context // 4, context * 5 // 2
    return {"equal": [context] * rows, "ragged": [least + (most - least) * n // max(rows - 1, 1) for n in range(rows)]}


def as_before(machine: Machine) -> dict[str, Any]:
    """Decode steps without the kernels."""
    machine.free()
    return decode(machine, machine.runner(on_card=False))


def by_kernels(machine: Machine) -> dict[str, Any]:
    """The same with them."""
    return decode(machine, machine.card)


@torch.inference_mode()
def padding(machine: Machine) -> dict[str, Any]:
    """Logits of a padded step against those of the step itself."""
    runner = machine.card
    plain = runner._compute([runner._canary]).float()
    runner._card.inputs.least_tokens = len(runner._canary.ids) + 13
    padded = runner._compute([runner._canary]).float()
    runner._card.inputs.least_tokens = 1
    return {"relative_difference": ((plain - padded).abs().max() / plain.abs().max()).item()}


def bandwidth(machine: Machine) -> dict[str, Any]:
    """Gigabytes a second: a copy on the device, and products that read one weight for few rows; what many compute."""
    hidden, wide = machine.shape["hidden_size"], machine.shape["intermediate_size"]
    weight = torch.randn(wide, hidden, device=machine.device, dtype=machine.dtype)
    other, size = torch.empty_like(weight), weight.numel() * weight.element_size()
    repeats = machine.plan.repeats * 5
    found = {"copy": 2 * size / machine.milliseconds(lambda: other.copy_(weight), repeats)}
    for rows in (1, 64, MANY):
        x = torch.randn(rows, hidden, device=machine.device, dtype=machine.dtype)
        taken = machine.milliseconds(partial(torch.matmul, x, weight.T), repeats)
        found[f"product of {rows}"] = size / taken
    computed = 2 * MANY * hidden * wide / taken / 1e9
    return {"gb_per_s": {name: round(value / 1e6, 1) for name, value in found.items()}, "tflops": round(computed, 2)}


@torch.inference_mode()
def prefill(machine: Machine) -> dict[str, Any]:
    """Tokens a second of prompts, whose steps have at most 512 tokens."""
    found = {}
    for length in (machine.plan.context, machine.plan.context * 4):
        times = []
        for _ in range(3):
            (request,) = states = [kit.state(machine.card, 0, None, length, 1)]
            assert machine.card.admit(request)
            machine.wait()
            began = time.perf_counter()
            while not request.is_done:
                machine.card.step()
            times.append(time.perf_counter() - began)
            kit.unseat(machine.card, states)
        found[str(length)] = round(length / min(times))
    return {"tokens_per_s": found}


def engine(machine: Machine) -> dict[str, Any]:
    """The whole engine, as many threads as rows, twice: tokens a second, and whether greedy answers are the same."""
    rows, tokens = max(machine.plan.rows), 128 if machine.device.type == "cuda" else 3
    model = kit.make_model(machine.shape, machine.device, machine.dtype)
    made = NativeEngine(
        model, byte_tokenizer(), encode, max_batch=rows, on_card=True,
        cache_bytes=None if machine.device.type == "cuda" else 1 << 22,
    )  # fmt: skip
    requests = [
        GenerationRequest(
            str(n), 1, [Segment(Part.USER, f"question {n}: " + "word " * 20, is_input=True)], None, tokens
        )
        for n in range(rows)
    ]
    runs = []
    for _ in range(2):
        began = time.perf_counter()
        with ThreadPoolExecutor(rows) as pool:
            answers = list(pool.map(lambda request: made.generate(request, lambda _: None).token_ids, requests))
        runs.append((answers, sum(map(len, answers)) / (time.perf_counter() - began)))
    made.close()
    return {"tokens_per_s": [round(speed) for _, speed in runs], "is_same": runs[0][0] == runs[1][0]}


def encode(tokenizer: Any, prompt: list[Segment], limit: int) -> list[int]:
    """The tokens of a prompt."""
    return tokenizer.encode("".join(segment.text for segment in prompt), add_special_tokens=False)[:limit]


@torch.inference_mode()
def first_shapes(machine: Machine) -> dict[str, Any]:
    """Milliseconds of the first step of each number of rows that was not seen before, after many others were."""
    runner, most, found = machine.card, max(machine.plan.rows), {}
    for rows in sorted({max(1, most * n // 7) for n in range(1, 7)}):
        contexts = contexts_of(machine.plan.context + 13 * rows, rows)["ragged"]
        states = kit.seat(runner, [None] * rows, contexts, new_tokens=8)
        machine.wait()
        began = time.perf_counter()
        runner.step()
        machine.wait()
        found[rows] = round((time.perf_counter() - began) * 1000, 1)
        kit.unseat(runner, states)
    return {"ms_by_rows": found}


@torch.inference_mode()
def loading(machine: Machine) -> dict[str, Any]:
    """Milliseconds between the ends of two steps of a full batch, with an adapter that is loaded between them."""
    runner, rows, loads = machine.card, max(machine.plan.rows), machine.plan.repeats + 2
    weights = kit.adapter_weights(runner._model.config, Adapters(1, 16, ALL))
    states = kit.seat(runner, [None] * rows, [machine.plan.context] * rows, new_tokens=loads + 32)
    alone = machine.milliseconds(runner.step, 5)
    times = []
    for n in range(loads):
        machine.wait()
        began = time.perf_counter()
        runner.bank.reserve(f"new-{n}", weights)
        runner.bank.fill(f"new-{n}", weights)
        runner.step()
        machine.wait()
        times.append((time.perf_counter() - began) * 1000)
        runner.bank.unload(f"new-{n}")
    kit.unseat(runner, states)
    return {"step_ms": alone, "with_load_ms": [round(value, 1) for value in sorted(times)]}


def train(machine: Machine) -> dict[str, Any]:
    """Tokens a second of LoRA training with checkpointing, 8 rows of 512 tokens a step, by both ways."""
    machine.free()
    on_card = machine.device.type == "cuda"
    batch, length, steps = (8, 512, 12) if on_card else (2, 32, training.WARM + 2)
    rows, found = training.examples_of(batch * steps, length), {}
    for name, way in training.WAYS.items():
        model = kit.make_model(machine.shape, machine.device, machine.dtype)
        found[name] = round(way(model, rows, training.settings_of(machine.plan.dtype, batch, length)), 1)
        del model
        machine.free()
    return {"tokens_per_s": found}


def figures(machine: Machine) -> dict[str, Any]:
    """The figures by which the project is measured, of what the other steps found."""
    found, rows, context = machine.found, machine.plan.rows, machine.plan.context
    speed = {key: value["tokens_per_s"] for key, value in found["by kernels"].items() if isinstance(value, dict)}
    base = {count: speed[f"base, {count} rows, equal"] for count in rows}
    few, most = min(rows), max(rows)
    loads = found["loading"]
    return {
        **{f"gpu_base_vs_limit_b{count}": base[count] / limit(machine, count, context) for count in (few, most)},
        "gpu_mixed_vs_base_r8_qkvo": speed[f"r8 of the attention, {most} rows, equal"] / base[most],
        "gpu_mixed_vs_base_r16_all": speed[f"r16 of all, {most} rows, equal"] / base[most],
        "gpu_first_shape_ms": max(found["first shapes"]["ms_by_rows"].values()),
        "gpu_adapter_load_stall_x": loads["with_load_ms"][-1] / loads["step_ms"],
        "gpu_train_x": found["train"]["tokens_per_s"]["ours"] / found["train"]["tokens_per_s"]["plain"],
    }


def limit(machine: Machine, rows: int, context: int) -> float:
    """Tokens a second that bandwidth and computing, as measured here, allow a step of the base model."""
    shape, size = machine.shape, machine.dtype.itemsize
    hidden, wide, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    keys = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    weights = layers * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * wide) + hidden * shape["vocab_size"]
    read = size * (weights + rows * context * 2 * keys * layers)
    can = machine.found["bandwidth"]
    return rows / max(read / (can["gb_per_s"]["copy"] * 1e9), 2 * rows * weights / (can["tflops"] * 1e12))


STEPS: list[tuple[str, Callable[[Machine], dict[str, Any]], int]] = [
    ("versions", versions, 5),
    ("correctness", correctness, 30),
    ("bandwidth", bandwidth, 20),
    ("by kernels", by_kernels, 90),
    ("padding", padding, 10),
    ("prefill", prefill, 30),
    ("first shapes", first_shapes, 20),
    ("loading", loading, 20),
    ("engine", engine, 60),
    ("train", train, 90),
    ("figures", figures, 1),
    ("as before", as_before, 90),
]
"""Name, function, and the seconds that must be left; what tells most comes first."""
