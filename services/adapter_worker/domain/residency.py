"""Which adapters a worker of certain groups keeps in memory."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from shared.registry.manifests import Release


class Changes(NamedTuple):
    """Digests to load and to unload, each in a stable order."""

    load: list[str]
    unload: list[str]


def wanted(release: Release, groups: Collection[str]) -> set[str]:
    """Digests of the adapters that these groups serve in a release."""
    return {entry.adapter for entry in release.labels.values() if entry.group in groups}


def changes(releases: Iterable[Release], groups: Collection[str], resident: Collection[str]) -> Changes:
    """What to do so that the adapters of these releases (the current one and its parent) are resident, no others."""
    needed = set().union(*(wanted(release, groups) for release in releases))
    return Changes(sorted(needed - set(resident)), sorted(set(resident) - needed))
