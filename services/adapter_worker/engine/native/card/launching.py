"""What launching a Triton kernel needs beside its tensors."""

import torch
import triton
from torch import Tensor

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Triton's interpreter multiplies blocks of bfloat16 wrongly, so there they are made float32 first; a card does not.

It runs one program after the other, so there they are few and large.
"""
SMALLEST_DOT = 16
"""Rows and columns that a product of blocks has at least."""


def power_of_two(number: int) -> int:
    """The next power of two that is not smaller: the sizes of blocks, and few variants of each kernel."""
    return 1 << max(number - 1, 0).bit_length()


class Workspace:
    """One float32 tensor that kernels use between two launches; the next launch of a stream may overwrite it."""

    def __init__(self, device: torch.device) -> None:
        self._numbers = torch.empty(0, dtype=torch.float32, device=device)

    def of(self, count: int) -> Tensor:
        """Return a tensor of at least so many numbers, which hold anything."""
        if self._numbers.numel() < count:
            self._numbers = self._numbers.new_empty(power_of_two(count))
        return self._numbers
