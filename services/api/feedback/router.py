"""`/v1/feedback`: what was said of jobs, made into data sets."""

from fastapi import APIRouter

from services.api.feedback import service
from services.api.feedback.service import FeedbackRows
from services.api.http.auth import ClientsDep, Reviewer
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Request

router = APIRouter(prefix="/v1/feedback", tags=["feedback"], route_class=KeyedRoute)


class VersionRequest(Request):
    """What to do with the rows that reviewed feedback has made."""

    dry_run: bool = False
    """Whether to count only."""


@router.post("/dataset", status_code=201)
async def make_version(request: VersionRequest, clients: ClientsDep, caller: Reviewer) -> FeedbackRows:
    """Store the rows as the newest version of the data set `feedback`; equal rows of equal sources are one version."""
    return await service.make_version(clients, caller, is_dry=request.dry_run)
