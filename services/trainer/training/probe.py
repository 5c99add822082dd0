"""The speed of trainings here, guessed from one matrix product. Imports torch: import it lazily."""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from shared.contracts.training_cost import Shapes, Speed, training_flops
from shared.contracts.training_settings import LoraSettings
from shared.model.hardware import training_precision

TOKENS = 256
TRIES = 10
EFFICIENCY = 0.5
"""What a training reaches of its products' speed: 0.4 in bfloat16 to 0.65 in float32 on CPUs."""


def probed_speeds(shapes: Shapes) -> Iterator[Speed]:
    """Yield the speed in each precision that a training can have."""
    largest = max(shapes.values(), key=lambda shape: shape[0] * shape[1])
    auto = training_precision()
    for precision in ("float32", "bfloat16"):
        settings = LoraSettings(precision=precision)
        yield Speed(
            pace=precision,
            step_flops=TOKENS * training_flops(shapes, settings),
            flops_per_second=EFFICIENCY * _product_speed(largest, getattr(torch, precision)),
            is_probe=True,
            auto=auto,
        )


def _product_speed(shape: tuple[int, int], dtype: torch.dtype) -> float:
    """Return operations a second of a layer's forward and backward product; the best of some tries counts.

    On processors one thread's own time is taken, for all threads alike: threads that wait for each other while other
    processes start would tell of a machine many times as slow.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = torch.ones(shape, dtype=dtype, device=device)
    inputs = torch.ones(TOKENS, shape[1], dtype=dtype, device=device)
    threads, clock = (1, time.perf_counter) if device == "cuda" else (torch.get_num_threads(), time.thread_time)
    with _threads(1):
        seconds = min(_seconds(inputs, weight, clock) for _ in range(TRIES))
    return threads * 4 * TOKENS * weight.numel() / seconds


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(inputs: torch.Tensor, weight: torch.Tensor, clock: Callable[[], float]) -> float:
    started = clock()
    ((inputs @ weight.T) @ weight)[0, 0].item()  # waits for the device
    return clock() - started
