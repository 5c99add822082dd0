"""Forgets what is kept of a user: jobs, and the training rows that feedback on them made, which outlive them."""

from typing import Any

from services.api.infra.clients import Clients
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.security.api_keys import Key, Scope

_AT_ONCE = 100


async def forget(clients: Clients, caller: Key, user: str, *, is_dry: bool) -> dict[str, Any]:
    """Forget a user's jobs and feedback, or count them; returns the counts with the user's hash."""
    hidden = await clients.user_ids.hidden(caller.tenant_id, user)
    line = "" if caller.may(Scope.ADMIN) else caller.line
    rows = await _rows(clients, caller.tenant_id, hidden, line)
    if not is_dry:
        for job_id in rows:
            await clients.ledger.do(calls.forget_feedback(job_id, caller.tenant_id))
    forgotten, cancelled, before = 0, 0, "+inf"
    while before:
        part = await clients.ledger.do(
            calls.forget_user(caller.tenant_id, hidden, line, before=before, limit=_AT_ONCE, is_dry=is_dry)
        )
        forgotten, cancelled, before = forgotten + part.forgotten, cancelled + part.cancelled, part.next
    return {"user": hidden, "dry_run": is_dry, "forgotten": forgotten, "cancelled": cancelled, "feedback": len(rows)}


async def _rows(clients: Clients, tenant_id: str, hidden: str, line: str) -> list[str]:
    """The jobs, expired ones too, whose feedback is a row of the data set."""
    owners = clients.ledger.redis.hscan_iter(LedgerKey.FEEDBACK_USERS.of(tenant_id), count=1000)
    found = [(job_id, *owner.split("|")) async for job_id, owner in owners]
    return [job_id for job_id, user, its_line in found if user == hidden and line in ("", its_line)]
