"""The model's side of the engine: prompts in, one token per row and step out. Single-threaded."""

import copy
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from services.adapter_worker.infra.engines.bank import AdapterBank
from services.adapter_worker.infra.engines.batch import Batch, left_padded, positions
from services.adapter_worker.infra.engines.sampling import pick_tokens
from services.adapter_worker.infra.engines.sequence import Sequence
from shared.errors import SignalboxError, Unavailable
from shared.prompts import CHATML_END

_CANARY = "Signalbox sets the points: one request, one track."


class Runner:
    """Owns the model and its running batches: one mixed, and one for each adapter that must run alone."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model.eval()
        # A copy, because encoding in another thread may change the tokenizer's state for a moment.
        self._decoder = copy.deepcopy(tokenizer)
        self._end_ids = end_token_ids(tokenizer)
        self._bank = AdapterBank(model, tokenizer.encode(_CANARY, add_special_tokens=False))
        self._batches: dict[str | None, Batch] = {}

    @property
    def row_count(self) -> int:
        """Rows that decode now."""
        return sum(len(batch.rows) for batch in self._batches.values())

    def load(self, digest: str, folder: Path) -> None:
        """Add an adapter; raises `Invalid` where it cannot serve."""
        self._bank.load(digest, folder)

    def unload(self, digest: str) -> None:
        """Free an adapter that no row uses."""
        self._bank.unload(digest)

    def admit(self, newcomers: Many[Sequence]) -> None:
        """Prefill the newcomers and merge them into the running batches."""
        by_turn: dict[str | None, list[Sequence]] = {}
        for sequence in newcomers:
            by_turn.setdefault(self._bank.turn(sequence.request.adapter), []).append(sequence)
        for turn, rows in by_turn.items():
            for batch in self._prefill(turn, rows):
                self._merge(turn, batch)

    def step(self) -> None:
        """One token for every row; a step that raises fails the rows of its batch alone."""
        for turn, batch in self._batches.items():
            try:
                self._forward(turn, batch, batch.next_inputs())
            except Exception as error:  # noqa: BLE001 - the requests get it, the engine lives on
                batch.fail(step_error(error))
        self.drop_done()

    def drop_done(self) -> None:
        """Take the rows that ended, for whatever reason, out of their batches."""
        for batch in self._batches.values():
            batch.drop_done()
        self._batches = {turn: batch for turn, batch in self._batches.items() if batch.rows}

    def decode(self, ids: list[int]) -> str:
        """Text of the ids, control tokens left out."""
        return self._decoder.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _prefill(self, turn: str | None, rows: list[Sequence]) -> list[Batch]:
        """Run the prompts together; where that raises, one by one, so that a poisonous one fails alone."""
        try:
            return [self._prefill_together(turn, rows)]
        except Exception as error:  # noqa: BLE001 - the request gets it, the engine lives on
            if len(rows) == 1:
                rows[0].fail(step_error(error))
                return []
        return [batch for row in rows for batch in self._prefill(turn, [row])]

    def _prefill_together(self, turn: str | None, rows: list[Sequence]) -> Batch:
        ids, mask = left_padded([row.prompt_ids for row in rows], self._model.device)
        batch = Batch(rows, DynamicCache(), mask)
        self._forward(turn, batch, ids)
        batch.drop_done()
        return batch

    def _merge(self, turn: str | None, newcomers: Batch) -> None:
        if not newcomers.rows:
            return
        if turn not in self._batches:
            self._batches[turn] = newcomers
            return
        self._batches[turn].join(newcomers)

    def _forward(self, turn: str | None, batch: Batch, ids: Tensor) -> None:
        """Feed `ids` [rows, width] after the cache and give each row its next token."""
        with self._bank.routed(turn, [row.request.adapter for row in batch.rows]):
            output = self._model(
                input_ids=ids,
                attention_mask=batch.mask,
                position_ids=positions(batch.mask, ids.shape[1]),
                past_key_values=batch.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        tokens = pick_tokens(output.logits[:, -1].float(), [row.draw() for row in batch.rows])
        for row, token in zip(batch.rows, tokens, strict=True):
            self._give(row, token)

    def _give(self, row: Sequence, token: int | None) -> None:
        if token is None:
            row.fail(SignalboxError("logits_not_finite", "the model's output is not finite for this prompt"))
            return
        try:
            row.take(token, self._end_ids)
        except Exception as error:  # noqa: BLE001 - `on_text` belongs to the caller, and so does its error
            row.fail(error)


def end_token_ids(tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer: the tokenizer's own end token and ChatML's."""
    ids = {tokenizer.eos_token_id, tokenizer.get_vocab().get(CHATML_END)}
    return frozenset(token for token in ids if token is not None)


def step_error(error: Exception) -> SignalboxError:
    """What the requests of a failed step are told."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Unavailable("engine_out_of_memory", "the worker ran out of memory in this step; send the job again")
    return SignalboxError("engine_step_failed", f"the model step failed: {type(error).__name__}: {error}")
