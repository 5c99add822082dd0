"""Answers about data sets: what was stored, and what would be."""

from pydantic import BaseModel, ConfigDict

from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.rows import RowSource


class RenamedLabel(BaseModel):
    """A label as it is written, and the one that its rows get."""

    given: str
    label: str
    rows: int


class Read(BaseModel):
    """What a file turned out to be."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    format: str
    """Such as `gzip, JSON lines: alpaca`."""
    notes: list[str]
    """What was changed on the way, each with the number of its rows."""
    renamed_labels: list[RenamedLabel]


class StoredDataset(DatasetManifest, Read):
    """A data set that was stored now."""


class SourcePage(BaseModel):
    """Where rows come from; `next` is what the next page passes over, null after the last one."""

    items: list[RowSource]
    next: int | None


class Part(BaseModel):
    """A piece of a training text; what is not learnt is only read."""

    text: str
    learnt: bool


class Step(BaseModel):
    """How many rows are at most so long, and longer than the step before says."""

    up_to: int
    rows: int


class Lengths(BaseModel):
    """How long the training texts are."""

    unit: str
    """`characters`: this service has no tokenizer."""
    by: str
    """What counted them, where anything but characters could be."""
    rows: int
    longest: int
    histogram: list[Step]


class DatasetCheck(Read):
    """What rows are, and what they would train."""

    rows: int
    labels: dict[str, int]
    template: str
    """What the rows are shown by: the one that is named, else the base model's usual one; `chatml` where that is
    `model`, which this service has no tokenizer for."""
    sample: list[list[Part]]
    """The first five rows as they will be trained."""
    lengths: Lengths
