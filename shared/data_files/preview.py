"""What a file would train: its first rows as a model reads and learns them, and how long its rows are."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from shared.contracts.built_in_templates import BASE_TEMPLATE, adapter_prompt
from shared.contracts.conversation import Message, single_turn
from shared.contracts.prompts import Segment, render
from shared.contracts.rows import Row
from shared.contracts.turns import Taught, prompt_of, taught_by

SHOWN_ROWS = 5
_SHORTEST = 16
Segments = Callable[[Sequence[Message]], list[Segment]]
"""What makes the prompt of a conversation."""


class Part(NamedTuple):
    """A piece of a training text; what is not learnt is only read."""

    text: str
    learnt: bool


class Lengths:
    """How many rows have which length, in steps that double."""

    def __init__(self, unit: str, by: str) -> None:
        self.unit, self.by = unit, by
        self.rows = self.longest = 0
        self._counts: dict[int, int] = {}

    def add(self, length: int) -> None:
        """Count one row."""
        self.rows += 1
        self.longest = max(self.longest, length)
        bound = max(_SHORTEST, 1 << (length - 1).bit_length())
        self._counts[bound] = self._counts.get(bound, 0) + 1

    def as_fields(self) -> dict[str, Any]:
        """Return the form that people and machines are shown; steps without rows between others are there, too."""
        steps, bound = [], min(self._counts, default=_SHORTEST)
        while bound <= max(self._counts, default=0):
            steps.append({"up_to": bound, "rows": self._counts.get(bound, 0)})
            bound *= 2
        return {"unit": self.unit, "by": self.by, "rows": self.rows, "longest": self.longest, "histogram": steps}


class Preview:
    """Rows as they will be trained."""

    def __init__(
        self,
        template: str = BASE_TEMPLATE,
        *,
        segments: Segments | None = None,
        length: Callable[[str], int] = len,
        unit: str = "characters",
        by: str = "",
        most: int | None = None,
    ) -> None:
        """`segments` makes prompts by the template, where that is no built-in one with frames.

        `length` counts a text in `unit`, of the first `most` rows; `by` says what counts, or why nothing else.
        """
        self.lengths = Lengths(unit, by)
        self.shown: list[list[Part]] = []
        self._template, self._segments = template, segments or partial(adapter_prompt, template)
        self._length, self._most = length, most

    def add(self, row: Row) -> None:
        """Take in the next row."""
        if self._most is not None and self.lengths.rows >= self._most:
            return
        parts = training_text(row, self._segments)
        self.lengths.add(self._length("".join(part.text for part in parts)))
        if len(self.shown) < SHOWN_ROWS:
            self.shown.append(parts)

    def as_fields(self) -> dict[str, Any]:
        """Return the form that people and machines are shown."""
        sample = [[part._asdict() for part in parts] for parts in self.shown]
        return {"template": self._template, "sample": sample, "lengths": self.lengths.as_fields()}


def training_text(row: Row, segments: Segments) -> list[Part]:
    """Return the text of a row as an adapter's training reads it, without the end tokens."""
    parts: list[Part] = []
    for prompt, answer in _taught(row):
        known = "".join(part.text for part in parts)
        text = render(segments(prompt))
        parts.append(Part(text.removeprefix(known), learnt=False))
        parts += [Part(answer, learnt=True)] if answer else []
    return parts


def _taught(row: Row) -> list[Taught]:
    """Every answer that is learnt; for a row without one its prompt alone."""
    if row.messages:
        return taught_by(row.messages) or [Taught(prompt_of(row.messages), "")]
    return [Taught(single_turn(row.instruction, row.input), row.output)]
