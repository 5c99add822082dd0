"""The prompt templates that are built in: the paper's, those of instruction data, and those of model families."""

from collections.abc import Sequence
from types import MappingProxyType

from shared.contracts.conversation import Message
from shared.contracts.prompts import CHATML_END, Segment
from shared.contracts.templates import END, OWN, PromptTemplate, Turn, framed
from shared.errors import Invalid

BASE_TEMPLATE = "chatml"
BASE_INSTRUCTION = "You are a helpful assistant."
"""Instruction for the base model without an adapter, when the request has none."""

_CHATML = {
    role: Turn(before=f"<|im_start|>{role}\n", after=f"{CHATML_END}\n") for role in ("system", "user", "assistant")
}
_LLAMA3 = {
    role: Turn(before=f"<|start_header_id|>{role}<|end_header_id|>\n\n", after="<|eot_id|>")
    for role in ("system", "user", "assistant")
}
_ZEPHYR = {role: Turn(before=f"<|{role}|>\n", after=f"{END}\n") for role in ("system", "user", "assistant")}
_PHI = {role: Turn(before=f"<|{role}|>\n", after="<|end|>\n") for role in ("system", "user", "assistant")}
_GEMMA = {
    role: Turn(before=f"<start_of_turn>{name}\n", after="<end_of_turn>\n")
    for role, name in {"user": "user", "assistant": "model"}.items()
}
_TASK = "Below is an instruction that describes a task"
_RESPOND = "Write a response that appropriately completes the request.\n\n### Instruction:\n"
_BLANK_LINE = Turn(after="\n\n")

_ALL = (
    # The adapter prompt of the paper's appendix A; models have no role `developer`: such a turn is a system turn.
    PromptTemplate(
        name="chatml",
        start="",
        **_CHATML,
        generation="<|im_start|>assistant\n",
        end=CHATML_END,
        controls=("<|im_start|>", CHATML_END),
        writes_empty_system=True,
        by_segment=True,
    ),
    # Each turn, followed by a blank line; for base models without a chat format.
    PromptTemplate(
        name="plain",
        start="",
        system=_BLANK_LINE,
        user=_BLANK_LINE,
        assistant=_BLANK_LINE,
        writes_empty_system=True,
        by_segment=True,
    ),
    PromptTemplate(
        name="alpaca",
        system=Turn(before=f"{_TASK}, paired with an input that provides further context. {_RESPOND}"),
        first_user=Turn(before=f"{_TASK}. {_RESPOND}"),
        user_after_system=Turn(before="\n\n### Input:\n"),
        user=Turn(before="\n\n### Instruction:\n"),
        assistant=Turn(before="\n\n### Response:\n", after=END),
        generation="\n\n### Response:\n",
    ),
    PromptTemplate(
        name="llama3",
        **_LLAMA3,
        generation="<|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
        controls=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        strips=True,
    ),
    PromptTemplate(
        name="gemma",
        **_GEMMA,
        generation="<start_of_turn>model\n",
        end="<end_of_turn>",
        controls=("<start_of_turn>", "<end_of_turn>"),
        strips=True,
    ),
    # [INST] is a control token in some vocabularies of this family, and plain text in others.
    PromptTemplate(
        name="mistral",
        user=Turn(before="[INST] ", after=" [/INST]"),
        assistant=Turn(before=" ", after=END),
    ),
    # Its role marks are plain text.
    PromptTemplate(name="zephyr", **_ZEPHYR, generation="<|assistant|>\n"),
    PromptTemplate(
        name="phi",
        **_PHI,
        generation="<|assistant|>\n",
        end="<|end|>",
        controls=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    PromptTemplate(name=OWN),
)
BUILT_IN = MappingProxyType({template.name: template for template in _ALL})
"""Templates that are there without an operator's doing; `model` stands for the base model's own."""


def adapter_prompt(template: str, messages: Sequence[Message]) -> list[Segment]:
    """Render a conversation with a user turn by a built-in template that has frames; raises `Invalid` for another."""
    if template == OWN or template not in BUILT_IN:
        raise unknown_template(template, [name for name in BUILT_IN if name != OWN])
    return framed(BUILT_IN[template], messages)


def unknown_template(name: str, known: Sequence[str]) -> Invalid:
    """Make the error for a name that no template has."""
    return Invalid("template_unknown", f"no prompt template {name!r}; take one of {', '.join(known)}")
