"""What the page of a job shows: what was read and decided, what the model got, how it can be asked again."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from services.api.console.deciding import decision_view, who
from services.api.console.sessions import Visitor
from services.api.console.timeline import Notes, read_timeline
from services.api.infra.clients import Clients
from services.api.jobs.again import MADE_FROM
from services.api.jobs.feedback import history_of
from shared.contracts.dialogue import turns_read
from shared.contracts.generation import generation_result, select_body, selection_of
from shared.contracts.jobs import Job, JobKind, JobState
from shared.contracts.manifests import Release, ReleaseLabel
from shared.contracts.prompts import PromptPart, told
from shared.errors import Conflict, Invalid, NotFound
from shared.prompts.of_job import prompt_of
from shared.security.api_keys import Scope

LABELS_OFFERED = 200


class Shape(NamedTuple):
    """The prompt as the worker made it, or why it is not known; and the digest of its template."""

    prompt: Sequence[PromptPart]
    why_unknown: str
    template: str
    template_digest: str


class Choice(NamedTuple):
    """A release under which a job may be asked again, or why it may not."""

    id: str
    text: str
    why_not: str = ""


async def job_view(clients: Clients, visitor: Visitor, job: Job) -> dict[str, Any]:
    """Return all that the page shows of a job."""
    release = await _release(clients, job)
    read = _read(job, release)
    shows_texts = visitor.key.may(Scope.READ)
    return {
        **decision_view(job),
        "result": generation_result(job) if job.kind is JobKind.GENERATE else None,
        "shows_texts": shows_texts,
        "timeline": await read_timeline(clients.feed.past(job.id), _notes(job, read)),
        "release": release,
        "entry": _entry(job, release),
        "shape": await _shape(clients, job, release),
        "read": read,
        "body": select_body(job),
        "made_from": (job.body.get("metadata") or {}).get(MADE_FROM),
        "metadata": {name: value for name, value in (job.body.get("metadata") or {}).items() if name != MADE_FROM},
        "history": history_of(job),
        "may": {scope.value: visitor.key.may(scope) for scope in Scope},
    }


async def again_choices(clients: Clients, job: Job) -> dict[str, Any]:
    """Return the releases and labels under which a job may be asked again."""
    try:
        current = await clients.releases.current(job.tenant_id)
    except Conflict:
        return {"releases": [], "labels": []}
    releases = [Choice("", "the current release")]
    if current.release.parent:
        releases.append(Choice(current.release.parent, "the release before it"))
    if job.release not in ("", current.id, current.release.parent):
        why = "workers hold the current release and the one before it: promote this one, or roll back to it, first"
        releases.append(Choice(job.release, "the release of this job", why))
    return {"releases": releases, "labels": ["auto", "base", *sorted(current.release.labels)[:LABELS_OFFERED]]}


async def _release(clients: Clients, job: Job) -> Release | None:
    """Return the release that a job ran under; None where it was deleted."""
    try:
        current = await clients.releases.current(job.tenant_id)
        if current.id == job.release:
            return current.release
        return await asyncio.to_thread(clients.registry.releases.get, job.tenant_id, job.release)
    except (Conflict, NotFound):
        return None


def _entry(job: Job, release: Release | None) -> ReleaseLabel | None:
    return release.labels.get(job.label) if release and job.label else None


def _read(job: Job, release: Release | None) -> list[str]:
    """Return the texts that the selector read, where it was asked and its release is known."""
    if job.selection is None or release is None or release.selector is None:
        return []
    body = select_body(job)
    return turns_read(body.messages, body.system_text, release.selector, release.reading)


def _notes(job: Job, read: Sequence[str]) -> Notes:
    """Return what the job tells of its states: what was read, what was decided, what came of it."""
    selection = selection_of(job)
    notes: dict[JobState, str] = {}
    if read:
        turns = "one turn" if len(read) == 1 else f"{len(read)} turns"
        notes[JobState.SELECTING] = f"it reads {turns}, {sum(map(len, read)):,} characters"
    if selection and selection.confidence is not None and selection.threshold is not None:
        reaches = "reaches" if selection.confidence >= selection.threshold else "is below"
        notes[JobState.ROUTED] = (
            f"decided by {who(selection)}: the confidence in {selection.best_label}, {selection.confidence:.3f}, "
            f"{reaches} the threshold, {selection.threshold:.3f}"
        )
    result = generation_result(job) if job.kind is JobKind.GENERATE else None
    if result:
        notes[JobState.RUNNING] = f"it reads a prompt of {result.usage.prompt_tokens} tokens"
        notes[JobState.SUCCEEDED] = f"{result.usage.completion_tokens} tokens, ended by {result.finish_reason}"
    return notes


async def _shape(clients: Clients, job: Job, release: Release | None) -> Shape:
    entry = _entry(job, release)
    result = generation_result(job) if job.kind is JobKind.GENERATE else None
    if entry is None:
        why = "the base model's own template made it" if release else "its release was deleted"
        return Shape(result.prompt if result else (), "" if result and result.prompt else why, "", "")
    try:
        template = await asyncio.to_thread(clients.registry.templates.named, job.tenant_id, entry.template)
    except Invalid:
        return Shape(result.prompt if result else (), "its template was deleted", entry.template, "")
    if result and result.prompt:
        return Shape(result.prompt, "", template.name, template.digest)
    if template.needs_vocabulary:
        why = f"the worker renders the chat template {template.name} with its base model's vocabulary"
        return Shape((), why, template.name, template.digest)
    try:
        return Shape(told(prompt_of(job, entry, template)), "", template.name, template.digest)
    except Invalid as error:
        return Shape((), error.detail, template.name, template.digest)
