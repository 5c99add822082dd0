"""Operations on batches: create one of a file, show, list, cancel."""

import asyncio
import time

from services.api.batches.parts import input_key
from services.api.batches.schemas import WINDOW_SECONDS, BatchRequest, BatchView
from services.api.files import service as files
from services.api.infra.clients import Clients
from shared.contracts.batches import SHOWN_ERRORS, Batch, LineError, folder_of, new_batch_id
from shared.contracts.files import Purpose
from shared.errors import Invalid, NotFound
from shared.ledger import calls
from shared.ledger.calls import Known
from shared.registry.files import content_key
from shared.security.api_keys import Key


class WrongFile(Invalid):
    """The named file makes no batch."""

    param = "input_file_id"


async def create(
    clients: Clients, caller: Key, request: BatchRequest, idempotency_key: str | None
) -> tuple[BatchView, bool]:
    """Create a batch with a copy of its input; returns it, and whether an earlier request with this key did.

    Raises `NotFound`, `WrongFile`, `TooMany`, `Unavailable`.
    """
    batch_id = new_batch_id(caller.tenant_id, idempotency_key, caller.sees)
    if idempotency_key and (known := await _earlier(clients, caller, request, batch_id)):
        return BatchView.of(*known), True
    file = await files.find(clients, caller, request.input_file_id)
    if file.purpose is not Purpose.BATCH:
        raise WrongFile("file_purpose_wrong", f"the file is for {file.purpose}: upload it with the purpose batch")
    batch = _batch(batch_id, caller, request, file.sha256)
    # The copy first: whoever takes the batch finds it. One that stays without a batch is swept.
    await asyncio.to_thread(clients.registry.store.copy, content_key(file), input_key(batch))
    existing = await clients.ledger.do(calls.create_batch(batch))
    known = await clients.ledger.do(calls.get_batch(batch_id, caller.tenant_id)) if existing else Known(batch, 0)
    return BatchView.of(*known), existing


async def _earlier(clients: Clients, caller: Key, request: BatchRequest, batch_id: str) -> Known | None:
    """Return the batch that an equal request with this key made; raises `Invalid` where the request was another."""
    try:
        known = await clients.ledger.do(calls.get_batch(batch_id, caller.tenant_id))
    except NotFound:
        return None
    await clients.ledger.do(calls.create_batch(_batch(batch_id, caller, request, known.batch.sha256)))
    return known


def _batch(batch_id: str, caller: Key, request: BatchRequest, sha256: str) -> Batch:
    now = time.time()
    return Batch(
        id=batch_id,
        tenant_id=caller.tenant_id,
        key=caller.id,
        key_line=caller.line,
        **request.model_dump(include={"endpoint", "input_file_id", "metadata"}),
        sha256=sha256,
        output_kept_seconds=request.output_kept_seconds,
        times={"created": now, "validating": now},
        expires_at=now + WINDOW_SECONDS,
    )


async def show(clients: Clients, caller: Key, batch_id: str) -> BatchView:
    """Return a batch with everything that is wrong with its input; raises `NotFound`, `Unavailable`."""
    known = await clients.ledger.do(calls.get_batch(batch_id, caller.tenant_id, caller.sees))
    return BatchView.of(*known, await asyncio.to_thread(_errors, clients, known.batch))


async def list_some(clients: Clients, caller: Key, after: str, limit: int) -> tuple[list[BatchView], bool]:
    """Return a page of batches, newest first, and whether there are more."""
    found = await clients.ledger.do(calls.list_batches(caller.tenant_id, caller.sees, after=after, limit=limit))
    return [BatchView.of(*known) for known in found[:limit]], len(found) > limit


async def cancel(clients: Clients, caller: Key, batch_id: str) -> BatchView:
    """Ask that a batch be cancelled; one that has ended stays as it is. Raises `NotFound`."""
    return BatchView.of(*await clients.ledger.do(calls.cancel_batch(batch_id, caller.tenant_id, caller.sees)))


def _errors(clients: Clients, batch: Batch) -> list[LineError] | None:
    """All errors, where there are more than the record holds; None also where the store has lost them."""
    if batch.error_count <= SHOWN_ERRORS:
        return None
    try:
        stored = clients.registry.store.get(f"{folder_of(batch.tenant_id, batch.id)}errors.jsonl")
    except NotFound:
        return None
    return [LineError.model_validate_json(line) for line in stored.splitlines()]
