"""The turns of a row's conversation: which of them are learnt, and after which prompt."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.conversation import Message, message, with_instruction

MAX_TURNS = 200


class Turn(BaseModel):
    """One turn of a row."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=100_000)
    weight: Literal[0, 1] = 1
    """0 on a turn of the assistant that is read and not learnt."""


class Taught(NamedTuple):
    """An answer that is learnt, and the conversation that it follows."""

    prompt: tuple[Message, ...]
    answer: str


def prompt_of(turns: Sequence[Turn], instruction: str = "") -> tuple[Message, ...]:
    """Return the conversation up to the answer to its last user turn; `instruction` is for one that has none."""
    asked = turns[:-1] if turns[-1].role == "assistant" else turns
    return with_instruction([message(turn.role, turn.content) for turn in asked], instruction)


def taught_by(turns: Sequence[Turn], instruction: str = "") -> list[Taught]:
    """Return every turn of the assistant that is learnt, in order."""
    return [
        Taught(prompt_of(turns[: at + 1], instruction), turn.content)
        for at, turn in enumerate(turns)
        if turn.role == "assistant" and turn.weight
    ]


def last_text(turns: Sequence[Turn], role: str) -> str:
    """Return the text of a role's last turn; empty where it has none."""
    return next((turn.content for turn in reversed(turns) if turn.role == role), "")
