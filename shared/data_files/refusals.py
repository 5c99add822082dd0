"""A file that is refused: its wrong records with their reasons, its labels that are none."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.data_files.label_names import Renamed
from shared.errors import Invalid

MAX_TOLD = 5
"""Wrong records that the sentence names; the members name more."""


class Wrong(NamedTuple):
    """One record that cannot be taken, and why."""

    line: int
    place: str
    reason: str


class RowsRefused(Invalid):
    """Rows that are refused; `wrong` are the first of `wrong_count`, `renamed` the labels that wait for a yes."""

    def __init__(self, wrong: Sequence[Wrong], wrong_count: int, renamed: Sequence[Renamed]) -> None:
        self.wrong, self.wrong_count, self.renamed = wrong, wrong_count, renamed
        super().__init__("dataset_malformed", _sentence(wrong, wrong_count, renamed))

    @property
    def members(self) -> dict[str, Any]:
        """The wrong records, and the labels with what is proposed for them."""
        return {
            "errors": [{"line": one.line, "place": one.place, "reason": one.reason} for one in self.wrong],
            "wrong_rows": self.wrong_count,
            "labels": [one.as_fields() for one in self.renamed],
        }


def _sentence(wrong: Sequence[Wrong], count: int, renamed: Sequence[Renamed]) -> str:
    told = [f"{one.place}: {one.reason}" for one in wrong[:MAX_TOLD]]
    if count > MAX_TOLD:
        told.append(f"and {count - MAX_TOLD} more")
    told += [f"line {one.line}: {one.given!r} is not a label; {one.proposed} is proposed" for one in renamed[:MAX_TOLD]]
    if len(renamed) > MAX_TOLD:
        told.append(f"and {len(renamed) - MAX_TOLD} more labels")
    what = "; ".join(told)
    if not renamed:
        return f"{what}. Mend these lines and upload the file again."
    mend = "Mend these lines, and write" if wrong else "Write"
    return f"{what}. {mend} domain.task, or take what is proposed: accept_labels=true (`--accept-labels`)."
