"""Which adapters a worker keeps in memory, given its groups and the current releases."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from shared.contracts.manifests import Release


class Changes(NamedTuple):
    """Digests to load and to unload, each in a stable order."""

    load: list[str]
    unload: list[str]


def wanted(release: Release, base_model: str, groups: Collection[str]) -> set[str]:
    """Digests of the adapters that these groups serve in a release on a base model."""
    return {
        entry.adapter
        for label, entry in release.labels.items()
        if entry.group in groups and release.base_of(label) == base_model
    }


def changes(
    releases: Iterable[Release], base_model: str, groups: Collection[str], resident: Collection[str], *, room: int
) -> Changes:
    """The loads and unloads that make only these releases' adapters resident; earlier releases are loaded first.

    Adapters beyond `room` are loaded when a job needs them.
    """
    needed: dict[str, None] = {}  # in order
    for release in releases:
        needed.update(dict.fromkeys(sorted(wanted(release, base_model, groups))))
    missing = [digest for digest in needed if digest not in resident]
    free = max(0, room - sum(digest in needed for digest in resident))
    return Changes(missing[:free], sorted(set(resident) - needed.keys()))
