"""How a task's answers are judged, and the values behind the lines of table 1 (section 4.3)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from services.trainer.data.split import same_text
from shared.errors import Invalid

TaskKind = Literal["classification", "generation"]

ROWS_PER_ANSWER = 5
"""A task is classification where it has at least this many rows for each distinct answer."""


class Judged(NamedTuple):
    """One row of a test set: its label, the selected label, and the scores of two answers, from 0 to 1."""

    label: str
    predicted: str
    oracle: float
    """Score of the answer by the adapter of the row's own label."""
    routed: float
    """Score of the answer by the system: by the adapter of the selected label."""


def task_kinds(
    outputs: Mapping[str, Sequence[str]], classification: Collection[str] = (), generation: Collection[str] = ()
) -> dict[str, TaskKind]:
    """Return the kind of each label's task: the one that is named for it, otherwise by `ROWS_PER_ANSWER`.

    `outputs` are all expected answers of a label. Raises `Invalid` for a named label without rows or with two kinds.
    """
    named: dict[str, TaskKind] = {
        **dict.fromkeys(generation, "generation"),
        **dict.fromkeys(classification, "classification"),
    }
    wrong = (named.keys() - outputs.keys()) | (set(classification) & set(generation))
    if wrong:
        raise Invalid(
            "task_kind_unclear",
            f"name each of {', '.join(sorted(wrong))} as one kind of task, and only where the data has rows of it",
        )
    return {label: named.get(label) or _kind(own) for label, own in outputs.items()}


def _kind(outputs: Sequence[str]) -> TaskKind:
    distinct = len({same_text(output) for output in outputs})
    return "classification" if distinct * ROWS_PER_ANSWER <= len(outputs) else "generation"


def exact_matches(answers: Iterable[str], expected: Iterable[str]) -> list[float]:
    """1 for each answer that equals the expected one up to case and white space, and 0 for the others."""
    return [float(same_text(a) == same_text(e)) for a, e in zip(answers, expected, strict=True)]


def lines(rows: Sequence[Judged]) -> dict[str, dict[str, list[float]]]:
    """The values whose means are the lines of table 1: by line, then by label, one per row.

    The line of the selector is 1 where it selects the row's label; the other lines are the scores of the answers.
    """
    own = {label: [row for row in rows if row.label == label] for label in sorted({row.label for row in rows})}
    return {
        "selector": {label: [float(row.predicted == label) for row in part] for label, part in own.items()},
        "oracle": {label: [row.oracle for row in part] for label, part in own.items()},
        "routed": {label: [row.routed for row in part] for label, part in own.items()},
    }
