"""A table or figure of the paper as data: its conditions, the paper's own numbers, and what `--quick` keeps of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from shared.contracts.manifests import SelectorText
from shared.contracts.training import LabelName
from shared.errors import Invalid

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
    adapters: tuple[str, ...] = ()
    """Conditions whose adapters its release takes; the release then answers the test rows, too."""
    measure: tuple[LabelName, ...] = ()
    """Labels whose test rows are routed; all of the grid's where it is empty."""
    texts: tuple[SelectorText, ...] = ()
    """Readings it is run under; all of the grid's where it is empty."""
    paper: Paper = ()
    """Joint accuracy, then one accuracy for each of the grid's labels; null where the paper gives none."""

    @property
    def kind(self) -> str:
        """Of the training job."""
        return str(self.job.get("kind", "selector.train"))

    @property
    def needs(self) -> tuple[str, ...]:
        """Conditions that must be finished before."""
        return (*([self.parent] if self.parent else []), *self.adapters)


class QuickCondition(_Stated):
    """A condition that `--quick` keeps, and what it is given there."""

    id: str
    job: dict[str, Any] = {}
    texts: tuple[SelectorText, ...] = ()
    """Readings it is run under; those of the condition where it is empty."""


class Quick(_Stated):
    """What `--quick` makes of the grid."""

    about: str
    """In a sentence, for the report."""
    conditions: tuple[QuickCondition, ...]
    texts: tuple[SelectorText, ...]
    jobs: dict[str, dict[str, Any]] = {}
    test_rows: int | None = None
    """Test rows of each label; all where it is null."""
    train_rows: int | None = None
    """The first so many training rows of each label; all where it is null."""


class Grid(_Stated):
    """A table or figure of the paper."""

    title: str
    source: str
    notes: tuple[str, ...] = ()
    labels: tuple[LabelName, ...]
    """In the order of the paper's columns."""
    overlapping: tuple[LabelName, ...] = ()
    """Labels that cannot be told apart by nature; their accuracy stands apart."""
    classification: tuple[LabelName, ...] = ()
    """Labels whose answers are judged by exact match, though nearly every row has one of its own."""
    texts: tuple[SelectorText, ...]
    value: Literal["accuracy", "rows"] = "accuracy"
    """What its plot shows: accuracy, or how many rows were chosen for each label."""
    across_bases: bool = False
    """Whether earlier runs with other base models are lines of the same table."""
    jobs: dict[str, dict[str, Any]]
    """What all jobs of a kind share."""
    conditions: tuple[Condition, ...]
    quick: Quick

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        known = {condition.id for condition in self.conditions}
        if len(known) < len(self.conditions):
            raise ValueError("two conditions have the same id")
        named = {name for c in self.conditions for name in c.needs} | {c.id for c in self.quick.conditions}
        if named - known:
            raise ValueError(f"no condition is called {', '.join(sorted(named - known))}")
        if any(other.needs for c in self.conditions for other in self.conditions if other.id in c.needs):
            raise ValueError("a condition that another one needs may need none itself")
        kept = {chosen.id for chosen in self.quick.conditions}
        orphans = [c.id for c in self.conditions if c.id in kept and not kept.issuperset(c.needs)]
        if orphans:
            raise ValueError(f"quick leaves out what these need: {', '.join(orphans)}")
        return self

    @model_validator(mode="after")
    def _needs_are_read_alike(self) -> Self:
        for texts in (self.texts_of, self.quick_texts_of):
            read = {condition.id: texts(condition) for condition in self.conditions}
            wrong = [c.id for c in self.conditions if any(not read[name].issuperset(read[c.id]) for name in c.needs)]
            if wrong:
                raise ValueError(f"what these need is not run under all of their readings: {', '.join(wrong)}")
        return self

    @model_validator(mode="after")
    def _numbers_fit_the_columns(self) -> Self:
        columns = 1 + len(self.labels)
        wrong = [c.id for c in self.conditions if len(c.paper) not in (0, columns)]
        if wrong:
            raise ValueError(f"not {columns} numbers of the paper: {', '.join(wrong)}")
        return self

    def texts_of(self, condition: Condition) -> set[SelectorText]:
        """The readings that the full grid runs it under."""
        return set(condition.texts or self.texts)

    def quick_texts_of(self, condition: Condition) -> set[SelectorText]:
        """Those that the quick one runs it under; none where it leaves it out."""
        own = next((chosen.texts for chosen in self.quick.conditions if chosen.id == condition.id), None)
        return set() if own is None else set(own or condition.texts or self.quick.texts)


class Name(NamedTuple):
    """A condition under one reading."""

    condition: str
    text: str

    def __str__(self) -> str:
        return f"{self.condition}, {self.text}"


class Case(NamedTuple):
    """A condition under one reading, with everything that its job is asked but the ids of data sets and parent."""

    condition: Condition
    text: SelectorText
    job: Mapping[str, Any]
    labels: tuple[str, ...]
    """Whose test rows are routed."""
    test_rows: int | None
    train_rows: int | None

    @property
    def name(self) -> Name:
        """What tells it from the other cases of its grid."""
        return Name(self.condition.id, self.text)

    @property
    def needs(self) -> list[Name]:
        """The cases that must be finished before."""
        return [Name(condition, self.text) for condition in self.condition.needs]


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
            if text in grid.texts_of(condition):
                yield _case(grid, condition, text, {}, None, None)


def _quick_cases(grid: Grid) -> Iterator[Case]:
    quick = grid.quick
    own = {chosen.id: chosen.job for chosen in quick.conditions}
    for text in quick.texts:
        for condition in _parents_first(grid.conditions):
            if text in grid.quick_texts_of(condition):
                job = merged(quick.jobs.get(condition.kind, {}), own[condition.id])
                yield _case(grid, condition, text, job, quick.test_rows, quick.train_rows)


def _case(
    grid: Grid,
    condition: Condition,
    text: SelectorText,
    last: Mapping[str, Any],
    test_rows: int | None,
    train_rows: int | None,
) -> Case:
    job = merged(merged(grid.jobs.get(condition.kind, {}), condition.job), last)
    job["kind"] = condition.kind
    if condition.kind == "selector.train":  # an update reads what its parent reads
        job["text"] = text
    if condition.kind == "comparison.train":
        job["classification"] = grid.classification
    return Case(condition, text, job, condition.measure or grid.labels, test_rows, train_rows)


def _parents_first(conditions: Sequence[Condition]) -> list[Condition]:
    """Grids are two generations deep."""
    return sorted(conditions, key=lambda condition: bool(condition.needs))


def _with_parents(grid: Grid, only: Sequence[str]) -> set[str]:
    return {*only, *(name for condition in grid.conditions if condition.id in only for name in condition.needs)}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second one's values where they differ, dictionaries within them alike."""
    both = dict(one)
    for name, value in other.items():
        inner = both.get(name)
        both[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both
