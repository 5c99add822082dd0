"""The adapters in memory: allocates slots of the layers' stacked weights and frees them."""

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from services.adapter_worker import metrics
from services.adapter_worker.engine.native.lora.layers import RANK, Delta, SharedInput
from services.adapter_worker.engine.native.lora.segments import SlotRange
from services.adapter_worker.engine.native.lora.weights import AdapterWeights, LowRank
from shared.errors import Invalid, Unavailable


class BankFull(Unavailable):
    """No slot is free and every loaded adapter is in use."""

    def __init__(self) -> None:
        super().__init__("adapter_slots_full", "all adapter slots are in use; the job can be sent again")


class AdapterBank:
    """Adapters by digest, each in neighbouring slots; the least recently used one is evicted."""

    def __init__(self, layers: dict[str, tuple[SharedInput, int]], slots: int) -> None:
        self._layers = layers  # a module's name -> its group and its index in it
        self._groups = list(dict.fromkeys(group for group, _ in layers.values()))
        self._is_taken = [False] * slots
        self._slot_ranges: OrderedDict[str, SlotRange] = OrderedDict()  # least recently used first

    def __contains__(self, digest: str) -> bool:
        return digest in self._slot_ranges

    @property
    def digests(self) -> frozenset[str]:
        """All adapters in memory."""
        return frozenset(self._slot_ranges)

    def use(self, digest: str) -> SlotRange:
        """The adapter's slots; marks it as the most recently used."""
        self._slot_ranges.move_to_end(digest)
        return self._slot_ranges[digest]

    def reserve(self, digest: str, weights: AdapterWeights, pinned: Collection[str | None] = ()) -> None:
        """Allocate slots for an adapter; evicts adapters that are not `pinned` if none are free.

        Raises `BankFull`, and `Invalid` if the adapter does not fit the model.
        """
        self._check(digest, weights)
        self._slot_ranges[digest] = self._take(-(-weights.rank // RANK), pinned)

    def fill(self, digest: str, weights: AdapterWeights) -> None:
        """Copy the adapter into its reserved slots."""
        parts: dict[SharedInput, dict[int, Delta]] = {}
        for name, low in weights.modules.items():
            group, index = self._layers[name]
            parts.setdefault(group, {})[index] = _delta(group, index, low)
        for group, deltas in parts.items():
            group.put(self._slot_ranges[digest], deltas)

    def unload(self, digest: str) -> None:
        """Free the adapter's slots; no row may use them any more."""
        slot_range = self._slot_ranges.pop(digest, None)
        if slot_range is None:
            return
        for group in self._groups:
            group.clear(slot_range)
        self._mark(slot_range, is_taken=False)

    def _check(self, digest: str, weights: AdapterWeights) -> None:
        for name, low in weights.modules.items():
            if name not in self._layers:
                raise Invalid(
                    "adapter_load_failed",
                    f"adapter {digest} changes {name}, which the model has not: train it on this base model",
                )
            group, index = self._layers[name]
            out, into = group.shape(index)
            if (low.a.shape[1], low.b.shape) != (into, (out, low.a.shape[0])):
                raise Invalid(
                    "adapter_load_failed",
                    f"adapter {digest} does not fit the model at {name}: train it on this base model",
                )

    def _take(self, count: int, pinned: Collection[str | None]) -> SlotRange:
        """First fit; evicts the least recently used adapters until there is room."""
        if count > len(self._is_taken):
            raise Invalid(
                "adapter_rank_too_large",
                f"the adapter needs {count} slots of rank {RANK}, the bank has {len(self._is_taken)}: raise "
                "SIGNALBOX_ADAPTER_SLOTS",
            )
        while (slot_range := self._free_run(count)) is None:
            victim = next((digest for digest in self._slot_ranges if digest not in pinned), None)
            if victim is None:
                raise BankFull
            self.unload(victim)
            metrics.EVICTED_FOR_ROOM.inc()
        self._mark(slot_range, is_taken=True)
        return slot_range

    def _free_run(self, count: int) -> SlotRange | None:
        starts = range(len(self._is_taken) - count + 1)
        first = next((n for n in starts if not any(self._is_taken[n : n + count])), None)
        return None if first is None else SlotRange(first, count)

    def _mark(self, slot_range: SlotRange, *, is_taken: bool) -> None:
        self._is_taken[slot_range.first : slot_range.first + slot_range.size] = [is_taken] * slot_range.size


def _delta(group: SharedInput, index: int, low: LowRank) -> Delta:
    if low.magnitude is None:
        return Delta(low.a, low.b, low.scaling, None)
    weight = group.weight(index)
    b = low.b.to(weight.device, torch.float32) * low.scaling
    gain = dora_gain(weight, low._replace(b=b))
    return Delta(low.a.float(), gain.unsqueeze(1) * b, 1.0, gain)


def dora_gain(weight: Tensor, low: LowRank) -> Tensor:
    """Magnitude over the norm of each row of W + B A [out] (DoRA, equation 5), B scaled; never builds the sum."""
    assert low.magnitude is not None
    w, a, b = (tensor.to(weight.device, torch.float32) for tensor in (weight, low.a, low.b))
    cross = (b * (w @ a.T)).sum(dim=1)
    own = ((b @ (a @ a.T)) * b).sum(dim=1)
    square: Any = w.square().sum(dim=1) + 2 * cross + own
    return low.magnitude.to(weight.device, torch.float32) / square.sqrt()
