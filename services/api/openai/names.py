"""The names by which a client asks for a model: `auto`, `base`, a label, an adapter, an alias."""

import asyncio

from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import AUTO, BASE
from shared.contracts.labels import short_form
from shared.contracts.manifests import Release
from shared.errors import NotFound

Fields = dict[str, str]
"""Those of our own job request that ask for a model; none leave the choice to the selector."""


class ModelNotFound(NotFound):
    """No model of this name may be asked for."""

    param = "model"


def known_name(name: str, release: Release) -> Fields | None:
    """Return what a name stands for in a release without aliases; None for an unknown one."""
    if name == AUTO:
        return {}
    if name in (BASE, release.base_model):
        return {"label": BASE}
    short = short_form(name)
    if short in release.labels:
        return {"label": short}
    is_adapter = name and any(short == entry.ref or name == entry.adapter for entry in release.labels.values())
    return {"adapter": name} if is_adapter else None


def model_not_found(name: str, target: str = "") -> ModelNotFound:
    """Make the error for a name that stands for nothing; `target` is what an alias says of it."""
    shown = name[:128]
    if target:
        detail = f"the alias {shown!r} stands for {target!r}, which the current release lacks: "
    else:
        detail = f"the model {shown!r} does not exist here: GET /v1/models lists those that do, and "
    return ModelNotFound("model_not_found", f"{detail}`signalbox models alias {shown} auto` maps the name to one")


async def resolve(name: str, current: CurrentRelease, tenant_id: str, clients: Clients) -> Fields:
    """Return what a name stands for under the current release; raises `ModelNotFound`.

    An alias takes no name of the release: a label of the same name comes first.
    """
    known = known_name(name, current.release)
    if known is not None:
        return known
    alias = await asyncio.to_thread(clients.registry.aliases.get, tenant_id, name)
    known = known_name(alias.model, current.release) if alias else None
    if known is None:
        raise model_not_found(name, alias.model if alias else "")
    return known
