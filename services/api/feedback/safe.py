"""The feedback that may train without a person: of keys that review, or agreed by two; no key gives much of a label."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from services.api.feedback.service import FeedbackRows, counted
from services.api.infra.clients import Clients
from services.api.infra.tenant_keys import keys_of
from shared.contracts.manifests import Release
from shared.contracts.rows import Row, RowSource
from shared.errors import NotFound
from shared.registry.datasets import SAFE_DATASET
from shared.security.api_keys import Scope

MOST_OF_A_KEY = 0.2
"""Share of a label's rows, those of the release and the new ones together, that one key may give."""
Said = Sequence[tuple[RowSource, Row]]


async def safe_version(clients: Clients, tenant_id: str, release: Release) -> FeedbackRows:
    """Store the rows that may train without a person as a version of `feedback-safe`; its data set is null without any.

    Raises `Unavailable`.
    """
    keys = await keys_of(clients, tenant_id)
    reviewers = {key.id for key in keys if key.may(Scope.REVIEW)}
    return await asyncio.to_thread(_stored, clients, tenant_id, release, reviewers, {key.id: key.line for key in keys})


def _stored(
    clients: Clients, tenant_id: str, release: Release, reviewers: set[str], lines: Mapping[str, str]
) -> FeedbackRows:
    datasets = clients.registry.datasets
    found = trusted(datasets.feedback_rows(tenant_id), reviewers, lines)
    known = {label: _count(clients, release, label) for label in {row.label for _, row in found if row.label}}
    kept = within_shares(found, known)
    return counted(kept, datasets.add_sourced(tenant_id, SAFE_DATASET, kept) if kept else None)


def trusted(found: Said, reviewers: set[str], lines: Mapping[str, str]) -> Said:
    """Return the rows that a key that reviews, or keys of two lines, gave or accepted."""
    return [
        (source, row)
        for source, row in found
        if reviewers & set(source.said_by) or len({lines.get(key, key) for key in source.said_by}) > 1
    ]


def within_shares(found: Said, known: Mapping[str, int]) -> Said:
    """Return the rows without those by which one key would give too much of a label; the oldest of a key go.

    `known` are the release's own rows by label.
    """
    kept = sorted(found, key=lambda one: one[0].at)
    while over := _over(kept, known):
        key, label = over
        kept.remove(next(one for one in kept if one[1].label == label and key in one[0].said_by))
    return kept


def _over(kept: Said, known: Mapping[str, int]) -> tuple[str, str] | None:
    """The key and label with the largest number of rows above what one key may give."""
    total = Counter(row.label for _, row in kept)
    given = Counter((key, row.label) for source, row in kept for key in source.said_by)
    for (key, label), count in given.most_common():
        if count > MOST_OF_A_KEY * (known.get(label, 0) + total[label]):
            return key, label
    return None


def _count(clients: Clients, release: Release, label: str) -> int:
    stored = release.representation.get(label)
    try:
        return len(clients.registry.datasets.get_rows(stored)) if stored else 0
    except NotFound:
        return 0
