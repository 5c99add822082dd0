"""Conversations: turns in order, each with its role and its parts."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Role = Literal["system", "developer", "user", "assistant"]
INSTRUCTING: frozenset[Role] = frozenset({"system", "developer"})
"""Roles of an instruction message, which may only be the first message."""


class Record(BaseModel):
    """A frozen model that ignores unknown fields, so that old and new versions can share a ledger."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TextPart(Record):
    """A text part of a message."""

    type: Literal["text"] = "text"
    text: str


ContentPart = TextPart
"""One part of a message, distinguished by `type`; a type that this version does not know is refused, never skipped."""


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
        """The text of all parts, joined by line breaks."""
        return "\n".join(part.text for part in self.content)


def message(role: Role, text: str) -> Message:
    """Make a message with one text part."""
    return Message(role=role, content=(TextPart(text=text),))


def with_instruction(messages: Sequence[Message], instruction: str) -> tuple[Message, ...]:
    """Return the conversation, with this system message (even an empty one) before it if it has no instruction."""
    if messages and messages[0].role in INSTRUCTING:
        return tuple(messages)
    return (message("system", instruction), *messages)


def count_old_turns(messages: Sequence[Message]) -> int:
    """Count the user turns before the last one."""
    return sum(turn.role == "user" for turn in messages) - 1


def without_old_turns(messages: Sequence[Message], dropped: int) -> tuple[Message, ...]:
    """Return the conversation from its user turn number `dropped` on, with its instruction."""
    if not dropped:
        return tuple(messages)
    instructions = tuple(messages[: messages[0].role in INSTRUCTING])
    begins = [number for number, turn in enumerate(messages) if turn.role == "user"]
    return (*instructions, *messages[begins[dropped] :])


def single_turn(instruction: str, text: str) -> tuple[Message, ...]:
    """Return an instruction and one input as a conversation; a data-set row is trained in this form."""
    return with_instruction([message("user", text)], instruction)


def check_order(roles: Sequence[Role]) -> None:
    """Raise `ValueError` with the remedy unless instructions come only first and the last turn is the user's."""
    for number, role in enumerate(roles):
        if number and role in INSTRUCTING:
            raise ValueError(f"message {number} is a {role} message; only the first message may be one")
    if "user" not in roles:
        raise ValueError("there is no user message; add the one to answer")
    if roles[-1] != "user":
        raise ValueError(f"the last message is the {roles[-1]}'s; end with the user message to answer")
