"""Conversations: turns in order, each with its role and its parts."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.contracts.tools import MAX_CALLS, CallId, ToolCall

Role = Literal["system", "developer", "user", "assistant", "tool"]
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
Calls = Annotated[tuple[ToolCall, ...], Field(max_length=MAX_CALLS)]


class Message(Record):
    """One turn of a conversation; `content` may be given as a plain string, which is one text part."""

    role: Role
    content: tuple[ContentPart, ...] | None = Field(default=None, min_length=1)
    """Only a turn with calls may have none."""
    tool_calls: Calls | None = None
    """Of the assistant."""
    tool_call_id: CallId | None = None
    """Of a tool: the call that it answers."""

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        return (TextPart(text=content),) if isinstance(content, str) else content

    @model_validator(mode="after")
    def _is_of_its_role(self) -> Self:
        check_turn(self)
        return self

    @property
    def text(self) -> str:
        """The text of all parts, joined by line breaks."""
        return "\n".join(part.text for part in self.content or ())


def message(role: Role, text: str) -> Message:
    """Make a message with one text part."""
    return Message(role=role, content=(TextPart(text=text),))


def with_instruction(messages: Sequence[Message], instruction: str) -> tuple[Message, ...]:
    """Return the conversation, with this system message (even an empty one) before it if it has no instruction."""
    if messages and messages[0].role in INSTRUCTING:
        return tuple(messages)
    return (message("system", instruction), *messages)


def prefixed(prefix: str, instruction: str) -> str:
    """Return an instruction with a task's prefix on a line before it; as it is where there is no prefix."""
    return f"{prefix}\n{instruction}" if prefix and instruction else prefix or instruction


def with_prefix(messages: Sequence[Message], prefix: str) -> tuple[Message, ...]:
    """Return a conversation that begins with its instruction, with a task's prefix before that."""
    if not prefix:
        return tuple(messages)
    first, *others = messages
    return (message(first.role, prefixed(prefix, first.text)), *others)


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


def last_user(messages: Sequence[Message]) -> int:
    """Return the number of the last user turn."""
    return max(number for number, turn in enumerate(messages) if turn.role == "user")


class TurnFields(Protocol):
    """What a turn has, in whatever form it came."""

    @property
    def role(self) -> Role:
        """Whose it is."""
        ...

    @property
    def content(self) -> object:
        """Its text in any form; None where it has none."""
        ...

    @property
    def tool_calls(self) -> Sequence[ToolCall] | None:
        """What it calls."""
        ...

    @property
    def tool_call_id(self) -> str | None:
        """The call that it answers."""
        ...


def check_turn(turn: TurnFields) -> None:
    """Raise `ValueError` with the remedy unless a turn has what its role has."""
    if turn.tool_calls and turn.role != "assistant":
        raise ValueError(f"a {turn.role} message has no tool_calls: they are the assistant's")
    if turn.tool_call_id is not None and turn.role != "tool":
        raise ValueError(f"a {turn.role} message has no tool_call_id: it belongs to messages of the role tool")
    if turn.tool_call_id is None and turn.role == "tool":
        raise ValueError("a message of the role tool needs the tool_call_id of the call that it answers")
    if turn.content is None and not turn.tool_calls:
        raise ValueError("content is missing; only a message with tool_calls may have none")


def check_order(turns: Sequence[TurnFields]) -> None:
    """Raise `ValueError` with the remedy unless the turns may follow each other.

    Instructions come only first, the last turn is the user's or a tool's, and every call is answered right after its
    turn, once.
    """
    roles = [turn.role for turn in turns]
    for number, role in enumerate(roles):
        if number and role in INSTRUCTING:
            raise ValueError(f"message {number} is a {role} message; only the first message may be one")
    if "user" not in roles:
        raise ValueError("there is no user message; add the one to answer")
    _check_answers(turns)
    if roles[-1] not in ("user", "tool"):
        raise ValueError(f"the last message is the {roles[-1]}'s; end with the user message to answer")


def _check_answers(turns: Sequence[TurnFields]) -> None:
    waiting: set[str] = set()
    for number, turn in enumerate(turns):
        if turn.role == "tool":
            if turn.tool_call_id not in waiting:
                raise ValueError(
                    f"message {number} answers the call {turn.tool_call_id!r}, which no assistant message right before "
                    "it makes, or which has its answer already"
                )
            waiting.remove(turn.tool_call_id)
            continue
        _check_none_waits(waiting, number)
        ids = [call.id for call in turn.tool_calls or ()]
        waiting = set(ids)
        if len(waiting) < len(ids):
            raise ValueError(f"message {number} has two tool_calls with the same id; give each its own")
    _check_none_waits(waiting, len(turns))


def _check_none_waits(waiting: set[str], number: int) -> None:
    if waiting:
        raise ValueError(
            f"the call {min(waiting)!r} has no answer before message {number}: add a message of the role tool with "
            "its tool_call_id"
        )
