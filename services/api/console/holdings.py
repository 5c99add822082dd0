"""What the pages about adapters show beside the registry: who holds one now, and how much its label is asked."""

import time
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
_REMEMBER_SECONDS = 60.0
"""A week of two thousand labels a day takes longer to add up than a page may take."""
_MOST_REMEMBERED = 1000


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


class Traffics:
    """The traffic of all tenants and lines of keys that anybody has looked at, as it was up to a minute ago."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[float, Traffic]] = {}

    async def of(self, clients: Clients, key: Key) -> Traffic | None:
        """Return the traffic that a key may see; None where its scopes show none."""
        if not (key.may(Scope.SUBMIT) or key.may(Scope.READ)):
            return None
        until, known = self._known.get((key.tenant_id, key.sees), (0.0, None))
        if known is not None and until > time.monotonic():
            return known
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        found = await _traffic(clients, key)
        self._known[key.tenant_id, key.sees] = (time.monotonic() + _REMEMBER_SECONDS, found)
        return found


async def _traffic(clients: Clients, key: Key) -> Traffic:
    last = today()
    rows = await usage.rows(clients, key, last - timedelta(days=DAYS - 1), last, ("label",))
    return Traffic(
        {str(row["label"]): row["requests"] for row in rows},
        {str(row["label"]): row["prompt_tokens"] + row["completion_tokens"] for row in rows},
        sum(row["requests"] for row in rows),
        is_own=bool(key.sees),
    )
