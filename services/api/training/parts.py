"""The adapters that a training builds on, as the API pins and checks them; blocking."""

from typing import Any, TypeVar

from services.api.infra.clients import Clients
from shared.adapter_files import AdapterLimits, BaseShapes
from shared.contracts.manifests import BaseModelManifest
from shared.errors import NotFound
from shared.registry.adapters import check_same_base
from shared.registry.parts import Composing, check_ranks, find_parts, named_parts, with_names

JobT = TypeVar("JobT", bound=Composing)


def with_parts(clients: Clients, tenant_id: str, job: JobT, *, has_to_wait: bool) -> JobT:
    """Return a job with the versions of its parts pinned; raises `NotFound`, and `Invalid` where they have no sum.

    A job that runs after others may name a label whose next version they make: its first attempt pins it then.
    """
    if has_to_wait and not all(_is_version(one.adapter) for one in named_parts(job)):
        return job
    names = [one.part.name for one in find_parts(clients.registry, tenant_id, job)]
    pinned: Any = job.model_copy(update=with_names(job, names)) if names else job
    return pinned  # type: ignore[no-any-return]


def base_of_parts(clients: Clients, tenant_id: str, job: Composing) -> str:
    """Return the pin of the base model of a job's parts; empty where it has none, or they are not made yet."""
    for one in named_parts(job):
        try:
            return clients.registry.adapters.part(tenant_id, one.adapter)[1].base_model
        except NotFound:
            return ""
    return ""


def check_parts(clients: Clients, tenant_id: str, job: Composing, base: BaseModelManifest) -> None:
    """Raise `Invalid` where the parts are of another base model, or above the limits together."""
    try:
        found = find_parts(clients.registry, tenant_id, job)
    except NotFound:  # another job makes it first: the trainer checks it
        return
    for one in found:
        check_same_base(one.manifest, base.id)
    if found:
        check_ranks(job, found, BaseShapes(base.shapes), AdapterLimits.of(clients.settings))


def _is_version(ref: str) -> bool:
    """Whether a reference means the same adapter at any time: a version, or a digest."""
    return "@" in ref or len(ref) == 64
