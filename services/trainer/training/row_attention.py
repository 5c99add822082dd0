"""Attention of packed rows: each within itself, without a mask over the whole batch. Imports torch: import it lazily.

A dense mask makes the attention of a batch of n rows n times as expensive, because no kernel skips what it masks.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "signalbox_rows"
"""transformers makes no mask for an attention of a name that it has no mask for."""
_WIDEST_HEAD = 192  # of which flash attention has a backward pass on every card
_FIRST_CAPABLE = (8, 0)  # of cards that flash attention runs on


def can_attend_by_rows(model: "PreTrainedModel") -> bool:
    """Whether packed rows get the attention of this module; a cap on its scores (Gemma 2) needs the dense mask."""
    return getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is None


def attend(
    module: torch.nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    row_lengths: Sequence[int],
    row_ends: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return `[1, tokens, heads, width]`: causal attention within each row, of the last `sliding_window` tokens.

    `query` is `[1, heads, tokens, width]`, the others may have fewer heads; for rows see `batches.pack`.
    """
    if query.is_cuda and torch.is_autocast_enabled("cuda"):  # which converts for torch's own attention alone
        query, key, value = (each.to(torch.get_autocast_dtype("cuda")) for each in (query, key, value))
    if not dropout and _kernel_takes(query, value):
        return _attend_packed(query, key, value, row_ends, max(row_lengths), scaling, sliding_window)[None], None
    rows = zip(*(each.split(list(row_lengths), dim=2) for each in (query, key, value)), strict=True)
    parts = [_attend_row(*row, dropout=dropout, scaling=scaling, window=sliding_window) for row in rows]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _attend_packed(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None, window: int | None
) -> Tensor:
    """All rows in one call, `[tokens, heads, width]`."""
    queries, keys, values = (each[0].transpose(0, 1).contiguous() for each in (query, key, value))
    found: Any = varlen_attn(
        queries,
        keys,
        values,
        ends,
        ends,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),  # tokens before its own one, and after it
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found


def _kernel_takes(query: Tensor, value: Tensor) -> bool:
    """Whether `varlen_attn` runs: flash attention, on a card, in 16 bits, with heads of a width that it knows."""
    width = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and width == value.shape[-1]
        and width % 8 == 0
        and width <= _WIDEST_HEAD
        and torch.cuda.get_device_capability(query.device) >= _FIRST_CAPABLE
    )


def _attend_row(
    query: Tensor, key: Tensor, value: Tensor, *, dropout: float, scaling: float | None, window: int | None
) -> Tensor:
    length, mask = query.shape[2], None
    if window and length > window:
        places = torch.arange(length, device=query.device)
        distance = places[:, None] - places
        mask = (distance >= 0) & (distance < window)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


AttentionInterface.register(NAME, attend)
