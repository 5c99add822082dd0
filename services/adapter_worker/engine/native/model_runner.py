"""Runs the model for the engine: each step takes token ids and returns one token per row. Single-threaded."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from services.adapter_worker.engine.base import CANARY
from services.adapter_worker.engine.native.attention import NAME, PagedCache, Step, TokenSpan, page_bytes
from services.adapter_worker.engine.native.choosing import choose
from services.adapter_worker.engine.native.kernels import Kernels
from services.adapter_worker.engine.native.kv_cache import PAGE, PagePool, Prefix
from services.adapter_worker.engine.native.lora.bank import AdapterBank
from services.adapter_worker.engine.native.lora.base_linear import BaseLinear
from services.adapter_worker.engine.native.lora.layers import SharedInput, shared_inputs
from services.adapter_worker.engine.native.lora.segments import AdapterSegments, BatchSegments, SlotRange
from services.adapter_worker.engine.native.prefill_budget import PrefillBudget, Prompt
from services.adapter_worker.engine.native.sampler import Score
from services.adapter_worker.engine.native.step_faults import StepFaults
from services.adapter_worker.engine.request_state import RequestState
from services.adapter_worker.engine.sequence import SequenceState
from services.adapter_worker.engine.token_texts import TokenTexts
from shared.errors import Invalid, SignalboxError


class Chunk(NamedTuple):
    """Tokens of one row in a step; the first is at `position` in the sequence."""

    ids: list[int]
    position: int
    pages: list[int]
    slots: SlotRange | None
    wants_logits: bool


class ModelRunner:
    """Owns the model, its adapters, its cache and the running batch.

    A step puts all its tokens, of decoding rows and of prompts in prefill, through the model as one row of ids.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        adapter_slots: int,
        cache_bytes: int,
        kernels: Kernels | None,
        max_stall_x: float,
        end_ids: frozenset[int],
    ) -> None:
        self._model = model.eval()
        self.texts = TokenTexts(tokenizer)
        self._end_ids = end_ids
        self._rows: list[SequenceState] = []
        self._reserved: list[SequenceState] = []
        self._segments = BatchSegments()
        self._prefill_budget = PrefillBudget(max_stall_x)
        self._validated: set[str] = set()
        self._faults = StepFaults(model.device)
        self._page_tables: tuple[list[list[int]], Tensor] = ([], torch.zeros(0, 0, dtype=torch.int32))
        config = model.config.get_text_config()
        self.pages = PagePool(cache_bytes // page_bytes(config, model.dtype))
        self._cache = PagedCache(config, self.pages.count, model.dtype, model.device)
        model.set_attn_implementation(NAME)
        self._canary = self._canary_chunk(tokenizer.encode(CANARY, add_special_tokens=False))
        self.bank = AdapterBank(self._wrap_layers(adapter_slots, kernels), adapter_slots)
        if kernels is not None:
            self._cache.use_kernel(kernels)
        self._canary_base = self._forward([self._canary])

    @property
    def rows(self) -> list[SequenceState]:
        """The running batch: rows that have joined and not ended."""
        return self._rows

    def validate_adapter(self, digest: str) -> None:
        """Raise `Invalid` unless the adapter changes the canary's logits and leaves them finite; once per digest."""
        if digest in self._validated:
            return
        logits = self._forward([self._canary._replace(slots=self.bank.use(digest))])
        if not torch.isfinite(logits).all():
            raise Invalid("adapter_not_finite", f"adapter {digest} makes logits that are not finite: train it again")
        if torch.equal(logits, self._canary_base):
            raise Invalid(
                "adapter_inactive",
                f"adapter {digest} changes nothing on the canary prompt: its weights are zero or not the base model's",
            )
        self._validated.add(digest)

    def admit(self, request: RequestState) -> bool:
        """Let the request's first choice join the batch if the cache has room for all tokens of all its choices.

        The others begin where the first one's prompt is computed. Returns whether it joined.
        """
        first, *others = request.choices
        reserved = self.pages.reserve(first.token_limit, first.prefix)
        if reserved is None:
            return False
        pages, cached_count = reserved
        branches = self.pages.branch(pages, len(request.prompt_ids), len(others))
        if branches is None:
            self.pages.release(pages)
            return False
        self.pages.count_prompt(len(request.prompt_ids), cached_count)
        first.pages, first.cached_count = pages, cached_count
        for choice, own in zip(others, branches, strict=True):
            choice.pages = own
        self._rows.append(first)
        self._reserved += others
        return True

    def seat(self, max_batch: int) -> None:
        """Let choices that have begun join the batch, as many as it has seats for."""
        if self._reserved:
            begun = [choice for choice in self._reserved if choice.token_ids][: max(0, max_batch - len(self._rows))]
            self._rows += begun
            self._reserved = [choice for choice in self._reserved if choice not in begun]

    def step(self) -> None:
        """Decode one token for every row whose prompt is computed, and prefill a chunk of the other prompts."""
        pending = [row.pending_count for row in self._rows]
        is_decoding = [count == 1 for count in pending]
        decoding = sum(is_decoding)
        prompts = [
            Prompt(len(row.prompt_ids), count) for row, count in zip(self._rows, pending, strict=True) if count > 1
        ]
        shares = iter(self._prefill_budget.shares(prompts, decoding=decoding > 0))
        counts = [1 if decodes else next(shares) for decodes in is_decoding]
        started = time.perf_counter()
        self._advance([(row, count) for row, count in zip(self._rows, counts, strict=True) if count])
        self._prefill_budget.record_step(
            time.perf_counter() - started, decoding=decoding, prefilled=sum(counts) - decoding
        )
        self.drop_done()

    def drop_done(self) -> None:
        """Remove the rows that ended, for whatever reason, and free their pages."""
        for row in (*self._rows, *self._reserved):
            if row.is_done:
                self.pages.release(row.pages)
        self._rows = [row for row in self._rows if not row.is_done]
        self._reserved = [choice for choice in self._reserved if not choice.is_done]

    def _advance(self, work: Sequence[tuple[SequenceState, int]]) -> None:
        """Compute the given number of tokens of each row; if that raises, retry row by row: only a bad row fails.

        Raises `EngineLost` where no row is the cause.
        """
        if not work:
            return
        chunks = [self._chunk(row, count) for row, count in work]
        order = sorted(range(len(work)), key=lambda n: chunks[n].slots or (-1, 0))
        try:
            logits = self._forward([chunks[n] for n in order])
        except Exception as error:  # noqa: BLE001 - the request gets it, the engine lives on
            failed = self._faults.of(error, rows=len(work))
            if len(work) == 1:
                work[0][0].fail(failed)
                return
            for row_and_count in work:
                self._advance([row_and_count])
            return
        self._faults.forget()
        for row, count in work:
            self._note_cached(row, count)
        self._take_tokens([work[n][0] for n in order if chunks[n].wants_logits], logits)

    def _chunk(self, row: SequenceState, count: int) -> Chunk:
        adapter = row.request.adapter
        slots = None if adapter is None else self.bank.use(adapter)
        return Chunk(row.pending(count), row.cached_count, row.pages, slots, count == row.pending_count)

    def _note_cached(self, row: SequenceState, count: int) -> None:
        before, row.cached_count = row.cached_count, row.cached_count + count
        if before < len(row.prefix.ids) <= row.cached_count:
            self.pages.keep(row.prefix, row.pages)

    def _take_tokens(self, rows: list[SequenceState], logits: Tensor) -> None:
        if not rows:
            return
        rows, logits = self._with_begun(rows, logits.float())
        for row, token, score in choose(rows, logits):
            self._append_token(row, token, score)

    def _with_begun(self, rows: list[SequenceState], logits: Tensor) -> tuple[list[SequenceState], Tensor]:
        """The rows, and the other choices of those whose prompt is now computed: these begin with the same logits."""
        begun = [(n, choice) for n, row in enumerate(rows) for choice in row.to_begin]
        if not begun:
            return rows, logits
        for row in rows:
            if row.to_begin:
                self._share_prompt(row)
        return [*rows, *(choice for _, choice in begun)], logits[[*range(len(rows)), *(n for n, _ in begun)]]

    def _share_prompt(self, first: SequenceState) -> None:
        whole, rest = divmod(len(first.prompt_ids), PAGE)
        if rest:
            self._cache.copy_page(first.pages[whole], [choice.pages[whole] for choice in first.to_begin])
        for choice in first.to_begin:
            choice.cached_count = first.cached_count

    def _append_token(self, row: SequenceState, token: int | None, score: Score | None) -> None:
        if len(row.siblings) > 1 and row.is_done:  # another choice of its request has failed in this step
            return
        if token is None:
            failure = row.mask.failure() if row.mask else None
            row.fail(failure or SignalboxError("logits_not_finite", "the model's output is not finite for this prompt"))
            return
        try:
            row.take(token, self._end_ids, score)
        except Exception as error:  # noqa: BLE001 - `on_piece` belongs to the caller, and so does its error
            row.fail(error)

    @torch.inference_mode()
    def _forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Logits [chunks with `wants_logits`, vocab] of the last token of each chunk."""
        device = self._model.device
        step = Step(_spans(chunks), self._page_table(chunks), device, self._cache.long)
        last = _last_tokens(chunks)
        self._segments.tokens = AdapterSegments.of(chunk.slots for chunk in chunks for _ in chunk.ids)
        # If no chunk ends its prompt, the head still computes one row (`last or [0]`), without an adapter.
        self._segments.last = AdapterSegments.of(chunk.slots for chunk in chunks if chunk.wants_logits)
        self._cache.step = step
        output = self._model(
            input_ids=torch.tensor([[token for chunk in chunks for token in chunk.ids]], device=device),
            position_ids=step.positions.long().unsqueeze(0).to(device),
            use_cache=False,
            logits_to_keep=torch.tensor(last or [0], device=device),
            cache=self._cache,
        )
        logits: Tensor = output.logits[0, : len(last)]
        return logits

    def _page_table(self, chunks: Sequence[Chunk]) -> Tensor:
        """The page tables of the chunks [chunks, most pages]; reused from the last step if the rows are the same."""
        pages = [chunk.pages for chunk in chunks]
        known, table = self._page_tables
        if len(pages) != len(known) or any(own is not cached for own, cached in zip(pages, known, strict=True)):
            width = max(map(len, pages))
            table = torch.tensor([[*row, *[0] * (width - len(row))] for row in pages], dtype=torch.int32)
            self._page_tables = (pages, table)
        return table

    def _canary_chunk(self, ids: list[int]) -> Chunk:
        reserved = self.pages.reserve(len(ids), Prefix(None, ()))
        if reserved is None:
            raise Invalid(
                "cache_too_small", f"the key/value cache has {self.pages.count} pages: raise SIGNALBOX_CACHE_MIB"
            )
        return Chunk(ids, 0, reserved[0], None, wants_logits=True)

    def _wrap_layers(self, slots: int, kernels: Kernels | None) -> dict[str, tuple[SharedInput, int]]:
        modules: dict[str, nn.Linear] = dict(self._model.named_modules())
        head = self._model.get_output_embeddings()
        tied = head is not None and head.weight is self._model.get_input_embeddings().weight
        layers = {}
        for names in shared_inputs(self._model, lambda: self._forward([self._canary])):
            linears = [modules[name] for name in names]
            if tied and linears == [head]:
                head.forward = BaseLinear(linears, is_shared=True)  # no adapters: PEFT has none for an embedding
                continue
            group = SharedInput(linears, slots, self._segments, is_head=head in linears)
            if kernels is not None:
                group.use_kernel(kernels)
            layers.update({name: (group, index) for index, name in enumerate(names)})
        return layers


def _spans(chunks: Sequence[Chunk]) -> list[TokenSpan]:
    spans, start = [], 0
    for row, chunk in enumerate(chunks):
        spans.append(TokenSpan(start, len(chunk.ids), row, chunk.position))
        start += len(chunk.ids)
    return spans


def _last_tokens(chunks: Sequence[Chunk]) -> list[int]:
    last, end = [], 0
    for chunk in chunks:
        end += len(chunk.ids)
        if chunk.wants_logits:
            last.append(end - 1)
    return last
