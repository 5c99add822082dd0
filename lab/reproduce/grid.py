"""A table or figure of the paper as data: its conditions, the paper's numbers, and the reduced grid of `--quick`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from shared.contracts.reading import SelectorText
from shared.contracts.training_tasks import LabelName
from shared.errors import Invalid

GRIDS = Path(__file__).parent / "grids"
Shown = str | int | float
Paper = tuple[float | None, ...]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Frozen):
    """One line of a table: a training job, the conditions it depends on, and the paper's numbers."""

    id: str
    show: dict[str, Shown] = {}
    """The values that distinguish it from other conditions, by column name."""
    job: dict[str, Any] = {}
    """Body of `POST /v1/training/jobs` beyond what the grid says for its kind; `labels` is a list here."""
    parent: str = ""
    """The condition whose release an update starts from."""
    adapters: tuple[str, ...] = ()
    """Conditions whose adapters its release uses; the release then also answers the test rows."""
    measure: tuple[LabelName, ...] = ()
    """Labels whose test rows are routed; empty means all of the grid's."""
    texts: tuple[SelectorText, ...] = ()
    """Selector texts it is run with; empty means all of the grid's."""
    paper: Paper = ()
    """Joint accuracy, then one accuracy for each of the grid's labels; null if the paper gives none."""

    @property
    def kind(self) -> str:
        """Kind of the training job."""
        return str(self.job.get("kind", "selector.train"))

    @property
    def needs(self) -> tuple[str, ...]:
        """Conditions that must finish first."""
        return (*([self.parent] if self.parent else []), *self.adapters)


class QuickCondition(_Frozen):
    """A condition that `--quick` keeps, with its changes to the job."""

    id: str
    job: dict[str, Any] = {}
    texts: tuple[SelectorText, ...] = ()
    """Selector texts it is run with; empty means those of the condition."""


class Quick(_Frozen):
    """The reduced grid of `--quick`."""

    about: str
    """One sentence about the reduction, for the report."""
    conditions: tuple[QuickCondition, ...]
    texts: tuple[SelectorText, ...]
    jobs: dict[str, dict[str, Any]] = {}
    test_rows: int | None = None
    """Test rows of each label; null means all."""
    train_rows: int | None = None
    """Number of training rows of each label, from the first on; null means all."""


class Grid(_Frozen):
    """A table or figure of the paper."""

    title: str
    source: str
    notes: tuple[str, ...] = ()
    labels: tuple[LabelName, ...]
    """In the order of the paper's columns."""
    overlapping: tuple[LabelName, ...] = ()
    """Labels whose texts are inherently ambiguous; their accuracy is reported separately."""
    classification: tuple[LabelName, ...] = ()
    """Labels judged by exact match, although nearly every row has its own answer."""
    texts: tuple[SelectorText, ...]
    value: Literal["accuracy", "rows"] = "accuracy"
    """What the plot shows: accuracy, or how many rows were chosen for each label."""
    across_bases: bool = False
    """Whether earlier runs with other base models appear in the same table."""
    jobs: dict[str, dict[str, Any]]
    """Fields that all jobs of a kind share."""
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
        """The selector texts that the full grid runs it with."""
        return set(condition.texts or self.texts)

    def quick_texts_of(self, condition: Condition) -> set[SelectorText]:
        """The selector texts that the quick grid runs it with; empty if the quick grid leaves it out."""
        own = next((chosen.texts for chosen in self.quick.conditions if chosen.id == condition.id), None)
        return set() if own is None else set(own or condition.texts or self.quick.texts)


class Name(NamedTuple):
    """The name of a condition with one selector text."""

    condition: str
    text: str

    def __str__(self) -> str:
        return f"{self.condition}, {self.text}"


class Case(NamedTuple):
    """A condition with one selector text, and its job except for the ids of data sets and parent."""

    condition: Condition
    text: SelectorText
    job: Mapping[str, Any]
    labels: tuple[str, ...]
    """Labels whose test rows are routed."""
    test_rows: int | None
    train_rows: int | None

    @property
    def name(self) -> Name:
        """Its unique name within the grid."""
        return Name(self.condition.id, self.text)

    @property
    def needs(self) -> list[Name]:
        """The cases that must finish first."""
        return [Name(condition, self.text) for condition in self.condition.needs]


def grid_names() -> list[str]:
    """Every table and figure that can be reproduced."""
    return sorted(file.stem for file in GRIDS.glob("*.yaml"))


def load_grid(name: str) -> Grid:
    """Read a grid; raises `Invalid` if there is none of this name or it is malformed."""
    if name not in grid_names():
        raise Invalid("table_unknown", f"there is no grid {name!r}; name one of {', '.join(grid_names())}")
    return parse_grid((GRIDS / f"{name}.yaml").read_text(), name)


def parse_grid(text: str, name: str) -> Grid:
    """Parse YAML; raises `Invalid` with the first error."""
    try:
        return Grid.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise Invalid("grid_malformed", f"grid {name} is no YAML ({error}): correct it") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise Invalid("grid_malformed", f"grid {name}, {where}: {first['msg']}") from error


def cases_of(grid: Grid, *, quick: bool, only: Sequence[str] = ()) -> list[Case]:
    """Every condition with each of its texts, parents first; raises `Invalid` if `only` names an unknown condition."""
    cases = list(_quick_cases(grid) if quick else _full_cases(grid))
    if not only:
        return cases
    unknown = set(only) - {case.condition.id for case in cases}
    if unknown:
        raise Invalid(
            "condition_unknown",
            f"no condition {', '.join(sorted(unknown))} in this selection of the grid: name others with --only",
        )
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
    if condition.kind == "selector.train":  # an update uses its parent's text
        job["text"] = text
    if condition.kind == "comparison.train":
        job["classification"] = grid.classification
    return Case(condition, text, job, condition.measure or grid.labels, test_rows, train_rows)


def _parents_first(conditions: Sequence[Condition]) -> list[Condition]:
    """Conditions without needs, then the others: no need has needs of its own."""
    return sorted(conditions, key=lambda condition: bool(condition.needs))


def _with_parents(grid: Grid, only: Sequence[str]) -> set[str]:
    return {*only, *(name for condition in grid.conditions if condition.id in only for name in condition.needs)}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two dictionaries recursively; the second one's values win."""
    both = dict(one)
    for name, value in other.items():
        inner = both.get(name)
        both[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both
