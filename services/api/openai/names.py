"""The names by which a client asks for a model: `auto`, `base`, a label, an adapter, an alias."""

import asyncio
from typing import Literal, NamedTuple

from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import BASE
from shared.contracts.labels import short_form
from shared.contracts.manifests import Release
from shared.errors import NotFound

AUTO = "auto"
Kind = Literal["auto", "base", "label", "adapter"]


class ModelNotFound(NotFound):
    """No model of this name may be asked for."""

    param = "model"


class Named(NamedTuple):
    """What a name stands for: `fields` are those of our own job request that ask for it."""

    kind: Kind
    label: str = ""
    fields: tuple[tuple[str, str], ...] = ()


def known_name(name: str, release: Release) -> Named | None:
    """Return what a name stands for in a release without aliases; None for an unknown one."""
    if name == AUTO:
        return Named("auto")
    if name in (BASE, release.base_model):
        return Named("base", fields=(("label", BASE),))
    short = short_form(name)
    if short in release.labels:
        return Named("label", short, (("label", short),))
    for label, entry in release.labels.items():
        if short == entry.ref or (name and name == entry.adapter):
            return Named("adapter", label, (("adapter", name),))
    return None


def model_not_found(name: str, target: str = "") -> ModelNotFound:
    """Make the error for a name that stands for nothing; `target` is what an alias says of it."""
    shown = name[:128]
    if target:
        detail = f"the alias {shown!r} stands for {target!r}, which the current release lacks: "
    else:
        detail = f"the model {shown!r} does not exist here: GET /v1/models lists those that do, and "
    return ModelNotFound("model_not_found", f"{detail}`signalbox models alias {shown} auto` maps the name to one")


async def resolve(name: str, current: CurrentRelease, tenant_id: str, clients: Clients) -> Named:
    """Return what a name stands for under the current release; raises `ModelNotFound`.

    An alias takes no name of the release: a label of the same name comes first.
    """
    if known := known_name(name, current.release):
        return known
    alias = await asyncio.to_thread(clients.registry.aliases.get, tenant_id, name)
    if found := known_name(alias.model, current.release) if alias else None:
        return found
    raise model_not_found(name, alias.model if alias else "")
