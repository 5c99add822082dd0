"""Converts jobs and manifests to the form that clients see."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi.responses import JSONResponse

from services.api.jobs import answers
from services.api.jobs.answers import JobView
from services.api.jobs.schemas import Accepted
from shared.contracts.generation import TELLS_TOKENS, GenerationResult, SelectionResult, generation_result, selection_of
from shared.contracts.jobs import Job, JobKind, JobState, ListedJob
from shared.contracts.manifests import Release
from shared.ledger.calls import Page


def job_url(kind: JobKind, job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/training/jobs/{job_id}" if kind == JobKind.TRAIN else f"/v1/jobs/{job_id}"


def accepted(job_id: str, kind: JobKind, state: JobState, *, label: str = "", release: str = "") -> Accepted:
    """Return the body of a 202 response."""
    url = job_url(kind, job_id)
    return Accepted(
        id=job_id,
        kind=kind,
        state=state,
        label=label or None,
        release=release or None,
        url=url,
        events_url=f"{url}/events",
    )


def job_view(job: Job) -> JobView:
    """Return all fields of a job that its owner may see."""
    return JobView(**_summary(job), **_request(job.body), result=result_view(job), feedback=job.feedback)


def listed_view(job: ListedJob, include: Sequence[str]) -> dict[str, Any]:
    """Return the JSON of a job for a list, with the large fields that `include` names."""
    large: dict[str, Any] = _request(job.body or {}) if "request" in include else {}
    if "result" in include:
        large["result"] = result_view(job)
    if "feedback" in include:
        large["feedback"] = job.feedback
    left_out = {"request", "metadata", "result", "feedback"} - set(large)
    return answers.ListedJob(**_summary(job), **large).model_dump(mode="json", by_alias=True, exclude=left_out)


_NOT_ASKED = {"metadata", TELLS_TOKENS}
"""Members of a body that are no part of what was asked."""


def _request(body: dict[str, Any]) -> dict[str, Any]:
    request = {name: value for name, value in body.items() if name not in _NOT_ASKED}
    return {"request": request, "metadata": body.get("metadata") or {}}


def _summary(job: ListedJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "waiting_for_group": job.state in (JobState.QUEUED, JobState.ROUTED) and not job.has_consumer,
        "queue": job.queue,
        "label": job.label or None,
        "release": job.release or None,
        "key": job.key or None,
        "attempt": job.attempt,
        "tries": job.tries,
        "cancel_requested": job.cancel_requested,
        "created_at": iso(job.timestamps["queued"]),
        "timestamps": job.timestamps,
        "stage_ms": job.stage_ms(),
        "trains": job.trains,
        "selection": selection_of(job),
        "progress": job.progress,
        "error": job.error,
    }


def result_view(job: ListedJob) -> GenerationResult | SelectionResult | dict[str, Any] | None:
    """Return the result in the type that belongs to the job's kind."""
    if job.kind is JobKind.GENERATE:
        return generation_result(job)
    return selection_of(job) if job.kind is JobKind.SELECT and job.result else job.result


async def page_view(page: Page, include: Sequence[str]) -> JSONResponse:
    """Return one page of jobs, as `JobPage` has it but for the large fields that nobody asked for."""
    items = []
    for job in page.jobs:
        items.append(listed_view(job, include))
        await asyncio.sleep(0)  # let others' requests go on: a page takes ten times as long as accepting a job
    return JSONResponse({"items": items, "next": page.next.removeprefix("(") or None})


def iso(ms: float) -> str:
    """Format milliseconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def release_view(release: Release, current_id: str) -> dict[str, Any]:
    """Return a release with its id, and whether it is the current one."""
    return {"id": release.id, "current": release.id == current_id, **release.model_dump(mode="json")}


def release_line(release: Release, current_id: str) -> dict[str, Any]:
    """Return a release for a list, without its report."""
    view = release_view(release, current_id)
    return {name: view[name] for name in view if name not in ("report", "representation")}
