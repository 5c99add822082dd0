"""The checks of an uploaded adapter by name, in their order: which it has passed, and at which it was refused."""

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal, NamedTuple

Outcome = Literal["passed", "failed", "not_reached"]


class Step(StrEnum):
    """One check, in the order in which an upload meets them."""

    TEMPLATE = "template"
    ARCHIVE = "archive"
    CONFIG = "config"
    WEIGHTS = "weights"
    TARGETS = "targets"
    RANK = "rank"
    TENSORS = "tensors"
    NORMALISED = "normalised"
    NUMBERS = "numbers"
    BASE_MODEL = "base_model"
    DIGEST = "digest"
    ROOM = "room"

    @property
    def says(self) -> str:
        """What is so where it is passed."""
        return _SAYS[self]


_SAYS = {
    Step.TEMPLATE: "base model and prompt template are known, and fit each other",
    Step.ARCHIVE: "the archive is sound and holds one adapter, as safetensors",
    Step.CONFIG: "the config is that of a LoRA of PEFT, and switches nothing on that is not served",
    Step.WEIGHTS: "the weights are a whole safetensors file within the limit of bytes",
    Step.TARGETS: "what it changes are linear layers of the base model",
    Step.RANK: "the rank is within the limit",
    Step.TENSORS: "every tensor is there, in the shape that config and base model ask for",
    Step.NORMALISED: "it is plain LoRA as PEFT writes it, or was made so",
    Step.NUMBERS: "all numbers are finite",
    Step.BASE_MODEL: "the base model that the config names is this one, an unknown one, or confirmed",
    Step.DIGEST: "it has arrived as it was sent",
    Step.ROOM: "there is room for it in the store",
}


class Checked(NamedTuple):
    """One check and how it ended."""

    step: Step
    outcome: Outcome


class Steps:
    """What an upload has passed so far, and the check that it is at."""

    def __init__(self) -> None:
        self._passed: list[Step] = []
        self._at: Step | None = None

    @contextlib.contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Note that the block makes this check: passed at its end, failed where it raises."""
        self._at = step
        yield
        self._at = None
        self._passed.append(step)

    def told(self) -> list[Checked]:
        """Return every check with its outcome."""
        return [Checked(step, self._outcome(step)) for step in Step]

    def _outcome(self, step: Step) -> Outcome:
        if step in self._passed:
            return "passed"
        return "failed" if step is self._at else "not_reached"
