"""How much of a card's memory the key/value cache may take."""

from collections.abc import Callable
from typing import Protocol

import torch

KEPT_FREE = 0.05
"""Part of what is free that stays so: memory is handed out in blocks, which leave gaps."""


class DeviceMemory(Protocol):
    """The memory of one device."""

    def peak_of(self, run: Callable[[], object]) -> int:
        """Most bytes that a call takes beyond what is taken before it."""
        ...

    def free(self) -> int:
        """Bytes that nobody has."""
        ...


class CudaMemory:
    """What CUDA says of a device; never run on a card so far."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def peak_of(self, run: Callable[[], object]) -> int:
        """See `DeviceMemory.peak_of`."""
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        run()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - before

    def free(self) -> int:
        """See `DeviceMemory.free`."""
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0]


def cache_bytes(memory: DeviceMemory, largest_steps: Callable[[], object]) -> int:
    """Bytes for the cache: what is free after the largest steps have run once, without what they need to run again."""
    peak = memory.peak_of(largest_steps)
    return max(0, int(memory.free() * (1 - KEPT_FREE)) - peak)
