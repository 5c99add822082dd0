"""The rows that a selector was judged on, as its release keeps them."""

import hashlib
from collections.abc import Mapping, Sequence

from services.trainer.data.split import same_text
from services.trainer.evaluation.selector import SelectorScores, selections
from shared.contracts.judged import MAX_TEXT_CHARS, MOST_ROWS, JudgedRow
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.rows import Row
from shared.contracts.selection import Selection


def judged_rows(
    selector: ReleaseSelector, scores: SelectorScores, rows: Mapping[str, Sequence[Row]]
) -> tuple[JudgedRow, ...]:
    """Return rows with what the selector found; of more than `MOST_ROWS`, evenly many of each label.

    `scores` has the rows in their order, label by label.
    """
    count = sum(map(len, rows.values()))
    most = max(1, MOST_ROWS // max(len(rows), 1)) if count > MOST_ROWS else count
    found = iter(selections(selector, scores))
    kept: list[JudgedRow] = []
    for label, own in rows.items():
        judged = [_judged(label, row.input, selection) for row, selection in zip(own, found, strict=False)]
        kept += judged[:: max(1, -(-len(own) // most))] if own else []
    return tuple(kept[:MOST_ROWS])


def _judged(label: str, text: str, selection: Selection) -> JudgedRow:
    return JudgedRow(
        text=text[:MAX_TEXT_CHARS],
        text_hash=hashlib.sha256(same_text(text).encode()).hexdigest()[:16],
        label=label,
        best_label=selection.best.label,
        probability=selection.best.probability,
        confidence=selection.confidence,
    )
