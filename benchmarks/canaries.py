"""Rollouts of 20 candidates with a planted fault and of 20 equal ones, 20,000 requests each, without a system.

Requests of twelve labels with uneven shares come ten a second; what each shows is drawn with a fixed seed by its
release's rates, and goes through the code that counts, decides and compares golden rows (`services/api/rollouts`).
Five candidates each have a wrong threshold (a fifth of the requests is rejected besides), a broken adapter (of one
label in twelve; its answers are noise), a slow selector (twice the time), two labels' adapters swapped. Two of a
hundred requests are judged by a person, wrongly in one of ten. `bad_canary_requests_share` is the candidate's share
of all requests from the start until it is taken back, the largest of the 20.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common import print_table, row, write_results
from services.api.rollouts.decision import Move, decide, stepped
from services.api.rollouts.golden import MAX_LOSS, ROWS, likeness
from services.api.rollouts.trials import Trials, counted
from shared.contracts.rollouts import OpenRollout, Rollout, RolloutState, RolloutStep

REQUESTS = 20_000
RATE = 10.0
LOOK_EVERY = 5
"""Requests between two looks: the controller looks twice a second."""
LABELS = [f"l{n}" for n in range(12)]
FAILURES, REJECTS, JUDGED, MISJUDGED, WRONG = 0.01, 0.08, 0.02, 0.1, 0.05
STEPS = tuple(RolloutStep(percent=share, seconds=60, requests=100) for share in (1, 5, 25, 50, 100))


@dataclass(frozen=True)
class Behaviour:
    """What a release's requests show."""

    rejects: float = REJECTS
    selector_times: float = 1.0
    answers: dict[str, str] = field(default_factory=dict)
    """By label, whose words its answers have, where they are not its own."""


PLANTED: dict[str, Callable[[random.Random], Behaviour]] = {
    "threshold": lambda _: Behaviour(rejects=REJECTS + 0.2),
    "adapter": lambda rng: Behaviour(answers={rng.choice(LABELS): "noise"}),
    "slow": lambda _: Behaviour(selector_times=2.0),
    "swap": lambda rng: _swapped(*rng.sample(LABELS, 2)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=5, help="candidates with each fault; as many equal ones in all")
    args = parser.parse_args()
    shares, stopped = [], 0
    for name, plant in PLANTED.items():
        for seed in range(args.each):
            rng = random.Random(f"{name}/{seed}")
            end, share = rolled_out(plant(rng), rng)
            stopped += end is RolloutState.FAILED
            shares.append(share)
            print(f"{name} {seed}: {end}, {share:.4f} of the requests", flush=True)
    equal = [rolled_out(Behaviour(), random.Random(f"equal/{n}"))[0] for n in range(args.each * len(PLANTED))]
    rows = [
        row("bad_canary_stopped", stopped, "of 20", goal=20),
        row("bad_canary_requests_share", max(shares), "", goal=0.05, at_least=False),
        row("good_canary_stopped", equal.count(RolloutState.FAILED), "of 20", goal=1, at_least=False),
        row("good_canary_promoted", equal.count(RolloutState.COMPLETED), "of 20"),
    ]
    print_table(rows)
    write_results("canaries", rows)


def rolled_out(candidate: Behaviour, rng: random.Random) -> tuple[RolloutState, float]:
    """How a rollout ends, and which share of all requests until then were the candidate's."""
    if not answers_golden_rows(candidate, rng):
        return RolloutState.FAILED, 0.0
    record = Rollout(
        id=f"rol_{rng.random()}",
        tenant_id="t",
        release="new",
        current="old",
        steps=STEPS,
        state=RolloutState.RUNNING,
        created_at=0,
    )
    behaviours = {"old": Behaviour(), "new": candidate}
    mine, pending = 0, []
    for number in range(REQUESTS):
        now = number / RATE
        open_one = OpenRollout(record.id, "new", "old", record.percent, "canary", "job")
        release = "new" if open_one.picks(str(number)) else "old"
        mine += release == "new"
        pending += trials(release, behaviours[release], now, rng)
        if number % LOOK_EVERY:
            continue
        record = counted(record, Trials(str(number), pending))
        pending = []
        record = looked(record, now)
        if record.state.is_final:
            return record.state, mine / (number + 1)
    return record.state, mine / REQUESTS


def looked(record: Rollout, now: float) -> Rollout:
    """Do what a look decides; a person who is asked waits."""
    move, why = decide(record, now)
    match move:
        case Move.TAKE_BACK:
            return record.entered(RolloutState.FAILED, now, why)
        case Move.STEP:
            return stepped(record, now, why)
        case Move.PROMOTE:
            return record.entered(RolloutState.COMPLETED, now, why)
    return record


def trials(release: str, behaviour: Behaviour, now: float, rng: random.Random) -> list[dict[str, Any]]:
    """What the ledger notes of one request."""
    queued = now * 1000
    routed = queued + rng.lognormvariate(2.5, 0.5) * behaviour.selector_times
    ended = routed + rng.lognormvariate(6.5, 0.6)
    label = LABELS[min(int(rng.expovariate(0.35)), len(LABELS) - 1)]
    is_failed = rng.random() < FAILURES
    one = {
        "release": release,
        "state": "failed" if is_failed else "succeeded",
        "queued": queued,
        "routed": routed,
        "ended": ended,
        "tokens": int(rng.lognormvariate(4, 0.5)),
        "rejected": rng.random() < behaviour.rejects,
    }
    if rng.random() >= JUDGED:
        return [one]
    is_wrong = label in behaviour.answers or rng.random() < WRONG
    says_wrong = is_wrong != (rng.random() < MISJUDGED)
    return [one, {"release": release, "label": label, "judged": {"rating": -1 if says_wrong else 1}}]


def answers_golden_rows(candidate: Behaviour, rng: random.Random) -> bool:
    """Whether changed adapters answer golden rows nearly as well as those before, whose answers are right in part."""
    for label, spoken in candidate.answers.items():
        before = after = 0.0
        for number in range(ROWS):
            wanted = words(label, number)
            before += likeness(noisy(wanted, rng), wanted)
            after += likeness(noisy(words(spoken, number), rng), wanted)
        if (after - before) / ROWS < -MAX_LOSS:
            return False
    return True


def words(label: str, number: int) -> str:
    """An answer in a label's own words, some of which every label shares."""
    return " ".join([f"common{n}" for n in range(3)] + [f"{label}-{number}-{n}" for n in range(7)])


def noisy(text: str, rng: random.Random) -> str:
    """A text in which three of ten words are others."""
    return " ".join(word if rng.random() < 0.7 else f"other{rng.random()}" for word in text.split())


def _swapped(one: str, other: str) -> Behaviour:
    return Behaviour(answers={one: other, other: one})


if __name__ == "__main__":
    main()
