"""The running batch: rows that decode together over one left-padded key-value cache."""

from collections.abc import Sequence as Many

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from services.adapter_worker.infra.engines.sequence import Sequence


class Batch:
    """Rows with their cache, per layer keys and values [rows, heads, length, head_dim], and mask [rows, length].

    The newest token of each row is not in the cache yet: it is the input of the next step.
    """

    def __init__(self, rows: list[Sequence], cache: DynamicCache, mask: Tensor) -> None:
        self.rows = rows
        self.cache = cache
        self.mask = mask

    def join(self, other: "Batch") -> None:
        """Append the rows of `other`, padding the shorter cache on the left."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        self._pad_to(length)
        other._pad_to(length)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([mine.keys, theirs.keys])
            mine.values = torch.cat([mine.values, theirs.values])
        self.mask = torch.cat([self.mask, other.mask])
        self.rows += other.rows

    def drop_done(self) -> None:
        """Remove the rows that ended and the padding that all others share."""
        kept = [index for index, row in enumerate(self.rows) if not row.is_done]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        if kept:
            self._select(torch.tensor(kept, device=self.mask.device))

    def fail(self, error: Exception) -> None:
        """End every row with the error."""
        for row in self.rows:
            row.fail(error)

    def next_inputs(self) -> Tensor:
        """Return the newest token of each row [rows, 1] and grow the mask by it."""
        self.mask = pad(self.mask, (0, 1), value=1)
        newest = [[row.token_ids[-1]] for row in self.rows]
        return torch.tensor(newest, device=self.mask.device)

    def _select(self, kept: Tensor) -> None:
        mask = self.mask.index_select(0, kept)
        unused = int(mask.argmax(dim=1).min())
        self.mask = mask[:, unused:]
        for layer in self.cache.layers:
            layer.keys = layer.keys.index_select(0, kept)[:, :, unused:]
            layer.values = layer.values.index_select(0, kept)[:, :, unused:]

    def _pad_to(self, length: int) -> None:
        missing = length - self.mask.shape[1]
        if missing == 0:
            return
        self.mask = pad(self.mask, (missing, 0))
        for layer in self.cache.layers:
            layer.keys = pad(layer.keys, (0, 0, missing, 0))
            layer.values = pad(layer.values, (0, 0, missing, 0))


def left_padded(prompts: Many[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts as ids and mask, both [rows, longest]; padding is token 0 under mask 0."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def positions(mask: Tensor, width: int) -> Tensor:
    """Position ids of the last `width` columns, counted per row from its first real token [rows, width]."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -width:]
