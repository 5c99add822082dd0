"""How a task's answers are judged, and what a test set says of two ways to route (section 4.3, table 1)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from services.trainer.data.split import same_text
from shared.errors import Invalid

TaskKind = Literal["classification", "generation"]

ROWS_PER_ANSWER = 5
"""A task is classification where each of its answers comes for at least so many rows on average."""


class Judged(NamedTuple):
    """One row of a test set: where it belongs and went, and how good its answers are, from 0 to 1."""

    label: str
    predicted: str
    oracle: float
    """The answer of the adapter that the row's own label names."""
    routed: float
    """What the system answers."""


def task_kinds(
    outputs: Mapping[str, Sequence[str]], classification: Collection[str] = (), generation: Collection[str] = ()
) -> dict[str, TaskKind]:
    """Say of each label whether it is a classification task: as told, otherwise by `ROWS_PER_ANSWER`.

    `outputs` are all the expected answers of a label. Raises `Invalid` for a told label that has no rows, or two kinds.
    """
    told: dict[str, TaskKind] = {
        **dict.fromkeys(generation, "generation"),
        **dict.fromkeys(classification, "classification"),
    }
    wrong = (told.keys() - outputs.keys()) | (set(classification) & set(generation))
    if wrong:
        raise Invalid(
            "task_kind_unclear",
            f"name each of {', '.join(sorted(wrong))} as one kind of task, and only where the data has rows of it",
        )
    return {label: told.get(label) or _kind(own) for label, own in outputs.items()}


def _kind(outputs: Sequence[str]) -> TaskKind:
    distinct = len({same_text(output) for output in outputs})
    return "classification" if distinct * ROWS_PER_ANSWER <= len(outputs) else "generation"


def exact_matches(answers: Iterable[str], expected: Iterable[str]) -> list[float]:
    """1 for each answer that is the expected one, case and white space aside, and 0 for the others."""
    return [float(same_text(a) == same_text(e)) for a, e in zip(answers, expected, strict=True)]


def lines(rows: Sequence[Judged]) -> dict[str, dict[str, list[float]]]:
    """What each line of table 1 is the mean of: line, label, a value per row.

    The selector alone is right or wrong about the label; oracle routing and routed are as good as their answers.
    """
    own = {label: [row for row in rows if row.label == label] for label in sorted({row.label for row in rows})}
    return {
        "selector": {label: [float(row.predicted == label) for row in part] for label, part in own.items()},
        "oracle": {label: [row.oracle for row in part] for label, part in own.items()},
        "routed": {label: [row.routed for row in part] for label, part in own.items()},
    }
