"""Conversations as `messages` and as sharegpt's `conversations`, made into turns that can be trained on."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from shared.contracts.turns import MAX_TURNS, Turn

JOINED_TURNS = "turns of one role in a row were joined"
LEFT_OUT_GREETING = "turns of the assistant before the user's first were left out"
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_OF_TOOLS = "turns of tools cannot be trained; leave this conversation out"


def dialogue_of(given: Any, system: Any, notes: Counter[str]) -> dict[str, Any]:
    """Return the fields of a row: `instruction`, `input`, `output` for one question, else `messages`.

    Raises `ValueError` with the reason; `notes` counts what was changed.
    """
    if not isinstance(given, list) or not given:
        raise ValueError("its messages are no list of turns")
    if len(given) > MAX_TURNS:
        raise ValueError(f"{len(given)} turns, and {MAX_TURNS} are the most; split the conversation")
    turns = [turn for number, item in enumerate(given, start=1) if (turn := _turn(item, number))]
    if isinstance(system, str) and system.strip() and (not turns or turns[0].role != "system"):
        turns.insert(0, Turn(role="system", content=system))
    turns = _joined(_from_the_user_on(turns, notes), notes)
    _check(turns)
    return _fields(turns)


def _turn(item: Any, number: int) -> Turn | None:
    """One turn; None for an empty system turn."""
    if not isinstance(item, dict):
        raise ValueError(f"turn {number} is no object with a role and a content")
    role = item.get("role", item.get("from"))
    if item.get("tool_calls") or item.get("function_call") or role in ("tool", "function", "observation"):
        raise ValueError(f"turn {number}: {_OF_TOOLS}")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"turn {number} has the role {str(role)[:40]!r}; known are {', '.join(_ROLES)}")
    content = _content(item.get("content", item.get("value")), number)
    if not content.strip():
        if _ROLES[role] == "system":
            return None
        raise ValueError(f"turn {number} ({role}) is empty; write it, or leave this conversation out")
    return Turn.model_validate({"role": _ROLES[role], "content": content, "weight": _weight(item, number)})


def _content(content: Any, number: int) -> str:
    """A turn's text; of a list of parts all must be texts."""
    if type(content) is str:
        return content
    parts = content if isinstance(content, list) else []
    texts = [text for part in parts if isinstance(part, dict) and type(text := part.get("text")) is str]
    if not texts or len(texts) < len(parts):
        raise ValueError(f"turn {number}: its content is no text, nor a list of parts that are texts")
    return "\n".join(texts)


def _weight(item: dict[str, Any], number: int) -> int:
    weight = item.get("weight", "1")
    if weight not in ("0", "1"):
        raise ValueError(f"turn {number} has the weight {str(weight)[:40]!r}; it is 1, or 0 for a turn not to learn")
    return int(weight)


def _from_the_user_on(turns: Sequence[Turn], notes: Counter[str]) -> list[Turn]:
    """The system turn and everything from the user's first turn on."""
    system = list(turns[:1]) if turns and turns[0].role == "system" else []
    first = next((at for at, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise ValueError("there is no turn of the user; add the one that is answered")
    if any(turn.role == "system" for turn in turns[len(system) :]):
        raise ValueError("a system turn stands after others; only the first may be one")
    if first > len(system):
        notes[LEFT_OUT_GREETING] += 1
    return [*system, *turns[first:]]


def _joined(turns: Sequence[Turn], notes: Counter[str]) -> list[Turn]:
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            before = joined.pop()
            notes[JOINED_TURNS] += 1
            turn = turn.model_copy(  # noqa: PLW2901
                update={
                    "content": f"{before.content}\n{turn.content}",
                    "weight": min(before.weight, turn.weight),
                }
            )
        joined.append(turn)
    return joined


def _check(turns: Sequence[Turn]) -> None:
    answers = [turn for turn in turns if turn.role == "assistant"]
    if answers and not any(turn.weight for turn in answers):
        raise ValueError("every turn of the assistant has the weight 0, so nothing is learnt; leave it out")


def _fields(turns: Sequence[Turn]) -> dict[str, Any]:
    system = turns[0].content if turns[0].role == "system" else ""
    rest = turns[1:] if system else turns
    if len(rest) > 2:
        return {"messages": tuple(turns)}
    answer = {"output": rest[1].content} if len(rest) == 2 else {}
    return {"instruction": system, "input": rest[0].content, **answer}
