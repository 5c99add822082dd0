"""How much prefill a step may carry, so that the rows that decode hardly notice."""

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

SHORT = 256
"""Prompts of up to so many tokens go in one piece: cutting them up would cost more than it saves."""
LARGEST = 512
"""Tokens of prefill in one step, whoever waits: cancelling and deadlines are looked at between steps."""
_FIRST, _SMALLEST = 32, 4
_REMEMBERED = 15
"""Steps without prefill whose median is the usual length: one that was disturbed does not count."""
_DAMPING, _MOST = 0.3, 2.0


class Prompt(NamedTuple):
    """A prompt's tokens, and those that are still to be computed."""

    length: int
    pending: int


class PrefillBudget:
    """Learns from the steps' times which chunk makes a step `max_stall_x` times as long as it usually is."""

    def __init__(self, max_stall_x: float = 1.4) -> None:
        self._allowed = max_stall_x - 1
        self._chunk = float(_FIRST)
        self._usual_seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def shares(self, prompts: Sequence[Prompt], *, decoding: bool) -> list[int]:
        """Tokens of this step for each prompt, in the order of their arrival; the long ones share one chunk."""
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

    def took(self, seconds: float, *, decoding: int, prefilled: int) -> None:
        """Learn from one step: `decoding` rows and `prefilled` tokens beside them."""
        if decoding and not prefilled:
            self._usual_seconds.append(seconds)
        elif decoding and self._usual_seconds and prefilled == int(self._chunk):  # less or more tells another story
            usual = median(self._usual_seconds)
            added = max(seconds - usual, 0) / usual
            # Damped, because the clock of a shared machine is noisy; more context makes every token dearer.
            change = min(max(self._allowed / added, 1 / _MOST), _MOST) if added else _MOST
            self._chunk = min(max(self._chunk * change**_DAMPING, _SMALLEST), LARGEST)
