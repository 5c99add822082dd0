"""The speed of trainings here, guessed from one matrix product. Imports torch: import it lazily."""

import time
from collections.abc import Iterator

import torch

from shared.contracts.training_cost import Shapes, Speed, training_flops
from shared.contracts.training_settings import LoraSettings

TOKENS = 256
TRIES = 10
EFFICIENCY = 0.5
"""What a training reaches of its products' speed: 0.4 in bfloat16 to 0.65 in float32 on CPUs."""


def probed_speeds(shapes: Shapes) -> Iterator[Speed]:
    """Yield the speed in each precision that a training can have."""
    largest = max(shapes.values(), key=lambda shape: shape[0] * shape[1])
    for precision in ("float32", "bfloat16"):
        settings = LoraSettings(precision=precision)
        yield Speed(
            pace=precision,
            step_flops=TOKENS * training_flops(shapes, settings),
            flops_per_second=EFFICIENCY * _product_speed(largest, getattr(torch, precision)),
            is_probe=True,
        )


def _product_speed(shape: tuple[int, int], dtype: torch.dtype) -> float:
    """Return operations a second of a layer's forward and backward product.

    The best of some tries counts: other processes start meanwhile.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = torch.ones(shape, dtype=dtype, device=device)
    inputs = torch.ones(TOKENS, shape[1], dtype=dtype, device=device)
    return 4 * TOKENS * weight.numel() / min(_seconds(inputs, weight) for _ in range(TRIES))


def _seconds(inputs: torch.Tensor, weight: torch.Tensor) -> float:
    started = time.perf_counter()
    ((inputs @ weight.T) @ weight)[0, 0].item()  # waits for the device
    return time.perf_counter() - started
