"""Prints what a file of rows is: its wrong lines, its labels, its rows as they will be trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.cli import output
from shared.data_files.label_names import merged
from shared.data_files.refusals import RowsRefused

MAX_SHOWN = 20
_BAR = 40
_MAX_CHARS = 600
"""Of one piece of a training text."""


def refusal(error: RowsRefused, *, as_json: bool) -> None:
    """Print the wrong records with their reasons, the first ones on a screen, and the labels that are none."""
    if as_json:
        output.json_line({"code": error.code, "detail": error.detail, **error.members})
        return
    for wrong in error.wrong[:MAX_SHOWN]:
        output.err.print(_visible(f"{wrong.place}: {wrong.reason}"), markup=False, highlight=False, soft_wrap=True)
    if error.wrong_count > MAX_SHOWN:
        more = error.wrong_count - MAX_SHOWN
        output.err.print(f"and {more} more; --json lists all of them", highlight=False)
    if error.renamed:
        labels([one.as_fields() for one in error.renamed])
        for label, given in merged(error.renamed).items():
            output.err.print(f"{label}: {', '.join(map(repr, given))} become one", markup=False, highlight=False)
    output.error(error.code, _remedy(error))


def _remedy(error: RowsRefused) -> str:
    labels_are_none = "these labels are none; --accept-labels takes the proposed ones, or write domain.task in the file"
    if not error.wrong:
        return labels_are_none
    said = [f"{error.wrong_count} {'record' if error.wrong_count == 1 else 'records'} cannot be taken; mend them"]
    if all(wrong.reason.startswith("not JSON") for wrong in error.wrong):
        said.append('a line is {"input": …}, or the file a table whose first line names the columns')
    return "; ".join([*said, labels_are_none] if error.renamed else said)


def labels(renamed: Sequence[Mapping[str, Any]]) -> None:
    """Print labels as they are written beside those that are proposed."""
    output.table([dict(one) for one in renamed], ["given", "label", "rows"], as_json=False)


def page(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a file is and what it would train."""
    if as_json:
        output.json_line(dict(found))
        return
    _say(f"{found['format']}, {found['rows']} rows")
    for note in found["notes"]:
        _say(note)
    if found["renamed_labels"]:
        labels(found["renamed_labels"])
    for number, parts in enumerate(found["sample"], start=1):
        _say(f"\nrow {number}, by the template {found['template']} (> is learnt, | is read)")
        for line in _lines(parts):
            _say(line)
    for line in histogram(found["lengths"]):
        _say(line)


def histogram(lengths: Mapping[str, Any]) -> list[str]:
    """Return the lengths as lines of text, one for each step."""
    steps = lengths["histogram"]
    most = max((step["rows"] for step in steps), default=0)
    width = len(str(steps[-1]["up_to"])) if steps else 0
    by = f" ({lengths['by']})" if lengths["by"] else ""
    head = f"\nlengths in {lengths['unit']}{by}, {lengths['rows']} rows, the longest has {lengths['longest']}"
    return [
        head,
        *(
            f"up to {step['up_to']:>{width}}  {'#' * round(_BAR * step['rows'] / most):{_BAR}}  {step['rows']}"
            for step in steps
        ),
    ]


def _lines(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{'>' if part['learnt'] else '|'} {line}"
        for part in parts
        for line in _shortened(part["text"]).removesuffix("\n").split("\n")
    ]


def _shortened(text: str) -> str:
    if len(text) <= _MAX_CHARS:
        return text
    half = _MAX_CHARS // 2
    return f"{text[:half]} … ({len(text) - _MAX_CHARS} characters) … {text[-half:]}"


def _visible(text: str) -> str:
    """The same with signs that a terminal would obey written out."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


def _say(text: str) -> None:
    output.out.print(_visible(text), markup=False, highlight=False, soft_wrap=True)
