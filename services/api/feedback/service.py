"""What was said of jobs, as versions of the data set `feedback`, and what a selector or an adapter learns from one."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.api.feedback.safe import safe_rows
from services.api.infra.clients import Clients
from services.api.jobs.feedback import conflict_of, history_of
from services.api.jobs.listing import page
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.jobs import ListedJob
from shared.contracts.labels import BACKGROUND, LabelText
from shared.contracts.manifests import Release
from shared.contracts.rows import Row, RowSource
from shared.contracts.training_tasks import MIN_MORE_ROWS, MIN_ROWS
from shared.errors import Conflict, NotFound
from shared.ledger import calls
from shared.ledger.calls import JobFilter
from shared.registry.datasets import SAFE_DATASET
from shared.security.api_keys import Key

_MOST_CONFLICTS = 1_000
_NOTHING_SAFE = (
    "no row of feedback may train unseen: let a key of the scope `review`, or two keys, say the same of more jobs, and "
    "other keys too where one gave most of a label's rows"
)


class FeedbackRows(BaseModel):
    """The rows that feedback has made: how many for what, who said what stands in them, and when."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    dataset: DatasetManifest | None
    """The version that holds them; null where they were only counted."""
    rows: int
    labels: dict[str, int]
    """Rows by label; `none.none` are those that belong to none."""
    answers: dict[str, int]
    """Rows with an answer, by label; those without a label under an empty name."""
    said_by: list[str]
    """Ids of the API keys that gave or accepted what stands in the rows."""
    first_at: str
    last_at: str
    conflicts: int = 0
    """Jobs about whose label keys differ: nothing said of them is among the rows. At most 1,000 are counted."""


class Said(BaseModel):
    """A label that a key gave a job."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: LabelText
    key: str = ""
    at: str = ""
    reviewed: bool


class LabelConflict(BaseModel):
    """A job about whose label keys differ."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    job: str
    said: list[Said]
    """The newest label of each key."""


class ConflictPage(BaseModel):
    """Conflicts, the newest job first, and the `before` of the next page; null at the end."""

    items: list[LabelConflict]
    next: str | None


async def conflicts(clients: Clients, tenant_id: str, before: str, limit: int) -> ConflictPage:
    """List the jobs about whose label keys differ and nobody has settled it."""
    only = JobFilter(conflict=True)
    call = calls.list_jobs(tenant_id, **page(before, limit, ("feedback",)), only=only)
    found = await clients.ledger.do(call)
    return ConflictPage(items=[_conflict(job) for job in found.jobs], next=found.next.removeprefix("(") or None)


def _conflict(job: ListedJob) -> LabelConflict:
    return LabelConflict(job=job.id, said=[Said.model_validate(one) for one in conflict_of(history_of(job))])


async def _conflict_count(clients: Clients, tenant_id: str) -> int:
    call = calls.list_jobs(tenant_id, limit=_MOST_CONFLICTS, only=JobFilter(conflict=True))
    return len((await clients.ledger.do(call)).jobs)


async def make_version(clients: Clients, caller: Key, *, is_dry: bool = False, safe: bool = False) -> FeedbackRows:
    """Store what reviewed feedback has made by now as a version of `feedback`, or count it; raises `NotFound`.

    With `safe`, only of the rows that may train unseen, as `safe_rows` has them.
    """
    made = await asyncio.to_thread(_version, clients, caller.tenant_id, is_dry=is_dry, safe=safe)
    if safe and not (is_dry or made.dataset):
        raise NotFound("dataset_not_found", _NOTHING_SAFE)
    return made.model_copy(update={"conflicts": await _conflict_count(clients, caller.tenant_id)})


async def safe_version(clients: Clients, tenant_id: str) -> FeedbackRows:
    """Store the rows that may train unseen as a version of `feedback-safe`; its data set is null without any."""
    return await asyncio.to_thread(_version, clients, tenant_id, is_dry=False, safe=True)


def _version(clients: Clients, tenant_id: str, *, is_dry: bool, safe: bool) -> FeedbackRows:
    datasets = clients.registry.datasets
    found = datasets.feedback_rows(tenant_id)
    if safe:
        found = safe_rows(found, _kept(clients, tenant_id, {row.label for _, row in found}))
    if is_dry or (safe and not found):
        return counted(found, None)
    dataset = datasets.add_sourced(tenant_id, SAFE_DATASET, found) if safe else datasets.feedback(tenant_id)
    pairs = zip(datasets.sources(dataset), datasets.rows(tenant_id, dataset.id), strict=True)
    return counted(pairs, dataset)


def _kept(clients: Clients, tenant_id: str, labels: Iterable[str]) -> dict[str, int]:
    """Return how many rows the current release's selector learnt of each label."""
    registry = clients.registry
    current = registry.releases.current_id(tenant_id)
    keys = registry.releases.get(tenant_id, current).representation if current else {}
    return {label: len(registry.datasets.get_rows(keys[label])) for label in labels if label in keys}


def counted(found: Iterable[tuple[RowSource, Row]], dataset: DatasetManifest | None) -> FeedbackRows:
    """Count rows by what they teach."""
    pairs = list(found)
    times = sorted(source.at for source, _ in pairs if source.at)
    return FeedbackRows(
        dataset=dataset,
        rows=len(pairs),
        labels=dict(Counter(row.label for _, row in pairs if row.label)),
        answers=dict(Counter(row.label for _, row in pairs if row.output)),
        said_by=sorted({key for source, _ in pairs for key in source.said_by}),
        first_at=times[0] if times else "",
        last_at=times[-1] if times else "",
    )


async def sources(clients: Clients, caller: Key, ref: str) -> list[RowSource]:
    """Return where the rows of a data set come from, in their order; empty where that is not noted."""
    datasets = clients.registry.datasets
    return await asyncio.to_thread(lambda: datasets.sources(datasets.get(caller.tenant_id, ref)))


async def retrains(clients: Clients, caller: Key, dataset_id: str) -> list[dict[str, Any]]:
    """Return the bodies of the trainings that a version suggests; raises `NotFound`."""
    found = await asyncio.to_thread(_stored, clients, caller.tenant_id, dataset_id)
    try:
        release = (await clients.releases.current(caller.tenant_id)).release
    except Conflict:
        release = None
    return suggested(found, release)


def suggested(found: FeedbackRows, release: Release | None) -> list[dict[str, Any]]:
    """Return bodies of trainings: the release's labels with more rows, new labels, adapters with answers."""
    dataset = found.dataset.id if found.dataset else ""
    known = release.selected_labels if release and release.selector else set()
    labels = {label: count for label, count in found.labels.items() if label != BACKGROUND}
    more = {label: dataset for label, count in labels.items() if label in known and count >= MIN_MORE_ROWS}
    new = {label: dataset for label, count in labels.items() if known and label not in known and count >= MIN_ROWS}
    bodies: list[dict[str, Any]] = []
    if more:
        bodies.append({"kind": "selector.balance", "labels": more})
    if new:
        background = {"background": dataset} if found.labels.get(BACKGROUND, 0) >= MIN_ROWS else {}
        bodies.append({"kind": "selector.add", "labels": new, "missing_adapters": "allow", **background})
    answered = sorted(
        label for label, count in found.answers.items() if label not in ("", BACKGROUND) and count >= MIN_ROWS
    )
    return bodies + [{"kind": "adapter.train", "label": label, "dataset": dataset} for label in answered]


def _stored(clients: Clients, tenant_id: str, dataset_id: str) -> FeedbackRows:
    datasets = clients.registry.datasets
    dataset = datasets.stored(tenant_id, dataset_id)
    if not dataset.sources:
        raise NotFound(
            "dataset_without_sources",
            f"data set {dataset_id!r} is not made of feedback; make a version that is: signalbox datasets feedback",
        )
    return counted(zip(datasets.sources(dataset), datasets.rows(tenant_id, dataset.id), strict=True), dataset)
