"""Selections as selectors make them, beside a turn that counts and logs them."""

import time
from contextlib import contextmanager

from services.api.traffic import upkeep
from services.api.traffic.changes import LogChange
from shared.contracts.jobs import JobState, NewJob, Stage, new_job_id
from shared.contracts.traffic import TrafficRow, iso
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


class Log:
    """The traffic log of a tenant, filled as its writer does: with rows in parts, in turns."""

    def __init__(self, registry, tenant):
        self._registry = registry
        self._tenant = tenant
        self._at_ms = int(time.time() * 1000) + 1000

    def add(self, found, part_rows=500):
        """Add rows, given by their fields, one a second; returns their entries."""
        rows = []
        for fields in found:
            self._at_ms += 1000
            entry = f"{self._at_ms}-0"
            rows.append(TrafficRow(entry=entry, job=f"job_{entry}", at=iso(self._at_ms), **fields))
        with self._change() as change:
            for start in range(0, len(rows), part_rows):
                change.add(self._tenant, rows[start : start + part_rows])
        return [row.entry for row in rows]

    def forget(self, owns):
        """Forget the rows that `owns` says yes to; returns how many."""
        with self._turn() as turn:
            return upkeep._forget(self._registry, turn, 15.0, self._tenant, owns)

    def join(self, group):
        """Put one part in the place of others."""
        with self._change() as change:
            change.add(self._tenant, [row for part in group for row in self._rows(part)])
            for part in group:
                change.remove(self._tenant, part)

    def _rows(self, part):
        return self._registry.traffic.part_rows(self._tenant, part)

    @contextmanager
    def _change(self):
        with self._turn() as turn:
            change = LogChange(self._registry, turn, 15.0)
            yield change
            change.write()

    @contextmanager
    def _turn(self):
        ledger = self._registry.ledger
        turn = ledger.do(calls.take_turn(15.0))
        yield turn
        ledger.do(calls.write_traffic(turn.fence, 0))
