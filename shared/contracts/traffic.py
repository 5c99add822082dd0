"""The traffic log: texts that selectors read, kept where their tenant wants it; and counts that are always kept."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.contracts.labels import LabelText
from shared.contracts.selection import is_disputed

BINS = 20
"""Of a histogram of probabilities: equal parts of 0 to 1."""
SKETCH_DAYS = 60
"""How long counts are kept."""
MAX_PATTERNS = 32
MAX_LABELS = 2_000
"""Labels of an hour that are counted each; further ones count together."""
MAX_RELEASES = 50
"""Releases of an hour that are counted each; further ones count together."""
OTHERS = "*"
"""The name under which further labels and releases count."""
MOST_PART_ROWS = 500
BuiltIn = Literal["secret", "email", "ip", "iban", "card", "phone", "number"]
"""Names of the patterns that every policy has: each stands in place of what it found, as in `[email]`."""
BUILT_IN: tuple[BuiltIn, ...] = get_args(BuiltIn)
Position = tuple[int, int]
"""Where a selection stands among all: milliseconds since 1970 by the ledger's clock, and its number within."""


class RedactionPattern(BaseModel):
    """What is replaced in a text before it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(max_length=32, pattern=r"^[a-z0-9_-]{1,32}$")]
    expression: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """A regular expression of RE2 (https://github.com/google/re2/wiki/Syntax), which ends in time on any text."""
    replacement: Annotated[str, StringConstraints(max_length=100)] | None = None
    r"""What stands in its place, by default the name in brackets; `\1` to `\9` are the expression's groups."""


class TrafficPolicy(BaseModel):
    """What a tenant's traffic log keeps; by default nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    on: bool = False
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Part of the jobs that is kept; a hash of a job's id decides, so the same ones at every look."""
    days: Annotated[int, Field(ge=1, le=365)] = 30
    """How long a row is kept; the last of them go up to a hundredth of that later."""
    rows: Annotated[int, Field(ge=100, le=1_000_000)] = 100_000
    """Most rows that are kept; the oldest go first, up to a twentieth of them at once."""
    patterns: Annotated[tuple[RedactionPattern, ...], Field(max_length=MAX_PATTERNS, strict=False)] = ()
    """What is replaced besides the built-in patterns, in this order, before them."""
    leave_out: Annotated[tuple[BuiltIn, ...], Field(max_length=len(BUILT_IN), strict=False)] = ()
    """Built-in patterns that are not applied."""

    @classmethod
    def read(cls, stored: str) -> Self:
        """Read what the ledger keeps, also from a later version."""
        return cls.model_validate_json(stored, extra="ignore")

    def takes(self, job_id: str) -> bool:
        """Whether the log keeps this job's row."""
        number = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8])
        return self.on and number < self.share * 2**64

    @property
    def part_rows(self) -> int:
        """Most rows of one part of the log: the unit in which the oldest go."""
        return max(5, min(MOST_PART_ROWS, self.rows // 20))

    @property
    def part_ms(self) -> float:
        """The longest time between the first and the last row of one part."""
        return self.days * 864_000.0


class TrafficRow(BaseModel):
    """One selection that the log keeps."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    entry: str
    """Its place in the log, as pages name it."""
    job: str
    at: str
    """When it was made, ISO 8601."""
    text: str
    """What the selector read, redacted, and cut where it is long."""
    label: LabelText = ""
    """Empty where the text was rejected."""
    best_label: LabelText = ""
    probability: float | None = None
    """Of `best_label`."""
    confidence: float | None = None
    rejected: bool = False
    disputed: bool = False
    by: str = ""
    """Why this label; see `SelectionResult.by`."""
    release: str = ""
    selector: str = ""
    """Digest of the selector."""
    line: str = ""
    """The line of keys that own the job."""
    user: str = ""
    """Hash of the user that the job named."""
    conversation: str = ""
    """Hash of the conversation that the job named, among those of its line."""

    @property
    def position(self) -> Position:
        """The row's place in the log."""
        return position_of(self.entry)


class TrafficPart(NamedTuple):
    """Some rows of the log in one object of the store; the ledger says which parts there are."""

    name: str
    rows: int
    first: Position
    last: Position

    def dump(self) -> str:
        """Return what the ledger keeps under the part's name."""
        return json.dumps([self.rows, *self.first, *self.last])

    @classmethod
    def read(cls, name: str, stored: str) -> Self:
        """Read what `dump` returned."""
        rows, first_ms, first, last_ms, last = json.loads(stored)
        return cls(name, rows, (first_ms, first), (last_ms, last))


class Seen(NamedTuple):
    """What is counted of a selection."""

    release: str
    label: str
    probability: float | None
    confidence: float | None
    rejected: bool
    disputed: bool

    @classmethod
    def of(cls, selection: Mapping[str, Any]) -> Self:
        """Return what is counted of a selection, in the form that jobs keep."""
        return cls(
            selection.get("release") or "",
            selection.get("label") or "",
            selection.get("probability"),
            selection.get("confidence"),
            bool(selection.get("rejected")),
            is_disputed(ambiguous=bool(selection.get("ambiguous")), by=selection.get("by")),
        )


class TrafficSketch(BaseModel):
    """Counts of an hour's selections under one release; they hold no text."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    hour: str
    """When it begins, ISO 8601."""
    release: str
    selections: int = 0
    rejected: int = 0
    disputed: int = 0
    labels: dict[str, int] = {}
    """Selections by the label that was chosen."""
    probability: list[int] = [0] * BINS
    """Selections by the probability of the best label, in 20 equal parts of 0 to 1."""
    confidence: list[int] = [0] * BINS

    def count(self, seen: Seen) -> None:
        """Add a selection."""
        self.selections += 1
        self.rejected += seen.rejected
        self.disputed += seen.disputed
        if seen.label:
            label = seen.label if seen.label in self.labels or len(self.labels) < MAX_LABELS else OTHERS
            self.labels[label] = self.labels.get(label, 0) + 1
        for bins, value in ((self.probability, seen.probability), (self.confidence, seen.confidence)):
            if value is not None:
                bins[min(BINS - 1, max(0, int(value * BINS)))] += 1


def position_of(entry: str) -> Position:
    """Return the place that an entry's name says."""
    at_ms, _, number = entry.partition("-")
    return int(at_ms), int(number or 0)


def iso(at_ms: float) -> str:
    """Return a time in milliseconds since 1970 as ISO 8601."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def hour_of(position: Position) -> int:
    """Return the hour of a selection, in hours since 1970."""
    return position[0] // 3_600_000
