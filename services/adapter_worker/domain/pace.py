"""How much prefill a step may carry, so that the rows that decode hardly notice."""

from collections.abc import Sequence
from typing import NamedTuple

SHORT = 256
"""Prompts of up to so many tokens go in one piece: cutting them up would cost more than it saves."""
LARGEST = 512
"""Tokens of prefill in one step, whoever waits: cancelling and deadlines are looked at between steps."""
_SMALLEST = 4
_SHRINK, _GROW, _MEMORY = 0.88, 1.1, 0.2


class Prompt(NamedTuple):
    """A prompt's tokens, and those that are still to be computed."""

    length: int
    pending: int


class Pace:
    """Learns from the steps' times how long a chunk keeps a step within `stretch` times its usual length."""

    def __init__(self, stretch: float = 1.35) -> None:
        self._stretch = stretch
        self._chunk = 32.0
        self._usual_seconds = 0.0

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
        if not decoding:
            return
        if not prefilled:
            self._usual_seconds += (seconds - self._usual_seconds) * (_MEMORY if self._usual_seconds else 1.0)
        elif prefilled <= self._chunk and self._usual_seconds:
            is_slow = seconds > self._stretch * self._usual_seconds
            self._chunk = min(max(self._chunk * (_SHRINK if is_slow else _GROW), _SMALLEST), LARGEST)
