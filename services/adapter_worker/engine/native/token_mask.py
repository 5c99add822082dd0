"""Which tokens a constraint allows one choice to take next; the next mask is computed while the model runs."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from functools import cache

import torch
from llguidance import LLMatcher
from torch import Tensor

from shared.errors import SignalboxError

_BITS = 8
_WORD_BYTES = 4


class TokenMask:
    """The mask of one choice; made in the caller's thread, then used by the engine's."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, end_ids: Iterable[int], beside: Executor) -> None:
        """`end_ids` are the request's, which the matcher does not know as ends; `beside` computes later masks."""
        self._matcher = matcher
        self._end_ids = sorted(end_ids)
        self._beside = beside
        words = -(-vocabulary // (_BITS * _WORD_BYTES))
        self._bits = torch.zeros(words * _WORD_BYTES, dtype=torch.uint8)
        self._filled: Future[None] | None = None
        self.is_complete = False
        """Whether nothing may follow but an end."""
        self._fill()

    def take(self, token: int) -> None:
        """Note the token that was taken; raises `SignalboxError` where the constraint does not allow it."""
        if not self._matcher.consume_token(token):
            raise self._failed()
        self.is_complete = self._matcher.is_stopped()
        if not self.is_complete:
            self._filled = self._beside.submit(self._fill)

    def bits(self) -> Tensor:
        """One bit for each token, the lowest of a byte first [bytes]; all zero where nothing may follow."""
        if self._filled is not None:
            self._filled.result()
        return self._bits

    def failure(self) -> SignalboxError | None:
        """Why nothing may follow; None where something may."""
        return self._failed() if self._matcher.is_error() else None

    def _fill(self) -> None:
        self._matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), len(self._bits))
        if self._matcher.is_error():
            self._bits.zero_()
            return
        accepts = self._matcher.is_accepting()
        for token in self._end_ids:
            at, bit = token // _BITS, 1 << token % _BITS
            self._bits[at] = self._bits[at] | bit if accepts else self._bits[at] & ~bit

    def _failed(self) -> SignalboxError:
        why = self._matcher.get_error().replace("\n<non-verbose/>", "")[:200]
        return SignalboxError("constraint_failed", f"the constraint cannot be followed to its end ({why}): change it")


_ADDED = torch.where(((torch.arange(1 << _BITS)[:, None] >> torch.arange(_BITS)) & 1).bool(), 0.0, -torch.inf)
"""What each byte of a mask adds to the logits of its eight tokens [256, 8]."""


@cache
def _added_on(device: torch.device) -> Tensor:
    return _ADDED.to(device)


def masked(
    logits: Tensor, masks: Sequence[TokenMask | None], send: Callable[[Sequence[Tensor]], Sequence[Tensor]]
) -> Tensor:
    """The logits [rows, vocab] without the tokens that each row's mask excludes; the same tensor without masks.

    `send` brings int32 tensors to the device of the logits.
    """
    rows = [n for n, mask in enumerate(masks) if mask is not None]
    if not rows:
        return logits
    words = torch.stack([mask.bits() for mask in masks if mask is not None]).view(torch.int32)
    at, sent = send([torch.tensor(rows, dtype=torch.int32), words.flatten()])
    bits = sent.view(torch.uint8).view(len(rows), -1)
    # On a CPU an embedding is four times as fast as indexing, and adding 15 times as fast as filling by a mask.
    added = torch.nn.functional.embedding(bits.int(), _added_on(logits.device)).flatten(1)[:, : logits.shape[-1]]
    return logits.index_add(0, at, added)
