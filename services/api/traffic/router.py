"""`/v1/traffic`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from services.api.http.auth import Admin, ClientsDep, Reader
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Time
from services.api.traffic import service
from shared.contracts.traffic import TrafficPolicy, TrafficRow, position_of

router = APIRouter(prefix="/v1/traffic", tags=["traffic"], route_class=KeyedRoute)
After = Annotated[
    str, Query(max_length=26, pattern=r"^[0-9]{1,16}-[0-9]{1,9}$", description="`next` of the page before")
]
RowLimit = Annotated[int, Query(ge=1, le=1000)]


class RowPage(BaseModel):
    """Rows of the log, oldest first, and the `after` of the next page; null at the end."""

    items: list[TrafficRow]
    next: str | None


@router.get("")
async def rows(
    clients: ClientsDep, caller: Reader, after: After = "0-0", since: Time | None = None, limit: RowLimit = 100
) -> RowPage:
    """List what the log keeps, oldest first; the texts are redacted."""
    found = await service.rows(clients, caller, position_of(after), since, limit)
    return RowPage(items=found, next=found[-1].entry if len(found) == limit else None)


@router.get("/policy")
async def show_policy(clients: ClientsDep, caller: Reader) -> TrafficPolicy:
    """Show what the log keeps; by default nothing."""
    return await service.policy(clients, caller)


@router.put("/policy")
async def set_policy(clients: ClientsDep, caller: Admin, policy: TrafficPolicy) -> TrafficPolicy:
    """Replace what the log keeps; what is left out gets its default. It holds for jobs that are logged from now on."""
    return await service.set_policy(clients, caller, policy)


@router.get("/sketches")
async def sketches(
    clients: ClientsDep,
    caller: Reader,
    first: Annotated[Time | None, Query(alias="from")] = None,
    last: Annotated[Time | None, Query(alias="to")] = None,
) -> dict[str, Any]:
    """Tell how many selections each hour had: by label, rejected, disputed, by probability and confidence.

    They are counted whether or not there is a log, kept for 60 days, and hold no text. By default of the last day.
    """
    return {"items": await service.sketches(clients, caller, first, last)}
