"""What the pages about adapters show beside the registry: who holds one now, and how much its label is asked."""

from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

from services.api.infra.clients import Clients
from services.api.usage import service as usage
from shared.ledger import calls
from shared.ledger.calls.usage import today
from shared.names import generate_queue
from shared.security.api_keys import Key, Scope

DAYS = 7
"""Of which the traffic is told."""
_GENERATE = generate_queue("")


class Holder(NamedTuple):
    """A worker that has an adapter resident, and the groups that it serves."""

    worker: str
    groups: tuple[str, ...]


class Traffic(NamedTuple):
    """What was asked in the last days, of each label and in all."""

    requests: dict[str, int]
    tokens: dict[str, int]
    total: int
    is_own: bool
    """Whether these are the requests of the key's own line alone."""

    def share(self, label: str) -> float | None:
        """Return a label's share of all requests; None where there were none."""
        return self.requests.get(label, 0) / self.total if self.total else None


async def holders(clients: Clients, tenant_id: str, digests: Collection[str]) -> dict[str, list[Holder]]:
    """Return who holds each of these adapters, as far as anybody does."""
    board = await clients.ledger.do(calls.board(tenant_id, 1))
    groups: dict[str, list[str]] = {}
    for track in board.tracks:
        for worker in track.workers if track.queue.startswith(_GENERATE) else ():
            groups.setdefault(worker, []).append(track.queue.removeprefix(_GENERATE))
    found: dict[str, list[Holder]] = {}
    for worker, served in sorted(groups.items()):
        for digest in set(board.workers.get(worker, {}).get("resident", ())) & set(digests):
            found.setdefault(digest, []).append(Holder(worker, tuple(served)))
    return found


async def traffic(clients: Clients, key: Key) -> Traffic | None:
    """Return the traffic that a key may see; None where its scopes show none."""
    if not (key.may(Scope.SUBMIT) or key.may(Scope.READ)):
        return None
    last = today()
    rows = await usage.rows(clients, key, last - timedelta(days=DAYS - 1), last, ("label",))
    return Traffic(
        {str(row["label"]): row["requests"] for row in rows},
        {str(row["label"]): row["prompt_tokens"] + row["completion_tokens"] for row in rows},
        sum(row["requests"] for row in rows),
        is_own=bool(key.sees),
    )
