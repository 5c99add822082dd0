"""How often the selector names the right label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from signalbox.results import Selection

NO_LABEL = "none.none"
"""The label of a text that the selector is to reject."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Numbers of rows, all of them and of each label, and the rows that were named wrongly."""

    rows: int = 0
    right: int = 0
    rejected: int = 0
    per_label: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By right label: how many rows it has, and how many of them were named so."""
    wrong: Sequence[tuple[Mapping[str, str], Selection]] = ()

    @property
    def accuracy(self) -> float:
        """The share of rows that were named rightly."""
        return self.right / self.rows if self.rows else 0.0


def evaluation_of(rows: Sequence[Mapping[str, str]], selections: Sequence[Selection]) -> Evaluation:
    """Compare what was selected for each row with its label."""
    wrong, per_label = [], dict[str, tuple[int, int]]()
    for row, selection in zip(rows, selections, strict=True):
        is_right = (selection.label or NO_LABEL) == row["label"]
        count, right = per_label.get(row["label"], (0, 0))
        per_label[row["label"]] = count + 1, right + is_right
        if not is_right:
            wrong.append((row, selection))
    return Evaluation(
        rows=len(rows),
        right=len(rows) - len(wrong),
        rejected=sum(selection.label is None for selection in selections),
        per_label=per_label,
        wrong=wrong,
    )
