"""Gathers what the rules look at: the review's rows with what reviewers said of them, counts, data, own rows."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from services.api.feedback.service import safe_version
from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.proposals.rules import SKETCHED_DAYS, Evidence, OwnData
from services.api.proposals.thresholds import Judged, Judgement
from shared.contracts.dataset_manifest import DatasetManifest
from shared.contracts.manifests import Release
from shared.contracts.proposals import Proposal
from shared.contracts.reviews import ReviewResult
from shared.contracts.traffic import TrafficSketch, position_of
from shared.errors import NotFound
from shared.ledger import calls
from shared.ledger.calls.usage import today
from shared.registry import Registry
from shared.registry.datasets import FEEDBACK_DATASET, SAFE_DATASET

_HOURS = SKETCHED_DAYS * 24
_MOST_PARENTS = 50
"""Releases that are looked through for the data that an operator gave for a label."""


async def gather(
    clients: Clients, tenant_id: str, current: CurrentRelease, review: ReviewResult, known: Sequence[Proposal]
) -> Evidence:
    """Return the evidence about a review of the current release; raises `Unavailable`."""
    release, registry = current.release, clients.registry
    feedback = await safe_version(clients, tenant_id)
    return Evidence(
        release=release,
        review=review,
        sketches=await asyncio.to_thread(_sketches, registry, tenant_id),
        named=await _named(clients, tenant_id),
        dataset=feedback.dataset.id if feedback.dataset else "",
        feedback=feedback.labels,
        own_data=await asyncio.to_thread(own_data, registry, tenant_id, release),
        judgements=await asyncio.to_thread(_judgements, registry, tenant_id, review),
        judged=await asyncio.to_thread(_judged, clients, release),
        known=[one for one in known if one.release == current.id],
    )


def _sketches(registry: Registry, tenant_id: str) -> list[TrafficSketch]:
    now = int(time.time()) // 3600
    return registry.traffic.sketches(tenant_id, range(now - _HOURS, now + 1))


async def _named(clients: Clients, tenant_id: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for days in range(SKETCHED_DAYS + 1):
        used = await clients.ledger.do(calls.usage(tenant_id, today() - timedelta(days)))
        for _, label, counts in used:
            total[label] += counts.requests
    return total


def own_data(registry: Registry, tenant_id: str, release: Release) -> dict[str, OwnData]:
    """Return by label the newest version of the data set that an operator gave for it, in this release or before.

    Rows that the gate judges by are taken of a training's data: what traffic made is left out.
    """
    found: dict[str, OwnData] = {}
    wanted = set(release.selector.labels) if release.selector else set()
    one: Release | None = release
    for _ in range(_MOST_PARENTS):
        if one is None:
            break
        for label in wanted - set(found):
            if (ref := one.datasets.get(label)) and (newest := _newest_given(registry, tenant_id, ref)):
                found[label] = OwnData(newest.id, newest.id != ref)
        one = _parent(registry, tenant_id, one)
    return found


def _newest_given(registry: Registry, tenant_id: str, ref: str) -> DatasetManifest | None:
    try:
        known = registry.datasets.stored(tenant_id, ref)
        newest = registry.datasets.stored(tenant_id, known.name)
    except NotFound:
        return None
    is_given = not (known.sources or newest.sources or known.name in (FEEDBACK_DATASET, SAFE_DATASET))
    return newest if is_given else None


def _parent(registry: Registry, tenant_id: str, release: Release) -> Release | None:
    try:
        return registry.releases.get(tenant_id, release.parent) if release.parent else None
    except NotFound:
        return None


def _judgements(registry: Registry, tenant_id: str, review: ReviewResult) -> list[Judgement]:
    return list(_said(registry, tenant_id, review)) if review.first else []


def _said(registry: Registry, tenant_id: str, review: ReviewResult) -> Iterator[Judgement]:
    """What reviewers said of the rows of a review: a label, or that the chosen one was wrong."""
    said = {source.job: row for source, row in registry.datasets.said_rows(tenant_id)}
    first, last = position_of(review.first), position_of(review.last)
    for row in registry.traffic.rows(tenant_id, after=(first[0], first[1] - 1)):
        if row.position > last:
            return
        told = said.get(row.job)
        is_of_label = told is not None and bool(told.label or not told.output)
        if told is not None and is_of_label and row.release == review.release and row.confidence is not None:
            yield Judgement(row.entry, row.best_label, row.confidence, row.rejected, told.label)


def _judged(clients: Clients, release: Release) -> Judged:
    assert release.selector is not None
    rows = clients.registry.datasets.judged_rows(release)
    return Judged(rows, release.selector.threshold, clients.settings.gate_max_loss)
