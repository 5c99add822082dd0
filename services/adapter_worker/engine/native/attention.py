"""Attention over a paged key/value cache, registered with transformers' attention interface."""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from services.adapter_worker.engine.native.kernels import GROUPS, LANES, Kernels, Shape
from services.adapter_worker.engine.native.kv_cache import PAGE

NAME = "signalbox_paged"
LONG = 32
"""Spans of at least this many tokens go to torch's attention, one call each, where it beats the kernel."""
_NEVER = 1 << 30


class TokenSpan(NamedTuple):
    """Consecutive tokens of one sequence in a step; the first is at `start` in the step, `position` in the sequence."""

    start: int
    size: int
    row: int  # of the step's page tables
    position: int


class Step:
    """Attention metadata of a step: where each token's key and value are written, and which positions it attends to."""

    def __init__(self, spans: Sequence[TokenSpan], page_tables: Tensor, device: torch.device, long: int = LONG) -> None:
        self.spans = spans
        self.page_tables = page_tables  # [rows, pages] int32, padded with any page
        positions = [span.position + n for span in spans for n in range(span.size)]
        rows = [span.row for span in spans for _ in range(span.size)]
        self.positions = torch.tensor(positions, dtype=torch.int32)
        self.rows = torch.tensor(rows, dtype=torch.int32)
        self.context_lengths = self.positions + 1  # of each token, itself included
        self.slot_mapping = page_tables[self.rows.long(), self.positions.long() // PAGE] * PAGE + self.positions % PAGE
        self.long = [span for span in spans if span.size >= long]
        short = [span.start + n for span in spans if span.size < long for n in range(span.size)]
        self.short = torch.tensor(short, dtype=torch.int32)
        self.device = device
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def visible(self, tokens: Tensor, key: int, width: int, window: int | None) -> Tensor:
        """Mask [tokens, width] of the positions that each token attends to; built once per step and window."""
        if (key, window) not in self._masks:
            behind = self.positions[tokens].unsqueeze(-1) - torch.arange(width)
            mask = (behind >= 0) if window is None else (behind >= 0) & (behind < window)
            self._masks[key, window] = mask.to(self.device)
        return self._masks[key, window]


class OnCard(Protocol):
    """Attention of a step's tokens by kernels for a card."""

    def attend(
        self, cache: tuple[Tensor, Tensor], q: Tensor, k: Tensor, v: Tensor, params: "AttentionParams"
    ) -> Tensor:
        """Write k and v to a layer's keys and values, and attend q [1, heads, tokens, dim]: [1, tokens, heads, dim]."""
        ...


class PagedCache:
    """Keys and values of all layers, each [pages * PAGE, key heads, head dim], and the attention that fills them."""

    def __init__(self, config: Any, pages: int, dtype: torch.dtype, device: torch.device) -> None:
        self._dim = head_dim(config)
        self._group = config.num_attention_heads // config.num_key_value_heads
        shape = (pages * PAGE, config.num_key_value_heads, self._dim)
        self._keys, self._values = (
            [torch.empty(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)] for _ in range(2)
        )
        self.step = Step([], torch.zeros(0, 0, dtype=torch.int32), device)
        self._kernel: Any = None
        self._on_card: OnCard | None = None

    @property
    def long(self) -> int:
        """Length from which a span goes to torch; with one thread the kernel is always faster."""
        return LONG if self._kernel is None or torch.get_num_threads() > 1 else _NEVER

    def use_kernel(self, kernels: Kernels) -> None:
        """Let the compiled kernel attend the short spans if it supports the data type and the head width."""
        name = str(self._keys[0].dtype).removeprefix("torch.")
        is_known = not self._dim % LANES and self._group <= GROUPS
        if self._keys[0].device.type == "cpu" and is_known:
            self._kernel = kernels.attend.get(name)

    def use_card(self, attention: OnCard) -> None:
        """Let these kernels write and attend."""
        self._on_card = attention

    def copy_page(self, source: int, targets: Sequence[int]) -> None:
        """Write one page's keys and values, of all layers, to other pages."""
        for cache in (*self._keys, *self._values):
            pages = cache.unflatten(0, (-1, PAGE))
            for target in targets:
                pages[target].copy_(pages[source])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, params: "AttentionParams") -> Tensor:
        """Write the step's k and v to the cache, and attend q [1, heads, tokens, dim]: [1, tokens, heads, dim]."""
        if self._on_card is not None:
            return self._on_card.attend((self._keys[layer], self._values[layer]), q, k, v, params)
        q, k, v = q[0].transpose(0, 1), k[0].transpose(0, 1), v[0].transpose(0, 1)
        y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if len(self.step.short) and self._kernel is not None and v.stride(-1) == k.stride(-1) == q.stride(-1) == 1:
            self._call_kernel(layer, (q, k, v, y), params)
        else:
            self._attend_short(layer, (q, k, v, y), params)
        for number, span in enumerate(self.step.long):
            tokens = torch.arange(span.start, span.start + span.size)
            self._write(layer, k, v, tokens)
            rows = self.step.page_tables[span.row : span.row + 1, : -(-(span.position + span.size) // PAGE)]
            mask = self.step.visible(tokens, number, rows.shape[1] * PAGE, params.window)
            y[tokens] = self._attend_pages(layer, q[tokens].unsqueeze(0), rows, mask.unsqueeze(0), params)[0]
        return y.unsqueeze(0)

    def _call_kernel(
        self, layer: int, tensors: tuple[Tensor, Tensor, Tensor, Tensor], params: "AttentionParams"
    ) -> None:
        q, k, v, y = tensors
        step = self.step
        strides = (ctypes.c_long * 6)(*(stride for tensor in (q, k, v) for stride in tensor.stride()[:2]))
        width = step.page_tables.shape[1]
        shape = Shape(
            len(step.short), q.shape[1], k.shape[1], q.shape[2], params.window or 0, width,
            params.scale, params.softcap or 0.0,
        )  # fmt: skip
        self._kernel(
            q.data_ptr(), k.data_ptr(), v.data_ptr(), y.data_ptr(), self._keys[layer].data_ptr(),
            self._values[layer].data_ptr(), ctypes.addressof(strides), step.short.data_ptr(),
            step.slot_mapping.data_ptr(), step.page_tables.data_ptr(), step.rows.data_ptr(),
            step.context_lengths.data_ptr(), ctypes.addressof(shape),
        )  # fmt: skip

    def _attend_short(
        self, layer: int, tensors: tuple[Tensor, Tensor, Tensor, Tensor], params: "AttentionParams"
    ) -> None:
        """Attend each token as a row of its own, padded to the longest context."""
        q, k, v, y = tensors
        tokens = self.step.short.long()
        if not len(tokens):
            return
        self._write(layer, k, v, tokens)
        width = -(-int(self.step.context_lengths[tokens].max()) // PAGE)
        rows = self.step.page_tables[self.step.rows[tokens].long(), :width]
        mask = self.step.visible(tokens, -1, width * PAGE, params.window)
        y[tokens] = self._attend_pages(layer, q[tokens].unsqueeze(1), rows, mask.unsqueeze(1), params)[:, 0]

    def _write(self, layer: int, k: Tensor, v: Tensor, tokens: Tensor) -> None:
        slot_mapping = self.step.slot_mapping[tokens].long().to(k.device)
        self._keys[layer].index_copy_(0, slot_mapping, k[tokens])
        self._values[layer].index_copy_(0, slot_mapping, v[tokens])

    def _attend_pages(self, layer: int, q: Tensor, rows: Tensor, mask: Tensor, params: "AttentionParams") -> Tensor:
        """Attend q [rows, tokens, heads, dim] over the pages in rows [rows, pages], mask [rows, tokens, positions]."""
        index = rows.long().to(q.device)
        # Cache entries that no token attends to may hold NaN, which would pass through the mask.
        unseen = ~mask.any(dim=1).unsqueeze(-1).unsqueeze(-1)
        k, v = (
            cache[layer].unflatten(0, (-1, PAGE))[index].flatten(1, 2).masked_fill(unseen, 0.0)
            for cache in (self._keys, self._values)
        )
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mask = mask.unsqueeze(1)
        if params.softcap is None:
            attended = nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=params.scale, enable_gqa=True)
        else:
            attended = _softcapped(q, k, v, mask, params)
        return attended.transpose(1, 2)


class AttentionParams(NamedTuple):
    """What differs between model families and layers."""

    scale: float
    window: int | None
    softcap: float | None


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float,
    cache: PagedCache,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """The attention function that models call; `cache` is a keyword argument of the model's forward."""
    params = AttentionParams(scaling, sliding_window, softcap)
    return cache.attend(int(module.layer_idx), query, key, value, params), None


AttentionInterface.register(NAME, attention)


def head_dim(config: Any) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def page_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of one page over all layers."""
    numbers = PAGE * int(config.num_key_value_heads) * head_dim(config)
    return 2 * numbers * int(config.num_hidden_layers) * dtype.itemsize


def _softcapped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, params: AttentionParams) -> Tensor:
    assert params.softcap is not None
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = params.softcap * torch.tanh((q @ k.mT).float() * params.scale / params.softcap)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1).to(q.dtype) @ v
