"""A tenant's log that is followed: rows as selectors make them, the controller's looks, reviews and trainings ended."""

from services.api.proposals.loop import Look
from services.api.traffic.writer import step
from shared.contracts.jobs import JobKind, JobState
from shared.contracts.reviews import ChangedLabel, NearestLabel, ReviewResult, TrafficChange, UnknownTask
from shared.ledger import calls
from shared.ledger.calls import JobFilter
from shared.ledger.keys import LedgerKey
from tests.support.api import Worker, make_release
from tests.support.traffic import Selector

ROWS = 100
"""Rows of a window in these tests, the fewest that a policy may name."""


class Followed:
    """The log of a tenant with a release, and the controller that follows it."""

    def __init__(self, clients, ledger, release, tenant="default"):
        self.clients, self.ledger, self.release, self.tenant = clients, ledger, release, tenant
        self._worker = Worker(ledger)

    async def log(self, count=ROWS, text="is my card blocked {}?", **selection):
        """Let the log have more rows; returns all of them, oldest first."""
        selector = Selector(self.ledger, tenant=self.tenant, release=self.release.id)
        before = len(self.rows())
        for number in range(before, before + count):
            selector.select(text.format(number), **selection)
        while await step(self.clients):
            pass
        return self.rows()

    def rows(self):
        return list(self.clients.registry.traffic.rows(self.tenant))

    async def look(self, times=1):
        """Look at the log, as the controller does every other second."""
        for _ in range(times):
            await self.taken().run()

    def taken(self):
        """A look that has the lease and has not begun."""
        self.ledger.redis.zadd(LedgerKey.LEARNERS, {self.tenant: 0}, xx=True)
        return Look(self.clients, self.ledger.do(calls.take_learner(15.0)))

    async def learner(self):
        return await self.clients.ledger.do(calls.learner(self.tenant))

    async def review(self, **found):
        """End the review under way, or the next one, with what it found, and let the controller read it."""
        if not (await self.learner()).learning.job:
            await self.log()
            await self.look()
        job_id = (await self.learner()).learning.job
        assert job_id, "no review was queued"
        self.end(job_id, result=self.found(**found))
        await self.look()

    def found(self, **fields):
        """A review's result over the whole log."""
        rows = self.rows()
        known = {"release": self.release.id, "first": rows[0].entry, "last": rows[-1].entry, "rows": len(rows)}
        return ReviewResult(**known | fields).model_dump(mode="json")

    def end(self, job_id, state=JobState.SUCCEEDED, **fields):
        """End a training job as its trainer would."""
        self._worker.end(self._worker.take(job_id, "train"), state, **fields)

    def train(self, job_id, **fields):
        """End a selector's training with its candidate; returns that."""
        made = make_release(parent=self.release.id, made_by=job_id, tenant_id=self.tenant, **fields)
        self.clients.registry.releases.add(made)
        self.end(job_id, result={"release": made.id})
        return made

    def trainings(self):
        """The bodies of all training jobs, oldest first."""
        only = JobFilter(kind=JobKind.TRAIN)
        page = self.ledger.do(calls.list_jobs(self.tenant, only=only, include=("body",)))
        return [job.body for job in reversed(page.jobs)]


def changed(*labels, remedy="balance", examples=()):
    """A change of the mix of labels."""
    shares = tuple(ChangedLabel(label=label, before=0.2, after=0.5) for label in labels)
    since = "2026-11-01T08:00:00+00:00"
    return TrafficChange(
        kind="label_mix", statistic=9.0, p_value=0.001, since=since, labels=shares, examples=examples, remedy=remedy
    )


def unknown(rows, name="cards"):
    """An unknown task of these rows."""
    return UnknownTask(
        name=name,
        terms=("card", "blocked"),
        entries=tuple(row.entry for row in rows),
        nearest=(NearestLabel(label="fin.sa", similarity=0.4),),
        stability=0.9,
        least_rows=4,
        advised_rows=40,
        texts=len({row.text for row in rows}),
    )
