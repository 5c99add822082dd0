"""The prompts of the paper's appendix A, split so that user text stays user text and a long input can be shortened.

A prompt is a list of segments; the tokenizer may read special tokens in `TEMPLATE` segments alone, so a user who
writes `<|im_end|>` gets those characters, never the control token.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from shared.contracts.labels import Label
from shared.errors import Invalid


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


def chatml(instruction: str, text: str) -> list[Segment]:
    """Adapter prompt of appendix A: system = instruction, user = input; generation starts where it ends."""
    return [
        _template("<|im_start|>system\n"),
        Segment(Part.USER, instruction),
        _template("<|im_end|>\n<|im_start|>user\n"),
        Segment(Part.USER, text, is_input=True),
        _template("<|im_end|>\n<|im_start|>assistant\n"),
    ]


def plain(instruction: str, text: str) -> list[Segment]:
    """Instruction, blank line, input, blank line: for base models without a chat format."""
    return [
        Segment(Part.USER, instruction),
        _template("\n\n"),
        Segment(Part.USER, text, is_input=True),
        _template("\n\n"),
    ]


TEMPLATES: Mapping[str, Callable[[str, str], list[Segment]]] = MappingProxyType({"chatml": chatml, "plain": plain})
"""Templates an adapter's manifest may name; new ones come from operators, by code, never from a request."""

CHATML_END = "<|im_end|>"

BASE_TEMPLATE = "chatml"
BASE_INSTRUCTION = "You are a helpful assistant."
"""What the base model is asked with where it answers alone, and the request brings no instruction."""


def adapter_prompt(template: str, instruction: str, text: str) -> list[Segment]:
    """Render the named template; raises `Invalid` for an unknown one."""
    if template not in TEMPLATES:
        raise Invalid("template_unknown", f"no prompt template {template!r}; known: {', '.join(TEMPLATES)}")
    return TEMPLATES[template](instruction, text)


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
