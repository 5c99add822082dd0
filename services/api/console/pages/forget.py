"""Forget a person: what is kept is counted first, then it goes, and a report says what went and what is left."""

import shlex
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse
from pydantic import TypeAdapter

from services.api.console.forms import checked
from services.api.console.rendering import page
from services.api.console.sessions import Admin
from services.api.http.auth import ClientsDep
from services.api.users import service as users
from services.api.users.schemas import ForgetRequest
from shared.errors import Invalid

router = APIRouter(prefix="/forget")
By = Literal["user", "user_hash", "key", "conversation_id", "job_id"]
OPTIONS = {
    "user": "--user",
    "user_hash": "--user-hash",
    "key": "--key",
    "conversation_id": "--conversation",
    "job_id": "--job",
}
NAMES = {
    "user": "a user, by your own id of them",
    "user_hash": "a user, by the hash that jobs show",
    "key": "an API key, by its id",
    "conversation_id": "a conversation, by its id in metadata",
    "job_id": "a single job, by its id",
}
_BODY: TypeAdapter[ForgetRequest] = TypeAdapter(ForgetRequest)
Who = Annotated[str, Form(min_length=1, max_length=512)]


@router.get("")
async def form(request: Request, visitor: Admin) -> HTMLResponse:  # noqa: ARG001
    """Show the page."""
    return page(request, "forget.html", names=NAMES)


@router.post("/count")
async def count(
    request: Request, clients: ClientsDep, visitor: Admin, by: Annotated[By, Form()], who: Who
) -> HTMLResponse:
    """Count what would go."""
    return await _report(request, clients, visitor, by, who, is_dry=True)


@router.post("")
async def forget(
    request: Request,
    clients: ClientsDep,
    visitor: Admin,
    by: Annotated[By, Form()],
    who: Who,
    sure: Annotated[bool, Form()] = False,
) -> HTMLResponse:
    """Let it go."""
    if not sure:
        raise Invalid("not_sure", "tick the box first: what is forgotten does not come back")
    return await _report(request, clients, visitor, by, who, is_dry=False)


async def _report(
    request: Request, clients: ClientsDep, visitor: Admin, by: By, who: str, *, is_dry: bool
) -> HTMLResponse:
    who = who.strip()
    found = await users.forget(clients, visitor.key, checked(_BODY, {by: who, "dry_run": is_dry}))
    command = f"signalbox jobs forget {OPTIONS[by]} {shlex.quote(who)}" + " --dry-run" * is_dry
    return page(request, "forget_report.html", report=found, by=by, who=who, command=command, names=NAMES)
