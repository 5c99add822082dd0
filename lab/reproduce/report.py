"""Writes a table's report as CSV, Markdown and a plot, with our figures beside the paper's."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.reproduce.grid import Case, Grid, Name
from lab.reproduce.plot import draw
from lab.reproduce.results_store import ConditionResult, Failure, Outcome
from lab.reproduce.table_rows import ACCURACY, PARTS, Line, lines_of

CSV_COLUMNS = (
    "table", "base", "condition", "shown", "text", "selector", "column", "ours", "paper", "rows", "status",
    "tokens_seen", "seconds", "device", "seed", "machine", "commit", "release",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a table's conditions so far, with the paper's numbers."""

    table: str
    grid: Grid
    quick: bool
    cases: Sequence[Case]
    results: Mapping[Name, ConditionResult]
    others: Sequence[Outcome]
    """Outcomes with other base models."""

    def write(self, folder: Path) -> list[Path]:
        """Write `<table>.csv`, `.md` and `.png` (`<table>-quick` for a quick run); returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{self.table}-quick" if self.quick else self.table
        lines = lines_of(self.grid, self.cases, self.results, self.others)
        files = [folder / f"{stem}.{ending}" for ending in ("csv", "md", "png")]
        _write_csv(files[0], self.table, lines)
        files[1].write_text("\n".join(self._markdown(lines, files[2].name)) + "\n")
        draw(files[2], self.grid, lines)
        return files

    @property
    def _outcomes(self) -> list[Outcome]:
        return [*(result for result in self.results.values() if isinstance(result, Outcome)), *self.others]

    def _markdown(self, lines: Mapping[str, list[Line]], plot: str) -> Iterator[str]:
        yield f"# {self.grid.title}{', quick' if self.quick else ''}"
        yield ""
        yield f"Paper: {self.grid.source}."
        if self.quick:
            yield self._quick_sentence()
        yield from (f"- {note}" for note in self.grid.notes)
        for text, own in lines.items():
            yield from ("", f"## {text}", "")
            yield from _summary(own)
            yield ""
            yield from _by_task(self.grid, own) if self.grid.value == "accuracy" else _by_rows(self.grid, own)
        yield from ("", f"![{self.table}]({plot})", "", "## Measured with", "")
        yield from self._measured_with()
        yield from self._remarks()

    def _quick_sentence(self) -> str:
        left_out = [c.id for c in self.grid.conditions if c.id not in {case.condition.id for case in self.cases}]
        return f"Quick: {self.grid.quick.about} Left out: {', '.join(left_out) or 'no line'}."

    def _measured_with(self) -> Iterator[str]:
        for outcome in {o.base_id: o for o in self._outcomes}.values():
            yield f"- base model `{outcome.base}` ({outcome.base_id})"
        for made in dict.fromkeys((o.provenance.machine, o.provenance.commit, *_flat(o)) for o in self._outcomes):
            machine, commit, *versions = made
            yield f"- {machine}; commit {commit}; {', '.join(versions)}"
        settings: dict[str, list[str]] = {}
        for outcome in self._outcomes:
            settings.setdefault(json.dumps(_settings(outcome)), []).append(f"{outcome.condition} ({outcome.text})")
        yield from (f"- conditions {', '.join(own)}: `{stated}`" for stated, own in settings.items())

    def _remarks(self) -> Iterator[str]:
        failed = {name: result for name, result in self.results.items() if isinstance(result, Failure)}
        deleted = {o.condition: o.deleted for o in self._outcomes if o.deleted and o.text == "input"}
        warnings = sorted({warning for o in self._outcomes for warning in o.warnings})
        judged = {f"{label}: {measure}" for o in self._outcomes for label, measure in o.measures.items()}
        yield from _list("Answers judged by", sorted(judged))
        yield from _list("Failed", [f"{name}: {failure.code}: {failure.detail}" for name, failure in failed.items()])
        yield from _list("Texts of deleted labels", [f"{name}: {_fates(fates)}" for name, fates in deleted.items()])
        yield from _list("Warnings of the training jobs", warnings)


def _settings(outcome: Outcome) -> dict[str, object]:
    """The settings that the lines of the table do not show."""
    stated: dict[str, object] = {
        name: outcome.body[name] for name in ("kind", "selector", "readout") if name in outcome.body
    }
    selection = outcome.body.get("selection", {})
    stated |= {name: selection[name] for name in ("pooling", "max_tokens", "validation_share") if name in selection}
    return stated | (outcome.body["settings"] if outcome.tokens else {"seed": outcome.seed})


def _flat(outcome: Outcome) -> list[str]:
    return [f"{name} {version}" for name, version in outcome.provenance.versions.items()]


def _list(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield from ("", f"## {title}", "", *(f"- {item}" for item in items))


def _fates(deleted: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(f"{label} {fate['rejected']:.0%} rejected of {fate['n']}" for label, fate in deleted.items())


def _summary(lines: Sequence[Line]) -> Iterator[str]:
    """One line per part of a selector: joint accuracy beside the paper's, and its cost."""
    shown = _shown_columns(lines)
    yield from _head("condition", *shown, "selector", "paper", "ours", "clear", "overlapping", "rows routed",
                     "tokens seen", "seconds", "trained on", "seed")  # fmt: skip
    for line in lines:
        measured, outcome = line.measured, line.outcome
        yield _row(
            line.condition,
            *(line.show.get(name, "") for name in shown),
            PARTS[line.part] or line.status,
            _number(line.paper[ACCURACY]),
            _number(line.ours(ACCURACY)),
            _number(measured.clear if measured else None),
            _number(measured.overlapping if measured else None),
            measured.n if measured else "-",
            _count(outcome.tokens if outcome and line.part != "light" else None),
            f"{outcome.seconds:.0f}" if outcome else "-",
            (outcome.device if outcome and line.part != "light" else "") or "-",
            outcome.seed if outcome else "-",
        )


def _by_task(grid: Grid, lines: Sequence[Line]) -> Iterator[str]:
    """Accuracy of each task, with the paper's in brackets."""
    yield from _head("condition", "selector", *grid.labels)
    for line in lines:
        cells = (_pair(line.ours(label), line.paper[label]) for label in grid.labels)
        yield _row(line.condition, PARTS[line.part] or line.status, *cells)


def _by_rows(grid: Grid, lines: Sequence[Line]) -> Iterator[str]:
    """Number of different rows chosen for each task."""
    yield from _head("condition", *grid.labels)
    for line in lines:
        chosen = line.outcome.chosen if line.outcome else {}
        yield _row(line.condition, *(chosen.get(label, "-") for label in grid.labels))


def _shown_columns(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line.show))


def _head(*names: str) -> list[str]:
    return [_row(*names), _row(*("---" for _ in names))]


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return f"{value:,}" if value else "-"


def _pair(ours: float | None, paper: float | None) -> str:
    return _number(ours) if paper is None else f"{_number(ours)} ({_number(paper)})"


def _write_csv(file: Path, table: str, lines: Mapping[str, list[Line]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for line in (line for own in lines.values() for line in own):
            writer.writerows(_records(table, line))


def _records(table: str, line: Line) -> Iterator[dict[str, object]]:
    """One record for each column of the paper's table."""
    outcome = line.outcome
    cost = {} if outcome is None else {
        "base": outcome.base, "rows": line.measured.n if line.measured else "", "tokens_seen": outcome.tokens,
        "seconds": outcome.seconds, "device": outcome.device, "seed": outcome.seed, "release": outcome.release,
        "machine": outcome.provenance.machine, "commit": outcome.provenance.commit,
    }  # fmt: skip
    shown = " ".join(f"{name}={value}" for name, value in line.show.items())
    for column, paper in line.paper.items():
        yield {
            "table": table, "condition": line.condition, "shown": shown, "text": line.text, "selector": line.part,
            "column": column, "ours": line.ours(column), "paper": paper, "status": line.status, **cost,
        }  # fmt: skip
