"""Copies between host and card: all numbers of a step go there in one piece, and all of an answer come back in one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.adapter_worker.engine.native.card.launching import power_of_two


class Staging:
    """One host buffer, pinned where there is a card, and one device tensor; both are used again in each step.

    Numbers are int32 or float32, which travel as int32.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_pinned = device.type == "cuda" and torch.cuda.is_available()
        self._copied: torch.cuda.Event | None = None  # the last copy out of the host buffer
        self._host = torch.empty(0, dtype=torch.int32)
        self._device = torch.empty(0, dtype=torch.int32, device=device)

    def send(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the host's tensors on the device, one-dimensional; they are valid until the next call."""
        sizes = [tensor.numel() for tensor in tensors]
        total = sum(sizes)
        self._grow(total)
        if self._copied is not None:
            self._copied.synchronize()
        host, device = self._host[:total], self._device[:total]
        torch.cat([tensor.reshape(-1).view(torch.int32) for tensor in tensors], out=host)
        device.copy_(host, non_blocking=True)
        if self._is_pinned:
            self._copied = torch.cuda.Event()
            self._copied.record()
        parts = device.split_with_sizes(sizes)
        return [
            part if tensor.dtype == torch.int32 else part.view(tensor.dtype)
            for part, tensor in zip(parts, tensors, strict=True)
        ]

    @staticmethod
    def receive(tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the device's tensors on the host; waits for the device."""
        together = torch.cat([tensor.reshape(-1).view(torch.int32) for tensor in tensors]).cpu()
        parts = together.split_with_sizes([tensor.numel() for tensor in tensors])
        return [part.view(tensor.dtype).view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def _grow(self, total: int) -> None:
        if total > self._host.numel():
            size = power_of_two(total)
            self._host = torch.empty(size, dtype=torch.int32, pin_memory=self._is_pinned)
            self._device = self._device.new_empty(size)
