"""The segments that a prompt is made of, so that user text stays text and a long input can be shortened.

The tokenizer recognises special tokens only in `TEMPLATE` segments, so a user's `<|im_end|>` is read as text, never as
the control token. How conversations become segments say the templates (`shared.contracts.templates`); here is also the
selector's prompt of the paper's appendix A.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from shared.contracts.conversation import Record
from shared.contracts.labels import Label

CHATML_END = "<|im_end|>"


class Part(StrEnum):
    """Who wrote a segment: the operator's template, or a user; `START` and `END` are the tokenizer's own tokens."""

    TEMPLATE = "template"
    USER = "user"
    START = "start"
    """The token that the tokenizer puts before every text, if it has one."""
    END = "end"


class Segment(NamedTuple):
    """One segment of a prompt; `is_input` marks the segment that may be shortened.

    The segments of one prompt are either all joined or none: joined text is encoded together with its neighbours, and
    only control tokens part it; other segments are encoded one by one.
    """

    part: Part
    text: str
    is_input: bool = False
    is_joined: bool = False


class PromptPart(Record):
    """A piece of a prompt: text of the `template`, in which control tokens count, or of a `user`, in which none do.

    `start` and `end` stand for the tokenizer's own tokens.
    """

    by: Part
    text: str


def told(prompt: Sequence[Segment]) -> tuple[PromptPart, ...]:
    """Return a prompt as results tell it."""
    return tuple(PromptPart(by=segment.part, text=segment.text) for segment in prompt)


def _template(text: str) -> Segment:
    return Segment(Part.TEMPLATE, text)


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
