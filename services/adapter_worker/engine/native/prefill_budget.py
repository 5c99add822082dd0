"""How many prefill tokens a step may compute without slowing the decoding rows much."""

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

SHORT = 256
"""Prompts of up to this many tokens are prefilled whole: chunking them would cost more than it saves."""
LARGEST = 512
"""Most prefill tokens in one step, even if no row decodes: cancellation and deadlines are checked between steps."""
_FIRST, _SMALLEST = 32, 4
_REMEMBERED = 15
"""Decode-only steps whose median duration is the usual one; the median ignores a disturbed step."""
_DAMPING, _MOST = 0.3, 2.0


class Prompt(NamedTuple):
    """A prompt's number of tokens, and how many are still to be computed."""

    length: int
    pending: int


class PrefillBudget:
    """Learns from step times the chunk size that makes a step `max_stall_x` times as long as a decode-only step."""

    def __init__(self, max_stall_x: float = 1.4) -> None:
        self._allowed = max_stall_x - 1
        self._chunk = float(_FIRST)
        self._usual_seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def shares(self, prompts: Sequence[Prompt], *, decoding: bool) -> list[int]:
        """Prefill tokens of this step for each prompt, in order of arrival; the long prompts share one chunk."""
        left = LARGEST
        left_long = int(self._chunk) if decoding else LARGEST
        shares = []
        for prompt in prompts:
            is_long = prompt.length > SHORT
            share = min(prompt.pending, left, left_long) if is_long else min(prompt.pending, left)
            left_long -= share if is_long else 0
            left -= share
            shares.append(share)
        return shares

    def record_step(self, seconds: float, *, decoding: int, prefilled: int) -> None:
        """Learn from one step that had `decoding` rows and `prefilled` tokens."""
        if decoding and not prefilled:
            self._usual_seconds.append(seconds)
        elif decoding and self._usual_seconds and prefilled == int(self._chunk):  # other sizes tell nothing
            usual = median(self._usual_seconds)
            added = max(seconds - usual, 0) / usual
            # Damped, because step times on a shared machine are noisy. With more context, each token costs more.
            change = min(max(self._allowed / added, 1 / _MOST), _MOST) if added else _MOST
            self._chunk = min(max(self._chunk * change**_DAMPING, _SMALLEST), LARGEST)
