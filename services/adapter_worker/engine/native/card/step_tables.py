"""A step on a card: everything that its kernels read goes there in one piece."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.adapter_worker.engine.native.attention import TokenSpan
from services.adapter_worker.engine.native.card.adapters import AdapterTiles, BatchTiles
from services.adapter_worker.engine.native.card.paged_attention import LONG, AttentionTables, CardAttention
from services.adapter_worker.engine.native.card.staging import Staging
from services.adapter_worker.engine.native.choosing import TokenPlan
from services.adapter_worker.engine.native.kv_cache import PAGE
from services.adapter_worker.engine.native.lora.segments import AdapterSegments
from services.adapter_worker.engine.native.step_inputs import (
    Chunk,
    Inputs,
    PageTables,
    ids_of,
    last_tokens,
    spans_of,
)


class CardInputs:
    """Stages steps; `least_tokens` pads them with tokens that have no slot, no tile and no adapter."""

    def __init__(self, attention: CardAttention, tiles: BatchTiles, device: torch.device) -> None:
        self._attention, self._tiles = attention, tiles
        self._staging = Staging(device)  # of the step
        self._more = Staging(device)  # of what is sent beside it, while the step's is read
        self._page_tables = PageTables()
        self.least_tokens = 1

    def stage(self, chunks: Sequence[Chunk], plan: TokenPlan) -> tuple[Inputs, TokenPlan]:
        """See `StepInputs.stage`."""
        spans, tables, last = spans_of(chunks), self._page_tables.of(chunks), last_tokens(chunks)
        ids = ids_of(chunks)
        padding = [0] * max(0, self.least_tokens - len(ids))
        positions = [span.position + n for span in spans for n in range(span.size)]
        short, long = self._attention.tiles(spans)
        all_tiles = AdapterTiles.of(
            AdapterSegments.of(chunk.slots for chunk in chunks for _ in chunk.ids), len(ids) + len(padding)
        )
        last_tiles = AdapterTiles.of(
            AdapterSegments.of(chunk.slots for chunk in chunks if chunk.wants_logits), len(last) or 1
        )
        sent = self._staging.send([
            _numbers(ids + padding), _numbers(positions + padding), _numbers(last or [0]),
            _numbers(_slots(spans, chunks) + [-1] * len(padding)), _numbers(short), _numbers(long), tables,
            all_tiles.table, last_tiles.table, *plan.tensors,
        ])  # fmt: skip
        self._tiles.tokens = all_tiles._replace(table=sent[7])
        self._tiles.last = last_tiles._replace(table=sent[8])
        self._attention.begin(
            AttentionTables(sent[3], sent[4], sent[5], sent[6], len(ids) + len(padding), tables.shape[1], _reach(spans))
        )
        return Inputs(sent[0].unsqueeze(0), sent[1].unsqueeze(0), sent[2]), plan.with_tensors(sent[9:])

    def send(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `StepInputs.send`."""
        return self._more.send(tensors)

    def receive(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `StepInputs.receive`."""
        return self._staging.receive(tensors)


def _numbers(numbers: Sequence[int] | Sequence[tuple[int, ...]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32).flatten()


def _slots(spans: Sequence[TokenSpan], chunks: Sequence[Chunk]) -> list[int]:
    """Where each token's key and value are written."""
    return [
        chunk.pages[place // PAGE] * PAGE + place % PAGE
        for span, chunk in zip(spans, chunks, strict=True)
        for place in range(span.position, span.position + span.size)
    ]


def _reach(spans: Sequence[TokenSpan]) -> tuple[int, int]:
    """Positions behind the furthest token of a short and of a long span."""
    short = [span.position + span.size for span in spans if span.size < LONG]
    long = [span.position + span.size for span in spans if span.size >= LONG]
    return max(short, default=0), max(long, default=0)
