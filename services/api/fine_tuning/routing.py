"""How a fine-tuned label joins the selector: by a training job of its own, which waits for the adapter's."""

import asyncio
from typing import Any

from services.api.fine_tuning.rows import FieldRefused
from services.api.infra.clients import Clients
from services.api.training import service as training
from services.api.training.service import SelectorAddRequest, SelectorTrainRequest
from shared.contracts.manifests import Release
from shared.errors import Conflict
from shared.security.api_keys import Key, Scope

PREFIX = "fine-tuning."
"""Begins the names of data sets that were made of files, before the label that they are for."""


async def selector_training(
    clients: Clients, caller: Key, label: str, dataset: str, *, confirm_cost: bool
) -> SelectorAddRequest | SelectorTrainRequest:
    """Return the training that brings a label into the selector; a key with the scope `promote` has it promoted.

    It is checked, so that a job whose second part would be refused is not begun. Raises `FieldRefused`, and what
    training jobs raise.
    """
    request: SelectorAddRequest | SelectorTrainRequest
    common: dict[str, Any] = {"promote": caller.may(Scope.PROMOTE), "confirm_cost": confirm_cost}
    release = await _release(clients, caller.tenant_id)
    if release is not None and release.selector is not None:
        if label in release.selected_labels:
            raise FieldRefused(
                "metadata.route",
                "label_exists",
                f"the selector knows {label} already: leave route out, and take the new version into a candidate "
                f"(`signalbox releases edit --add {label}=LABEL@N --promote`)",
            )
        request = SelectorAddRequest(labels={label: dataset}, **common)
    else:
        labels = await asyncio.to_thread(_fine_tuned, clients, caller.tenant_id) | {label: dataset}
        if len(labels) < 2:
            raise FieldRefused(
                "metadata.route",
                "labels_too_few",
                "one label alone needs no selector: fine-tune this one without route, and the next one with it",
            )
        request = SelectorTrainRequest(labels=labels, **common)
    await training.checked(clients, caller, request)
    return request


async def _release(clients: Clients, tenant_id: str) -> Release | None:
    try:
        return (await clients.releases.current(tenant_id)).release
    except Conflict:
        return None


def _fine_tuned(clients: Clients, tenant_id: str) -> dict[str, str | None]:
    """The labels with an adapter, or one in training, that were fine-tuned before, with their newest data sets."""
    sets = clients.registry.datasets.list_all(tenant_id)
    return {one.name.removeprefix(PREFIX): one.id for one in sets if one.name.startswith(PREFIX)}
