"""The two stages of a training on several tasks, and how much of the budget each takes (paper, section 4.2)."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from services.trainer.multitask.samplers import Sampling
from shared.contracts.multitask import LOW_BELOW, MultitaskTrain, Resource
from shared.errors import Invalid


class Stage(NamedTuple):
    """One stage: its tasks, how they are drawn, and for how many steps."""

    name: str
    labels: tuple[str, ...]
    sampling: Sampling
    steps: int

    def draws(self, body: MultitaskTrain) -> int:
        """Return how many rows it draws."""
        return self.steps * _rows_a_step(body)

    def as_report(self, sizes: Mapping[str, int], body: MultitaskTrain) -> dict[str, Any]:
        """Return plain values for events and results; `sizes` are the labels' rows."""
        chances = self.sampling.probabilities([sizes[label] for label in self.labels], self.draws(body))
        shares = {label: round(chance, 6) for label, chance in zip(self.labels, chances, strict=True)}
        return {"stage": self.name, "steps": self.steps, "sampler": self.sampling.sampler, "probabilities": shares}


def stages_of(sizes: Mapping[str, int], high: Collection[str], body: MultitaskTrain) -> list[Stage]:
    """Return the stages, whose steps are the same for every sampler; raises `Invalid` where one would train nothing."""
    of_high = tuple(label for label in sizes if label in high) if body.two_stages else ()
    first = _steps(sum(sizes[label] for label in of_high), body, body.max_steps)
    left = body.max_steps - first
    if left < 1:
        raise Invalid(
            "budget_empty",
            f"the epoch on high-resource tasks takes all {body.max_steps} steps, so that the stage with all tasks "
            "would train nothing: raise max_steps, or set two_stages to false",
        )
    sampling = Sampling(body.sampler, body.tau, body.cap, body.epoch_cap)
    second = Stage("stage-2", tuple(sizes), sampling, _steps(body.settings.epochs * sum(sizes.values()), body, left))
    return [Stage("stage-1", of_high, Sampling("instance"), first), second] if of_high else [second]


def overfits_at(losses: list[float]) -> int | None:
    """Return the epoch, from 1, whose validation loss is the first above that of an epoch before it; None so far."""
    return next((epoch for epoch in range(2, len(losses) + 1) if losses[epoch - 1] > min(losses[: epoch - 1])), None)


def resource_of(losses: list[float]) -> Resource | None:
    """Return whether a task is high- or low-resource by the losses of its first epochs; None where more are needed."""
    if overfits_at(losses):
        return "low"
    return "high" if len(losses) >= LOW_BELOW - 1 else None


def _steps(rows: int, body: MultitaskTrain, most: int) -> int:
    return min(math.ceil(rows / _rows_a_step(body)), most)


def _rows_a_step(body: MultitaskTrain) -> int:
    return body.settings.batch_size * body.settings.accumulate
