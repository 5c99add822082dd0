"""Which base model a rebase names: by its pin, or as its trainer or worker was started with it."""

import asyncio
from collections.abc import Iterable

from services.api.infra.base_models import served_bases, trained_bases
from services.api.infra.clients import Clients
from shared.contracts.manifests import BaseModelManifest
from shared.errors import Invalid, NotFound

_SHORTEST_PIN = 6
"""Characters by which a pin may be named."""


async def base_named(clients: Clients, name: str) -> BaseModelManifest:
    """Return the base model of this name: one that a trainer has before one that a worker serves, then any other.

    Raises `NotFound` `base_model_not_found`; `Invalid` `base_model_ambiguous` where several have the name.
    """
    trained, served = await trained_bases(clients), await served_bases(clients)
    known = await asyncio.to_thread(known_bases, clients)
    for pins in (trained, served, [one.id for one in known]):
        found = [one for one in known if one.id in pins and _is_named(one, name)]
        if len(found) > 1:
            raise Invalid(
                "base_model_ambiguous",
                f"several base models are named {name!r}: name one by its pin, {', '.join(one.id for one in found)}",
            )
        if found:
            return found[0]
    raise NotFound(
        "base_model_not_found",
        f"no trainer or worker has published base model {name!r}: start a trainer with it, "
        f"SIGNALBOX_BASE_MODEL={name} signalbox trainer",
    )


def known_bases(clients: Clients) -> list[BaseModelManifest]:
    """Return the newest version of every base model that a trainer or worker has published. Blocking."""
    models = clients.registry.base_models
    return list(_newest(models.versions(pin) or [models.get(pin)] for pin in models.ids()))


def _newest(versions: Iterable[list[BaseModelManifest]]) -> Iterable[BaseModelManifest]:
    return (of_pin[-1] for of_pin in versions)


def _is_named(base: BaseModelManifest, name: str) -> bool:
    is_pin = len(name) >= _SHORTEST_PIN and base.id.startswith(name)
    # A manifest has the last part of a folder's path, and the whole of a name on the hub.
    return is_pin or name in (base.id, base.name, _last(base.name)) or _last(name) == base.name


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]
