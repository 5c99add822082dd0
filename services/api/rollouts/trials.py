"""How a rollout's jobs ended, read from the ledger in order and counted."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from services.api.infra.clients import Clients
from services.api.rollouts.analysis import Fault
from shared.contracts.labels import BACKGROUND
from shared.contracts.rollouts import Rollout, StepCounts, Tally
from shared.ledger.keys import LedgerKey

AT_ONCE = 1000
FIRST_REQUESTS = 100
"""Requests of the current release after which it is known what is slow."""
_SLOW_SHARE = 0.95
_MEASURED = (Fault.SLOW_SELECTOR, Fault.SLOW_ANSWER, Fault.LONG_ANSWER)
Trial = Mapping[str, Any]


class Trials(NamedTuple):
    """What the ledger noted since the record's cursor."""

    cursor: str
    trials: list[Trial]


async def new_trials(clients: Clients, rollout: Rollout) -> Trials:
    """Read what was noted after the record's cursor."""
    key = LedgerKey.TRIALS.of(rollout.id)
    found: Any = await clients.ledger.redis.xrange(key, min=f"({rollout.cursor}", count=AT_ONCE)
    return Trials(found[-1][0] if found else rollout.cursor, [json.loads(fields["trial"]) for _, fields in found])


def counted(rollout: Rollout, new: Trials) -> Rollout:
    """Return the record with new trials counted in its present step; the same where there are none."""
    if not new.trials and len(rollout.counts) > rollout.step:
        return rollout
    counts = list(rollout.counts) + [StepCounts()] * (rollout.step + 1 - len(rollout.counts))
    first, slow_from = {name: list(own) for name, own in rollout.first.items()}, dict(rollout.slow_from)
    tallies = {"current": dict(counts[-1].current), "candidate": dict(counts[-1].candidate)}
    for trial in new.trials:
        is_candidate = trial["release"] == rollout.release
        if not is_candidate and trial["release"] != rollout.current:
            continue  # of a release that its request named
        own = tallies["candidate" if is_candidate else "current"]
        measured = _measured(trial)
        if not is_candidate:
            _learn(first, slow_from, measured)
        for fault, is_hit in _shown(trial, measured, slow_from):
            own[fault] = own.get(fault, Tally()).plus(is_hit)
    counts[-1] = StepCounts(**tallies)
    changes = {
        "counts": tuple(counts),
        "first": {name: tuple(own) for name, own in first.items()},
        "slow_from": slow_from,
        "cursor": new.cursor,
    }
    return rollout.model_copy(update=changes)


def _measured(trial: Trial) -> dict[Fault, float]:
    """What a job took, in milliseconds and tokens, as far as it got."""
    queued, routed, ended = trial.get("queued"), trial.get("routed"), trial.get("ended")
    found: dict[Fault, float] = {}
    if queued and routed and routed > queued:
        found[Fault.SLOW_SELECTOR] = routed - queued
    if routed and ended and trial["state"] == "succeeded":
        found[Fault.SLOW_ANSWER] = ended - routed
        found[Fault.LONG_ANSWER] = trial.get("tokens", 0)
    return found


def _learn(first: dict[str, list[float]], slow_from: dict[str, float], measured: Mapping[Fault, float]) -> None:
    """Gather the current release's first requests; when there are enough, note from where on something is slow."""
    for name, value in measured.items():
        if name in slow_from:
            continue
        own = first.setdefault(name, [])
        own.append(value)
        if len(own) >= FIRST_REQUESTS:
            slow_from[name] = sorted(own)[int(_SLOW_SHARE * len(own))]
            del first[name]


def _shown(
    trial: Trial, measured: Mapping[Fault, float], slow_from: Mapping[str, float]
) -> Iterable[tuple[Fault, bool]]:
    """Which faults a job could show, and whether it did."""
    if "shadow" in trial:
        yield Fault.DISAGREES, trial["shadow"] != trial["label"]
        return
    if "judged" in trial:
        if (is_disliked := _disliked(trial)) is not None:
            yield Fault.DISLIKED, is_disliked
        return
    if trial["state"] == "cancelled":
        return
    yield Fault.FAILED, trial["state"] == "failed"
    if Fault.SLOW_SELECTOR in measured or trial["state"] == "rejected":
        yield Fault.REJECTED, bool(trial.get("rejected"))
    for fault in _MEASURED:
        if fault in measured and fault in slow_from:
            yield fault, measured[fault] > slow_from[fault]


def _disliked(trial: Trial) -> bool | None:
    """Whether feedback says that a job went wrong; None where it says neither."""
    judged = trial["judged"] or {}  # Lua writes an empty table as a list
    label, rating = (judged.get("label"), judged.get("rating")) if isinstance(judged, dict) else (None, None)
    if label is not None:
        return bool(label != (trial.get("label") or BACKGROUND))
    return None if rating in (None, 0) else rating < 0
