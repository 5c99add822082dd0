"""Which base models are served now, and which one an upload is for."""

import asyncio

from services.api.infra.clients import Clients
from shared.contracts.built_in_templates import BASE_TEMPLATE
from shared.contracts.manifests import BaseModelManifest
from shared.contracts.templates import OWN
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.ledger import calls
from shared.names import SELECT_QUEUE, TRAIN_QUEUE


async def served_bases(clients: Clients) -> list[str]:
    """Return the pins of the base models that live workers serve."""
    gauges: calls.Gauges = await clients.ledger.do(calls.gauges())
    answering = (bases for queue, bases in gauges.bases.items() if queue not in (SELECT_QUEUE, TRAIN_QUEUE))
    return sorted({base for bases in answering for base in bases})


async def trained_bases(clients: Clients) -> list[str]:
    """Return the pins of the base models that live trainers have."""
    gauges: calls.Gauges = await clients.ledger.do(calls.gauges())
    return sorted(gauges.bases.get(TRAIN_QUEUE, []))


async def base_of_upload(clients: Clients, tenant_id: str) -> str:
    """Return the pin of the base model that an upload is for, where its sender names none.

    It is the only one that is served; of several, or where none is, it is that of the current release. Raises
    `Unavailable` where there is neither, and `Invalid` where it may be any of several.
    """
    try:
        current = (await clients.releases.current(tenant_id)).release.base_model
    except Conflict:
        current = ""
    served = await served_bases(clients)
    if len(served) == 1:
        return served[0]
    if current and (current in served or not served):
        return current
    if not served:
        raise Unavailable(
            "base_model_unknown", "no worker serves a base model now: start one, or name its pin in `base_model`"
        )
    raise Invalid(
        "base_model_ambiguous",
        f"workers serve the base models {', '.join(served)}: name that of the adapter in the field `base_model`",
    )


async def base_of_training(clients: Clients, tenant_id: str) -> BaseModelManifest | None:
    """Return the base model that an upload would be for: trainers train on it, too. None where none is known.

    A trainer checks by its own base model what this one says of a job.
    """
    try:
        pin = await base_of_upload(clients, tenant_id)
        return await asyncio.to_thread(clients.registry.base_models.get, pin)
    except (Invalid, NotFound, Unavailable):
        return None


async def framed_template(clients: Clients, tenant_id: str) -> str:
    """Return the usual template of a training's base model; where it needs a tokenizer or none is known, `chatml`."""
    base = await base_of_training(clients, tenant_id)
    return base.usual_template if base and base.usual_template != OWN else BASE_TEMPLATE
