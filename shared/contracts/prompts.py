"""The prompts of the paper's appendix A, split so that user text stays user text and a long input can be shortened.

A prompt is a list of segments; the tokenizer may read special tokens only in `TEMPLATE` segments, so a user who
writes `<|im_end|>` gets those characters, never the control token.
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
    """One piece of a prompt; `is_input` marks the one that may be shortened."""

    part: Part
    text: str
    is_input: bool = False


def _template(text: str) -> Segment:
    return Segment(Part.TEMPLATE, text)


def _user(messages: Sequence[Message]) -> list[Segment]:
    """The text of every turn; callers may write any of them, the assistant's too."""
    last = max(number for number, turn in enumerate(messages) if turn.role == "user")
    return [Segment(Part.USER, turn.text, is_input=number == last) for number, turn in enumerate(messages)]


def chatml(messages: Sequence[Message]) -> list[Segment]:
    """Adapter prompt of appendix A: each turn under its role; generation starts where it ends.

    Models know no `developer`: such a turn is a system turn.
    """
    segments, border = [], ""
    for turn, text in zip(messages, _user(messages), strict=True):
        role = "system" if turn.role in INSTRUCTING else turn.role
        segments += [_template(f"{border}<|im_start|>{role}\n"), text]
        border = f"{CHATML_END}\n"
    return [*segments, _template(f"{border}<|im_start|>assistant\n")]


def plain(messages: Sequence[Message]) -> list[Segment]:
    """Each turn and a blank line: for base models without a chat format."""
    return [segment for turn in _user(messages) for segment in (turn, _template("\n\n"))]


Template = Callable[[Sequence[Message]], list[Segment]]
TEMPLATES: Mapping[str, Template] = MappingProxyType({"chatml": chatml, "plain": plain})
"""Templates an adapter's manifest may name; new ones come from operators, by code, never from a request."""

BASE_TEMPLATE = "chatml"
BASE_INSTRUCTION = "You are a helpful assistant."
"""What the base model is asked with where it answers alone, and the request brings no instruction."""


def adapter_prompt(template: str, messages: Sequence[Message]) -> list[Segment]:
    """Render a conversation, in which a user speaks, by the named template; raises `Invalid` for an unknown one.

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
    """What follows the selector prompt: the domain, then on its own line the task."""
    return f"{label.domain}\nTask:{label.task}"


def render(segments: Iterable[Segment]) -> str:
    """The prompt as one string, for reading and for golden tests; models get the segments, by `shared.model.tokens`."""
    return "".join(segment.text for segment in segments)
