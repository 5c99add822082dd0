"""The multi-task tables as files: our scores with the paper's in brackets, average, qualified tasks, overhead."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.reproduce.multitask_paper import FEW_SHOT, SINGLE, PaperLine, PaperTable, models_of
from shared.contracts.multitask import is_qualified, overhead

Scores = Mapping[str, float]
"""By the paper's name of a task, from 0 to 1."""


class Summary(NamedTuple):
    """The last columns of a line."""

    average: float
    qualified: int
    overhead: float | None
    """From 0 to 1; None where no task is qualified, and for few-shot, which no model is trained for."""


def summary(line: str, scores: Scores, single: Scores, models: Sequence[Sequence[str]]) -> Summary:
    """Return a line's macro average, its qualified tasks (99 % of single-task), and 1 over the most of one model."""
    average = sum(scores.values()) / len(scores)
    if line == SINGLE:
        return Summary(average, len(scores), 1.0)
    counts = [sum(is_qualified(scores[task], single[task]) for task in tasks) for tasks in models]
    return Summary(average, sum(counts), None if line == FEW_SHOT else overhead(counts))


def write(name: str, table: PaperTable, found: Mapping[str, Scores], notes: Sequence[str], folder: Path) -> list[Path]:
    """Write `<name>.md` and `.csv` of the lines that are measured; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    text, sheet = folder / f"{name}.md", folder / f"{name}.csv"
    text.write_text("\n".join(_markdown(table, found, notes)) + "\n")
    with sheet.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("method", "column", "ours", "paper"))
        writer.writerows(_records(table, found))
    return [text, sheet]


def _markdown(table: PaperTable, found: Mapping[str, Scores], notes: Sequence[str]) -> Iterator[str]:
    yield f"# {table.title}"
    yield ""
    yield "Percent; the paper's numbers for Qwen2-7B in brackets. A task is qualified at 99 % of single-task."
    yield from (f"- {note}" for note in notes)
    yield ""
    columns = ("Method", *table.tasks, "Avg.", "Num.", "Overhead")
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' for _ in columns)} |"
    for line, paper in table.lines.items():
        cells = (_cell(ours, theirs) for _, ours, theirs in _values(line, paper, table, found))
        yield f"| {line} | {' | '.join(cells)} |"


def _values(
    line: str, paper: PaperLine, table: PaperTable, found: Mapping[str, Scores]
) -> Iterator[tuple[str, float | None, float | None]]:
    """Column, our value and the paper's, in percent; the qualified tasks are a number."""
    scores = found.get(line, {})
    theirs = dict(zip(table.tasks, paper.scores or (), strict=False))
    for task in table.tasks:
        yield task, _percent(scores.get(task)), theirs.get(task)
    is_whole = set(table.tasks) <= scores.keys() and set(table.tasks) <= found.get(SINGLE, {}).keys()
    ours = summary(line, scores, found[SINGLE], models_of(table, line)) if is_whole else None
    yield "Avg.", _percent(ours.average if ours else None), paper.average
    yield "Num.", ours.qualified if ours else None, paper.qualified
    yield "Overhead", _percent(ours.overhead if ours else None), paper.overhead


def _records(table: PaperTable, found: Mapping[str, Scores]) -> Iterator[tuple[object, ...]]:
    for line, paper in table.lines.items():
        yield from ((line, *values) for values in _values(line, paper, table, found))


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _cell(ours: float | None, paper: float | None) -> str:
    return f"{_number(ours)} ({_number(paper)})"


def _number(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"
