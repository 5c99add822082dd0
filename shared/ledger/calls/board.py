"""What a tenant sees of its queues and workers (`lua/queries.lua`)."""

import json
from typing import Any, NamedTuple

from shared.ledger.calls.base import Call, Reply, never
from shared.names import base_of_queue


class Track(NamedTuple):
    """A tenant's part of one queue: its waiting and its running jobs; and the processes that serve the queue."""

    queue: str
    waiting: int
    running: int
    workers: tuple[str, ...]


class Board(NamedTuple):
    """A tenant's part of every queue, what processes say of themselves by name, and how many jobs came when."""

    tracks: list[Track]
    workers: dict[str, dict[str, Any]]
    came: list[tuple[float, int]]
    """The begin of each of the last minutes (milliseconds since 1970), and the jobs accepted in it."""


def board(tenant_id: str, minutes: int) -> Call[Board]:
    """Count a tenant's jobs by queue, and those of each of the last `minutes`; name who serves the queues."""

    def read(reply: Reply) -> Board:
        workers = {owner: json.loads(info) for owner, info in dict(reply["processes"] or {}).items()}
        return Board(_joined(reply["queues"] or []), workers, [(float(at), count) for at, count in reply["came"] or []])

    return Call("board", {"tenant_id": tenant_id, "minutes": minutes}, read, never)


def _joined(rows: list[Any]) -> list[Track]:
    """Return the plain queues, each with what waits in it for workers of one base model."""
    tracks: dict[str, Track] = {}
    for name, waiting, running, owners in rows:
        queue, _ = base_of_queue(name)
        known = tracks.get(queue, Track(queue, 0, 0, ()))
        workers = tuple(sorted({*known.workers, *(owners or [])}))
        tracks[queue] = Track(queue, known.waiting + waiting, known.running + running, workers)
    return sorted(tracks.values())
