"""`/v1/usage`."""

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from services.api.http.auth import ClientsDep, JobReader
from services.api.http.keyed_route import KeyedRoute
from services.api.usage import service
from services.api.usage.service import By

router = APIRouter(prefix="/v1/usage", tags=["usage"], route_class=KeyedRoute)
Day = Annotated[date, WithJsonSchema({"type": "string", "format": "date", "maxLength": 10})]
_ANSWERS = {200: {"description": "The rows and their sum", "content": {"text/csv": {}}}}


class UsageQuery(BaseModel):
    """Of which days, and by what the rows are told apart."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    first: Annotated[Day | None, Field(alias="from")] = None
    """First day (UTC), such as 2026-01-31; by default 30 days are told."""
    last: Annotated[Day | None, Field(alias="to")] = None
    """Last day; by default today."""
    group_by: Annotated[tuple[By, ...], Field(max_length=3)] = ("day",)
    """Repeat it for more; a `key` is the line of keys that rotations made of one."""
    format: Literal["json", "csv"] | None = None
    """By default what `Accept` asks for, else JSON."""


@router.get("", responses=_ANSWERS)  # type: ignore[arg-type] # a literal is wider than the framework's own type
async def usage(
    clients: ClientsDep,
    caller: JobReader,
    query: Annotated[UsageQuery, Query()],
    accept: Annotated[str, Header(max_length=256)] = "",
) -> Response:
    """Tell what jobs used, day by day; without the scope `read`, those of the key's own line."""
    first, last = service.days(query.first, query.last)
    rows = await service.rows(clients, caller, first, last, query.group_by)
    if query.format == "csv" or (query.format is None and "text/csv" in accept):
        return Response(service.as_csv(rows), media_type="text/csv; charset=utf-8")
    span = {"from": first.isoformat(), "to": last.isoformat(), "group_by": query.group_by}
    return JSONResponse({**span, "items": rows, "total": service.total(rows)})
