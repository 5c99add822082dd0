"""Which rows of feedback may train without that somebody looks at them: none that one key alone could have planted."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from shared.contracts.rows import Row, RowSource

MOST_OF_A_KEY = 0.2
"""Of a label's rows in training: those that its release was trained on, and those that join them."""
LEAST_AGREED = 2
Found = tuple[RowSource, Row]


def safe_rows(found: Sequence[Found], kept: Mapping[str, int]) -> list[Found]:
    """Return the rows that a reviewer gave or `LEAST_AGREED` keys agree on, within each key's share of their label.

    `kept` counts the rows that labels have in the release. A row counts for every key that said what stands in it; of
    a key with too many, the oldest stay.
    """
    by_label: dict[str, list[Found]] = defaultdict(list)
    for source, row in found:
        if row.label and (source.reviewed or source.agreed >= LEAST_AGREED):
            by_label[row.label].append((source, row))
    safe = [one for label, own in by_label.items() for one in _within_shares(own, kept.get(label, 0))]
    return sorted(safe, key=lambda one: one[0].job)


def _within_shares(rows: Sequence[Found], kept: int) -> list[Found]:
    left = sorted(rows, key=lambda one: (one[0].at, one[0].job))
    while True:
        most = int(MOST_OF_A_KEY * (kept + len(left)))
        counts = Counter(key for source, _ in left for key in source.said_by)
        key, count = counts.most_common(1)[0] if counts else ("", 0)
        if count <= most:
            return left
        surplus = {source.job for source, _ in [one for one in left if key in one[0].said_by][most:]}
        left = [one for one in left if one[0].job not in surplus]
