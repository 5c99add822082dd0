"""Releases: what each reaches, in what two differ, what another threshold would do; promotion and the way back."""

import asyncio
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse

from services.api.console import release_facts, thresholds
from services.api.console.release_pair import pair, routes
from services.api.console.rendering import page
from services.api.console.sessions import Anyone, Promoter, Trainer, Visitor
from services.api.http.auth import ClientsDep
from services.api.infra.clients import Clients
from services.api.jobs.schemas import PathId
from services.api.releases import service
from services.api.releases.edit import edited_release
from services.api.releases.schemas import ReleaseEdit
from shared.contracts.judged import JudgedRow
from shared.contracts.manifests import Release
from shared.errors import SignalboxError
from shared.ledger import calls
from shared.security.api_keys import Scope

router = APIRouter(prefix="/releases")
LISTED = 25
TASKS = 100
MOVES = 15
PageNumber = Annotated[int, Query(ge=1, le=100_000)]
Threshold = Annotated[float, Form(ge=0, le=1)]
Force = Annotated[bool, Form()]


class Kept(NamedTuple):
    """A release with what is kept of it and around it."""

    release: Release
    current: Release | None
    was_current: bool
    rows: list[JudgedRow]
    """None of them for a key that may not read texts, or where `problem` says why."""
    problem: str


@router.get("")
async def releases(
    request: Request, clients: ClientsDep, visitor: Anyone, number: Annotated[PageNumber, Query(alias="page")] = 1
) -> HTMLResponse:
    """List the releases, newest first, and the last moves of the pointer."""
    tenant_id = visitor.key.tenant_id
    found, current_id = await asyncio.to_thread(service.releases, clients, tenant_id)
    moves = await asyncio.to_thread(clients.registry.releases.promotions, tenant_id)
    shown = found[::-1][(number - 1) * LISTED : number * LISTED]
    return page(
        request,
        "releases.html",
        releases=shown,
        ids=[release.id for release in found[: -LISTED * 4 - 1 : -1]],
        count=len(found),
        number=number,
        pages_count=-(-len(found) // LISTED),
        current_id=current_id,
        moves=moves[: -MOVES - 1 : -1],
    )


@router.get("/compare")
async def compare(
    request: Request,
    clients: ClientsDep,
    visitor: Anyone,
    one: Annotated[str, Query(max_length=64)],
    other: Annotated[str, Query(max_length=64)],
) -> HTMLResponse:
    """Show in what two releases differ, and which validation rows they route differently."""
    before, after = [await asyncio.to_thread(_kept, clients, visitor, release_id) for release_id in (one, other)]
    return page(
        request,
        "releases_compare.html",
        one=before,
        other=after,
        pair=pair(before.release, after.release),
        routes=routes(before.release, after.release, (before.rows, after.rows)),
        reads=visitor.key.may(Scope.READ),
    )


@router.get("/{release_id}")
async def show(
    request: Request, clients: ClientsDep, visitor: Anyone, release_id: PathId, labels: PageNumber = 1
) -> HTMLResponse:
    """Show one release."""
    kept = await asyncio.to_thread(_kept, clients, visitor, release_id)
    release, current = kept.release, kept.current
    tasks = release_facts.tasks(release)
    gauges = await clients.ledger.do(calls.gauges())
    return page(
        request,
        "release.html",
        kept=kept,
        release=release,
        is_current=current is not None and current.id == release.id,
        tasks=tasks[(labels - 1) * TASKS : labels * TASKS],
        task_count=len(tasks),
        number=labels,
        pages_count=-(-len(tasks) // TASKS),
        confusion=release_facts.confusion(release),
        bins=release_facts.bins(release),
        pair=pair(current, release) if current and current.id != release.id else None,
        unserved=release_facts.unserved(release, gauges),
        reads=visitor.key.may(Scope.READ),
        **await _at_thresholds(clients, visitor, kept),
    )


@router.post("/{release_id}/promote")
async def promote(clients: ClientsDep, visitor: Promoter, release_id: PathId, force: Force = False) -> Response:
    """Make a candidate the current release."""
    service.check_force(visitor.key, force=force)
    await service.promote(clients, visitor.key, release_id, force=force)
    return _to(release_id)


@router.post("/{release_id}/return")
async def roll_back(clients: ClientsDep, visitor: Promoter, release_id: PathId, force: Force = False) -> Response:
    """Return to a release that was current before."""
    await service.rollback(clients, visitor.key, release_id, force=force)
    return _to(release_id)


@router.post("/{release_id}/threshold")
async def at_threshold(clients: ClientsDep, visitor: Trainer, release_id: PathId, threshold: Threshold) -> Response:
    """Make a candidate whose selector has another threshold."""
    edit = ReleaseEdit(start_from=release_id, threshold=threshold)
    made = await asyncio.to_thread(edited_release, clients, visitor.key, edit)
    return _to(made.id)


def _to(release_id: str) -> Response:
    """Send the page's script, which has asked, to a release."""
    return Response(headers={"HX-Redirect": f"/console/releases/{release_id}"})


def _kept(clients: Clients, visitor: Visitor, release_id: str) -> Kept:
    """Read a release and what is around it; blocking; raises `NotFound`."""
    registry, tenant_id = clients.registry, visitor.key.tenant_id
    release, current_id = service.release(clients, tenant_id, release_id)
    current = registry.releases.get(tenant_id, current_id) if current_id else None
    rows: list[JudgedRow] = []
    problem = ""
    if visitor.key.may(Scope.READ):
        try:
            rows = registry.datasets.judged_rows(release)
        except SignalboxError as error:  # without the store, the page has all that the ledger holds
            problem = error.detail
    return Kept(release, current, registry.releases.was_current(release), rows, problem)


async def _at_thresholds(clients: Clients, visitor: Visitor, kept: Kept) -> dict[str, Any]:
    """Return what the selector's threshold and others do; nothing for a release without a selector."""
    selector = kept.release.selector
    if selector is None:
        return {"steps": [], "now": None, "traffic": None}
    traffic = await thresholds.traffic(clients, kept.release, selector) if visitor.key.may(Scope.READ) else None
    found = thresholds.steps(selector, traffic, kept.rows)
    now = next(number for number, step in enumerate(found) if step.threshold == selector.threshold)
    return {"steps": found, "now": now, "traffic": traffic}
