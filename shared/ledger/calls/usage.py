"""What was used, day by day (`lua/usage.lua`)."""

from datetime import UTC, date, datetime
from typing import NamedTuple

from shared.contracts.labels import short_form
from shared.ledger.calls.base import Call, Reply, never

_FIRST_DAY = date(1970, 1, 1)
OTHER_LABELS = "*"
"""In place of a label: those that a day has no room for, together."""


class Counts(NamedTuple):
    """Jobs that ended on a day, and the tokens of those that were answered."""

    requests: int = 0
    failed: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Return the sum of both."""
        return Counts(*(mine + its for mine, its in zip(self, other, strict=True)))


class Used(NamedTuple):
    """What one line of keys used of one label on a day; both are empty where a job has none."""

    line: str
    label: str
    counts: Counts


def today() -> date:
    """Return the day that it is now, in UTC."""
    return datetime.now(UTC).date()


def usage(tenant_id: str, day: date) -> Call[list[Used]]:
    """Read what a tenant used on a day (UTC), at most 2,000 rows and one more for each line of keys."""

    def read(reply: Reply) -> list[Used]:
        found = ((*field.split("|", 1), value) for field, value in dict(reply["used"]).items())
        return [Used(line, short_form(label), Counts(*map(int, value.split()))) for line, label, value in found]

    return Call("usage", {"tenant_id": tenant_id, "day": (day - _FIRST_DAY).days}, read, never)
