"""What a step computes, and the model's inputs for it: all tokens of a step go through the model as one row of ids."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from services.adapter_worker.engine.native.attention import PagedCache, Step, TokenSpan
from services.adapter_worker.engine.native.choosing import TokenPlan
from services.adapter_worker.engine.native.lora.segments import AdapterSegments, BatchSegments, SlotRange


class Chunk(NamedTuple):
    """Tokens of one row in a step; the first is at `position` in the sequence."""

    ids: list[int]
    position: int
    pages: list[int]
    slots: SlotRange | None
    wants_logits: bool


class Inputs(NamedTuple):
    """The model's inputs, on its device."""

    ids: Tensor  # [1, tokens]
    positions: Tensor  # [1, tokens]
    last: Tensor  # of the tokens whose logits are wanted, or of the first one


class StepInputs(Protocol):
    """Brings a step to the model's device, and what was found out back to the host."""

    def stage(self, chunks: Sequence[Chunk], plan: TokenPlan) -> tuple[Inputs, TokenPlan]:
        """Set up cache and adapters for the step; returns the model's inputs and the plan, on the device."""
        ...

    def send(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the host's one-dimensional tensors, of int32 or float32, on the device."""
        ...

    def receive(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the device's tensors, of int32 or float32, on the host."""
        ...


class DirectInputs:
    """Tensors that are copied one by one where the device is another: none on a CPU."""

    def __init__(self, cache: PagedCache, segments: BatchSegments, device: torch.device) -> None:
        self._cache, self._segments, self._device = cache, segments, device
        self._page_tables = PageTables()

    def stage(self, chunks: Sequence[Chunk], plan: TokenPlan) -> tuple[Inputs, TokenPlan]:
        """See `StepInputs.stage`."""
        step = Step(spans_of(chunks), self._page_tables.of(chunks), self._device, self._cache.long)
        self._segments.tokens = AdapterSegments.of(chunk.slots for chunk in chunks for _ in chunk.ids)
        # If no chunk ends its prompt, the head still computes one row (`last or [0]`), without an adapter.
        self._segments.last = AdapterSegments.of(chunk.slots for chunk in chunks if chunk.wants_logits)
        self._cache.step = step
        inputs = Inputs(
            torch.tensor([ids_of(chunks)], device=self._device),
            step.positions.long().unsqueeze(0).to(self._device),
            torch.tensor(last_tokens(chunks) or [0], device=self._device),
        )
        return inputs, plan.with_tensors(self.send(plan.tensors))

    def send(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `StepInputs.send`."""
        return [tensor.to(self._device) for tensor in tensors]

    def receive(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """See `StepInputs.receive`."""
        return [tensor.cpu() for tensor in tensors]


class PageTables:
    """The page tables of the chunks of a step; reused from the last step if the rows are the same."""

    def __init__(self) -> None:
        self._pages: list[list[int]] = []
        self._table = torch.zeros(0, 0, dtype=torch.int32)

    def of(self, chunks: Sequence[Chunk]) -> Tensor:
        """Return the tables [chunks, most pages] int32, padded with page 0."""
        pages = [chunk.pages for chunk in chunks]
        known = self._pages
        if len(pages) != len(known) or any(own is not cached for own, cached in zip(pages, known, strict=True)):
            width = max(map(len, pages))
            self._table = torch.tensor([[*row, *[0] * (width - len(row))] for row in pages], dtype=torch.int32)
            self._pages = pages
        return self._table


def ids_of(chunks: Sequence[Chunk]) -> list[int]:
    """The ids of all tokens of a step."""
    return [token for chunk in chunks for token in chunk.ids]


def spans_of(chunks: Sequence[Chunk]) -> list[TokenSpan]:
    """The chunks as spans of the step."""
    spans, start = [], 0
    for row, chunk in enumerate(chunks):
        spans.append(TokenSpan(start, len(chunk.ids), row, chunk.position))
        start += len(chunk.ids)
    return spans


def last_tokens(chunks: Sequence[Chunk]) -> list[int]:
    """Places in the step of the tokens whose logits are wanted."""
    last, end = [], 0
    for chunk in chunks:
        end += len(chunk.ids)
        if chunk.wants_logits:
            last.append(end - 1)
    return last
