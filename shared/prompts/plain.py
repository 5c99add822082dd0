"""Prompts of templates that are frames of turns: they need no vocabulary, and have no place for tools."""

from collections.abc import Sequence

from shared.contracts.conversation import Message
from shared.contracts.prompts import Segment
from shared.contracts.templates import OWN, PromptTemplate, ToolsNotRendered, framed
from shared.contracts.tools import Tool
from shared.errors import Invalid


def plain_segments(template: PromptTemplate, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Segment]:
    """Return the segments of a conversation; raises `ToolsNotRendered` where tools are offered."""
    if tools:
        raise ToolsNotRendered(template.name)
    return framed(template, messages)


def check_plain(template: PromptTemplate) -> None:
    """Raise `Invalid` for a chat template in Jinja, which a base model's vocabulary belongs to."""
    if template.jinja or template.name == OWN:
        raise Invalid("template_missing", f"this engine has no base model, and so no template {template.name!r}")
