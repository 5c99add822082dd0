"""`/v1/users`: callers' users, whom the ledger knows by a hash alone."""

from typing import Any

from fastapi import APIRouter

from services.api.http.auth import ClientsDep, Submitter
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Request, UserId
from services.api.users import service

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=KeyedRoute)


class ForgetRequest(Request):
    """Whom to forget; in a body, since proxies log addresses."""

    user: UserId
    dry_run: bool = False
    """Whether to count only, and to tell the hash that `GET /v1/jobs?user=` takes."""


@router.post("/forget")
async def forget(request: ForgetRequest, clients: ClientsDep, caller: Submitter) -> dict[str, Any]:
    """Forget a user: ended jobs with texts and feedback go, others are cancelled and go within seconds of their end.

    A key without the scope `admin` forgets the jobs of its own line.
    """
    return await service.forget(clients, caller, request.user, is_dry=request.dry_run)
