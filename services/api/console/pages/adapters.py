"""Adapters: what there is and who holds it; uploads with every check, exports, retirements, deletions."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from services.api.adapters import export as exports
from services.api.adapters import retiring
from services.api.adapters import service as adding
from services.api.console import holdings
from services.api.console.rendering import page
from services.api.console.sessions import Anyone, Promoter, Trainer, Visitor
from services.api.http.auth import ClientsDep
from services.api.http.problems import PROBLEM
from services.api.http.upload import Upload
from services.api.infra.clients import Clients
from services.api.jobs.schemas import PathRef
from shared.adapter_files.steps import Step
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.manifests import AdapterManifest, Release
from shared.errors import Conflict, NotFound, Unavailable
from shared.security.api_keys import Scope

router = APIRouter(prefix="/adapters")
uploads = APIRouter(prefix="/adapters")
"""Routes whose bodies may be as large as an upload."""
LISTED = 50
VERSIONS_SHOWN = 30
PageNumber = Annotated[int, Query(alias="page", ge=1, le=1_000_000)]


@router.get("")
async def adapters(
    request: Request,
    clients: ClientsDep,
    visitor: Anyone,
    text: Annotated[str, Query(max_length=100)] = "",
    number: PageNumber = 1,
) -> HTMLResponse:
    """List versions, ordered by label, those whose reference holds a text."""
    tenant_id, wanted = visitor.key.tenant_id, text.strip().lower()
    found, release, traffic, templates = await asyncio.gather(
        asyncio.to_thread(clients.registry.adapters.page, tenant_id, wanted, (number - 1) * LISTED, LISTED),
        current(clients, tenant_id),
        request.app.state.traffics.of(clients, visitor.key),
        asyncio.to_thread(clients.registry.templates.list_added, tenant_id),
    )
    return page(
        request,
        "adapters.html",
        adapters=found.items,
        count=found.found_count,
        text=text,
        number=number,
        listed=LISTED,
        traffic=traffic,
        steps=list(Step),
        templates=[*BUILT_IN, *(one.name for one in templates)],
        may_train=visitor.key.may(Scope.TRAIN),
        **await _beside(clients, tenant_id, found.items, release),
    )


@uploads.post("")
async def upload(request: Request, visitor: Trainer, clients: ClientsDep, body: Upload) -> HTMLResponse:
    """Check an upload and store it; shows how each check ended."""
    async with adding.adapter_upload(body) as sent:
        try:
            added = await adding.add_adapter(clients, visitor.key, sent)
        except adding.AdapterRefused as refused:
            request.scope[PROBLEM] = refused.code
            return page(request, "adapter_refused.html", status=refused.status, error=refused, checks=refused.checks)
        job = ""
        if examples := sent.form.examples:
            job = await adding.queue_check(clients, visitor.key, added.manifest.ref, examples)
    return page(request, "adapter_added.html", status=201, adapter=added.manifest, checks=added.checks, job=job)


@router.get("/{ref}")
async def adapter(request: Request, ref: PathRef, clients: ClientsDep, visitor: Anyone) -> HTMLResponse:
    """Show one version, and the others of its label."""
    tenant_id = visitor.key.tenant_id
    manifest = await _get(clients, tenant_id, ref)
    versions, release, traffic, base = await asyncio.gather(
        asyncio.to_thread(clients.registry.adapters.list_all, tenant_id, manifest.label),
        current(clients, tenant_id),
        request.app.state.traffics.of(clients, visitor.key),
        asyncio.to_thread(_base_name, clients, manifest.base_model),
    )
    shown = versions[::-1][:VERSIONS_SHOWN]
    return page(
        request,
        "adapter.html",
        adapter=manifest,
        versions=shown,
        hidden=len(versions) - len(shown),
        traffic=traffic,
        base=base,
        **_rights(visitor),
        **await _beside(clients, tenant_id, [manifest, *shown], release),
    )


@router.get("/{ref}/export")
async def export(ref: PathRef, clients: ClientsDep, visitor: Trainer) -> StreamingResponse:
    """Send a version as a tar of a PEFT folder."""
    return (await exports.export(clients, await _get(clients, visitor.key.tenant_id, ref))).response()


@router.post("/{ref}/retire")
async def retire(
    request: Request,
    ref: PathRef,
    clients: ClientsDep,
    visitor: Promoter,
    at: Annotated[datetime | None, Form()] = None,
) -> HTMLResponse:
    """Set the date of a retirement (UTC), or take it back where none is sent."""
    manifest = await _get(clients, visitor.key.tenant_id, ref)
    when = at.replace(tzinfo=at.tzinfo or UTC) if at else None
    retirement = await retiring.retire(clients, visitor.key, manifest, when)
    return page(
        request, "adapter_retirement.html", adapter=manifest, retirement=retirement, done=True, **_rights(visitor)
    )


@router.delete("/{ref}")
async def remove(ref: PathRef, clients: ClientsDep, visitor: Trainer) -> Response:
    """Delete a version that nothing needs, and go back to the list."""
    await asyncio.to_thread(clients.registry.removal.adapter, visitor.key.tenant_id, ref)
    return Response(headers={"HX-Redirect": "/console/adapters"})


async def current(clients: Clients, tenant_id: str) -> Release | None:
    """Return the tenant's current release; None before the first."""
    try:
        return (await clients.releases.current(tenant_id)).release
    except Conflict:
        return None


async def _get(clients: Clients, tenant_id: str, ref: str) -> AdapterManifest:
    return await asyncio.to_thread(clients.registry.adapters.get, tenant_id, ref)


async def _beside(
    clients: Clients, tenant_id: str, shown: list[AdapterManifest], release: Release | None
) -> dict[str, Any]:
    """Return what else is known of the adapters that are shown."""
    held, dates = await asyncio.gather(
        holdings.holders(clients, tenant_id, {one.digest for one in shown}),
        asyncio.to_thread(clients.registry.retirements.of, tenant_id, [one.ref for one in shown]),
    )
    live = {entry.ref for entry in release.labels.values()} if release else set()
    return {"held": held, "dates": dates, "live": live, "release": release, "days": holdings.DAYS}


def _rights(visitor: Visitor) -> dict[str, bool]:
    return {"may_train": visitor.key.may(Scope.TRAIN), "may_promote": visitor.key.may(Scope.PROMOTE)}


def _base_name(clients: Clients, pin: str) -> str:
    try:
        return clients.registry.base_models.get(pin).name
    except (NotFound, Unavailable):  # the page goes on without its name while the store is away
        return ""
