"""`/v1/users`: callers' users, whom the ledger knows by a hash alone."""

from fastapi import APIRouter

from services.api.http.auth import ClientsDep, Submitter
from services.api.http.keyed_route import KeyedRoute
from services.api.users import service
from services.api.users.schemas import ForgetRequest, Forgotten

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=KeyedRoute)


@router.post("/forget", response_model_exclude_none=True)
async def forget(request: ForgetRequest, clients: ClientsDep, caller: Submitter) -> Forgotten:
    """Forget a user, a conversation, what a key sent, or a single job.

    Ended jobs with texts and feedback go, others are cancelled; rows of the traffic log go. A key without the scope
    `admin` forgets what its own line sent.
    """
    return await service.forget(clients, caller, request)
