"""The state of a rebase, read off the jobs that it consists of."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from services.api.rebases.schemas import LabelState, RebaseView, Scores
from shared.contracts.jobs import Job, JobState
from shared.contracts.manifests import AdapterManifest, Release
from shared.contracts.training import SelectorTrain, parse_training
from shared.errors import NotFound


class Facts(NamedTuple):
    """What is known of a rebase."""

    job: Job
    """The training of the selector."""
    parent: Release
    candidate: Release | None
    jobs: Mapping[str, Job]
    """Of the trainings of adapters, by label, those that the ledger still keeps."""
    adapters: Mapping[str, AdapterManifest]
    """By label, the one that the release has."""
    made: Mapping[str, AdapterManifest]
    """By label, the one that its training has made."""


def body_of(job: Job) -> SelectorTrain:
    """Return what a rebase's job says; raises `NotFound` for any other job."""
    if not (job.body.get("rebase") and job.body.get("kind") == "selector.train"):
        raise NotFound("rebase_not_found", f"job {job.id} is no rebase; `signalbox rebases list` shows them")
    body = parse_training(job.body)
    assert isinstance(body, SelectorTrain)
    return body


def view(facts: Facts) -> RebaseView:
    """Show a rebase as it is now."""
    body, job = body_of(facts.job), facts.job
    assert body.rebase is not None
    labels = [_label(facts, body, label) for label in sorted(facts.parent.labels)]
    return RebaseView(
        id=job.id,
        release=facts.parent.id,
        base_model=body.base_model,
        state=_state(job.state, facts.jobs.values()),
        why=str((job.error or {}).get("detail", "")),
        labels=labels,
        candidate=facts.candidate.id if facts.candidate else "",
        passed=facts.candidate.verdict.passed if facts.candidate else None,
        created_at=min(job.timestamps.values()) / 1000,
    )


def _state(last: JobState, trainings: Iterable[Job]) -> str:
    if last.is_final:
        return str(last)
    return "training" if any(not job.state.is_final for job in trainings) else "selecting"


def _label(facts: Facts, body: SelectorTrain, label: str) -> LabelState:
    assert body.rebase is not None
    job_id, job = body.rebase.jobs.get(label, ""), facts.jobs.get(label)
    made = facts.made.get(label)
    if made:
        state: JobState | str = JobState.SUCCEEDED
    elif job:
        state = job.state
    else:
        state = "forgotten" if job_id else "kept"
    return LabelState(
        label=label,
        job=job_id,
        state=state,
        fate=_fate(facts, label, kept=body.rebase.kept, dropped=body.drop),
        error=str(((job and job.error) or {}).get("detail", "")),
        old=_scores(facts.adapters.get(label), facts.parent, label),
        new=_scores(made, facts.candidate, label) if made else None,
    )


def _fate(facts: Facts, label: str, *, kept: Collection[str], dropped: Collection[str]) -> str:
    entry = facts.candidate.labels.get(label) if facts.candidate else None
    if entry is not None:
        return "kept" if entry.ref == facts.parent.labels[label].ref else "moved"
    if facts.candidate or label in dropped:
        return "left_out"
    return "kept" if label in kept else "open"


def _scores(adapter: AdapterManifest | None, release: Release | None, label: str) -> Scores:
    report = adapter.report if adapter else {}
    return Scores(
        adapter=adapter.ref if adapter else "",
        exact_match=report.get("adapter_exact_match"),
        base_exact_match=report.get("base_exact_match"),
        rows=int(report.get("validation_rows") or 0),
        routed=release.accuracy_of.get(label) if release else None,
    )
