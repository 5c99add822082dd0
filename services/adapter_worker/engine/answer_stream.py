"""Cuts one choice into pieces of text, and gives each token's log-probability to the piece that shows the token."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from services.adapter_worker.engine.detokenize import StopScanner
from shared.contracts.logprobs import TokenLogprobs, TopToken

_DIGITS = 6
"""Decimal places of a log-probability."""


class TokenScore(NamedTuple):
    """A token of an answer with its log-probability, and the most probable tokens at its place, best first."""

    token: TopToken
    top: tuple[TopToken, ...] = ()


def scored(token: int, logprob: float, token_bytes: str) -> TopToken:
    """A token with its log-probability and its bytes as hexadecimal, as answers have it."""
    return TopToken(token_id=token, logprob=round(logprob, _DIGITS), bytes=token_bytes)


def logprobs_of(scores: Sequence[TokenScore]) -> TokenLogprobs:
    """The scores in the form of answers."""
    return TokenLogprobs(
        token_ids=tuple(score.token.token_id for score in scores),
        logprobs=tuple(score.token.logprob for score in scores),
        token_bytes=tuple(score.token.bytes for score in scores),
        top=tuple(score.top for score in scores) if any(score.top for score in scores) else (),
    )


class Shown(NamedTuple):
    """Text that may be shown now, and the scores of the tokens that it shows."""

    text: str
    scores: Sequence[TokenScore] = ()


class AnswerStream:
    """The text of one choice up to its stop string; either all its tokens have scores, or none."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = StopScanner(stops)
        self._pushed = 0  # characters that came
        self._shown = 0  # characters that were shown
        self._held: deque[tuple[int, TokenScore]] = deque()  # with the number of characters before the token

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has come."""
        return self._stops.hit

    def push(self, text: str, score: TokenScore | None = None) -> Shown:
        """Add a token, and the text that it completes."""
        if score is None:
            return Shown(self._stops.push(text))
        self._held.append((self._pushed, score))
        self._pushed += len(text)
        return self._show(self._stops.push(text))

    def end(self, text: str = "") -> Shown:
        """Add the last text; returns what was held back, unless a stop string cuts it off."""
        shown = self._show(self._stops.push(text) + self._stops.flush())
        if self.is_stopped:
            return shown
        left, self._held = [score for _, score in self._held], deque()
        return Shown(shown.text, [*shown.scores, *left])

    def _show(self, text: str) -> Shown:
        self._shown += len(text)
        scores = []
        while self._held and self._held[0][0] < self._shown:
            scores.append(self._held.popleft()[1])
        return Shown(text, scores)
