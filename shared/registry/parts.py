"""The adapters that a job builds on: found, and refused where they have no sum."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.adapter_files import AdapterLimits, BaseShapes
from shared.adapter_files.stack import check_composable, check_merged, check_over, check_stack, ranks_of
from shared.contracts.compose import AdapterCompose, AdapterPart, ComposePart, check_distinct
from shared.contracts.manifests import AdapterManifest
from shared.contracts.training_tasks import AdapterTrain
from shared.registry.adapters import check_same_base
from shared.registry.registry import Registry

Composing = AdapterTrain | AdapterCompose


class FoundPart(NamedTuple):
    """A part of a composition, the manifest that tells how it is used, and its config."""

    part: AdapterPart
    manifest: AdapterManifest
    config: dict[str, Any]


def named_parts(job: Composing) -> Sequence[ComposePart]:
    """Return the adapters that a job builds on, as it names them; none for a training on the base model alone."""
    if isinstance(job, AdapterCompose):
        return job.parts
    return [ComposePart(adapter=job.on)] if job.on else []


def with_names(job: Composing, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a job that name its parts, by other names in their order."""
    if isinstance(job, AdapterCompose):
        parts = zip(job.parts, names, strict=True)
        return {"parts": tuple(part.model_copy(update={"adapter": name}) for part, name in parts)}
    return {"on": names[0] if names else None}


def find_parts(registry: Registry, tenant_id: str, job: Composing) -> list[FoundPart]:
    """Return the adapters that a job builds on; raises `NotFound`, and `Invalid` where they have no sum."""
    found = []
    for asked in named_parts(job):
        part, manifest = registry.adapters.part(tenant_id, asked.adapter)
        config = registry.weights.config(part.digest)
        check_composable(config, part.name)
        found.append(FoundPart(part.model_copy(update={"weight": asked.weight}), manifest, config))
    check_distinct([one.part for one in found])
    for one in found:
        check_same_base(one.manifest, job.base_model or found[0].manifest.base_model)
    return found


def check_ranks(job: Composing, parts: Sequence[FoundPart], base: BaseShapes, limits: AdapterLimits) -> None:
    """Raise `Invalid` where what a job makes of its parts is above the limits."""
    ranks = [ranks_of(one.config, base) for one in parts]
    if isinstance(job, AdapterTrain):
        check_over(ranks[0], job.settings, base, limits)
    elif job.rank is None:
        check_stack(ranks, base, limits)
    else:
        check_merged(ranks, job.rank, base, limits)
