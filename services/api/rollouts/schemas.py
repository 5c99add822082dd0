"""Requests about rollouts, and how one is shown."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.api.jobs.schemas import Request
from services.api.rollouts.analysis import findings
from shared.contracts.rollouts import (
    MAX_STEPS,
    Golden,
    Rollout,
    RolloutEvent,
    RolloutState,
    RolloutStep,
    StepCounts,
    StickBy,
    Strategy,
    falling_step,
)

Percent = Annotated[int, Field(ge=1, le=100)]


class AskedStep(RolloutStep):
    """A step that says its own duration and count."""

    model_config = ConfigDict(extra="forbid")


class RolloutRequest(Request):
    """How a candidate is rolled out."""

    strategy: Strategy = "canary"
    """`canary`: the candidate answers its share of the requests. `shadow`: its selector reads them, no more."""
    steps: Annotated[Sequence[Percent | AskedStep], Field(min_length=1, max_length=MAX_STEPS)] = (1, 5, 25, 50, 100)
    """Shares of the requests in percent, each above the one before it; a number takes `seconds` and `requests`."""
    seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600)] = 600
    """How long a step takes at least."""
    requests: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    """How many requests of the candidate have to end in a step at least."""
    failure_limit: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many looks in a row may find the candidate worse before it is taken back."""
    stick_by: StickBy = "job"
    """What keeps requests that belong to no conversation under one release: nothing, or the line of keys."""
    force: bool = False
    """Overrule the gate; it needs the scope `admin`."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if (number := falling_step(self.planned)) is not None:
            shares = ", ".join(str(step.percent) for step in self.planned)
            raise ValueError(f"steps have to rise, and step {number + 1} does not ({shares}): put them in order")
        return self

    @property
    def planned(self) -> tuple[RolloutStep, ...]:
        """The steps in full."""
        return tuple(
            step
            if isinstance(step, RolloutStep)
            else RolloutStep(percent=step, seconds=self.seconds, requests=self.requests)
            for step in self.steps
        )


class FindingView(BaseModel):
    """What the requests of both releases say of one fault."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    fault: str
    current: float
    """Share of the current release's requests that show it."""
    candidate: float
    requests: int
    """Requests of the candidate that could show it."""
    difference: float
    low: float
    """The difference is certainly above this, however often one looks."""
    high: float
    margin: float
    """By how much more the candidate may show it."""


class RolloutView(BaseModel):
    """A rollout, and what its requests say so far."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    id: str
    release: str
    current: str
    strategy: Strategy
    steps: tuple[RolloutStep, ...]
    failure_limit: int
    stick_by: StickBy
    state: RolloutState
    why: str
    step: int
    """From 1."""
    percent: int
    """The share of the requests that the candidate gets now."""
    step_began_at: float
    created_at: float
    ended_at: float | None
    key: str
    findings: list[FindingView]
    counts: tuple[StepCounts, ...]
    """By step, what was counted: how many requests could show a fault, and how many did."""
    golden: dict[str, Golden]
    """By changed label: golden rows, and how like the rows' own answers those of the candidate and those before are."""
    events: tuple[RolloutEvent, ...]

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        """Show a rollout."""
        same: dict[str, Any] = {name: getattr(rollout, name) for name in cls.model_fields if hasattr(rollout, name)}
        found = [
            FindingView(
                fault=one.fault,
                current=round(one.current.share, 6),
                candidate=round(one.candidate.share, 6),
                requests=one.candidate.seen,
                difference=round(one.difference, 6),
                low=round(one.low, 6),
                high=round(one.high, 6),
                margin=one.margin,
            )
            for one in findings(rollout.counts)
        ]
        return cls(**same | {"step": rollout.step + 1, "ended_at": rollout.ended_at or None, "findings": found})
