"""Linear layers that apply each row's adapter; layers that read the same input share a few large matrix products."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from services.adapter_worker.engine.native.kernels import LANES, Kernels
from services.adapter_worker.engine.native.lora.base_linear import BaseLinear
from services.adapter_worker.engine.native.lora.segments import (
    AdapterSegment,
    AdapterSegments,
    BatchSegments,
    PaddedSegments,
    SlotRange,
)

RANK = 8
"""Ranks that one slot of the bank holds."""


class Delta(NamedTuple):
    """What an adapter adds to a layer: `scale * B A x`, after DoRA's gain on the base product."""

    a: Tensor  # [rank, in]
    b: Tensor  # [out, rank]
    scale: float  # of b
    gain: Tensor | None  # [out]


class OnCard(Protocol):
    """The adapters of a group by kernels for a card; slots are named by an adapter's first one."""

    def use(self, slots: SlotRange) -> None:
        """Apply what lies in these slots of an adapter from now on."""
        ...

    def clear(self, first: int) -> None:
        """Apply the adapter at this slot no more."""
        ...

    def put_gain(self, first: int, columns: slice, gain: Tensor, shift: Tensor | None) -> None:
        """Multiply an adapter's base product by `gain` in these columns, and add `shift` [columns]."""
        ...

    def apply(self, x: Tensor, y: Tensor) -> None:
        """Add to y [1, rows, outs] what the adapters make of x [1, rows, in]."""
        ...


class SharedInput:
    """Linear layers that read one input (q, k, v; or gate, up): they share the base and A products; each has its own B.

    `a` is [slots, layers x RANK, in] and `b`, transposed and scaled, [slots, RANK, all outs].
    """

    def __init__(self, linears: Sequence[nn.Linear], slots: int, segments: BatchSegments, *, is_head: bool) -> None:
        self._segments, self.is_head = segments, is_head
        self._widths = [linear.out_features for linear in linears]
        self.bounds = [sum(self._widths[:n]) for n in range(len(linears) + 1)]
        self._into = linears[0].in_features
        self._product = BaseLinear(linears)
        like = linears[0].weight
        self.a = like.new_zeros(slots, len(linears) * RANK, self._into)
        self.b = like.new_zeros(slots, RANK, self.bounds[-1])
        self._gains: dict[int, tuple[Tensor, Tensor]] = {}  # of DoRA adapters, by first slot: gain and shift [outs]
        self._used: frozenset[SlotRange] = frozenset()  # of the adapters that change one of these layers
        self._add: Callable[[Tensor, Tensor, AdapterSegments], None] = self._add_in_torch
        self._copy: Callable[[int, int, Delta], None] = self._copy_in_torch
        self._on_card: OnCard | None = None
        self._puts: dict[torch.dtype, Any] = {}
        self._layout = (self.a.data_ptr(), self.b.data_ptr(), len(linears), self.bounds[-1])
        self._item_bytes = self.a.element_size()
        self._input: Tensor | None = None
        self._outputs: tuple[Tensor, ...] = ()
        for index, linear in enumerate(linears):
            linear.forward = partial(self._answer, index)  # type: ignore[method-assign]

    def weight(self, index: int) -> Tensor:
        """The base weight of one layer [out, in]."""
        return self._product.weight[self._columns(index)]

    def shape(self, index: int) -> tuple[int, int]:
        """Width of one layer's output and of its input."""
        return self._widths[index], self._into

    def use_kernel(self, kernels: Kernels) -> None:
        """Let the compiled kernel add the adapters if it supports the data type and the widths."""
        name = str(self.a.dtype).removeprefix("torch.")
        widths = (self.a.shape[-1], *self._widths)
        if self.a.device.type == "cpu" and name in kernels.lora and not any(width % LANES for width in widths):
            self._call_kernel = _kernel_of(kernels.lora[name], self)
            self._add = self._add_by_kernel
            self._puts = {getattr(torch, source): puts[name] for source, puts in kernels.put.items()}
            self._copy = self._copy_by_kernel

    def use_card(self, adapters: OnCard) -> None:
        """Let these kernels apply the adapters."""
        self._on_card = adapters
        self._copy = self._copy_on_device

    def put(self, slot_range: SlotRange, parts: dict[int, Delta]) -> None:
        """Copy an adapter's weights for these layers, keyed by their index, into its slots."""
        slots = slice(slot_range.first, slot_range.first + slot_range.size)
        if len(parts) < len(self._widths) or any(delta.a.shape[0] < slot_range.size * RANK for delta in parts.values()):
            self.a[slots].zero_()  # overwrite the adapter that had the slots before
            self.b[slots].zero_()
        largest = max(delta.a.shape[0] for delta in parts.values())  # of these layers; others may have a larger rank
        used = SlotRange(slot_range.first, -(-largest // RANK))
        self._used |= {used}
        if self._on_card is not None:
            self._on_card.use(used)
        for index, delta in parts.items():
            self._copy(index, slot_range.first, delta)
            if delta.gain is not None:
                self._put_gain(self._columns(index), slot_range, delta.gain)

    def clear(self, slot_range: SlotRange) -> None:
        """Forget an adapter; its weights stay until the next one overwrites them."""
        self._used = frozenset(used for used in self._used if used.first != slot_range.first)
        self._gains.pop(slot_range.first, None)
        if self._on_card is not None:
            self._on_card.clear(slot_range.first)

    def _copy_in_torch(self, index: int, first: int, delta: Delta) -> None:
        columns = self._columns(index)
        for slot, begin in enumerate(range(0, delta.a.shape[0], RANK), start=first):
            ranks = slice(begin, begin + RANK)
            a, b = delta.a[ranks], delta.b[:, ranks].T.float() * delta.scale
            self.a[slot, index * RANK : index * RANK + a.shape[0]].copy_(a)
            self.b[slot, : b.shape[0], columns].copy_(b)

    def _copy_on_device(self, index: int, first: int, delta: Delta) -> None:
        """Copy each tensor from the host once, and do the rest on the device."""
        device = self.a.device
        self._copy_in_torch(index, first, delta._replace(a=delta.a.to(device), b=delta.b.to(device)))

    def _copy_by_kernel(self, index: int, first: int, delta: Delta) -> None:
        put = self._puts.get(delta.a.dtype)
        if put is None or delta.b.dtype != delta.a.dtype:
            self._copy_in_torch(index, first, delta)
            return
        to_a, to_b, parts, outs = self._layout
        to_a += (first * parts + index) * RANK * self._into * self._item_bytes
        to_b += (first * RANK * outs + self.bounds[index]) * self._item_bytes
        rank, width = delta.a.shape[0], self._widths[index]
        put(delta.a.data_ptr(), delta.b.data_ptr(), to_a, to_b, rank, self._into, width, parts, outs, delta.scale)

    def _put_gain(self, columns: slice, slot_range: SlotRange, gain: Tensor) -> None:
        if self._on_card is not None:
            bias = self._product.bias
            self._on_card.put_gain(
                slot_range.first, columns, gain, None if bias is None else (1 - gain) * bias[columns]
            )
            return
        outs = self.bounds[-1]
        default = (self.a.new_ones(outs, dtype=torch.float32), self.a.new_zeros(outs, dtype=torch.float32))
        gains, shifts = self._gains.setdefault(slot_range.first, default)
        gains[columns] = gain
        if self._product.bias is not None:  # the gain must not scale the bias
            shifts[columns] = (1 - gain) * self._product.bias[columns]

    def _columns(self, index: int) -> slice:
        return slice(self.bounds[index], self.bounds[index + 1])

    def _answer(self, index: int, x: Tensor) -> Tensor:
        if x is not self._input:
            self._input, self._outputs = x, self._forward(x).split_with_sizes(self._widths, dim=-1)
        output = self._outputs[index]
        if index == len(self._widths) - 1:
            self._input, self._outputs = None, ()
        return output

    def _forward(self, x: Tensor) -> Tensor:
        y = self._product(x)
        if self._on_card is not None:
            self._on_card.apply(x, y)
            return y
        segments = (self._segments.last if self.is_head else self._segments.tokens).among(self._used)
        if segments.all:
            rows_in, rows_out = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])
            if self._gains:
                self._scale(rows_out, segments)
            self._add(rows_in, rows_out, segments)
        return y

    def _scale(self, y: Tensor, segments: AdapterSegments) -> None:
        for segment in segments.all:
            if segment.slots.first in self._gains:
                gain, shift = self._gains[segment.slots.first]
                rows = y[segment.start : segment.end]
                rows.copy_(rows * gain + shift)

    def _add_by_kernel(self, x: Tensor, y: Tensor, segments: AdapterSegments) -> None:
        self._call_kernel(x, y, segments.table)
        for segment in segments.heavy:
            self._add_long(x, y, segment)

    def _add_in_torch(self, x: Tensor, y: Tensor, segments: AdapterSegments) -> None:
        for segment in segments.long:
            self._add_long(x, y, segment)
        if segments.short is not None:
            self._add_short(x, y, segments.short.to(x.device))

    def _add_long(self, x: Tensor, y: Tensor, segment: AdapterSegment) -> None:
        first, size = segment.slots
        rows, slots = slice(segment.start, segment.end), slice(first, first + size)
        low = x[rows] @ self.a[slots].flatten(0, 1).T
        low = low.view(-1, size, len(self._widths), RANK)
        for index in range(len(self._widths)):
            columns = self._columns(index)
            y[rows, columns] += low[:, :, index].flatten(1) @ self.b[slots, :, columns].flatten(0, 1)

    def _add_short(self, x: Tensor, y: Tensor, padded: PaddedSegments) -> None:
        low = (x[padded.rows] * padded.mask) @ self.a[padded.slots].mT  # [entries, width, layers x RANK]
        b = self.b[padded.slots]
        for index in range(len(self._widths)):
            columns = self._columns(index)
            delta = low[..., index * RANK : (index + 1) * RANK] @ b[..., columns]
            y[:, columns].index_add_(0, padded.rows.flatten(), delta.flatten(0, 1))


def _kernel_of(function: Any, layer: SharedInput) -> Callable[[Tensor, Tensor, Tensor], None]:
    a, b, into, parts = layer.a.data_ptr(), layer.b.data_ptr(), layer.a.shape[-1], len(layer.bounds) - 1
    bounds = torch.tensor(layer.bounds, dtype=torch.int32)

    def add(x: Tensor, y: Tensor, table: Tensor) -> None:
        function(x.data_ptr(), y.data_ptr(), a, b, table.data_ptr(), table.shape[0], into, bounds.data_ptr(), parts)

    return add


def shared_inputs(model: nn.Module, forward: Callable[[], Any]) -> list[list[str]]:
    """Names of the linear layers in call order, grouped by the tensor that they read."""
    groups: list[tuple[Tensor, list[str]]] = []

    def note(name: str, x: Tensor) -> None:
        if groups and groups[-1][0] is x:
            groups[-1][1].append(name)
        else:
            groups.append((x, [name]))

    hooks = [
        module.register_forward_pre_hook(lambda _module, args, name=name: note(name, args[0]))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return [names for _, names in groups]
