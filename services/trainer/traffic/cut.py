"""Which rows of the log a review reads: a release's first ones, those of its newest full windows, its newest ones."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice, takewhile
from typing import NamedTuple

from services.trainer.traffic.window import LEAST_FIRST, Request
from shared.contracts.manifests import Release
from shared.contracts.traffic import Position, TrafficRow
from shared.registry.traffic import Traffic


class Cut(NamedTuple):
    """Rows that a selector has read, oldest first."""

    window: int
    """Rows of a full window."""
    first: list[TrafficRow]
    """The first `LEAST_FIRST` of the release; none where there are fewer."""
    windows: list[list[TrafficRow]]
    recent: list[TrafficRow]
    """The newest of all these, at most as many as the windows may have: also a release's first rows show new tasks."""


def cut(log: Traffic, tenant_id: str, release: Release, until: Position, *, window: int, most: int) -> Cut:
    """Cut the rows of a release, up to and with a place, into its first ones and at most `most` full windows.

    Until there are `LEAST_FIRST` rows, all of them are cut into windows. Later, windows end where the log has a
    multiple of `window` rows after the first ones: a review before there are so many more compares the same windows.
    Reads no other parts than those of the first and the newest rows. Raises `Unavailable`.
    """
    made_ms = datetime.fromisoformat(release.created_at).timestamp() * 1000
    rows = takewhile(lambda row: row.position <= until, log.rows(tenant_id, made_ms))
    first = list(islice(_selected(rows, release), LEAST_FIRST))
    if len(first) < LEAST_FIRST:
        return Cut(window, [], full_windows(first, window)[-most:], first[-most * window :])
    after = first[-1].position
    waiting = log.count(tenant_id, after, until) % window
    newest = islice(log.newest(tenant_id, after, until), waiting, None)
    found = list(islice(_selected(newest, release), most * window))
    of_windows = found[: len(found) // window * window][::-1]
    return Cut(window, first, full_windows(of_windows, window), [*first, *of_windows][-most * window :])


def full_windows(rows: Sequence[TrafficRow], window: int) -> list[list[TrafficRow]]:
    """Return rows in windows of so many, without a last one that is not full."""
    return [list(rows[start : start + window]) for start in range(0, len(rows) - window + 1, window)]


def _selected(rows: Iterable[TrafficRow], release: Release) -> Iterator[TrafficRow]:
    return (row for row in rows if row.release == release.id and Request.logged(row) is not None)
