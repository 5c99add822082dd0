"""What follows from a rollout's counts: nothing yet, the next step, a question to a person, or its end."""

from enum import StrEnum
from typing import NamedTuple

from services.api.rollouts.analysis import Fault, findings, total
from shared.contracts.rollouts import Rollout, RolloutState


class Move(StrEnum):
    """What a look decides."""

    STAY = "stay"
    NOTE = "note"
    """The look has failed, and the rollout may have more of such."""
    TAKE_BACK = "take back"
    HOLD = "hold"
    """The step is over and it cannot be told whether the candidate is worse."""
    STEP = "step"
    PROMOTE = "promote"
    END = "end"
    """The last step of a shadow is over."""


class Decision(NamedTuple):
    """A move and its reason."""

    move: Move
    why: str = ""


def decide(record: Rollout, now: float) -> Decision:
    """Decide by what the requests show so far; `now` is in seconds since 1970."""
    found = findings(record.counts)
    if worse := [finding for finding in found if finding.is_worse]:
        is_last = record.failures >= record.failure_limit
        return Decision(Move.TAKE_BACK if is_last else Move.NOTE, "; ".join(map(str, worse)))
    if not _is_over(record, now):
        return Decision(Move.STAY)
    if unclear := [finding for finding in found if finding.is_unclear]:
        return Decision(Move.HOLD, "; ".join(map(str, unclear)))
    if record.strategy == "shadow":
        is_last = record.step + 1 == len(record.steps)
        return Decision(Move.END, "every step is over; nothing was promoted") if is_last else _next(record)
    if record.step + 1 == len(record.steps) or record.steps[record.step + 1].percent == 100:
        return Decision(Move.PROMOTE, "every step is over")
    return _next(record)


def stepped(record: Rollout, now: float, why: str) -> Rollout:
    """Return the record in its next step."""
    return record.entered(RolloutState.RUNNING, now, why, step=record.step + 1, step_began_at=now, failures=0)


def _next(record: Rollout) -> Decision:
    number = record.step + 1
    return Decision(Move.STEP, f"step {number + 1}: {record.steps[number].percent} % of the requests")


def _is_over(record: Rollout, now: float) -> bool:
    """Whether the present step has had its time, and its requests of the candidate."""
    step = record.steps[record.step]
    counted = Fault.FAILED if record.strategy == "canary" else Fault.DISAGREES
    _, ended = total(record.counts[record.step : record.step + 1], counted)
    return now >= record.step_began_at + step.seconds and ended.seen >= step.requests
