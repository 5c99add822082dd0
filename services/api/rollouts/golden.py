"""Golden rows: before its first request, a candidate's changed adapters answer validation rows of their labels.

The current release answers the same rows, or where it lacks the label, the base model does. The jobs have ids that
follow from the rollout, so that a controller that is killed goes on with them.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from services.api.infra.clients import Clients
from services.api.jobs.accept import create
from shared.contracts.generation import generation_result
from shared.contracts.jobs import Job, JobKind, JobState, NewJob, Stage
from shared.contracts.manifests import Release
from shared.contracts.rollouts import Golden, Rollout
from shared.contracts.rows import Row
from shared.errors import NotFound
from shared.ledger import calls
from shared.names import BASE_GROUP, generate_queue

ROWS = 8
"""Of each label; the first ones of its validation rows that have an answer."""
MAX_LABELS = 50
"""Changed labels that are asked; where there are more, the rollout's events say so."""
MAX_LOSS = 0.2
"""By how much the mean likeness of its answers to the rows' own may be lower than before."""
_SECONDS = 600
_NEW_TOKENS = 128


class Question(NamedTuple):
    """A row that a label's old and new answer are compared on."""

    label: str
    row: Row
    candidate: NewJob
    before: NewJob


def changed_labels(candidate: Release, current: Release) -> list[str]:
    """Return the labels whose answers may have changed: another adapter, template, instruction or constraint."""
    without = {"ref", "group", "description"}
    return [
        label
        for label, entry in sorted(candidate.labels.items())
        if label not in current.labels
        or entry.model_dump(exclude=without) != current.labels[label].model_dump(exclude=without)
    ]


def questions(clients: Clients, rollout: Rollout, candidate: Release, current: Release, label: str) -> list[Question]:
    """Return what a changed label is asked; none where no row of it has an answer. Blocking; raises `Unavailable`."""
    key = candidate.validation.get(label) or candidate.representation.get(label)
    try:
        rows = clients.registry.datasets.get_rows(key) if key else []
    except NotFound:
        rows = []
    found = [row for row in rows if row.output][:ROWS]

    def job(release: str, manifest: Release, number: int, row: Row) -> NewJob:
        entry = manifest.labels.get(label)
        digest = hashlib.sha256(f"{rollout.id}/{release}/{label}/{number}".encode()).hexdigest()
        params = {"max_new_tokens": _NEW_TOKENS, "temperature": 0}
        turns = [{"role": "system", "content": row.instruction}] if row.instruction else []
        body = {"messages": [*turns, {"role": "user", "content": row.input}], "params": params, "priority": "batch"}
        return NewJob(
            id=f"job_{digest[:24]}",
            tenant_id=rollout.tenant_id,
            kind=JobKind.GENERATE,
            stage=Stage.GENERATE,
            queue=generate_queue(entry.group if entry else BASE_GROUP),
            body=body | ({"label": label} if entry else {"label": "base"}),
            release=release,
            current_release=rollout.current,
            label=label if entry else "",
            deadline_seconds=_SECONDS,
            key=rollout.key,
            key_line=rollout.key_line,
        )

    return [
        Question(label, row, job(rollout.release, candidate, n, row), job(rollout.current, current, n, row))
        for n, row in enumerate(found)
    ]


class Answers(NamedTuple):
    """What has come of a label's questions: nothing yet, why the candidate fails, or what was measured."""

    golden: Golden | None = None
    fault: str = ""


async def ask(clients: Clients, asked: Sequence[Question]) -> Answers:
    """Send what is not sent yet, and compare the answers once all are there."""
    jobs = [job for question in asked for job in (question.candidate, question.before)]
    looked = await clients.ledger.do(calls.look([job.id for job in jobs], len(jobs)))
    await asyncio.gather(*(create(clients, job) for job, state in zip(jobs, looked.states, strict=True) if not state))
    ended = {job.id: job for job in looked.ended}
    if len(ended) < len(jobs):
        return Answers()
    new = [ended[question.candidate.id] for question in asked]
    for job, question in zip(new, asked, strict=True):
        if job.state is not JobState.SUCCEEDED:
            why = (job.error or {}).get("detail", job.state)
            return Answers(fault=f"{question.label} did not answer golden row {question.row.input[:80]!r}: {why}")
    before = [ended[question.before.id] for question in asked]
    golden = Golden(len(asked), _mean(new, asked), _mean(before, asked))
    if golden.candidate < golden.before - MAX_LOSS:
        return Answers(
            golden,
            f"the answers of {asked[0].label} to {golden.rows} golden rows are {golden.candidate:.2f} like the rows' "
            f"own, {golden.before:.2f} before",
        )
    return Answers(golden)


def likeness(answer: str, wanted: str) -> float:
    """Return the F1 measure of the words that two texts share, from 0 to 1."""
    ours, theirs = Counter(answer.lower().split()), Counter(wanted.lower().split())
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


def _mean(jobs: Sequence[Job], asked: Sequence[Question]) -> float:
    texts = [(result.text if (result := generation_result(job)) else "") or "" for job in jobs]
    return sum(likeness(text, one.row.output) for text, one in zip(texts, asked, strict=True)) / len(asked)
