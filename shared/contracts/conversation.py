"""Conversations: turns in order, each with its role and its parts."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Role = Literal["system", "developer", "user", "assistant"]
INSTRUCTING: frozenset[Role] = frozenset({"system", "developer"})
"""Roles of a message that says how to answer; it may only come first."""


class Record(BaseModel):
    """Fields do not change, and unknown ones are ignored, so that old and new versions share a ledger."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TextPart(Record):
    """A piece of a message's text."""

    type: Literal["text"] = "text"
    text: str


ContentPart = TextPart
"""One piece of a message, told apart by `type`; a kind that this version does not know is refused, never skipped."""


class Message(Record):
    """One turn of a conversation; `content` may be given as a plain string, which is one text part."""

    role: Role
    content: tuple[ContentPart, ...] = Field(min_length=1)

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        return (TextPart(text=content),) if isinstance(content, str) else content

    @property
    def text(self) -> str:
        """The text of all parts, one under the other."""
        return "\n".join(part.text for part in self.content)


def message(role: Role, text: str) -> Message:
    """Make a message of one text."""
    return Message(role=role, content=(TextPart(text=text),))


def with_instruction(messages: Sequence[Message], instruction: str) -> tuple[Message, ...]:
    """The conversation, begun by this system message (even an empty one) where it has no instruction of its own."""
    if messages and messages[0].role in INSTRUCTING:
        return tuple(messages)
    return (message("system", instruction), *messages)


def single_turn(instruction: str, text: str) -> tuple[Message, ...]:
    """An instruction and one input as a conversation: what a data-set row trains on."""
    return with_instruction([message("user", text)], instruction)


def check_order(roles: Sequence[Role]) -> None:
    """Raise `ValueError`, which says what to do, unless an instruction only comes first and a user speaks last."""
    for number, role in enumerate(roles):
        if number and role in INSTRUCTING:
            raise ValueError(f"message {number} is a {role} message; only the first message may be one")
    if "user" not in roles:
        raise ValueError("there is no user message; add the one to answer")
    if roles[-1] != "user":
        raise ValueError(f"the last message is the {roles[-1]}'s; end with the user message to answer")
