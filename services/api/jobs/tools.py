"""Tools in requests, of our own jobs and of OpenAI's chats alike."""

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo

from shared.contracts.tools import MAX_CALLS, MAX_TOOLS, NamedTool, Tool, ToolCall, ToolMode, checked_tools

Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS), AfterValidator(checked_tools)]
ToolCalls = Annotated[list[ToolCall], Field(max_length=MAX_CALLS)]


def _offered(choice: ToolMode | NamedTool, info: ValidationInfo) -> ToolMode | NamedTool:
    if "tools" not in info.data:  # they are refused themselves
        return choice
    names = {tool.function.name for tool in info.data["tools"] or ()}
    if isinstance(choice, NamedTool):
        is_offered, wanted = choice.function.name in names, f"the function {choice.function.name!r}"
    else:
        is_offered, wanted = choice != "required" or bool(names), "a call"
    if not is_offered:
        raise ValueError(f"it demands {wanted}, which tools do not offer: add it to tools, or take 'auto'")
    return choice


ToolChoice = Annotated[
    Annotated[ToolMode, Tag("mode")] | Annotated[NamedTool, Tag("tool")],
    Discriminator(lambda choice: "mode" if isinstance(choice, str) else "tool"),
    AfterValidator(_offered),
]
"""Stands behind the field `tools`, of whose functions it has to be."""
