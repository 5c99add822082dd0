"""Feedback inbox: jobs to learn most from, labelled by the keyboard; versions of data, and trainings of them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import TypeAdapter

from services.api.console.forms import checked
from services.api.console.inbox_queue import HINTS, WHYS, Why, item_of, waiting
from services.api.console.rendering import page
from services.api.console.sessions import Reviewer, Trainer, Visitor
from services.api.console.training_form import command_of
from services.api.feedback import service as versions
from services.api.http.auth import ClientsDep
from services.api.infra.clients import Clients
from services.api.jobs import feedback as judging
from services.api.jobs import service as jobs
from services.api.jobs.feedback import FeedbackRequest
from services.api.jobs.schemas import PathId
from services.api.training import service as training
from services.api.training.service import AnyTraining
from shared.contracts.durations import in_words
from shared.contracts.labels import BACKGROUND, parse_label
from shared.errors import Conflict, Invalid, NotFound, SignalboxError
from shared.security.api_keys import Scope

router = APIRouter(prefix="/inbox")
FOUND_LABELS = 20
FOUND_SOURCES = 100
_FEEDBACK: TypeAdapter[FeedbackRequest] = TypeAdapter(FeedbackRequest)
Cursor = Annotated[str, Query(max_length=40, pattern=r"^([0-9]{1,2}-)?([0-9]{1,16}(\.[0-9]{1,9})?)?$")]


async def reviewing(visitor: Reviewer) -> Visitor:
    """Return the visitor, whose key also has to read what was asked."""
    visitor.key.check(Scope.READ)
    return visitor


Reading = Annotated[Visitor, Depends(reviewing)]


@router.get("")
async def inbox(
    request: Request, clients: ClientsDep, visitor: Reading, why: Why = "low", after: Cursor = ""
) -> HTMLResponse:
    """Show the page."""
    labels = await _labels(clients, visitor)
    found = await waiting(clients, visitor.key.tenant_id, why, after, labels)
    shown: dict[str, Any] = {"found": found, "whys": WHYS, "hint": HINTS[why], "why": why, "after": after}
    return page(request, "inbox.html", **shown, has_labels=bool(labels))


@router.get("/said")
async def said(request: Request, clients: ClientsDep, visitor: Reading) -> HTMLResponse:
    """Show how many rows reviewers have made by now."""
    return page(request, "inbox_said.html", said=await versions.make_version(clients, visitor.key, is_dry=True))


@router.get("/labels")
async def search(
    request: Request,
    clients: ClientsDep,
    visitor: Reading,
    job: Annotated[str, Query(max_length=64)],
    wanted: Annotated[str, Query(max_length=65)] = "",
) -> HTMLResponse:
    """Find labels by a part of their name, and offer what is written as a new one."""
    labels, wanted = await _labels(clients, visitor), wanted.strip()
    found = sorted((label for label in labels if wanted in label), key=lambda one: (not one.startswith(wanted), one))
    new = wanted if wanted not in labels and _is_label(wanted) else ""
    return page(
        request, "inbox_labels.html", found=found[:FOUND_LABELS], more=len(found) - FOUND_LABELS, new=new, job=job
    )


@router.get("/sources/{dataset_id}")
async def sources(request: Request, dataset_id: PathId, clients: ClientsDep, visitor: Reading) -> HTMLResponse:
    """Show where the rows of a version come from."""
    found = await versions.sources(clients, visitor.key, dataset_id)
    shown: dict[str, Any] = {"found": found[:FOUND_SOURCES], "more": len(found) - FOUND_SOURCES, "dataset": dataset_id}
    return page(request, "inbox_sources.html", **shown)


@router.post("/dataset")
async def make_version(request: Request, clients: ClientsDep, visitor: Reading) -> HTMLResponse:
    """Make a version of the data set `feedback`, and show what can be trained of it."""
    made = await versions.make_version(clients, visitor.key)
    plans = await _plans(clients, visitor, made.dataset.id if made.dataset else "")
    return page(request, "inbox_version.html", made=made, plans=plans, in_words=in_words)


@router.post("/train")
async def train(
    request: Request,
    clients: ClientsDep,
    visitor: Trainer,
    dataset: Annotated[str, Form(max_length=64)],
    kind: Annotated[str, Form(max_length=32)],
    label: Annotated[str, Form(max_length=65)] = "",
    confirm_cost: Annotated[bool, Form()] = False,
) -> HTMLResponse:
    """Queue one of the trainings that a version suggests."""
    for body in await versions.retrains(clients, visitor.key, dataset):
        if body["kind"] == kind and body.get("label", "") == label:
            asked = checked(training.REQUEST, body | ({"confirm_cost": True} if confirm_cost else {}))
            job, _ = await training.submit(clients, visitor.key, asked, None)
            return page(request, "inbox_queued.html", job=job, kind=kind)
    raise NotFound("training_not_suggested", f"data set {dataset} suggests no {kind} any more: make a new version")


@router.post("/{job_id}")
async def judge(
    request: Request,
    job_id: PathId,
    clients: ClientsDep,
    visitor: Reading,
    label: Annotated[str, Form(max_length=65)],
    new: Annotated[bool, Form()] = False,
) -> HTMLResponse:
    """Say a job's label, at once; `none.none` says that it belongs to none."""
    await judging.give_feedback(clients, visitor.key, job_id, checked(_FEEDBACK, {"label": label, "new": new}))
    return await _card(request, clients, visitor, job_id)


@router.post("/{job_id}/undo")
async def undo(request: Request, job_id: PathId, clients: ClientsDep, visitor: Reading) -> HTMLResponse:
    """Take back what the key said of a job last."""
    await judging.take_back(clients, visitor.key, job_id)
    return await _card(request, clients, visitor, job_id)


async def _card(request: Request, clients: Clients, visitor: Visitor, job_id: str) -> HTMLResponse:
    job = await jobs.find(clients, visitor.key, job_id)
    card = page(request, "inbox_card.html", item=item_of(job, await _labels(clients, visitor)))
    card.headers["HX-Trigger"] = "judged"
    return card


async def _labels(clients: Clients, visitor: Visitor) -> list[str]:
    try:
        return sorted((await clients.releases.current(visitor.key.tenant_id)).release.labels)
    except Conflict:
        return []


async def _plans(clients: Clients, visitor: Visitor, dataset_id: str) -> list[dict[str, Any]]:
    """Return the trainings that a version suggests, each with its command, and its estimate or why it cannot be."""
    bodies = await versions.retrains(clients, visitor.key, dataset_id)
    if not visitor.key.may(Scope.TRAIN):
        return [_plan(body) for body in bodies]
    return list(await asyncio.gather(*(_quoted(clients, visitor, body) for body in bodies)))


async def _quoted(clients: Clients, visitor: Visitor, body: dict[str, Any]) -> dict[str, Any]:
    asked: AnyTraining = checked(training.REQUEST, body)
    try:
        _, quote = await training.quoted(clients, visitor.key, asked)
    except SignalboxError as error:
        return _plan(body) | {"error": error.detail}
    return _plan(body) | {"quote": quote}


def _plan(body: dict[str, Any]) -> dict[str, Any]:
    return {"body": body, "command": command_of(body), "quote": None, "error": ""}


def _is_label(text: str) -> bool:
    try:
        return bool(parse_label(text)) and text != BACKGROUND
    except Invalid:
        return False
