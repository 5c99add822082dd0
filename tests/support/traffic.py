"""Selections as selectors make them, beside a turn that counts and logs them."""

from shared.contracts.jobs import JobState, NewJob, Stage, new_job_id
from shared.ledger import calls
from tests.support.api import SELECTOR


def selection_of(label="fin.sa", probability=0.9, confidence=0.8, by="light", release="", **more):
    """What a job keeps of its selection."""
    return {
        "label": label or None,
        "best_label": label or "fin.ha",
        "probability": probability,
        "confidence": confidence,
        "rejected": not label,
        "selector": SELECTOR,
        "by": by,
        "release": release,
        **more,
    }


class Selector:
    """Makes jobs of a tenant and selects their labels."""

    def __init__(self, ledger, tenant="default", release="", counted=""):
        self._ledger = ledger
        self._tenant = tenant
        self._release = release
        self._counted = counted or release

    def new(self, text="did the stock rise?", kind="generate", line="line_a", **body):
        """A job that a selector holds."""
        job = NewJob(
            id=new_job_id(self._tenant),
            tenant_id=self._tenant,
            kind=kind,
            stage=Stage.SELECT,
            queue="select",
            body={"input": text, **body},
            release=self._release,
            key_line=line,
        )
        self._ledger.do(calls.create(job, 3600))
        return self._ledger.do(calls.acquire(job.id, "select", "selector", 15.0))

    def route(self, job, **selection):
        """Route a job by a selection."""
        chosen = selection_of(release=self._counted, **selection)
        self._ledger.do(calls.route(job, queue="generate.fin", label=chosen["label"] or "", selection=chosen))
        return job.id

    def select(self, text="did the stock rise?", line="line_a", body=None, **selection):
        """Make a job and route it by a selection; returns its id."""
        return self.route(self.new(text, line=line, **(body or {})), **selection)

    def end(self, job, state=JobState.SUCCEEDED, **selection):
        """End a job with its selection."""
        chosen = selection_of(release=self._counted, **selection)
        self._ledger.do(calls.finish(job, state, result=chosen, selection=chosen))
        return job.id
