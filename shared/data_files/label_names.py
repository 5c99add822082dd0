"""Labels as people write them, and the well-formed labels proposed for them."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.contracts.labels import parse_label, proposed_label
from shared.errors import Invalid

MAX_RENAMED = 1000
MAX_CHARS = 200


class Renamed:
    """One label as it is written, the one proposed for it, and how many rows have it from which line on."""

    def __init__(self, given: str, proposed: str, line: int) -> None:
        self.given, self.proposed, self.line = given, proposed, line
        self.rows = 0

    def as_fields(self) -> dict[str, Any]:
        """Return the form that people and machines are shown."""
        return {"given": self.given, "label": self.proposed, "rows": self.rows}


class LabelNames:
    """The labels of one file."""

    def __init__(self) -> None:
        self._renamed: dict[str, Renamed] = {}

    @property
    def renamed(self) -> list[Renamed]:
        """The labels that are not well-formed, as they came."""
        return list(self._renamed.values())

    def name(self, given: str, line: int) -> str:
        """Return the label of a row; raises `Invalid` where none can be proposed, or too many are to be."""
        given = given.strip()
        if (known := self._renamed.get(given)) is None:
            try:
                return str(parse_label(given)) if given else ""
            except Invalid as error:
                known = self._propose(given, line, error)
        known.rows += 1
        return known.proposed

    def _propose(self, given: str, line: int, error: Invalid) -> Renamed:
        proposed = proposed_label(given) if len(given) <= MAX_CHARS else ""
        if not proposed:
            raise Invalid(error.code, f"{given[:40]!r} is not a label, and none can be proposed: {_form_of(error)}")
        if len(self._renamed) == MAX_RENAMED:
            raise Invalid(error.code, f"more than {MAX_RENAMED} labels are none; is it the labels' column?")
        self._renamed[given] = Renamed(given, proposed, line)
        return self._renamed[given]


def _form_of(error: Invalid) -> str:
    return error.detail.partition(": ")[2]


def merged(renamed: Iterable[Renamed]) -> Mapping[str, list[str]]:
    """Return the proposed labels that several written ones become, and these."""
    together: dict[str, list[str]] = {}
    for one in renamed:
        together.setdefault(one.proposed, []).append(one.given)
    return {label: given for label, given in together.items() if len(given) > 1}
