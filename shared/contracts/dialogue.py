"""Selects the label of a dialogue's last turn: by that turn, and by the label that the dialogue has.

A filter over the human turns (the forward algorithm of a hidden Markov model): a dialogue keeps its label with a fitted
probability, and a turn that belongs to no label tells nothing about it. A turn that says little by itself is read
together with the turn before it. Pure: the caller scores the texts.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from shared.contracts.conversation import Message, last_user
from shared.contracts.harness import human_text
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading
from shared.contracts.selection import (
    DecidedBy,
    LabelScores,
    Selection,
    decide,
    label_probabilities,
    light_probabilities,
    selection_text,
)

MOST_TURNS = 6
"""The last human turns that a label follows from."""
MOST_TURNS_OF_LLM = 2
"""The same where only the language model scores: each turn costs it a forward pass."""
LITTLE = 0.5
"""A turn that says little with this probability is read together with the turn before it."""
_MEASURED_CHARS = 2_000
_WORD = re.compile(r"\w+")
_CJK = "\u2e80"  # from here on, scripts without spaces: two characters count as a word
Score = Callable[[str], LabelScores]
_TINY = 1e-30
_Vector = list[float]
"""Probabilities of all labels, in the selector's order."""


class Kept(NamedTuple):
    """The label that a conversation was last answered with, and its probability."""

    label: str
    probability: float


class Parts(NamedTuple):
    """Scores a text: `light` with the light selector or prototypes, `llm` with the language model."""

    light: Score
    llm: Score


def human_turns(messages: Sequence[Message], reading: RequestReading) -> list[str]:
    """Return what people wrote in the last user turns, oldest first; where nobody wrote any, the last one whole."""
    turns: list[str] = []
    for turn in reversed(messages):
        text = human_text(turn.text, reading.harness_tags) if turn.role == "user" else ""
        if text.strip():
            turns.append(text)
        if len(turns) == MOST_TURNS:
            break
    return turns[::-1] or [messages[last_user(messages)].text]


def turns_read(
    messages: Sequence[Message], instruction: str, selector: ReleaseSelector, reading: RequestReading | None
) -> list[str]:
    """Return the texts that the label of a conversation follows from, as its release reads them; one or more."""
    turns = human_turns(messages, reading) if reading else [messages[last_user(messages)].text]
    if reading and reading.mode == "dialogue":
        return turns[-most_turns(selector) :]
    return [selection_text(selector.text, turns[-1], instruction)]


def most_turns(selector: ReleaseSelector) -> int:
    """Return how many human turns a label follows from, at most."""
    return MOST_TURNS_OF_LLM if selector.kind == "llm" else MOST_TURNS


def select_turn(
    selector: ReleaseSelector,
    reading: RequestReading | None,
    turns: Sequence[str],
    parts: Parts,
    kept: Kept | None = None,
) -> Selection:
    """Select the label of the last of `turns`; where `kept` is given, it stands for what the turns before it say.

    One turn without a kept label is selected as it always was. The language model of a cascade reads one text: the last
    turn, with the one before it where it says little. A kept label that the release has no more counts for nothing.
    """
    return decide(selector, *turn_probabilities(selector, reading, turns, parts, kept))


def turn_probabilities(
    selector: ReleaseSelector,
    reading: RequestReading | None,
    turns: Sequence[str],
    parts: Parts,
    kept: Kept | None = None,
) -> tuple[list[float], DecidedBy]:
    """Return calibrated probabilities of the labels of the last turn, and what decided; see `select_turn`."""
    known = kept if kept and kept.label in selector.labels else None
    if reading is None or (known is None and len(turns) == 1):
        return label_probabilities(selector, lambda: parts.light(turns[-1]), lambda: parts.llm(turns[-1]))
    dialogue = _Dialogue(selector, reading, Parts(cache(parts.light), cache(parts.llm)))
    found = dialogue.last(turns, known)
    return found.probabilities, found.by


def says_little(reading: RequestReading, text: str, best: float) -> float:
    """Return the probability that a turn says little by itself; `best` is the probability of its best label alone."""
    safe = min(max(best, 1e-6), 1 - 1e-6)
    odds: float = (
        reading.little_bias
        + reading.little_words * math.log(words_in(text))
        + reading.little_evidence * math.log(safe / (1 - safe))
    )
    return 1 / (1 + math.exp(min(max(-odds, -50.0), 50.0)))


def words_in(text: str) -> float:
    """Count the words at a text's start, of scripts without spaces two characters as one; at least one half."""
    words: list[str] = _WORD.findall(text[:_MEASURED_CHARS])
    return max(0.5, sum(max(1.0, sum(char >= _CJK for char in word) / 2) for word in words))


class Topics(NamedTuple):
    """The labels that a dialogue may have, and how it moves between them."""

    is_real: Sequence[bool]
    """Whether a label is one, and not background; there is one at least."""
    stay: float

    def anywhere(self) -> _Vector:
        """Return the belief about a dialogue of which nothing is known."""
        return _normalised([float(is_real) for is_real in self.is_real])

    def at(self, column: int, probability: float) -> _Vector:
        """Return the belief about a dialogue that has a label with this probability."""
        other = (1 - probability) / max(sum(self.is_real) - 1, 1)
        return [(probability if at == column else other) * is_real for at, is_real in enumerate(self.is_real)]

    def before(self, belief: _Vector) -> _Vector:
        """Return the belief about the next turn, before that is read."""
        others = max(sum(self.is_real) - 1, 1)
        moved = (self.stay * p + (1 - self.stay) * (1 - p) / others for p in belief)
        return _normalised([p * is_real for p, is_real in zip(moved, self.is_real, strict=True)])

    def with_evidence(self, before: _Vector, evidence: Sequence[float], off_topic: float) -> _Vector:
        """Return the probabilities of a turn's labels; `evidence` are those of its text alone.

        `off_topic` is the probability that the turn belongs to no label, before its text is read.
        """
        weights = (
            (1 - off_topic) * p if is_real else off_topic for p, is_real in zip(before, self.is_real, strict=True)
        )
        return _normalised([weight * max(p, _TINY) for weight, p in zip(weights, evidence, strict=True)])

    def outside(self, found: Sequence[float]) -> float:
        """Return the probability that a turn belongs to no label."""
        return sum(p for p, is_real in zip(found, self.is_real, strict=True) if not is_real)

    def after(self, before: _Vector, found: _Vector) -> _Vector:
        """Return the belief after a turn; as far as it belongs to no label, the belief stays as it was."""
        outside = self.outside(found)
        moved = (p + b * outside for p, b in zip(found, before, strict=True))
        return _normalised([p * is_real for p, is_real in zip(moved, self.is_real, strict=True)])


class _Read(NamedTuple):
    """A dialogue as far as it was read."""

    belief: _Vector | None
    outside: float
    """Probability that its last turn belongs to no label."""
    said: str
    """The last turn that said something."""


class _Found(NamedTuple):
    """The label probabilities of a turn, why they are such, and the dialogue with it."""

    probabilities: _Vector
    by: DecidedBy
    read: _Read


class _Dialogue:
    """One request: its turns are read in order, the ones before the last by the part that costs least."""

    def __init__(self, selector: ReleaseSelector, reading: RequestReading, parts: Parts) -> None:
        self._selector = selector
        self._reading = reading
        self._parts = parts
        is_real = [label != BACKGROUND for label in selector.labels]
        self._topics = Topics(is_real, reading.stay)

    def last(self, turns: Sequence[str], kept: Kept | None) -> _Found:
        """Return what is found of the last turn."""
        belief = self._topics.at(self._selector.labels.index(kept.label), kept.probability) if kept else None
        read = _Read(belief, 0.0, "")
        for turn in turns[:-1]:
            found = self._turn(read, turn, self._cheaply)
            # A kept label stands for the turns before: these only say what a short last turn may refer to.
            read = _Read(belief, 0.0, found.read.said) if kept else found.read
        return self._turn(read, turns[-1], self._wholly)

    def _turn(self, read: _Read, turn: str, part: Callable[[str], tuple[_Vector, DecidedBy]]) -> _Found:
        if read.belief is None:
            own, by = part(turn)
            belief = self._topics.after(self._topics.anywhere(), own)
            return _Found(own, by, _Read(belief, self._topics.outside(own), turn))
        before, context, off_topic = self._topics.before(read.belief), read.belief, self._reading.off_topic
        own, by = self._cheaply(turn)
        little = says_little(self._reading, turn, self._best(own))
        if little < LITTLE:
            own, by = part(turn)
        else:  # whether it belongs to any label, the turn that it refers to says
            off_topic = 0.0
            if read.said:
                together, by = part(f"{read.said}\n{turn}")[0], "dialogue"
                context = self._topics.with_evidence(before, together, read.outside)
        alone = self._topics.with_evidence(before, own, off_topic)
        found = [(1 - little) * p + little * q for p, q in zip(alone, context, strict=True)]
        if by != "dialogue" and _top(found) != _top(own):
            by = "kept"
        said = read.said if little >= LITTLE and read.said else turn
        after = _Read(self._topics.after(before, found), self._topics.outside(found), said)
        return _Found(found, by, after)

    def _best(self, probabilities: _Vector) -> float:
        return max(p for p, is_real in zip(probabilities, self._topics.is_real, strict=True) if is_real)

    def _cheaply(self, text: str) -> tuple[_Vector, DecidedBy]:
        if self._selector.kind == "llm":
            return self._wholly(text)
        by: DecidedBy = "prototypes" if self._selector.prototypes else "light"
        return light_probabilities(self._selector, self._parts.light(text)), by

    def _wholly(self, text: str) -> tuple[_Vector, DecidedBy]:
        return label_probabilities(self._selector, lambda: self._parts.light(text), lambda: self._parts.llm(text))


def _top(probabilities: _Vector) -> int:
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def _normalised(weights: _Vector) -> _Vector:
    whole = sum(weights)
    return [weight / whole for weight in weights]
