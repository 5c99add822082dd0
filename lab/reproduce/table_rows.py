"""Builds a table's lines: one per condition, selector text and selector part, with our figures and the paper's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lab.reproduce.grid import Case, Condition, Grid, Name, Paper, Shown
from lab.reproduce.results_store import ConditionResult, Measured, Outcome

PARTS = {
    "prototypes": "prototypes",
    "llm": "language model",
    "light": "words alone",
    "cascade": "both",
    "served": "both, rejecting",
    "answers": "no selector",
    "oracle": "the right adapter",
    "routed": "the selector's adapter",
    "": "",
}
ACCURACY = "accuracy"
BASE_MODEL = "base model"


class Line(NamedTuple):
    """One line; `status` is the reason for missing figures."""

    condition: str
    show: Mapping[str, Shown]
    text: str
    part: str
    """One of `PARTS`; empty without figures."""
    paper: Mapping[str, float | None]
    """The paper's numbers by column: `accuracy` and the labels."""
    outcome: Outcome | None = None
    status: str = ""

    @property
    def name(self) -> str:
        """The condition, with the base model if several are compared."""
        return f"{self.condition}, {self.show[BASE_MODEL]}" if BASE_MODEL in self.show else self.condition

    @property
    def measured(self) -> Measured | None:
        """Our figures of its part."""
        return (
            next((m for part, m in self.outcome.measured.items() if part == self.part), None) if self.outcome else None
        )

    def ours(self, column: str) -> float | None:
        """Our figure in a column of the paper's table."""
        if self.measured is None:
            return None
        return self.measured.accuracy if column == ACCURACY else self.measured.per_label.get(column)


def lines_of(
    grid: Grid, cases: Sequence[Case], results: Mapping[Name, ConditionResult], others: Sequence[Outcome]
) -> dict[str, list[Line]]:
    """Lines by selector text, in the order of the paper's table; `others` are outcomes with other base models."""
    order = [condition.id for condition in grid.conditions]
    found: dict[str, list[Line]] = {}
    for case in sorted(cases, key=lambda case: order.index(case.condition.id)):
        found.setdefault(case.text, []).extend(_lines_of_case(grid, case, results.get(case.name)))
    for outcome in others:
        condition = next((c for c in grid.conditions if c.id == outcome.condition), None)
        if condition and outcome.text in found:
            found[outcome.text] += _lines_of_outcome(grid, condition, outcome)
    return found


def _lines_of_case(grid: Grid, case: Case, result: ConditionResult | None) -> Iterator[Line]:
    if isinstance(result, Outcome):
        yield from _lines_of_outcome(grid, case.condition, result)
        return
    status = f"failed: {result.code}" if result else "not run yet"
    yield Line(
        case.condition.id, case.condition.show, case.text, "", _paper(grid, case.condition, case.text), None, status
    )


def _lines_of_outcome(grid: Grid, condition: Condition, outcome: Outcome) -> Iterator[Line]:
    show = {**condition.show, **({BASE_MODEL: outcome.base} if grid.across_bases else {})}
    for part in outcome.measured:
        # If adapters answer, the paper's numbers measure the answers, not the selector.
        is_papers = bool(condition.adapters) == (part in ("oracle", "routed"))
        paper = _paper(grid, condition, outcome.text) if is_papers else _columns(grid, ())
        yield Line(condition.id, show, outcome.text, part, paper, outcome)


def _paper(grid: Grid, condition: Condition, text: str) -> dict[str, float | None]:
    return _columns(grid, condition.paper if text == "input" else ())


def _columns(grid: Grid, paper: Paper) -> dict[str, float | None]:
    names = [ACCURACY, *grid.labels]
    return dict(zip(names, paper or [None] * len(names), strict=True))
