"""Attention over a paged key/value cache, entered through transformers' attention interface."""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from services.adapter_worker.engine.native.kernels import GROUPS, LANES, Kernels, Shape
from services.adapter_worker.engine.native.kv_cache import PAGE

NAME = "signalbox_paged"
LONG = 32
"""From so many tokens on a chunk is worth a call of torch's attention, where that is the faster one."""
_NEVER = 1 << 30


class Piece(NamedTuple):
    """Neighbouring tokens of one sequence in a step: `ends` [tokens] are their positions + 1."""

    start: int
    size: int
    row: int  # in the step's tables
    position: int


class Step:
    """Where each token of a step is written, and what it sees."""

    def __init__(self, pieces: Sequence[Piece], tables: Tensor, device: torch.device, long: int = LONG) -> None:
        self.pieces = pieces
        self.tables = tables  # [rows, pages] int32, padded with any page
        positions = [piece.position + n for piece in pieces for n in range(piece.size)]
        rows = [piece.row for piece in pieces for _ in range(piece.size)]
        self.positions = torch.tensor(positions, dtype=torch.int32)
        self.rows = torch.tensor(rows, dtype=torch.int32)
        self.ends = self.positions + 1
        self.places = tables[self.rows.long(), self.positions.long() // PAGE] * PAGE + self.positions % PAGE
        self.long = [piece for piece in pieces if piece.size >= long]
        short = [piece.start + n for piece in pieces if piece.size < long for n in range(piece.size)]
        self.short = torch.tensor(short, dtype=torch.int32)
        self.device = device
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def visible(self, tokens: Tensor, key: int, width: int, window: int | None) -> Tensor:
        """Which of `width` positions each of the tokens sees [tokens, width]; built once a step and window."""
        if (key, window) not in self._masks:
            behind = self.positions[tokens].unsqueeze(-1) - torch.arange(width)
            mask = (behind >= 0) if window is None else (behind >= 0) & (behind < window)
            self._masks[key, window] = mask.to(self.device)
        return self._masks[key, window]


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

    @property
    def long(self) -> int:
        """Tokens from which on a chunk goes to torch: with one thread the kernel is always faster."""
        return LONG if self._kernel is None or torch.get_num_threads() > 1 else _NEVER

    def use_kernel(self, kernels: Kernels) -> None:
        """Let the compiled kernel serve what is not long, where it knows the type and the width."""
        name = str(self._keys[0].dtype).removeprefix("torch.")
        is_known = not self._dim % LANES and self._group <= GROUPS
        if self._keys[0].device.type == "cpu" and is_known:
            self._kernel = kernels.attend.get(name)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: "How") -> Tensor:
        """Write the step's k and v, and answer the step's q [1, heads, tokens, dim] with [1, tokens, heads, dim]."""
        q, k, v = q[0].transpose(0, 1), k[0].transpose(0, 1), v[0].transpose(0, 1)
        y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if len(self.step.short) and self._kernel is not None and v.stride(-1) == k.stride(-1) == q.stride(-1) == 1:
            self._call_kernel(layer, (q, k, v, y), how)
        else:
            self._attend_short(layer, (q, k, v, y), how)
        for number, piece in enumerate(self.step.long):
            tokens = torch.arange(piece.start, piece.start + piece.size)
            self._write(layer, k, v, tokens)
            rows = self.step.tables[piece.row : piece.row + 1, : -(-(piece.position + piece.size) // PAGE)]
            mask = self.step.visible(tokens, number, rows.shape[1] * PAGE, how.window)
            y[tokens] = self._look(layer, q[tokens].unsqueeze(0), rows, mask.unsqueeze(0), how)[0]
        return y.unsqueeze(0)

    def _call_kernel(self, layer: int, tensors: tuple[Tensor, Tensor, Tensor, Tensor], how: "How") -> None:
        q, k, v, y = tensors
        step = self.step
        strides = (ctypes.c_long * 6)(*(stride for tensor in (q, k, v) for stride in tensor.stride()[:2]))
        width = step.tables.shape[1]
        shape = Shape(
            len(step.short), q.shape[1], k.shape[1], q.shape[2], how.window or 0, width, how.scale, how.softcap or 0.0
        )
        self._kernel(
            q.data_ptr(), k.data_ptr(), v.data_ptr(), y.data_ptr(), self._keys[layer].data_ptr(),
            self._values[layer].data_ptr(), ctypes.addressof(strides), step.short.data_ptr(), step.places.data_ptr(),
            step.tables.data_ptr(), step.rows.data_ptr(), step.ends.data_ptr(), ctypes.addressof(shape),
        )  # fmt: skip

    def _attend_short(self, layer: int, tensors: tuple[Tensor, Tensor, Tensor, Tensor], how: "How") -> None:
        """Every token as a row of its own, all padded to the longest."""
        q, k, v, y = tensors
        tokens = self.step.short.long()
        if not len(tokens):
            return
        self._write(layer, k, v, tokens)
        width = -(-int(self.step.ends[tokens].max()) // PAGE)
        rows = self.step.tables[self.step.rows[tokens].long(), :width]
        mask = self.step.visible(tokens, -1, width * PAGE, how.window)
        y[tokens] = self._look(layer, q[tokens].unsqueeze(1), rows, mask.unsqueeze(1), how)[:, 0]

    def _write(self, layer: int, k: Tensor, v: Tensor, tokens: Tensor) -> None:
        places = self.step.places[tokens].long().to(k.device)
        self._keys[layer].index_copy_(0, places, k[tokens])
        self._values[layer].index_copy_(0, places, v[tokens])

    def _look(self, layer: int, q: Tensor, rows: Tensor, mask: Tensor, how: "How") -> Tensor:
        """Attend q [rows, tokens, heads, dim] over the pages in rows [rows, pages], mask [rows, tokens, positions]."""
        index = rows.long().to(q.device)
        # What stands at places that nobody sees may be NaN, which no mask stops.
        unseen = ~mask.any(dim=1).unsqueeze(-1).unsqueeze(-1)
        k, v = (
            cache[layer].unflatten(0, (-1, PAGE))[index].flatten(1, 2).masked_fill(unseen, 0.0)
            for cache in (self._keys, self._values)
        )
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mask = mask.unsqueeze(1)
        if how.softcap is None:
            attended = nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=how.scale, enable_gqa=True)
        else:
            attended = _capped(q, k, v, mask, how)
        return attended.transpose(1, 2)


class How(NamedTuple):
    """What differs between families and layers."""

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
    """What the models call; `cache` comes through the keyword arguments of the model's forward."""
    return cache.attend(int(module.layer_idx), query, key, value, How(scaling, sliding_window, softcap)), None


AttentionInterface.register(NAME, attention)


def head_dim(config: Any) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def page_bytes(config: Any, dtype: torch.dtype) -> int:
    """Memory that one page takes in all layers."""
    numbers = PAGE * int(config.num_key_value_heads) * head_dim(config)
    return 2 * numbers * int(config.num_hidden_layers) * dtype.itemsize


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, how: How) -> Tensor:
    assert how.softcap is not None
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = how.softcap * torch.tanh((q @ k.mT).float() * how.scale / how.softcap)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1).to(q.dtype) @ v
