"""Lists jobs by the filters of a query."""

from collections.abc import Sequence
from typing import Any

from services.api.infra.clients import Clients
from services.api.jobs.schemas import JobQuery
from shared.ledger import calls
from shared.ledger.calls import Page
from shared.security.api_keys import Key


async def listed(clients: Clients, caller: Key, query: JobQuery) -> Page:
    """Return the jobs that the key sees, newest first."""
    bounds = page(query.before, query.limit, query.include)
    return await clients.ledger.do(calls.list_jobs(caller.tenant_id, caller.sees, **bounds, only=query.filter))


def page(before: str, limit: int, include: Sequence[str]) -> dict[str, Any]:
    """Return cursor, length and large fields as arguments of the ledger's call."""
    fields = ["body" if name == "request" else name for name in include]
    return {"before": f"({before}" if before else "", "limit": limit, "include": fields}
