"""Sums what the ledger counted of ended jobs: by day, line of keys, label."""

import csv
import io
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Literal

from services.api.infra.clients import Clients
from shared.errors import Invalid
from shared.ledger import calls
from shared.ledger.calls import Counts
from shared.ledger.calls.usage import today
from shared.security.api_keys import Key

By = Literal["day", "key", "label"]
MAX_DAYS = 400
_DAYS = 30
Row = dict[str, Any]


def days(first: date | None, last: date | None) -> tuple[date, date]:
    """Return the span that is asked for; raises `Invalid` where it ends before it begins, or is too long."""
    last = last or today()
    first = first or last - timedelta(days=_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise Invalid(
            "span_invalid", f"from {first} to {last} are no 1 to {MAX_DAYS} days: ask for a later `to`, or for parts"
        )
    return first, last


async def rows(clients: Clients, caller: Key, first: date, last: date, by: Sequence[By]) -> list[Row]:
    """Return the sums for each of what the rows are told apart by, in its order; `label` is null without a label."""
    sums: dict[tuple[str, ...], Counts] = {}
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        for used in await clients.ledger.do(calls.usage(caller.tenant_id, day)):
            if caller.sees in ("", used.line):
                names = {"day": day.isoformat(), "key": used.line, "label": used.label}
                group = tuple(names[one] for one in by)
                sums[group] = sums.get(group, Counts()).plus(used.counts)
    named = ((dict(zip(by, (name or None for name in group), strict=True)), sums[group]) for group in sorted(sums))
    return [names | counts._asdict() for names, counts in named]


def total(rows: Sequence[Row]) -> dict[str, int]:
    """Return the sum of all rows."""
    return {name: sum(row[name] for row in rows) for name in Counts._fields}


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else list(Counts._fields))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
