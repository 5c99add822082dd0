"""Learns from a chat template how it writes calls of tools: what stands before, between and after them."""

import json
import secrets
from collections.abc import Collection
from typing import Any, NamedTuple

from shared.contracts.templates import ToolsNotRendered
from shared.errors import Invalid
from shared.prompts.rendering import ChatTemplate, Conversation, Rendered, rendered

_MOST_CHARS = 200
"""Of what stands before, between or after calls: more is no sign of a call."""


class CallForm(NamedTuple):
    """How a template writes calls: each is a JSON object with a name and arguments.

    What stands around the objects is without white space at its ends; it may be empty.
    """

    opening: str = ""
    between: str = ""
    closing: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"

    @property
    def is_marked(self) -> bool:
        """Whether a text shows where calls begin; else they are an answer that consists of them alone."""
        return any(sign.isalnum() for sign in self.opening)


class _Probe:
    """A question with two tools that nobody has, and answers that call them."""

    def __init__(self) -> None:
        self._nonces = [secrets.token_hex(6) for _ in range(8)]
        self.names = [f"f{nonce}" for nonce in self._nonces[:2]]
        self._properties = [f"p{nonce}" for nonce in self._nonces[2:4]]
        self.told = [*self.names, *self._properties, *self._nonces[4:6]]
        """What a template that writes the tools writes."""
        self.arguments = [{name: nonce} for name, nonce in zip(self._properties, self._nonces[6:], strict=True)]

    @property
    def tools(self) -> list[dict[str, Any]]:
        return [
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": said,
                    "parameters": {
                        "type": "object",
                        "properties": {prop: {"type": "string"}},
                        "required": [prop],
                    },
                },
            }
            for name, prop, said in zip(self.names, self._properties, self._nonces[4:6], strict=True)
        ]

    def conversation(self, count: int) -> Conversation:
        """A question, an answer with so many calls, and what the tools answer."""
        asked = {"role": "user", "content": "a"}
        if not count:
            return Conversation([asked], self.tools)
        # Mistral takes ids of nine letters and digits alone.
        ids = [f"call{number:05}" for number in range(count)]
        called = list(zip(ids, self.names, self.arguments, strict=False))
        calls = [
            {"id": one, "type": "function", "function": {"name": name, "arguments": said}} for one, name, said in called
        ]
        answers = [{"role": "tool", "tool_call_id": one, "name": name, "content": "b"} for one, name, _ in called]
        called_them = {"role": "assistant", "content": "", "tool_calls": calls}
        return Conversation([asked, called_them, *answers], self.tools)

    def is_in(self, text: str) -> bool:
        return any(nonce in text for nonce in self._nonces)


class _Written(NamedTuple):
    """A call in a rendered text."""

    start: int
    end: int
    keys: tuple[str, str]


def call_form(template: ChatTemplate, name: str, ends: Collection[str]) -> CallForm:
    """Return how a template writes calls; `ends` are names of tokens at which an answer ends.

    Raises `Invalid` where it writes nothing of the tools, or calls that are no JSON objects; `Unavailable`.
    """
    probe = _Probe()
    asked, one, two = rendered(template, [probe.conversation(count) for count in range(3)])
    if not asked.text:
        raise _unreadable(name, asked)
    if not all(text in asked.text for text in probe.told):
        raise ToolsNotRendered(name)
    begins = _common_chars(asked.text, one.text)
    first = _call(one.text, begins, probe, 0)
    if first is None:
        raise _unreadable(name, one)
    tail = one.text[first.end :]
    form = CallForm(
        opening=one.text[begins : first.start].strip(),
        between=_between(two.text, begins, probe),
        closing=_before_end(tail, ends),
        name_key=first.keys[0],
        arguments_key=first.keys[1],
    )
    if any(probe.is_in(part) or len(part) > _MOST_CHARS for part in form):
        raise _unreadable(name, one)
    return form


def _common_chars(first: str, second: str) -> int:
    pairs = zip(first, second, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _call(text: str, begins: int, probe: _Probe, number: int) -> _Written | None:
    """The call number `number` behind this place: the JSON object whose values are its name and arguments."""
    at = text.find(probe.names[number], begins)
    start = text.rfind("{", begins, at) if at >= 0 else -1
    if start < 0:
        return None
    try:
        found, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    keys = {json.dumps(value): key for key, value in found.items()}
    of_name, of_arguments = (keys.get(json.dumps(x)) for x in (probe.names[number], probe.arguments[number]))
    return _Written(start, end, (of_name, of_arguments)) if of_name and of_arguments else None


def _between(text: str, begins: int, probe: _Probe) -> str:
    """What stands between two calls; empty where the template writes one alone."""
    first = _call(text, begins, probe, 0)
    second = _call(text, first.end, probe, 1) if first else None
    return text[first.end : second.start].strip() if first and second else ""


def _before_end(tail: str, ends: Collection[str]) -> str:
    """What an answer says after its last call, until it ends; empty where no end is to be seen."""
    places = [at for end in ends if end and (at := tail.find(end)) >= 0]
    return tail[: min(places)].strip() if places else ""


def _unreadable(name: str, found: Rendered) -> Invalid:
    said = found.refusal or found.error
    why = f"it refuses them: {said}" if said else "they are no JSON objects with a name and arguments"
    return Invalid(
        "tool_calls_unreadable",
        f"calls as the chat template of {name!r} writes them cannot be read: {why}; leave tools out, or take another "
        "base model",
    )
