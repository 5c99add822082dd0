"""Tools in requests, of our own jobs and of OpenAI's chats alike."""

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo

from shared.contracts.tools import MAX_CALLS, MAX_TOOLS, NamedTool, Tool, ToolCall, ToolMode, checked_tools

Tools = Annotated[list[Tool], Field(max_length=MAX_TOOLS), AfterValidator(checked_tools)]
ToolCalls = Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_CALLS)]


def _offered(choice: ToolMode | NamedTool, info: ValidationInfo) -> ToolMode | NamedTool:
    if "tools" not in info.data:  # they are refused themselves
        return choice
    names = {tool.function.name for tool in info.data["tools"] or ()}
    is_named = isinstance(choice, NamedTool)
    if choice in ("none", "auto") or (choice == "required" and names) or (is_named and choice.function.name in names):
        return choice
    wanted = f"the function {choice.function.name!r}" if is_named else "a call"
    raise ValueError(f"it demands {wanted}, which tools do not offer: add it to tools, or take 'auto'")


ToolChoice = Annotated[
    Annotated[ToolMode, Tag("mode")] | Annotated[NamedTool, Tag("tool")],
    Discriminator(lambda choice: "mode" if isinstance(choice, str) else "tool"),
    AfterValidator(_offered),
]
"""Stands behind the field `tools`, of whose functions it has to be."""
