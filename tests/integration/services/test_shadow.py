"""A rollout's candidate reads along: what its selector says is noted, and changes nothing of the job."""

import json
import math

import pytest

from services.selector.handlers import Reader, read_along, select
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rollouts import Rollout, RolloutStep, Trial
from shared.errors import Unavailable
from shared.ledger import calls
from shared.ledger.keys import LedgerKey

LABELS = ("bank.cards", "bank.loans")


def release(light, **fields):
    labels = {
        label: ReleaseLabel(adapter="a", ref=f"{label}@1", group="bank", template="chatml", instruction="")
        for label in LABELS
    }
    chosen = ReleaseSelector(light=light, labels=LABELS, threshold=0)
    verdict = Verdict(passed=True, reasons=())
    return Release(tenant_id="t", base_model="tiny", labels=labels, selector=chosen, verdict=verdict, **fields)


CURRENT = release("old")
CANDIDATE = release("new", parent=CURRENT.id)


@pytest.fixture
def rollout(ledger):
    ledger.redis.set(LedgerKey.RELEASE.of("t"), CURRENT.id)
    ledger.redis.hset(LedgerKey.RELEASES.of("t"), CANDIDATE.id, "{}")
    made = Rollout(
        id="rol_1",
        tenant_id="t",
        release=CANDIDATE.id,
        current=CURRENT.id,
        strategy="shadow",
        steps=(RolloutStep(percent=100),),
        created_at=0,
    )
    ledger.do(calls.begin_rollout(made))
    return made


@pytest.fixture
def shadowed(jobs, attempts, rollout):
    """Select a job's label, and let the candidate read along; `light` scores for a selector by its digest."""

    def run(light):
        reader = Reader(
            prefetch=lambda _: None,
            light=lambda selector, _: [math.log(p) for p in light(selector.light)],
            llm=lambda *_: pytest.fail("it has none"),
            near=lambda *_: [],
            base_model=lambda: "tiny",
            store_patience_seconds=0,
        )

        def work(attempt):
            read_along(attempt, CANDIDATE, select(attempt, CURRENT, reader), reader)

        trial = Trial(rollout.id, 0, CANDIDATE.id)
        job_id = jobs.new(JobKind.GENERATE, "select", {"input": "my card"}, release=CURRENT.id, trial=trial)
        attempts.run("select", work)
        return jobs.get(job_id)

    return run


def noted(ledger):
    return [json.loads(fields["trial"]) for _, fields in ledger.redis.xrange(LedgerKey.TRIALS.of("rol_1"))]


def test_what_it_would_have_chosen_is_noted_beside_what_was_chosen(ledger, shadowed):
    job = shadowed(lambda digest: (0.9, 0.1) if digest == "old" else (0.2, 0.8))
    assert (job.state, job.label) == (JobState.ROUTED, "bank.cards")
    (seen,) = noted(ledger)
    assert (seen["shadow"], seen["label"], seen["release"]) == ("bank.loans", "bank.cards", CANDIDATE.id)
    assert seen["probability"] == pytest.approx(0.8)
    assert seen["score_ms"] >= 0


def test_a_candidate_that_cannot_read_does_the_job_no_harm(ledger, shadowed):
    def light(digest):
        if digest == "new":
            raise Unavailable("store_unavailable", "the store is away; try again")
        return 0.9, 0.1

    job = shadowed(light)
    assert (job.state, job.label) == (JobState.ROUTED, "bank.cards")
    assert noted(ledger) == []
