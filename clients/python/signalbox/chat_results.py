"""Answers in OpenAI's format, whole and in pieces."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from signalbox.results import Record


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call of a function: answer it with a message of the role `tool` whose `tool_call_id` is `id`."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""

    @property
    def parsed(self) -> dict[str, Any]:
        """The arguments as an object."""
        found: dict[str, Any] = json.loads(self.arguments)
        return found


def _calls(given: Sequence[Mapping[str, Any]] | None) -> list[ToolCall]:
    return [
        ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in given or ()
    ]


@dataclass(frozen=True, kw_only=True)
class Chat(Record):
    """A whole answer in OpenAI's format."""

    id: str
    model: str = ""
    choices: list[Mapping[str, Any]] = field(default_factory=list)
    usage: Mapping[str, int] = field(default_factory=dict)
    signalbox: Mapping[str, Any] = field(default_factory=dict)
    """What answered, and why: `label`, `probability`, `adapter_ref`, `release`, …"""

    @property
    def text(self) -> str:
        """What the first choice says."""
        return str(self.choices[0]["message"]["content"] or "")

    @property
    def message(self) -> Mapping[str, Any]:
        """The first choice as a message: with its calls, it goes before what the tools answer."""
        message: Mapping[str, Any] = self.choices[0]["message"]
        return message

    @property
    def tool_calls(self) -> list[ToolCall]:
        """What the first choice calls."""
        return _calls(self.message.get("tool_calls"))

    @property
    def label(self) -> str | None:
        """The label that answered; None for the base model."""
        return self.signalbox.get("label")


@dataclass(frozen=True, kw_only=True)
class ChatChunk(Record):
    """A piece of an answer; the one with the last `finish_reason` has `signalbox`."""

    id: str = ""
    choices: list[Mapping[str, Any]] = field(default_factory=list)
    usage: Mapping[str, int] | None = None
    signalbox: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """What it adds to its choice."""
        return str(self.choices[0]["delta"].get("content") or "") if self.choices else ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """What its choice calls: each call comes whole."""
        return _calls(self.choices[0]["delta"].get("tool_calls")) if self.choices else []

    @property
    def index(self) -> int:
        """Of which choice it is, where a request asks for several."""
        return int(self.choices[0]["index"]) if self.choices else 0

    def without(self, characters: int) -> "ChatChunk | None":
        """The chunk without the first characters of its text; None where no text is left."""
        if characters <= 0:
            return self
        if not (left := self.text[characters:]):
            return None
        choice = {**self.choices[0], "delta": {**self.choices[0]["delta"], "content": left}}
        return self.from_dict({**self.raw, "choices": [choice]})
