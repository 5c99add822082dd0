"""`/v1/select`."""

from fastapi import APIRouter, Response

from services.api.http.auth import Author, ClientsDep
from services.api.http.idempotency import REPLAYED, IdempotencyKey
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Accepted, Selection, SelectRequest
from services.api.select import service as selecting

router = APIRouter(prefix="/v1/select", tags=["select"], route_class=KeyedRoute)


@router.post(
    "",
    responses={202: {"model": Accepted, "description": "The selection takes longer than `wait_seconds`: poll the job"}},
)
async def select(
    request: SelectRequest, response: Response, clients: ClientsDep, caller: Author, key: IdempotencyKey = None
) -> Selection | Accepted:
    """Select the label of a text, without generating an answer."""
    answer, replayed = await selecting.select(clients, caller, request, key)
    if isinstance(answer, Accepted):
        response.status_code = 202
        response.headers["Location"] = answer.url
    if replayed:
        response.headers[REPLAYED] = "true"
    return answer
