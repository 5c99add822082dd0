"""The model's side of the engine: prompts in, one token per row and step out. Single-threaded."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from services.adapter_worker.engine.base import CANARY
from services.adapter_worker.engine.native.attention import NAME, PagedCache, Piece, Step, page_bytes
from services.adapter_worker.engine.native.kernels import Kernels
from services.adapter_worker.engine.native.kv_cache import PagePool, Prefix
from services.adapter_worker.engine.native.lora.bank import AdapterBank
from services.adapter_worker.engine.native.lora.base_linear import BaseLinear
from services.adapter_worker.engine.native.lora.layers import SharedInput, shared_inputs
from services.adapter_worker.engine.native.lora.segments import Routing, SlotRange, Spans
from services.adapter_worker.engine.native.prefill_budget import PrefillBudget, Prompt
from services.adapter_worker.engine.native.sampler import logprobs, pick_tokens
from services.adapter_worker.engine.sequence import SequenceState
from services.adapter_worker.engine.tokenize import text_decoder
from shared.errors import Invalid, SignalboxError, Unavailable
from shared.model.tokens import end_token_ids


class Chunk(NamedTuple):
    """Tokens of one row in a step, the first at `position`."""

    ids: list[int]
    position: int
    pages: list[int]
    run: SlotRange | None
    wants_logits: bool


class ModelRunner:
    """Owns the model, its adapters, its cache and the rows that run.

    All tokens of a step, decoding rows and pieces of prompts alike, go through the model as one row of ids.
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
    ) -> None:
        self._model = model.eval()
        self.decode = text_decoder(tokenizer)
        self._end_ids = end_token_ids(tokenizer)
        self._rows: list[SequenceState] = []
        self._routing = Routing()
        self._pace = PrefillBudget(max_stall_x)
        self._proven: set[str] = set()
        self._tables: tuple[list[list[int]], Tensor] = ([], torch.zeros(0, 0, dtype=torch.int32))
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
        """Rows that have joined and not ended."""
        return self._rows

    def validate_adapter(self, digest: str) -> None:
        """Raise `Invalid` unless the adapter changes the canary's logits and leaves them finite; once per digest."""
        if digest in self._proven:
            return
        logits = self._forward([self._canary._replace(run=self.bank.use(digest))])
        if not torch.isfinite(logits).all():
            raise Invalid("adapter_not_finite", f"adapter {digest} makes logits that are not finite: train it again")
        if torch.equal(logits, self._canary_base):
            raise Invalid(
                "adapter_inactive",
                f"adapter {digest} changes nothing on the canary prompt: its weights are zero or not the base model's",
            )
        self._proven.add(digest)

    def admit(self, row: SequenceState) -> bool:
        """Let the row join, where the cache has room for all its tokens."""
        reserved = self.pages.reserve(row.token_limit, row.prefix)
        if reserved is None:
            return False
        row.pages, row.cached_count = reserved
        self._rows.append(row)
        return True

    def step(self) -> None:
        """One token for every row whose prompt is computed, and a piece of those whose is not."""
        pending = [row.pending_count for row in self._rows]
        is_decoding = [count == 1 for count in pending]
        decoding = sum(is_decoding)
        prompts = [
            Prompt(len(row.prompt_ids), count) for row, count in zip(self._rows, pending, strict=True) if count > 1
        ]
        shares = iter(self._pace.shares(prompts, decoding=decoding > 0))
        counts = [1 if decodes else next(shares) for decodes in is_decoding]
        started = time.perf_counter()
        self._advance([(row, count) for row, count in zip(self._rows, counts, strict=True) if count])
        self._pace.took(time.perf_counter() - started, decoding=decoding, prefilled=sum(counts) - decoding)
        self.drop_done()

    def drop_done(self) -> None:
        """Take out the rows that ended, for whatever reason, and free their pages."""
        for row in self._rows:
            if row.is_done:
                self.pages.release(row.pages)
        self._rows = [row for row in self._rows if not row.is_done]

    def _advance(self, work: Sequence[tuple[SequenceState, int]]) -> None:
        """Compute so many tokens of each row; where that raises, one by one, so that a poisonous one fails alone."""
        if not work:
            return
        chunks = [self._chunk(row, count) for row, count in work]
        order = sorted(range(len(work)), key=lambda n: chunks[n].run or (-1, 0))
        try:
            logits = self._forward([chunks[n] for n in order])
        except Exception as error:  # noqa: BLE001 - the request gets it, the engine lives on
            if len(work) == 1:
                work[0][0].fail(step_error(error))
                return
            for row_and_count in work:
                self._advance([row_and_count])
            return
        for row, count in work:
            self._note_cached(row, count)
        self._take_tokens([work[n][0] for n in order if chunks[n].wants_logits], logits)

    def _chunk(self, row: SequenceState, count: int) -> Chunk:
        adapter = row.request.adapter
        run = None if adapter is None else self.bank.use(adapter)
        return Chunk(row.pending(count), row.cached_count, row.pages, run, count == row.pending_count)

    def _note_cached(self, row: SequenceState, count: int) -> None:
        before, row.cached_count = row.cached_count, row.cached_count + count
        if before < len(row.prefix.ids) <= row.cached_count:
            self.pages.keep(row.prefix, row.pages)

    def _take_tokens(self, rows: list[SequenceState], logits: Tensor) -> None:
        if not rows:
            return
        logits = logits.float()
        tokens = pick_tokens(logits, [row.draw() for row in rows])
        asked = [n for n, row in enumerate(rows) if row.request.logprobs and tokens[n] is not None]
        if asked:
            for n, value in zip(asked, logprobs(logits[asked], [tokens[n] or 0 for n in asked]), strict=True):
                rows[n].logprobs.append(value)
        for row, token in zip(rows, tokens, strict=True):
            self._give(row, token)

    def _give(self, row: SequenceState, token: int | None) -> None:
        if token is None:
            row.fail(SignalboxError("logits_not_finite", "the model's output is not finite for this prompt"))
            return
        try:
            row.take(token, self._end_ids)
        except Exception as error:  # noqa: BLE001 - `on_text` belongs to the caller, and so does its error
            row.fail(error)

    @torch.inference_mode()
    def _forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Logits [chunks that want them, vocab] of each one's last token."""
        device = self._model.device
        step = Step(_pieces(chunks), self._table(chunks), device, self._cache.long)
        last = _last_tokens(chunks)
        self._routing.tokens = Spans.of(chunk.run for chunk in chunks for _ in chunk.ids)
        # The head needs a row to work on, even where no chunk ends its prompt.
        self._routing.last = Spans.of(chunk.run for chunk in chunks if chunk.wants_logits)
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

    def _table(self, chunks: Sequence[Chunk]) -> Tensor:
        """The chunks' pages as one tensor [chunks, most pages]; the same as in the last step for the same rows."""
        pages = [chunk.pages for chunk in chunks]
        known, table = self._tables
        if len(pages) != len(known) or any(mine is not theirs for mine, theirs in zip(pages, known, strict=True)):
            width = max(map(len, pages))
            table = torch.tensor([[*row, *[0] * (width - len(row))] for row in pages], dtype=torch.int32)
            self._tables = (pages, table)
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
            group = SharedInput(linears, slots, self._routing, is_head=head in linears)
            if kernels is not None:
                group.use_kernel(kernels)
            layers.update({name: (group, index) for index, name in enumerate(names)})
        return layers


def _pieces(chunks: Sequence[Chunk]) -> list[Piece]:
    pieces, start = [], 0
    for row, chunk in enumerate(chunks):
        pieces.append(Piece(start, len(chunk.ids), row, chunk.position))
        start += len(chunk.ids)
    return pieces


def _last_tokens(chunks: Sequence[Chunk]) -> list[int]:
    last, end = [], 0
    for chunk in chunks:
        end += len(chunk.ids)
        if chunk.wants_logits:
            last.append(end - 1)
    return last


def step_error(error: Exception) -> SignalboxError:
    """What the requests of a failed step are told."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Unavailable("engine_out_of_memory", "the worker ran out of memory in this step; send the job again")
    return SignalboxError("engine_step_failed", f"the model step failed: {type(error).__name__}: {error}")
