"""The groups that a worker serves: those of its settings, and with `*` those that nobody serves."""

from collections.abc import Iterable, Sequence

import structlog

from shared.contracts.labels import check_name
from shared.contracts.manifests import Release
from shared.ledger import calls
from shared.names import ANY_GROUP, BASE_GROUP, generate_queue
from shared.worker.service import Service

log = structlog.get_logger()


def named_groups(text: str) -> list[str]:
    """Return the groups that a setting names, separated by commas; `*` contains `base`. Raises `Invalid`."""
    names = [name.strip() for name in text.split(",")]
    groups = [name if name == ANY_GROUP else check_name(name, "group") for name in names]
    return [*groups, BASE_GROUP] if ANY_GROUP in groups and BASE_GROUP not in groups else groups


def open_groups(service: Service, groups: Sequence[str], releases: Iterable[Release]) -> list[str]:
    """Return the groups of these releases that a worker of these groups has to take up: nobody serves them."""
    if ANY_GROUP not in groups:
        return []
    gauges: calls.Gauges = service.ledger.do(calls.gauges())
    served = {gauge.queue for gauge in gauges.queues if gauge.consumers}
    needed = {entry.group for release in releases for entry in release.labels.values()} - set(groups)
    return sorted(group for group in needed if generate_queue(group) not in served)


def take_up(service: Service, groups: list[str], releases: Iterable[Release]) -> None:
    """Serve the open groups from now on, and add them to `groups`.

    Two workers may take up the same one at once, which does no harm.
    """
    for group in open_groups(service, groups, releases):
        service.also_serve(generate_queue(group))
        groups.append(group)
        log.info("group_taken_up", group=group)
