"""The tools of a conversation and the calls of its turns, as chat templates are shown them."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.contracts.conversation import Message
from shared.contracts.tools import Tool, ToolCall
from shared.prompts.armour import Armour


class Uses(NamedTuple):
    """The tools of a conversation, the calls of each turn, and the id of the call that it answers."""

    tools: tuple[Tool, ...]
    calls: tuple[tuple[ToolCall, ...], ...]
    answers: tuple[str, ...]

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Sequence[Tool]) -> "Uses | None":
        """Return those of a conversation; None where it has none."""
        calls = tuple(turn.tool_calls or () for turn in messages)
        if not tools and not any(calls):
            return None
        return cls(tuple(tools), calls, tuple(turn.tool_call_id or "" for turn in messages))

    @property
    def written(self) -> str:
        """All that callers wrote of it."""
        called = ((call.id, call.function.name, _arguments(call)) for calls in self.calls for call in calls)
        return json.dumps([[tool.shown() for tool in self.tools], list(called)], ensure_ascii=False)

    def tools_in(self, armour: Armour) -> list[dict[str, Any]]:
        """Return the tools."""
        shown = [tool.shown() for tool in self.tools]
        return [one | {"function": _worn(one["function"], armour)} for one in shown]

    def fields_of(self, turn: int, armour: Armour) -> dict[str, Any]:
        """Return what a turn has besides its text; as in transformers, arguments are an object."""
        if self.answers[turn]:
            names = {call.id: call.function.name for calls in self.calls[:turn] for call in calls}
            return _worn({"tool_call_id": self.answers[turn], "name": names[self.answers[turn]]}, armour)
        calls = [
            {
                "id": armour.on(call.id),
                "type": call.type,
                "function": _worn({"name": call.function.name, "arguments": _arguments(call)}, armour),
            }
            for call in self.calls[turn]
        ]
        return {"tool_calls": calls} if calls else {}


def _arguments(call: ToolCall) -> Any:
    return json.loads(call.function.arguments)


def _worn(fields: dict[str, Any], armour: Armour) -> dict[str, Any]:
    """The fields with their values in the armour: their names are not the caller's."""
    return {name: armour.on(value) for name, value in fields.items()}
