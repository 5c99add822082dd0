"""The numbers of the multi-task paper's tables 1, 2 and 9, in percent, and which of our samples each column is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

LABELS: Mapping[str, str] = {
    "CWSC": "cluewsc",
    "TNEWS": "tnews",
    "CSL": "csl",
    "AFQMC": "afqmc",
    "IFLYTEK": "iflytek",
    "OCNLI": "ocnli",
    "CMRC": "cmrc2018",
}
"""Our label, and the name of its files, for each task of the paper."""
SIX = tuple(name for name in LABELS if name != "CMRC")


class PaperLine(NamedTuple):
    """A line of a table: each task's score where the paper has it, then the last columns."""

    scores: tuple[float, ...] | None
    average: float
    qualified: int
    overhead: float | None
    """In percent."""


class PaperTable(NamedTuple):
    """A table: its tasks, its lines for the base model that stands nearest, and the models of a line by their tasks."""

    title: str
    tasks: tuple[str, ...]
    lines: Mapping[str, PaperLine]
    divisions: Mapping[str, Sequence[tuple[str, ...]]]
    """The tasks of each model, by the beginning of a line's name; empty for one model of all tasks."""


SINGLE, FEW_SHOT, OURS, ONE_STAGE = "Single-task", "Few-shot", "ours", "ours (w/o 2-stage)"
SAMPLERS: Mapping[str, str] = {"Instance-balanced": "instance", "Class-balanced": "class", "UniMax": "unimax"}

TABLES: Mapping[str, PaperTable] = {
    "multitask-table1": PaperTable(
        "Table 1: samplers on the classification tasks of CLUE",
        SIX,
        {
            SINGLE: PaperLine((71.69, 60.16, 83.54, 74.12, 58.31, 86.52), 72.39, 6, 100),
            FEW_SHOT: PaperLine((65.44, 22.84, 66.62, 53.54, 17.63, 73.00), 49.85, 0, None),
            "Instance-balanced": PaperLine((68.75, 59.51, 82.81, 74.44, 59.56, 82.76), 71.30, 3, 33.3),
            "Class-balanced": PaperLine((71.69, 58.20, 85.56, 74.12, 58.54, 80.01), 71.35, 4, 25.0),
            "UniMax": PaperLine((70.59, 59.63, 82.74, 74.14, 59.68, 83.37), 71.69, 4, 25.0),
            OURS: PaperLine((71.32, 59.59, 86.03, 74.56, 58.86, 83.67), 72.33, 5, 20.0),
            ONE_STAGE: PaperLine((71.32, 58.32, 86.60, 74.18, 59.36, 82.99), 72.13, 4, 25.0),
        },
        {},
    ),
    "multitask-table2": PaperTable(
        "Table 2: classification and generation in one adapter",
        tuple(LABELS),
        {
            SINGLE: PaperLine(None, 69.37, 7, None),
            "Instance-balanced": PaperLine(None, 66.82, 1, None),
            "Class-balanced": PaperLine(None, 68.02, 2, None),
            OURS: PaperLine(None, 68.57, 3, None),
        },
        {},
    ),
    "multitask-table9": PaperTable(
        "Table 9: two adapters, by single texts and pairs (SS), by binary and multi-class (BM)",
        SIX,
        {
            SINGLE: PaperLine((71.69, 60.16, 83.54, 74.12, 58.31, 86.52), 72.39, 6, 100),
            "SS Instance-balanced": PaperLine((70.96, 60.42, 87.16, 74.03, 59.13, 82.38), 72.34, 4, 50.0),
            "SS Class-balanced": PaperLine((73.16, 59.60, 87.40, 74.63, 59.44, 83.64), 72.97, 5, 33.3),
            "SS ours": PaperLine((73.14, 60.18, 87.49, 74.32, 59.92, 83.41), 73.08, 5, 33.3),
            "BM Instance-balanced": PaperLine((68.01, 60.06, 87.10, 74.31, 59.29, 84.79), 72.25, 4, 50.0),
            "BM Class-balanced": PaperLine((73.16, 60.10, 86.46, 70.86, 59.60, 84.18), 72.39, 4, 50.0),
            "BM ours": PaperLine((72.97, 59.91, 86.44, 73.79, 59.90, 84.01), 72.83, 5, 33.3),
        },
        {
            "SS": [("CWSC", "TNEWS", "IFLYTEK"), ("OCNLI", "CSL", "AFQMC")],
            "BM": [("CWSC", "CSL", "AFQMC"), ("TNEWS", "OCNLI", "IFLYTEK")],
        },
    ),
}


def models_of(table: PaperTable, line: str) -> Sequence[tuple[str, ...]]:
    """Return the tasks of each adapter behind a line."""
    if line == SINGLE:
        return [(task,) for task in table.tasks]
    return table.divisions.get(line.partition(" ")[0], [table.tasks])


def method_of(line: str) -> str:
    """Return a line's name without its division."""
    first, _, rest = line.partition(" ")
    return rest if first in ("SS", "BM") else line
