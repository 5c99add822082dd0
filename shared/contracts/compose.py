"""Adapters made of others: the body of the job that composes them, and what a manifest keeps of its parts."""

from collections.abc import Sequence
from itertools import permutations
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.contracts.labels import LabelText
from shared.contracts.training_tasks import MIN_MORE_ROWS, AdapterRef, DatasetRef, FindDataset, LabelName, Training
from shared.errors import Invalid

Method = Literal["stack", "svd", "ties", "dare_ties"]
PRUNING: tuple[Method, ...] = ("ties", "dare_ties")
MIN_PARTS, MAX_PARTS = 2, 8
DENSITY = 0.5
"""Where a job names none: what TIES and DARE keep in the examples of PEFT."""


class AdapterPart(BaseModel):
    """A part of a composed adapter: its weights stay stored as long as the composition's record."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ref: LabelText = ""
    """`label@n`; empty for what a training made over another adapter, which has no version of its own."""
    digest: str
    weight: float = 1.0
    """What its change of the base model's weights was multiplied by."""
    within: tuple[str, ...] = ()
    """Digests of its own parts, and of theirs."""

    @property
    def name(self) -> str:
        """The reference by which a job can name it."""
        return self.ref or self.digest


def check_distinct(parts: Sequence[AdapterPart]) -> None:
    """Raise `Invalid` where an adapter is named twice, or is within another one: its change would count twice."""
    for number, part in enumerate(parts):
        if part.digest in {other.digest for other in parts[:number]}:
            raise Invalid(
                "compose_part_twice",
                f"{part.name} has the weights of a part before it: name it once, with `weight` 2 where it shall count "
                "double",
            )
    for one, other in permutations(parts, 2):
        shared = {one.digest, *one.within} & set(other.within)
        if one.digest in shared:
            raise Invalid(
                "compose_part_twice",
                f"{one.name} is within {other.name} already: leave it out, or name what else {other.name} is made of "
                f"({', '.join(digest for digest in other.within if digest != one.digest) or 'nothing'})",
            )
        if shared:
            raise Invalid(
                "compose_part_twice",
                f"{one.name} and {other.name} are both made of {', '.join(sorted(shared))}: name their own parts, and "
                "that one once",
            )


class ComposePart(BaseModel):
    """An adapter to compose, and the factor of its change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: AdapterRef
    weight: Annotated[float, Field(gt=0, le=10)] = 1.0


class AdapterCompose(Training):
    """Make one adapter of several: their exact sum, or one that is merged to a smaller rank.

    With rows it measures the base model, each part, and the composition; one that is worse than its better part by more
    than a point is not published.
    """

    kind: Literal["adapter.compose"] = "adapter.compose"
    label: LabelName
    """Whose next version the composition becomes."""
    parts: Annotated[tuple[ComposePart, ...], Field(max_length=64)]
    """Two to eight. The composition answers as the last part of `label` does, else as the last of all: its template,
    instruction and constraint."""
    method: Method = "stack"
    """`stack` is exact and has the sum of the parts' ranks. The others merge to `rank`: `svd` is nearest to the sum;
    `ties` drops small changes and those against the majority's sign (Yadav et al. 2023); `dare_ties` drops changes at
    random and scales up the others (Yu et al. 2024)."""
    rank: Annotated[int, Field(ge=1, le=256)] | None = None
    """Of a merged composition, such as the rank of the task's adapter."""
    density: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of each part's changes that `ties` and `dare_ties` keep: above 0, at most 1; by default 0.5."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of what `dare_ties` drops."""
    dataset: DatasetRef | None = None
    """Validation rows, on which no part was trained."""
    evaluate_rows: Annotated[int, Field(ge=2, le=10_000)] = 40
    unjudged: bool = False
    """Publish it unmeasured, without rows; its manifest notes that."""

    @property
    def kept_density(self) -> float:
        """The density that is meant."""
        return DENSITY if self.density is None else self.density

    @property
    def arms(self) -> int:
        """How many times its rows are answered: by the base model, each part, the composition, and the exact sum."""
        return len(self.parts) + (2 if self.method == "stack" else 3)

    def with_datasets(self, find: FindDataset) -> Self:
        """Return a copy with the data set replaced by the result of `find`."""
        return self.model_copy(
            update={"dataset": find(self.dataset, self.label, MIN_MORE_ROWS) if self.dataset else None}
        )

    @field_validator("parts")
    @classmethod
    def _are_several(cls, parts: tuple[ComposePart, ...]) -> tuple[ComposePart, ...]:
        if not MIN_PARTS <= len(parts) <= MAX_PARTS:
            raise ValueError(f"{len(parts)} adapters are no composition: name {MIN_PARTS} to {MAX_PARTS} parts")
        names = [part.adapter for part in parts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} is named twice: name it once, with `weight` 2 where it shall count double")
        return parts

    @model_validator(mode="after")
    def _method_fits(self) -> Self:
        is_stack, prunes = self.method == "stack", self.method in PRUNING
        if is_stack and self.rank is not None:
            raise ValueError("a stack has the sum of its parts' ranks: leave `rank` out, or take the method svd")
        if not is_stack and self.rank is None:
            raise ValueError(f"{self.method} merges to a rank: name it in `rank`, such as that of the task's adapter")
        if self.density is not None and not prunes:
            raise ValueError("only ties and dare_ties drop changes: leave `density` out")
        return self

    @model_validator(mode="after")
    def _is_judged(self) -> Self:
        if self.unjudged and self.dataset:
            raise ValueError("its rows would judge it: leave out `unjudged`, or `dataset`")
        if not (self.unjudged or self.dataset):
            raise ValueError(
                "nothing would judge it: name validation rows in `dataset`, or set `unjudged` to publish it unmeasured"
            )
        return self
