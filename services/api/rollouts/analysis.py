"""Whether a candidate does worse than the current release: sequential tests, which may be looked at any time.

Each request either shows a fault or does not. The difference of both releases' shares has a confidence sequence: an
interval that contains the true difference at every look with probability 1 - alpha (mixture sequential probability
ratio test, Robbins 1970; Johari et al. 2017, eq. 10, with a normal mixture). Both releases are compared within steps,
as the share of the requests changes between them, and the differences are pooled by their precision.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from shared.contracts.rollouts import FALSE_ALARMS, StepCounts, Tally

_EFFECT = 0.1
"""Standard deviation of the mixture: the size of difference that is found soonest."""


class Fault(StrEnum):
    """What a request may show."""

    FAILED = "failed"
    REJECTED = "rejected"
    SLOW_SELECTOR = "slow_selector"
    """From the job's creation to its routing, among the slowest twentieth of the current release's first requests."""
    SLOW_ANSWER = "slow_answer"
    """From its routing to its end, likewise."""
    LONG_ANSWER = "long_answer"
    """In tokens, likewise."""
    DISLIKED = "disliked"
    """By feedback: a thumb down, or another label."""
    DISAGREES = "disagrees"
    """The candidate's selector names another label than the current one's, which answered."""


MARGINS: Mapping[Fault, float] = {
    Fault.FAILED: 0.0,
    Fault.REJECTED: 0.02,
    Fault.SLOW_SELECTOR: 0.05,
    Fault.SLOW_ANSWER: 0.05,
    Fault.LONG_ANSWER: 0.05,
    Fault.DISLIKED: 0.0,
}
"""How much more of its requests a candidate may show; disagreement alone is no fault."""


class Finding(NamedTuple):
    """What both releases' requests say of one fault: the difference of its shares, and its confidence sequence."""

    fault: Fault
    current: Tally
    candidate: Tally
    difference: float
    deviation: float
    """Standard deviation of the difference's estimate."""
    low: float
    high: float

    @property
    def margin(self) -> float:
        """How much more the candidate may show."""
        return MARGINS[self.fault]

    @property
    def is_worse(self) -> bool:
        """Whether the candidate certainly shows it more often than it may."""
        return self.low > self.margin

    @property
    def is_unclear(self) -> bool:
        """Whether it seems to show it more often than it may, by two deviations, and that is not certain."""
        return not self.is_worse and self.difference - 2 * self.deviation > self.margin

    def __str__(self) -> str:
        return (
            f"{self.fault}: {self.candidate.hits} of {self.candidate.seen} requests of the candidate, "
            f"{self.current.hits} of {self.current.seen} of the current release; "
            f"difference {self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f}), {self.margin:.3f} may be"
        )


def findings(counts: Sequence[StepCounts]) -> list[Finding]:
    """Return what the steps' counts say of every fault that both releases could show."""
    return [found for fault in MARGINS if (found := _finding(fault, counts))]


def total(counts: Iterable[StepCounts], fault: Fault) -> tuple[Tally, Tally]:
    """Return the tallies of the current release and of the candidate over all steps."""
    steps = list(counts)
    return _sum(step.current.get(fault) for step in steps), _sum(step.candidate.get(fault) for step in steps)


def sequence(difference: float, variance: float, alpha: float) -> tuple[float, float]:
    """Return the confidence sequence of a difference whose estimate has this variance."""
    mixed = variance + _EFFECT**2
    half = math.sqrt(2 * variance * mixed / _EFFECT**2 * math.log(math.sqrt(mixed / variance) / alpha))
    return difference - half, difference + half


def _finding(fault: Fault, counts: Sequence[StepCounts]) -> Finding | None:
    weighted = weights = 0.0
    for step in counts:
        current, candidate = step.current.get(fault, Tally()), step.candidate.get(fault, Tally())
        if not (current.seen and candidate.seen):
            continue
        (before, spread), (after, own_spread) = _share(current), _share(candidate)
        weight = 1 / (spread + own_spread)
        weighted, weights = weighted + weight * (after - before), weights + weight
    if not weights:
        return None
    difference, variance = weighted / weights, 1 / weights
    low, high = sequence(difference, variance, FALSE_ALARMS / len(MARGINS))
    return Finding(fault, *total(counts, fault), difference, math.sqrt(variance), low, high)


def _share(tally: Tally) -> tuple[float, float]:
    """A share and its variance, with half a request added to each side: no share is certain after a few requests."""
    share = (tally.hits + 0.5) / (tally.seen + 1)
    return share, share * (1 - share) / tally.seen


def _sum(tallies: Iterable[Tally | None]) -> Tally:
    known = [tally for tally in tallies if tally]
    return Tally(sum(tally.seen for tally in known), sum(tally.hits for tally in known))
