"""What was said of jobs, as versions of the data set `feedback`, and what a selector or an adapter learns from one."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.api.infra.clients import Clients
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.labels import BACKGROUND
from shared.contracts.manifests import Release
from shared.contracts.rows import Row, RowSource
from shared.contracts.training_tasks import MIN_MORE_ROWS, MIN_ROWS
from shared.errors import Conflict, NotFound
from shared.security.api_keys import Key


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


async def make_version(clients: Clients, caller: Key, *, is_dry: bool = False) -> FeedbackRows:
    """Store what reviewed feedback has made by now as a version of `feedback`, or count it; raises `NotFound`."""
    return await asyncio.to_thread(_version, clients, caller.tenant_id, is_dry=is_dry)


def _version(clients: Clients, tenant_id: str, *, is_dry: bool) -> FeedbackRows:
    datasets = clients.registry.datasets
    if is_dry:
        return counted(datasets.feedback_rows(tenant_id), None)
    dataset = datasets.feedback(tenant_id)
    pairs = zip(datasets.sources(dataset), datasets.rows(tenant_id, dataset.id), strict=True)
    return counted(pairs, dataset)


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
