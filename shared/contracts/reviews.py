"""Reviews of a traffic log: the job that compares what came with a release's reference, and what it finds.

A review names rows of the log by their entries and holds no text of them: what is forgotten in the log is forgotten.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.labels import LabelText
from shared.contracts.training_tasks import FindDataset, Training

ChangeKind = Literal["label_mix", "probability", "confidence", "rejection", "disagreement", "classifier", "discrepancy"]
Remedy = Literal["retrain", "balance", "add", "delete", "threshold"]
MAX_TASK_ENTRIES = 2_000
"""Rows that an unknown task names, the most typical first."""
MAX_REVIEWED = 50_000
"""Requests of all windows of a review: they are held in memory."""


class TrafficReview(Training):
    """Compare the newest windows of the traffic log with what the release was judged on and first saw."""

    kind: Literal["traffic.review"] = "traffic.review"
    window: Annotated[int, Field(ge=100, le=10_000)] = 500
    """Requests of a window; the newest ones that do not fill one wait for the next review."""
    windows: Annotated[int, Field(ge=1, le=60)] = 8
    """Newest windows that are compared; unknown tasks are looked for in as many of the release's newest requests."""
    windows_a_month: Annotated[int, Field(ge=1, le=10_000)] = 60
    """How many windows a month has: the more, the surer a change must be, so that false alarms stay as rare."""

    def with_datasets(self, find: FindDataset) -> Self:  # noqa: ARG002
        """Return the same body: a review reads the log."""
        return self

    @model_validator(mode="after")
    def _can_be_held(self) -> Self:
        if self.window * self.windows > MAX_REVIEWED:
            raise ValueError(f"window times windows is above {MAX_REVIEWED}: take fewer or smaller windows")
        return self


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ChangedLabel(_Said):
    """A label's share of the requests that changed, at the reference and now."""

    label: LabelText
    before: float
    after: float


class TrafficChange(_Said):
    """Something of the newest window that is no longer as it was at the release."""

    kind: ChangeKind
    statistic: float
    p_value: float
    """Adjusted for the other tests of the window."""
    since: str
    """Time of the first of the windows, without a gap until now, that show it; ISO 8601."""
    labels: tuple[ChangedLabel, ...] = ()
    examples: tuple[str, ...] = ()
    """Entries of the ten rows nearest to what has changed."""
    remedy: Remedy


class NearestLabel(_Said):
    """A known label, and the cosine between its texts' centre and an unknown task's."""

    label: LabelText
    similarity: float


class UnknownTask(_Said):
    """A stable cluster of rejected and unsure texts, which could be a label of its own."""

    name: str
    """A suggestion for the second half of its label."""
    terms: tuple[str, ...]
    """The words that tell its texts from others."""
    entries: tuple[str, ...]
    """Its rows, the most typical first."""
    nearest: tuple[NearestLabel, ...]
    stability: float
    """Mean share of it that is found again in subsamples (Jaccard index)."""
    least_rows: int
    """Rows with answers without which no adapter's training starts."""
    advised_rows: int
    texts: int
    """Distinct texts, for which somebody has to write answers."""


class ReviewResult(_Said):
    """What a review found."""

    release: str
    """The release whose selections were reviewed."""
    first: str = ""
    """Entries of the first and the last row reviewed; empty where there were too few."""
    last: str = ""
    windows: int = 0
    """That were compared with the reference."""
    rows: int = 0
    """In which unknown tasks were looked for."""
    reference_rows: int = 0
    reference: Literal["traffic", "validation", "none"] = "none"
    """Where the requests come from that windows are compared with."""
    changes: tuple[TrafficChange, ...] = ()
    tasks: tuple[UnknownTask, ...] = ()
    labels: dict[LabelText, int] = {}
    """These by the label that was chosen."""
    rejected: float = 0.0
    """Share of the windows' requests that was rejected."""
    rejected_before: float = 0.0
    """The same of the reference."""
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""
