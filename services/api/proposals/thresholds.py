"""Another threshold for a release, from what reviewers said of selections and the rows that the gate judges by.

Feedback only says where to look: whether a threshold may be is judged on the release's own rows, which no traffic made.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.contracts import gate
from shared.contracts.judged import JudgedRow, report_at
from shared.contracts.labels import BACKGROUND

LEAST_JUDGED = 10
"""Selections that reviewers found wrong before a threshold is moved for them."""
MOST_LOSS = 0.02
"""Background that may pass, or rows with a label that may be rejected, more than now on the release's own rows."""
_TRIED = (0.25, 0.5, 0.75)
"""Quantiles of the wrong selections' confidences that are tried, the one that mends most first."""


class Judgement(NamedTuple):
    """What a reviewer said of one selection of the log."""

    entry: str
    best_label: str
    confidence: float
    is_rejected: bool
    label: str
    """The right one; empty where the reviewer only said that it went wrong."""

    @property
    def is_wrong(self) -> bool:
        """Whether the threshold decided otherwise than the reviewer: it rejected a right label, or let a wrong one."""
        return self.label == self.best_label if self.is_rejected else self.label != self.best_label


class Judged(NamedTuple):
    """The rows that a release was judged on, its threshold now, and the loss that the gate allows."""

    rows: Sequence[JudgedRow]
    threshold: float
    max_loss: float


class Moved(NamedTuple):
    """A threshold that mends wrong selections, and what it costs on the release's own rows."""

    threshold: float
    mended: int
    of: int
    entries: tuple[str, ...]
    figures: Mapping[str, float]


def lowered(judged: Judged, said: Sequence[Judgement]) -> Moved | None:
    """Return a lower threshold that lets in what was rejected wrongly; None where none may be, or none is needed."""
    rejected = [one for one in said if one.is_rejected]
    wrong = sorted((one for one in rejected if one.is_wrong), key=lambda one: one.confidence)
    if len(wrong) < LEAST_JUDGED or 2 * len(wrong) < len(rejected):
        return None
    for share in _TRIED:
        threshold = _floor(wrong[int(share * len(wrong))].confidence)
        if threshold < judged.threshold and (figures := _allowed(judged, threshold)):
            mended = [one for one in wrong if one.confidence >= threshold]
            return _moved(threshold, mended, wrong, figures)
    return None


def raised(judged: Judged, said: Sequence[Judgement]) -> Moved | None:
    """Return a higher threshold that rejects what was let in wrongly, where at least half of that was wrong."""
    let_in = [one for one in said if not one.is_rejected]
    wrong = sorted((one for one in let_in if one.is_wrong), key=lambda one: -one.confidence)
    for share in _TRIED if len(wrong) >= LEAST_JUDGED else ():
        threshold = _floor(wrong[int(share * len(wrong))].confidence) + 0.001
        below = [one for one in let_in if one.confidence < threshold]
        mended = [one for one in below if one.is_wrong]
        is_worth_it = len(mended) >= LEAST_JUDGED and 2 * len(mended) >= len(below)
        if is_worth_it and judged.threshold < threshold <= 1 and (figures := _allowed(judged, threshold)):
            return _moved(round(threshold, 3), mended, wrong, figures)
    return None


def _allowed(judged: Judged, threshold: float) -> dict[str, float]:
    """What the release's own rows show at a threshold; empty where the gate, or the loss, forbids it."""
    if not judged.rows:
        return {}
    now, then = (report_at(judged.rows, value) for value in (judged.threshold, threshold))
    before, after = now["threshold"], then["threshold"]
    has_background = any(row.label == BACKGROUND for row in judged.rows)
    passes = has_background * (before["background_reject"] - after["background_reject"])
    refused = after["false_reject"] - before["false_reject"]
    rows = Counter(row.label for row in judged.rows)
    verdict = gate.judge(now["per_label"], then["per_label"], max_loss=judged.max_loss, rows=rows)
    if max(passes, refused) > MOST_LOSS or not verdict.passed:
        return {}
    return {
        "accuracy_before": now["accuracy"],
        "accuracy": then["accuracy"],
        "false_reject_before": before["false_reject"],
        "false_reject": after["false_reject"],
        "background_reject_before": before["background_reject"],
        "background_reject": after["background_reject"],
    }


def _moved(
    threshold: float, mended: Sequence[Judgement], wrong: Sequence[Judgement], figures: Mapping[str, float]
) -> Moved:
    return Moved(threshold, len(mended), len(wrong), tuple(one.entry for one in mended), figures)


def _floor(value: float) -> float:
    return int(value * 1000) / 1000
