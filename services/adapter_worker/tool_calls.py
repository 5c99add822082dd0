"""The tool calls of a job's answers: what binds an answer to a call, and what is read of its text."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from shared.contracts.constraints import Constraint
from shared.contracts.generation_params import GenerationParams
from shared.contracts.jobs import Job
from shared.contracts.tools import ToolCall, call_constraint
from shared.prompts.bound import BoundTemplate
from shared.prompts.call_reader import CallReader, Found

_ID_CHARS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 9
"""Mistral's templates take ids of nine letters and digits alone."""


class Said(NamedTuple):
    """What an answer says, and what it calls."""

    text: str
    calls: tuple[ToolCall, ...]


class Calling:
    """How one job's answers call the tools that it offers."""

    def __init__(self, job: Job, params: GenerationParams, template: BoundTemplate) -> None:
        """Raises `Invalid` where the template writes no tools."""
        self.form, self.shown_ids = template.calling()
        self._job_id = job.id
        self._demanded = params.demanded_tools
        self._names = {tool.function.name for tool in self._demanded or params.offered_tools}
        self._most = None if params.parallel_tool_calls else 1

    @property
    def constraint(self) -> Constraint | None:
        """What an answer has to be where a call is demanded: its object, without what a template writes around it."""
        if not self._demanded:
            return None
        return call_constraint(self._demanded, self.form.name_key, self.form.arguments_key)

    def answer(self, index: int) -> "Answer":
        """Return the reader of one choice."""
        form = self.form._replace(opening="", between="", closing="") if self._demanded else self.form
        return Answer(CallReader(form, self._names), f"{self._job_id}/{index}", self._most)

    def said(self, index: int, text: str) -> Said:
        """Return what a whole answer says."""
        answer = self.answer(index)
        found = [*answer.push(text), *answer.end()]
        calls = tuple(one for one in found if isinstance(one, ToolCall))
        return Said("".join(one for one in found if isinstance(one, str)), calls)


class Answer:
    """One choice while its text comes."""

    def __init__(self, reader: CallReader, name: str, most: int | None) -> None:
        self._reader = reader
        self._name = name
        self._most = most
        self._count = 0

    def push(self, text: str) -> list[str | ToolCall]:
        """Add text; returns what is clear now, in its order."""
        return self._counted(self._reader.push(text))

    def end(self) -> list[str | ToolCall]:
        """Return what was held back."""
        return self._counted(self._reader.end())

    def _counted(self, found: Iterable[Found]) -> list[str | ToolCall]:
        told: list[str | ToolCall] = []
        for one in found:
            if isinstance(one, str):
                told.append(one)
            elif self._most is None or self._count < self._most:
                told.append(ToolCall(id=call_id(f"{self._name}/{self._count}"), function=one))
                self._count += 1
        return told


def call_id(name: str) -> str:
    """Return the id of a call: the same in every try of its job."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    digits = ""
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, len(_ID_CHARS))
        digits += _ID_CHARS[digit]
    return digits
