"""Runs the model for the engine: each step takes token ids and returns one token per row. Single-threaded."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from services.adapter_worker.engine.base import CANARY
from services.adapter_worker.engine.native.attention import NAME, PagedCache, page_bytes
from services.adapter_worker.engine.native.choosing import TokenPlan, choose
from services.adapter_worker.engine.native.kernels import Kernels
from services.adapter_worker.engine.native.kv_cache import PAGE, PagePool, Prefix, pages_for
from services.adapter_worker.engine.native.lora.bank import AdapterBank
from services.adapter_worker.engine.native.lora.base_linear import BaseLinear
from services.adapter_worker.engine.native.lora.layers import SharedInput, shared_inputs
from services.adapter_worker.engine.native.lora.segments import BatchSegments
from services.adapter_worker.engine.native.prefill_budget import LARGEST, PrefillBudget, Prompt
from services.adapter_worker.engine.native.sampler import Score
from services.adapter_worker.engine.native.step_faults import StepFaults
from services.adapter_worker.engine.native.step_inputs import Chunk, DirectInputs, StepInputs
from services.adapter_worker.engine.request_state import RequestState
from services.adapter_worker.engine.sequence import SequenceState
from services.adapter_worker.engine.token_texts import TokenTexts
from shared.errors import Invalid, SignalboxError

if TYPE_CHECKING:
    from services.adapter_worker.engine.native.card.card import Card

_WARM_UP_PAGES = pages_for(LARGEST) + 8
"""Pages of the cache under which a card's memory is measured: the largest step's, and the canary's."""
_LOGITS_COPIES = 8
"""Most copies of all rows' logits that choosing tokens takes; a sort takes two, and its numbers are of 64 bits."""


class ModelRunner:
    """Owns the model, its adapters, its cache and the running batch.

    A step puts all its tokens, of decoding rows and of prompts in prefill, through the model as one row of ids.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_batch: int,
        adapter_slots: int,
        cache_bytes: int | None,
        kernels: Kernels | None,
        max_stall_x: float,
        end_ids: frozenset[int],
        on_card: bool,
    ) -> None:
        """`cache_bytes` None takes what a card has left."""
        self._model = model.eval()
        self.texts = TokenTexts(tokenizer)
        self._end_ids = end_ids
        self._rows: list[SequenceState] = []
        self._reserved: list[SequenceState] = []
        self._segments = BatchSegments()
        self._prefill_budget = PrefillBudget(max_stall_x)
        self._validated: set[str] = set()
        self._faults = StepFaults(model.device)
        self._card = _card_for(model) if on_card else None
        model.set_attn_implementation(NAME)
        canary_ids = tokenizer.encode(CANARY, add_special_tokens=False)
        page = page_bytes(model.config.get_text_config(), model.dtype)
        self._open_cache(_WARM_UP_PAGES if cache_bytes is None else cache_bytes // page, canary_ids)
        self.bank = AdapterBank(self._wrap_layers(adapter_slots, kernels), adapter_slots)
        if cache_bytes is None:
            self._open_cache(self._free_bytes(max_batch) // page, canary_ids)
        if kernels is not None:
            self._cache.use_kernel(kernels)
        self._canary_base = self._compute([self._canary])

    @property
    def rows(self) -> list[SequenceState]:
        """The running batch: rows that have joined and not ended."""
        return self._rows

    def validate_adapter(self, digest: str) -> None:
        """Raise `Invalid` unless the adapter changes the canary's logits and leaves them finite; once per digest."""
        if digest in self._validated:
            return
        logits = self._compute([self._canary._replace(slots=self.bank.use(digest))])
        if not torch.isfinite(logits).all():
            raise Invalid("adapter_not_finite", f"adapter {digest} makes logits that are not finite: train it again")
        if torch.equal(logits, self._canary_base):
            raise Invalid(
                "adapter_inactive",
                f"adapter {digest} changes nothing on the canary prompt (zero, or another model's): train it anew",
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
        plan = TokenPlan.of([work[n][0] for n in order if chunks[n].wants_logits])
        try:
            logits, sent = self._forward([chunks[n] for n in order], plan)
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
        self._take_tokens(sent, logits)

    def _chunk(self, row: SequenceState, count: int) -> Chunk:
        adapter = row.request.adapter
        slots = None if adapter is None else self.bank.use(adapter)
        return Chunk(row.pending(count), row.cached_count, row.pages, slots, count == row.pending_count)

    def _note_cached(self, row: SequenceState, count: int) -> None:
        before, row.cached_count = row.cached_count, row.cached_count + count
        if before < len(row.prefix.ids) <= row.cached_count:
            self.pages.keep(row.prefix, row.pages)

    def _take_tokens(self, plan: TokenPlan, logits: Tensor) -> None:
        if not plan.rows:
            return
        for row in plan.rows:
            if row.to_begin:
                self._share_prompt(row)
        for row, token, score in choose(plan, logits.float(), self._inputs.send, self._inputs.receive):
            self._append_token(row, token, score)

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
            row.fail(
                failure
                or SignalboxError(
                    "logits_not_finite",
                    "the model's output is not finite for this prompt: change it, or the number type of the engine",
                )
            )
            return
        try:
            row.take(token, self._end_ids, score)
        except Exception as error:  # noqa: BLE001 - `on_piece` belongs to the caller, and so does its error
            row.fail(error)

    def _compute(self, chunks: Sequence[Chunk]) -> Tensor:
        """Logits [chunks with `wants_logits`, vocab] of the last token of each chunk."""
        return self._forward(chunks, TokenPlan.of([]))[0]

    @torch.inference_mode()
    def _forward(self, chunks: Sequence[Chunk], plan: TokenPlan) -> tuple[Tensor, TokenPlan]:
        """The same logits, and the plan on the model's device."""
        inputs, plan = self._inputs.stage(chunks, plan)
        output = self._model(
            input_ids=inputs.ids,
            position_ids=inputs.positions,
            use_cache=False,
            logits_to_keep=inputs.last,
            cache=self._cache,
        )
        logits: Tensor = output.logits[0, : sum(chunk.wants_logits for chunk in chunks)]
        return logits, plan

    def _open_cache(self, pages: int, canary_ids: list[int]) -> None:
        model = self._model
        self.pages = PagePool(pages)
        self._cache = PagedCache(model.config.get_text_config(), pages, model.dtype, model.device)
        self._inputs: StepInputs = DirectInputs(self._cache, self._segments, model.device)
        if self._card is not None:
            self._card.serve(self._cache)
            self._inputs = self._card.inputs
        self._canary = self._canary_chunk(canary_ids)

    def _free_bytes(self, max_batch: int) -> int:
        """Bytes that the cache may take, once the layers have their slots."""
        from services.adapter_worker.engine.native.card.memory import CudaMemory, cache_bytes

        prompt = self._canary._replace(ids=[0] * LARGEST, pages=[*range(pages_for(LARGEST))])

        def largest_steps() -> None:
            logits = self._compute([prompt])
            logits.new_empty(_LOGITS_COPIES * max_batch, logits.shape[-1], dtype=torch.float32)

        return cache_bytes(CudaMemory(self._model.device), largest_steps)

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
        for names in shared_inputs(self._model, lambda: self._compute([self._canary])):
            linears = [modules[name] for name in names]
            if tied and linears == [head]:
                head.forward = BaseLinear(linears, is_shared=True)  # no adapters: PEFT has none for an embedding
                continue
            group = SharedInput(linears, slots, self._segments, is_head=head in linears)
            if kernels is not None:
                group.use_kernel(kernels)
            layers.update({name: (group, index) for index, name in enumerate(names)})
        if self._card is not None:
            self._card.adapt(dict.fromkeys(group for group, _ in layers.values()))
        return layers


def _card_for(model: Any) -> "Card":
    from services.adapter_worker.engine.native.card.card import Card  # Triton is there where a card is

    return Card(model)
