"""The traffic logs of tenants: parts of rows in the object store, and the ledger's word which of them count.

A part never changes. Rows are added as a part of their own; parts are joined, and rows are forgotten, by another part
that takes the place of old ones in one write of the ledger. Objects that the ledger does not name are nobody's.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import structlog
from redis import Redis

from shared.contracts.labels import STORED
from shared.contracts.packing import unpack
from shared.contracts.traffic import Position, TrafficPart, TrafficPolicy, TrafficRow, TrafficSketch, iso, position_of
from shared.errors import NotFound
from shared.ledger.keys import LedgerKey
from shared.registry.store import ObjectStore

log = structlog.get_logger()
_BEFORE_ALL: Position = (0, 0)


class Traffic:
    """Reads the traffic logs of every tenant, their policies and the counts of selections."""

    def __init__(self, redis: Redis, store: ObjectStore) -> None:
        self._redis: Any = redis  # its reply types cover asynchronous clients at once
        self._store = store

    def policies(self) -> dict[str, str]:
        """Return every tenant's policy, as it is kept."""
        return dict(self._redis.hgetall(LedgerKey.TRAFFIC_POLICIES))

    def policy(self, tenant_id: str) -> TrafficPolicy:
        """Return a tenant's policy; by default nothing is logged."""
        stored = self._redis.hget(LedgerKey.TRAFFIC_POLICIES, tenant_id)
        return TrafficPolicy.read(stored) if stored else TrafficPolicy()

    def set_policy(self, tenant_id: str, policy: TrafficPolicy) -> None:
        """Let another policy hold from now on: no row is written by the one before afterwards."""
        self._redis.hset(LedgerKey.TRAFFIC_POLICIES, tenant_id, policy.model_dump_json())

    def parts(self, tenant_id: str) -> list[TrafficPart]:
        """Return the parts of a tenant's log, oldest first; no two overlap."""
        kept = self._redis.hgetall(LedgerKey.TRAFFIC_PARTS.of(tenant_id))
        return sorted((TrafficPart.read(*one) for one in kept.items()), key=lambda part: part.first)

    def part_rows(self, tenant_id: str, part: TrafficPart) -> list[TrafficRow] | None:
        """Return the rows of a part, oldest first; None where others took its place since it was listed.

        A part whose object is lost has none.
        """
        try:
            data = self._store.get(object_key(tenant_id, part.name))
        except NotFound:
            if not self._redis.hexists(LedgerKey.TRAFFIC_PARTS.of(tenant_id), part.name):
                return None
            log.warning("traffic_part_lost", tenant=tenant_id, part=part.name, rows=part.rows)
            return []
        return [TrafficRow.model_validate_json(line) for line in data.splitlines()]

    def rows(self, tenant_id: str, since_ms: float = 0, after: Position = _BEFORE_ALL) -> Iterator[TrafficRow]:
        """Yield the rows made since a time and after a place, oldest first, also while the log is written.

        Raises `Unavailable`.
        """
        at = max(after, (int(since_ms), -1))
        is_whole = False
        while not is_whole:
            is_whole = True
            for part in self.parts(tenant_id):
                if part.last <= at:
                    continue
                rows = self.part_rows(tenant_id, part)
                if rows is None:
                    is_whole = False
                    break
                yield from (row for row in rows if row.position > at)
                at = part.last

    def page(
        self, tenant_id: str, limit: int, *, since_ms: float = 0, after: Position = _BEFORE_ALL
    ) -> list[TrafficRow]:
        """Return the next rows after a place, oldest first."""
        return list(islice(self.rows(tenant_id, since_ms, after), limit))

    def newest(self, tenant_id: str, after: Position, until: Position) -> Iterator[TrafficRow]:
        """Yield the rows after a place, up to and with another, newest first, also while the log is written.

        Raises `Unavailable`.
        """
        is_whole = False
        while not is_whole:
            is_whole = True
            for part in reversed(self.parts(tenant_id)):
                if part.first > until or part.last <= after:
                    continue
                rows = self.part_rows(tenant_id, part)
                if rows is None:
                    is_whole = False
                    break
                yield from (row for row in reversed(rows) if after < row.position <= until)
                until = (part.first[0], part.first[1] - 1)

    def count(self, tenant_id: str, after: Position, until: Position) -> int:
        """Return how many rows there are after a place, up to and with another; reads the two parts around at most."""
        while True:
            counts = [self._count_in(tenant_id, part, after, until) for part in self.parts(tenant_id)]
            if None not in counts:
                return sum(count or 0 for count in counts)

    def _count_in(self, tenant_id: str, part: TrafficPart, after: Position, until: Position) -> int | None:
        if part.first > until or part.last <= after:
            return 0
        if after < part.first and part.last <= until:
            return part.rows
        rows = self.part_rows(tenant_id, part)
        return None if rows is None else sum(after < row.position <= until for row in rows)

    def texts(self, tenant_id: str, entries: Collection[str]) -> dict[str, TrafficRow]:
        """Return the rows of entries, oldest first, from the parts that hold them; those that are gone are left out.

        Raises `Unavailable`.
        """
        wanted = sorted({position_of(entry) for entry in entries})
        found: dict[str, TrafficRow] = {}
        is_whole = not wanted
        while not is_whole:
            is_whole = True
            for part in self.parts(tenant_id):
                own = set(wanted[bisect_left(wanted, part.first) : bisect_right(wanted, part.last)])
                if not own:
                    continue
                rows = self.part_rows(tenant_id, part)
                if rows is None:
                    is_whole = False
                    break
                found |= {row.entry: row for row in rows if row.position in own}
                wanted = [position for position in wanted if position > part.last]
        return found

    def sketches(self, tenant_id: str, hours: Iterable[int]) -> list[TrafficSketch]:
        """Return the counts of these hours (since 1970), a sketch for each release, oldest first."""
        with self._redis.pipeline(transaction=False) as pipe:
            for hour in (wanted := list(hours)):
                pipe.hgetall(LedgerKey.SKETCHES.of(tenant_id, str(hour)))
            kept = pipe.execute()
        return [
            read_sketch(hour, release, stored)
            for hour, releases in zip(wanted, kept, strict=True)
            for release, stored in sorted(releases.items())
        ]


def read_sketch(hour: int, release: str, stored: str | None) -> TrafficSketch:
    """Read the counts of an hour and a release, as they are kept; none are zero."""
    named = {"hour": iso(hour * 3_600_000.0), "release": release}
    return TrafficSketch(**named) if stored is None else TrafficSketch.model_validate_json(unpack(stored))


def folder_of(tenant_id: str) -> str:
    """Return the prefix of the objects of a tenant's log."""
    return f"tenants/{tenant_id}/traffic/"


def object_key(tenant_id: str, name: str) -> str:
    """Return the key of a part in the object store."""
    return f"{folder_of(tenant_id)}{name}.jsonl"


def dump_rows(rows: Sequence[TrafficRow]) -> bytes:
    """Return the content of a part."""
    lines = (row.model_dump_json(context=STORED, exclude_defaults=True) + "\n" for row in rows)
    return "".join(lines).encode()
