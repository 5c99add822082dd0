"""Rows that a release was judged on, each with what its selector found: they tell what another threshold would do."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.contracts.labels import BACKGROUND, STORED, LabelText
from shared.contracts.routing import Routed, calibration, intervals, measure

MOST_ROWS = 2_000
"""Rows that are kept of a release, evenly of all labels."""
MAX_TEXT_CHARS = 300
"""Of a row's text, its beginning is kept."""


class JudgedRow(BaseModel):
    """One row that a selector was not trained on, and what it found."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str
    """Its beginning."""
    text_hash: str
    """Of the whole text, up to case and white space: by it, a row is found among another release's."""
    label: LabelText
    best_label: LabelText
    probability: float
    """Calibrated probability of `best_label`."""
    confidence: float
    """Confidence in `best_label`; a threshold is compared with it."""

    def route(self, threshold: float) -> str:
        """Return the label that the row goes to at a threshold; `BACKGROUND` where it is rejected."""
        return self.best_label if self.confidence >= threshold else BACKGROUND


def routed(rows: Iterable[JudgedRow], threshold: float) -> list[Routed]:
    """Return where each row goes at a threshold, with the probability of that, as a selector's judgement has it."""
    found = ((row, row.route(threshold)) for row in rows)
    return [Routed(row.label, to, 1 - row.probability if to == BACKGROUND else row.probability) for row, to in found]


def report_at(rows: Sequence[JudgedRow], threshold: float) -> dict[str, Any]:
    """Return what a release's report says of its selector at a threshold."""
    found = routed(rows, threshold)
    return {
        **measure(found)._asdict(),
        "intervals": intervals(found),
        "calibration": [cell._asdict() for cell in calibration(found)],
        "threshold": {
            "value": threshold,
            "false_reject": _rejected([row for row in found if row.gold != BACKGROUND]),
            "background_reject": _rejected([row for row in found if row.gold == BACKGROUND]),
        },
    }


def _rejected(rows: Sequence[Routed]) -> float:
    return sum(row.predicted == BACKGROUND for row in rows) / max(len(rows), 1)


def dump_judged(rows: Sequence[JudgedRow]) -> bytes:
    """Return the canonical bytes of rows: equal rows give equal bytes."""
    return b"".join(row.model_dump_json(context=STORED).encode() + b"\n" for row in rows)


def parse_judged(data: bytes) -> list[JudgedRow]:
    """Read rows in their canonical form."""
    return [JudgedRow.model_validate_json(line) for line in data.splitlines()]
