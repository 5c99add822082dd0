"""The prompts of the paper's appendix A, in segments, so that user text stays text and a long input can be shortened.

A prompt is a list of segments; the tokenizer recognises special tokens only in `TEMPLATE` segments, so a user's
`<|im_end|>` is read as text, never as the control token.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from shared.contracts.conversation import INSTRUCTING, Message
from shared.contracts.labels import Label
from shared.errors import Invalid

CHATML_END = "<|im_end|>"


class Part(StrEnum):
    """Who wrote a segment: the operator's template, or a user."""

    TEMPLATE = "template"
    USER = "user"


class Segment(NamedTuple):
    """One segment of a prompt; `is_input` marks the segment that may be shortened."""

    part: Part
    text: str
    is_input: bool = False


def _template(text: str) -> Segment:
    return Segment(Part.TEMPLATE, text)


def _user(messages: Sequence[Message]) -> list[Segment]:
    """Return the text of every turn as user text: callers may write all of them, also the assistant's."""
    last = max(number for number, turn in enumerate(messages) if turn.role == "user")
    return [Segment(Part.USER, turn.text, is_input=number == last) for number, turn in enumerate(messages)]


def chatml(messages: Sequence[Message]) -> list[Segment]:
    """Adapter prompt of appendix A: each turn after its role; the answer follows the prompt.

    Models have no role `developer`: such a turn is a system turn.
    """
    segments, border = [], ""
    for turn, text in zip(messages, _user(messages), strict=True):
        role = "system" if turn.role in INSTRUCTING else turn.role
        segments += [_template(f"{border}<|im_start|>{role}\n"), text]
        border = f"{CHATML_END}\n"
    return [*segments, _template(f"{border}<|im_start|>assistant\n")]


def plain(messages: Sequence[Message]) -> list[Segment]:
    """Each turn, followed by a blank line; for base models without a chat format."""
    return [segment for turn in _user(messages) for segment in (turn, _template("\n\n"))]


Template = Callable[[Sequence[Message]], list[Segment]]
TEMPLATES: Mapping[str, Template] = MappingProxyType({"chatml": chatml, "plain": plain})
"""Templates that an adapter's manifest may name; they are defined in code, never by a request."""

BASE_TEMPLATE = "chatml"
BASE_INSTRUCTION = "You are a helpful assistant."
"""Instruction for the base model without an adapter, when the request has none."""


def adapter_prompt(template: str, messages: Sequence[Message]) -> list[Segment]:
    """Render a conversation with a user turn by the named template; raises `Invalid` for an unknown template.

    Its last user turn is the segment that may be shortened.
    """
    if template not in TEMPLATES:
        raise Invalid("template_unknown", f"no prompt template {template!r}; known: {', '.join(TEMPLATES)}")
    return TEMPLATES[template](messages)


def selector_prompt(text: str, labels: Iterable[Label]) -> list[Segment]:
    """Selector prompt of appendix A up to the first word of the answer; lists are sorted, each name once."""
    labels = list(labels)
    domains = ", ".join(sorted({label.domain for label in labels}))
    tasks = ", ".join(sorted({label.task for label in labels}))
    return [
        _template("Determine which of the following datapoint is in which domain, what is the task.\ninput:"),
        Segment(Part.USER, text, is_input=True),
        _template(f"\nSelect from below list:\nDomains:{domains}\nTasks:{tasks}\nResults:\nDomain:"),
    ]


def selector_answer(label: Label) -> str:
    """Return the answer to the selector prompt: the domain, then the task on its own line."""
    return f"{label.domain}\nTask:{label.task}"


def render(segments: Iterable[Segment]) -> str:
    """Return the prompt as one string, for people and golden tests; models get the segments (`shared.model.tokens`)."""
    return "".join(segment.text for segment in segments)
