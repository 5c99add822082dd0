"""Which adapters a worker of certain groups keeps in memory."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from shared.contracts.manifests import Release


class Changes(NamedTuple):
    """Digests to load and to unload, each in a stable order."""

    load: list[str]
    unload: list[str]


def wanted(release: Release, groups: Collection[str]) -> set[str]:
    """Digests of the adapters that these groups serve in a release."""
    return {entry.adapter for entry in release.labels.values() if entry.group in groups}


def changes(releases: Iterable[Release], groups: Collection[str], resident: Collection[str], *, room: int) -> Changes:
    """What to do so that the adapters of these releases are resident, no others; the first release's come first.

    Where they are more than there is `room` for, the rest comes when a job asks for it.
    """
    needed: dict[str, None] = {}  # in order
    for release in releases:
        needed.update(dict.fromkeys(sorted(wanted(release, groups))))
    missing = [digest for digest in needed if digest not in resident]
    free = max(0, room - sum(digest in needed for digest in resident))
    return Changes(missing[:free], sorted(set(resident) - needed.keys()))
