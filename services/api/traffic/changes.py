"""What a turn changes of the logs: objects are put, then the ledger names them in one write, then old ones are deleted.

An object's name holds its turn's number: what a process writes that lost its turn stands beside what counts, and is
swept.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from shared.contracts.traffic import TrafficPart, TrafficPolicy, TrafficRow
from shared.errors import SignalboxError
from shared.ledger import calls
from shared.ledger.calls import Turn
from shared.registry import Registry
from shared.registry.traffic import dump_rows, object_key


class LogChange:
    """Parts that come and parts that go; no two that come in one turn begin with the same row."""

    def __init__(self, registry: Registry, turn: Turn, lease_seconds: float) -> None:
        self._registry = registry
        self._turn = turn
        self._lease_seconds = lease_seconds
        self._added: list[tuple[str, TrafficPart]] = []
        self._removed: list[tuple[str, TrafficPart]] = []

    def add(self, tenant_id: str, rows: Sequence[TrafficRow]) -> TrafficPart:
        """Put rows, oldest first, as a part; it counts once it is written."""
        first = rows[0].position
        part = TrafficPart(f"{first[0]:013}-{first[1]}-{self._turn.fence}", len(rows), first, rows[-1].position)
        self._added.append((tenant_id, part))
        self._registry.store.put(object_key(tenant_id, part.name), dump_rows(rows))
        return part

    def remove(self, tenant_id: str, part: TrafficPart) -> None:
        """Let a part go."""
        self._removed.append((tenant_id, part))

    def write(self, **more: Any) -> None:
        """Let the change count, with what else `calls.write_traffic` takes; else nothing of it stays.

        Raises `StaleTurn`, `TrafficMoved`, `Unavailable`.
        """
        try:
            self._registry.ledger.do(
                calls.write_traffic(
                    self._turn.fence,
                    self._lease_seconds,
                    added=[(tenant_id, part.name, part.dump()) for tenant_id, part in self._added],
                    removed=[(tenant_id, part.name) for tenant_id, part in self._removed],
                    **more,
                )
            )
        except (calls.StaleTurn, calls.TrafficMoved):
            with contextlib.suppress(SignalboxError):
                self._delete(self._added)
            raise
        self._delete(self._removed)

    def _delete(self, parts: Sequence[tuple[str, TrafficPart]]) -> None:
        for tenant_id, part in parts:
            self._registry.store.delete(object_key(tenant_id, part.name))


def outdated(parts: Sequence[TrafficPart], policy: TrafficPolicy, now_ms: float) -> Iterator[TrafficPart]:
    """Yield the oldest parts, as far as their age or the number of all rows says that they go."""
    left = sum(part.rows for part in parts)
    for part in parts:
        if left <= policy.rows and part.last[0] >= now_ms - policy.days * 86_400_000:
            return
        left -= part.rows
        yield part


def joinable(parts: Sequence[TrafficPart], policy: TrafficPolicy) -> Iterator[list[TrafficPart]]:
    """Yield neighbours that fit into one part together."""
    group: list[TrafficPart] = []
    for part in parts:
        count = sum(one.rows for one in group) + part.rows
        if group and (count > policy.part_rows or part.last[0] - group[0].first[0] > policy.part_ms):
            yield group
            group = []
        group.append(part)
    yield group
