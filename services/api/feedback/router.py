"""`/v1/feedback`: what was said of jobs, made into data sets."""

from fastapi import APIRouter

from services.api.feedback import service
from services.api.feedback.service import ConflictPage, FeedbackRows
from services.api.http.auth import ClientsDep, Reviewer
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Cursor, Limit, Request

router = APIRouter(prefix="/v1/feedback", tags=["feedback"], route_class=KeyedRoute)


class VersionRequest(Request):
    """What to do with the rows that reviewed feedback has made."""

    dry_run: bool = False
    """Whether to count only."""
    safe: bool = False
    """Whether to take only what may train unseen: rows that a reviewer gave or two keys agree on, and of each label no
    more than a fifth from one key, counted with the rows of the current release."""


@router.post("/dataset", status_code=201)
async def make_version(request: VersionRequest, clients: ClientsDep, caller: Reviewer) -> FeedbackRows:
    """Store the rows as the newest version of the data set `feedback`; equal rows of equal sources are one version."""
    return await service.make_version(clients, caller, is_dry=request.dry_run, safe=request.safe)


@router.get("/conflicts")
async def conflicts(clients: ClientsDep, caller: Reviewer, before: Cursor = "", limit: Limit = 50) -> ConflictPage:
    """List the jobs to which keys gave different labels, newest first; they train nothing until a reviewer settles it.

    A reviewer does by a further label, or by `accept`.
    """
    return await service.conflicts(clients, caller.tenant_id, before, limit)
