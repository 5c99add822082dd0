"""What the events of a training tell: its stages, its steps, its checkpoints."""

import json
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from services.api.infra.event_feed import START, Event

CHART_POINTS = 200
LOG_LINES = 200
_RATE_STEPS = 50


class Step(NamedTuple):
    """One step: when it was told (milliseconds since 1970), and what it came to."""

    at: float
    loss: float
    learning_rate: float
    tokens: int


class Line(NamedTuple):
    """One line of the log."""

    at: float
    kind: str
    text: str


class Run:
    """A training as far as its events go; a later attempt's steps stand in place of an earlier one's."""

    def __init__(self) -> None:
        self.position = START
        self.steps: dict[int, Step] = {}
        self.log: deque[Line] = deque(maxlen=LOG_LINES)
        self.checkpoints: list[int] = []
        self.last: dict[str, Any] = {}

    def add(self, event: Event) -> None:
        """Take in the next event."""
        self.position = event.id
        data, at = json.loads(event.data), float(event.id.partition("-")[0])
        if data.get("stage") == "training" and "step" in data:
            self.last = data
            self.steps[data["step"]] = Step(at, data["loss"], data["learning_rate"], data.get("tokens", 0))
            return
        if data.get("stage") == "checkpoint":
            self.checkpoints.append(data["step"])
        self.log.append(Line(at, event.type, _text(event.type, data)))

    @property
    def tokens_per_second(self) -> float | None:
        """The speed over the last steps; None before there are two."""
        steps = [self.steps[number] for number in sorted(self.steps)[-_RATE_STEPS:]]
        if len(steps) < 2 or steps[-1].at <= steps[0].at:
            return None
        return max(0.0, (steps[-1].tokens - steps[0].tokens) / (steps[-1].at - steps[0].at) * 1000)

    @property
    def shown(self) -> list[tuple[int, Step]]:
        """The steps of a chart: all, or every so many and the last."""
        numbers = sorted(self.steps)
        return [(number, self.steps[number]) for number in thinned(numbers, CHART_POINTS)]


def thinned(numbers: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the numbers, evenly, the last always among them."""
    if len(numbers) <= most:
        return list(numbers)
    every = -(-(len(numbers) - 1) // (most - 1))
    return [*numbers[:-1:every], numbers[-1]]


def _text(kind: str, data: dict[str, Any]) -> str:
    """Return what an event says, for people: a state or a stage, then its other fields."""
    data = dict(data)
    head = str(data.pop("stage" if kind == "progress" else "state", kind)).replace("_", " ")
    rest = ", ".join(f"{name} {_value(value)}" for name, value in data.items() if value not in (None, "", [], {}))
    return f"{head}: {rest}" if rest else head


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
