"""A table or figure of the paper as data: its conditions, the paper's own numbers, and what `--quick` keeps of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from shared.errors import Invalid
from shared.registry import Reading
from shared.training import LabelName

GRIDS = Path(__file__).parent / "grids"
Shown = str | int | float
Paper = tuple[float | None, ...]


class _Stated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Stated):
    """One line of a table: a training job, what it grows out of, and what the paper found."""

    id: str
    show: dict[str, Shown] = {}
    """What tells it from the others, by the name of its column."""
    job: dict[str, Any] = {}
    """Body of `POST /v1/training/jobs` beyond what the grid says for its kind; `labels` is a list here."""
    parent: str = ""
    """Condition whose release an update starts from."""
    measure: tuple[LabelName, ...] = ()
    """Labels whose test rows are routed; all of the grid's where it is empty."""
    texts: tuple[Reading, ...] = ()
    """Readings it is run under; all of the grid's where it is empty."""
    paper: Paper = ()
    """Joint accuracy, then one accuracy for each of the grid's labels; null where the paper gives none."""

    @property
    def kind(self) -> str:
        """Of the training job."""
        return str(self.job.get("kind", "selector.train"))


class NotRun(_Stated):
    """A line of the paper's table that this program has no part for."""

    id: str
    needs: str
    show: dict[str, Shown] = {}
    paper: Paper = ()


class QuickCondition(_Stated):
    """A condition that `--quick` keeps, and what it is given there."""

    id: str
    job: dict[str, Any] = {}
    texts: tuple[Reading, ...] = ()
    """Readings it is run under; those of the condition where it is empty."""


class Quick(_Stated):
    """What `--quick` makes of the grid."""

    about: str
    """In a sentence, for the report."""
    conditions: tuple[QuickCondition, ...]
    texts: tuple[Reading, ...]
    jobs: dict[str, dict[str, Any]] = {}
    test_rows: int | None = None
    """Test rows of each label; all where it is null."""


class Grid(_Stated):
    """A table or figure of the paper."""

    title: str
    source: str
    notes: tuple[str, ...] = ()
    labels: tuple[LabelName, ...]
    """In the order of the paper's columns."""
    overlapping: tuple[LabelName, ...] = ()
    """Labels that cannot be told apart by nature; their accuracy stands apart."""
    texts: tuple[Reading, ...]
    value: Literal["accuracy", "rows"] = "accuracy"
    """What its plot shows: accuracy, or how many rows were chosen for each label."""
    across_bases: bool = False
    """Whether earlier runs with other base models are lines of the same table."""
    jobs: dict[str, dict[str, Any]]
    """What all jobs of a kind share."""
    conditions: tuple[Condition, ...]
    not_run: tuple[NotRun, ...] = ()
    quick: Quick

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        known = {condition.id for condition in self.conditions}
        if len(known) < len(self.conditions):
            raise ValueError("two conditions have the same id")
        named = {c.parent for c in self.conditions if c.parent} | {c.id for c in self.quick.conditions}
        if named - known:
            raise ValueError(f"no condition is called {', '.join(sorted(named - known))}")
        kept = {chosen.id for chosen in self.quick.conditions}
        orphans = [c.id for c in self.conditions if c.id in kept and c.parent and c.parent not in kept]
        if orphans:
            raise ValueError(f"quick leaves out the parent of {', '.join(orphans)}")
        return self

    @model_validator(mode="after")
    def _numbers_fit_the_columns(self) -> Self:
        columns = 1 + len(self.labels)
        lines: list[Condition | NotRun] = [*self.conditions, *self.not_run]
        wrong = [line.id for line in lines if len(line.paper) not in (0, columns)]
        if wrong:
            raise ValueError(f"not {columns} numbers of the paper: {', '.join(wrong)}")
        return self


class Name(NamedTuple):
    """A condition under one reading."""

    condition: str
    text: str

    def __str__(self) -> str:
        return f"{self.condition}, {self.text}"


class Case(NamedTuple):
    """A condition under one reading, with everything that its job is asked but the ids of data sets and parent."""

    condition: Condition
    text: Reading
    job: Mapping[str, Any]
    labels: tuple[str, ...]
    """Whose test rows are routed."""
    test_rows: int | None

    @property
    def name(self) -> Name:
        """What tells it from the other cases of its grid."""
        return Name(self.condition.id, self.text)

    @property
    def parent_name(self) -> Name:
        """The case whose release it starts from."""
        return Name(self.condition.parent, self.text)


def grid_names() -> list[str]:
    """Every table and figure that can be reproduced."""
    return sorted(file.stem for file in GRIDS.glob("*.yaml"))


def load_grid(name: str) -> Grid:
    """Read a grid; raises `Invalid` where there is none of this name, or it does not read."""
    if name not in grid_names():
        raise Invalid("table_unknown", f"there is no grid {name!r}; there are {', '.join(grid_names())}")
    return parse_grid((GRIDS / f"{name}.yaml").read_text(), name)


def parse_grid(text: str, name: str) -> Grid:
    """Read YAML; raises `Invalid` with the first thing that is wrong."""
    try:
        return Grid.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise Invalid("grid_malformed", f"grid {name} is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise Invalid("grid_malformed", f"grid {name}, {where}: {first['msg']}") from error


def cases_of(grid: Grid, *, quick: bool, only: Sequence[str] = ()) -> list[Case]:
    """Every condition to run under every reading, parents first; raises `Invalid` where `only` names none of them."""
    cases = list(_quick_cases(grid) if quick else _full_cases(grid))
    if not only:
        return cases
    strangers = set(only) - {case.condition.id for case in cases}
    if strangers:
        raise Invalid("condition_unknown", f"no condition {', '.join(sorted(strangers))} in this selection of the grid")
    wanted = _with_parents(grid, only)
    return [case for case in cases if case.condition.id in wanted]


def _full_cases(grid: Grid) -> Iterator[Case]:
    for text in grid.texts:
        for condition in _parents_first(grid.conditions):
            if text in (condition.texts or grid.texts):
                yield _case(grid, condition, text, {}, None)


def _quick_cases(grid: Grid) -> Iterator[Case]:
    quick = grid.quick
    kept = {chosen.id: chosen for chosen in quick.conditions}
    for text in quick.texts:
        for condition in _parents_first([c for c in grid.conditions if c.id in kept]):
            chosen = kept[condition.id]
            if text in (chosen.texts or condition.texts or quick.texts):
                job = merged(quick.jobs.get(condition.kind, {}), chosen.job)
                yield _case(grid, condition, text, job, quick.test_rows)


def _case(grid: Grid, condition: Condition, text: Reading, last: Mapping[str, Any], test_rows: int | None) -> Case:
    job = merged(merged(grid.jobs.get(condition.kind, {}), condition.job), last)
    job["kind"] = condition.kind
    if condition.kind == "selector.train":  # an update reads what its parent reads
        job["text"] = text
    return Case(condition, text, job, condition.measure or grid.labels, test_rows)


def _parents_first(conditions: Sequence[Condition]) -> list[Condition]:
    """Grids are two generations deep: an update starts from a selector trained from nothing."""
    return sorted(conditions, key=lambda condition: bool(condition.parent))


def _with_parents(grid: Grid, only: Sequence[str]) -> set[str]:
    return {*only, *(condition.parent for condition in grid.conditions if condition.id in only)}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second one's values where they differ, dictionaries within them alike."""
    both = dict(one)
    for name, value in other.items():
        inner = both.get(name)
        both[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both
